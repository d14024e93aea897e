//! What the tests share: turns, waits with a deadline, skips that are counted, and the tools they need.
//!
//! Owns no knowledge of what Weir must count: that is in the tests.

pub mod bpf;
pub mod cgroup;
pub mod clients;
pub mod process;
pub mod raw;
pub mod servers;
pub mod weir;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long a wait may take before the test fails. Generous: a shared machine can be slow, and nothing waits for it
/// when the signal comes.
pub const LIMIT: Duration = Duration::from_mins(1);

/// Waits for the turn of this test: heavy tests run one at a time on a host, also across test binaries. The turn ends
/// when the value is dropped.
pub fn turn() -> File {
    let path = std::env::temp_dir().join("weir-integration.lock");
    let file = File::options().create(true).append(true).open(&path).unwrap();
    file.lock().unwrap();
    file
}

/// Asks `probe` until it answers. This is the only place that lets time pass; it is bounded by `limit`.
///
/// # Panics
/// When there is no answer within `limit`.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    let limit = limit * patience();
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Factor on every limit: software emulation is many times slower than a host. From `WEIR_TEST_PATIENCE`, else 1.
fn patience() -> u32 {
    std::env::var("WEIR_TEST_PATIENCE").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Prints why a test did not run, past the capture of the test runner, with the number of skips so far.
pub fn skipped(reason: &str) {
    static SKIPS: AtomicUsize = AtomicUsize::new(0);
    let count = SKIPS.fetch_add(1, Ordering::Relaxed) + 1;
    note(&format!("SKIPPED ({count}): {reason}"));
}

/// Prints a line past the capture of the test runner.
pub fn note(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Leaves the test when the condition does not hold, printing and counting the reason.
macro_rules! need {
    ($($tool:literal),+ $(,)?) => {
        if !$crate::harness::can_observe() {
            return;
        }
        $(if $crate::harness::tool($tool).is_none() {
            $crate::harness::skipped(concat!($tool, " is not installed (", module_path!(), ")"));
            return;
        })+
    };
    () => {
        if !$crate::harness::can_observe() {
            return;
        }
    };
}
pub(crate) use need;

/// Whether this process may load programs. Without root the tests are skipped, except where `CI` is set: there a test
/// that cannot run is a failure.
pub fn can_observe() -> bool {
    let root = process::effective_uid() == 0;
    assert!(root || std::env::var_os("CI").is_none(), "integration tests need root");
    if !root {
        skipped("not root");
    }
    root
}

/// The program `name`: the distribution's own first, so that wrappers of version managers do not stand in between.
pub fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/go/bin"]
        .into_iter()
        .map(PathBuf::from)
        .chain(std::env::split_paths(&path))
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
}

/// A file beside the tests.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/scripts").join(name)
}

/// Requests of one heavy run: 100,000, or what `WEIR_TEST_REQUESTS` says.
pub fn heavy() -> u64 {
    std::env::var("WEIR_TEST_REQUESTS").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000)
}

/// A new directory that everybody may enter: servers drop their privileges.
pub fn open_dir() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// What is not as expected, collected so that a test shows all of it at once.
#[derive(Default)]
pub struct Findings(Vec<String>);

impl Findings {
    /// Notes a difference.
    pub fn equal<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, seen: T, expected: T) {
        if seen != expected {
            self.add(format!("{what}: {seen:?}, expected {expected:?}"));
        }
    }

    /// Notes something.
    pub fn add(&mut self, finding: String) {
        self.0.push(finding);
    }

    /// Fails when there is anything.
    pub fn none(self) {
        assert!(self.0.is_empty(), "{} findings:\n{}", self.0.len(), self.0.join("\n"));
    }
}
