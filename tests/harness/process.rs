//! Child processes that cannot outlive their test, and what /proc says about them.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::{LIMIT, until};

/// A child that is killed when it is dropped.
pub struct Guard {
    child: Child,
    what: String,
}

impl Guard {
    /// Starts `command` with its standard output in `out` and its errors in `err`.
    pub fn spawn(command: &mut Command, out: &Path, err: &Path) -> Self {
        let what = format!("{command:?}");
        let append = |path: &Path| File::options().create(true).append(true).open(path).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(append(out))
            .stderr(append(err))
            .spawn()
            .unwrap_or_else(|why| panic!("cannot start {what}: {why}"));
        Self { child, what }
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The exit status if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for the end.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("end of {}", self.what);
        until(&what, limit, || self.child.try_wait().unwrap())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        send_signal(self.pid(), signal);
    }

    /// Asks it to end and waits a while; does not fail, so that it may be used while a test is failing.
    pub fn end_soon(&mut self) {
        let start = Instant::now();
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(libc::SIGTERM);
        }
        while matches!(self.child.try_wait(), Ok(None)) && start.elapsed() < Duration::from_secs(5) {
            std::thread::yield_now();
        }
    }

    /// Sends a signal and waits for the end.
    pub fn stop(&mut self, signal: i32) -> ExitStatus {
        self.signal(signal);
        self.wait(LIMIT)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// What a finished command left.
pub struct Finished {
    pub pid: u32,
    pub status: ExitStatus,
    pub out: String,
    pub err: String,
    pub took: Duration,
}

impl Finished {
    /// The same, after checking that it succeeded.
    pub fn ok(self) -> Self {
        assert!(self.status.success(), "{}\nout: {}\nerr: {}", self.status, self.out, self.err);
        self
    }
}

/// Runs a command to its end, with its output in memory and `input` on its standard input.
pub fn run_with(command: &mut Command, input: &[u8], limit: Duration) -> Finished {
    use std::io::{Seek as _, Write as _};
    let start = Instant::now();
    let mut stdin = tempfile::tempfile().unwrap();
    stdin.write_all(input).unwrap();
    stdin.rewind().unwrap();
    let (mut out, mut err) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    let what = format!("{command:?}");
    let child = command
        .stdin(stdin)
        .stdout(out.try_clone().unwrap())
        .stderr(err.try_clone().unwrap())
        .spawn()
        .unwrap_or_else(|why| panic!("cannot start {what}: {why}"));
    let mut guard = Guard { child, what };
    let status = guard.wait(limit);
    Finished { pid: guard.pid(), status, out: whole(&mut out), err: whole(&mut err), took: start.elapsed() }
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Finished {
    run_with(command, b"", Duration::from_mins(1))
}

fn whole(file: &mut File) -> String {
    use std::io::{Read as _, Seek as _};
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Sends `signal` to one process.
pub fn send_signal(pid: u32, signal: i32) {
    // SAFETY: `kill` takes two integers and touches no memory of ours.
    unsafe { libc::kill(pid as i32, signal) };
}

/// Effective user of this process.
pub fn effective_uid() -> u32 {
    // SAFETY: `geteuid` takes nothing, touches no memory of ours and cannot fail.
    unsafe { libc::geteuid() }
}

/// Lets this process have `wanted` files open, or as many as the host allows; returns how many.
pub fn allow_files(wanted: u64) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: wanted, rlim_max: wanted };
    // SAFETY: the pointer is to a live, initialised `rlimit`, which the kernel only reads.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } == 0 {
        return wanted;
    }
    // SAFETY: the pointer is to a live `rlimit`, which the kernel writes.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: as for the first call.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    limit.rlim_cur
}

/// Children of `pid`.
pub fn children(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(child) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // pid (comm) state ppid ...; comm may hold anything, so count from its closing parenthesis
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
        if parent == Some(pid) {
            found.push(child);
        }
    }
    found
}

/// Resident memory of `pid` in bytes.
pub fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
