//! cgroups of the tests' own, removed when dropped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::until;

/// Where cgroup v2 is mounted, if it is.
pub fn mount() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| {
        // ... mount-point options - type source options (proc(5))
        let (front, back) = line.split_once(" - ")?;
        back.starts_with("cgroup2 ").then(|| front.split(' ').nth(4).map(PathBuf::from))?
    })
}

/// A tree of cgroups below the mount point.
pub struct Tree {
    root: PathBuf,
    leaves: Vec<PathBuf>,
}

impl Tree {
    /// Makes an empty one, or `None` where cgroup v2 is not to be had.
    pub fn new(name: &str) -> Option<Self> {
        let root = mount()?.join(format!("{name}-{}.slice", std::process::id()));
        fs::create_dir(&root).ok()?;
        Some(Self { root, leaves: Vec::new() })
    }

    /// Makes a cgroup and returns its directory.
    pub fn add(&mut self, name: &str) -> PathBuf {
        let path = self.root.join(name);
        fs::create_dir(&path).unwrap();
        self.leaves.push(path.clone());
        path
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        for path in self.leaves.iter().chain([&self.root]) {
            // A cgroup is busy until its last process has been reaped.
            until(&format!("removal of {}", path.display()), Duration::from_secs(5), || {
                let _ = fs::remove_dir(path);
                (!path.exists()).then_some(())
            });
        }
    }
}

/// `command` as a process of the cgroup `dir` and of user `uid`, with one process id from the start to its end.
pub fn inside(dir: &Path, uid: u32, command: &Command) -> Command {
    let mut wrapped = Command::new("/bin/sh");
    wrapped
        .args(["-c", "echo $$ > \"$1/cgroup.procs\" && uid=$2 && shift 2 && exec setpriv --reuid \"$uid\" --clear-groups \"$@\""])
        .arg("sh")
        .arg(dir)
        .arg(uid.to_string())
        .arg(command.get_program())
        .args(command.get_args());
    wrapped
}
