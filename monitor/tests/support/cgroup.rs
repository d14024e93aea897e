//! From a cgroup path to a workload.

use std::sync::Arc;

use monitor::workload::{Facts, ProcSource, Processes, workload};

/// Longest name that is shown, with the word in front of it and the mark of what was cut.
const NAME_CHARS: usize = "container:".len() + 128 + 1;
/// Longest path that is kept, with that mark.
const PATH_CHARS: usize = 256 + 1;
const ID: &str = "0123456789ab0123456789ab0123456789ab0123456789ab0123456789ab0123";

/// A process in one cgroup.
struct Inside(Arc<str>);

impl ProcSource for Inside {
    fn process(&mut self, _tgid: u32, _start_ns: u64) -> Option<Facts> {
        Some(Facts { exe: Some("/usr/bin/server".to_owned()), cgroup: Some(self.0.to_string()) })
    }
    fn cgroup(&mut self, _id: u64) -> Option<Arc<str>> {
        Some(Arc::clone(&self.0))
    }
    fn user(&mut self, _uid: u32) -> Option<Arc<str>> {
        None
    }
}

/// Workloads are bounded and printable, do not depend on how slashes are written, and the innermost container wins over
/// every unit; the table of processes says the same.
pub fn check(bytes: &[u8]) {
    let path = String::from_utf8_lossy(bytes);
    let found = workload(&path);
    if let Some(name) = &found {
        assert!(name.starts_with("container:") || name.starts_with("unit:"), "{name:?}");
        assert!(name.chars().count() <= NAME_CHARS && !name.contains(char::is_control), "{name:?}");
    }
    for same in [format!("/{path}/"), path.replace('/', "//")] {
        assert_eq!(workload(&same), found, "{same:?}");
    }
    for scope in [format!("docker-{ID}.scope"), ID.to_owned()] {
        let within = workload(&format!("{path}/{scope}"));
        assert_eq!(within.as_deref(), Some("container:0123456789ab"), "{path:?}");
    }
    let contained = found.as_deref().filter(|name| name.starts_with("container:"));
    let unit = workload(&format!("{path}/inner.service"));
    assert_eq!(unit.as_deref(), Some(contained.unwrap_or("unit:inner.service")), "{path:?}");

    let mut processes = Processes::default();
    let met = processes.meet(&super::connection(1), &mut Inside(path.into())).unwrap();
    let process = processes.get(met).unwrap();
    assert_eq!(&*process.workload, found.as_deref().unwrap_or("exe:/usr/bin/server"));
    assert!(process.cgroup.chars().count() <= PATH_CHARS && !process.cgroup.contains(char::is_control));
}
