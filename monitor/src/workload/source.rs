//! The real source of facts: `/proc`, the cgroup file system and `/etc/passwd`. Blocking, but only at first sight of a
//! process, user or cgroup.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::table::START_GRAIN_NS;
use super::{Facts, ProcSource};

/// Directories of the cgroup tree that are remembered.
const CGROUPS: usize = 32_768;
/// Deepest level of the cgroup tree that is walked.
const DEPTH: usize = 24;
/// Users that are remembered.
const USERS: usize = 65_536;
/// Shortest time between two walks (or two readings of `/etc/passwd`) that end in a miss.
const PAUSE: Duration = Duration::from_millis(500);
/// Largest `/etc/passwd` that is read.
const PASSWD_BYTES: u64 = 16 << 20;

/// Facts from the running system.
pub struct Procfs {
    cgroup_root: Option<PathBuf>,
    cgroups: HashMap<u64, Arc<str>>,
    walked: Option<Instant>,
    users: HashMap<u32, Arc<str>>,
    read: Option<Instant>,
    ticks_per_second: u64,
}

impl Default for Procfs {
    fn default() -> Self {
        Self::new()
    }
}

impl Procfs {
    /// Finds the cgroup2 mount; everything else is read when it is asked for.
    pub fn new() -> Self {
        Self {
            cgroup_root: cgroup2_root(),
            cgroups: HashMap::new(),
            walked: None,
            users: HashMap::new(),
            read: None,
            ticks_per_second: procfs::ticks_per_second().max(1),
        }
    }

    fn walk(&mut self) {
        let Some(root) = self.cgroup_root.clone() else { return };
        self.cgroups.clear();
        let mut open = vec![(root.clone(), 0)];
        while let Some((directory, depth)) = open.pop() {
            if self.cgroups.len() >= CGROUPS {
                break;
            }
            let Ok(metadata) = fs::metadata(&directory) else { continue };
            let path = directory.strip_prefix(&root).unwrap_or(Path::new("")).to_string_lossy();
            self.cgroups.insert(metadata.ino(), Arc::from(format!("/{path}")));
            let Ok(entries) = fs::read_dir(&directory) else { continue };
            if depth < DEPTH {
                let inner =
                    entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
                open.extend(inner.map(|entry| (entry.path(), depth + 1)));
            }
        }
    }

    fn read_users(&mut self) {
        let small = fs::metadata("/etc/passwd").is_ok_and(|found| found.len() <= PASSWD_BYTES);
        let Some(text) = small.then(|| fs::read("/etc/passwd").ok()).flatten() else { return };
        self.users.clear();
        for line in String::from_utf8_lossy(&text).lines() {
            let mut fields = line.split(':');
            let (name, uid) = (fields.next(), fields.nth(1).and_then(|uid| uid.parse().ok()));
            if let (Some(name), Some(uid)) = (name, uid)
                && self.users.len() < USERS
            {
                self.users.entry(uid).or_insert_with(|| Arc::from(name));
            }
        }
    }
}

impl ProcSource for Procfs {
    fn process(&mut self, tgid: u32, start_ns: u64) -> Option<Facts> {
        let process = procfs::process::Process::new(i32::try_from(tgid).ok()?).ok()?;
        if start_ns != 0 {
            let started =
                process.stat().ok()?.starttime.saturating_mul(1_000_000_000 / self.ticks_per_second);
            if started.abs_diff(start_ns) > START_GRAIN_NS {
                return None;
            }
        }
        let exe = process.exe().ok().map(|path| path.to_string_lossy().into_owned());
        Some(Facts { exe, cgroup: process.cgroups().ok().as_ref().and_then(best_path) })
    }

    fn cgroup(&mut self, id: u64) -> Option<Arc<str>> {
        if let Some(path) = self.cgroups.get(&id) {
            return Some(Arc::clone(path));
        }
        if id == 0 || !pause_over(&mut self.walked) {
            return None;
        }
        self.walk();
        self.cgroups.get(&id).cloned()
    }

    fn user(&mut self, uid: u32) -> Option<Arc<str>> {
        if let Some(name) = self.users.get(&uid) {
            return Some(Arc::clone(name));
        }
        if !pause_over(&mut self.read) {
            return None;
        }
        self.read_users();
        self.users.get(&uid).cloned()
    }
}

/// Whether a miss may cause another reading; takes note that it does.
fn pause_over(last: &mut Option<Instant>) -> bool {
    let over = last.is_none_or(|last| last.elapsed() >= PAUSE);
    if over {
        *last = Some(Instant::now());
    }
    over
}

/// The most telling path of a process: the unified hierarchy, systemd's own, then any that is not the root.
fn best_path(groups: &procfs::ProcessCGroups) -> Option<String> {
    let useful = |group: &&procfs::ProcessCGroup| group.pathname != "/" && !group.pathname.is_empty();
    let unified = groups.0.iter().filter(useful).find(|group| group.hierarchy == 0);
    let systemd = || {
        groups
            .0
            .iter()
            .filter(useful)
            .find(|group| group.controllers.iter().any(|name| name == "name=systemd"))
    };
    let any = || groups.0.iter().find(useful);
    unified.or_else(systemd).or_else(any).map(|group| group.pathname.clone())
}

/// Mount point of the cgroup2 file system that shows the whole tree.
pub fn cgroup2_root() -> Option<PathBuf> {
    let mounts = procfs::process::Process::myself().ok()?.mountinfo().ok()?;
    mounts
        .into_iter()
        .find(|mount| mount.fs_type == "cgroup2" && mount.root == "/")
        .map(|mount| mount.mount_point)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_and_only_with_its_own_start() {
        let mut source = Procfs::new();
        let me = std::process::id();
        let facts = source.process(me, 0).unwrap();
        assert_eq!(facts.exe.as_deref(), std::env::current_exe().unwrap().to_str());
        assert_eq!(source.process(me, 1), None);
        assert_eq!(source.user(0).as_deref(), Some("root"));
    }

    #[test]
    fn a_cgroup_is_found_by_the_number_of_its_directory() {
        let Some(root) = cgroup2_root() else { return };
        let mut source = Procfs::new();
        let id = fs::metadata(root).unwrap().ino();
        assert_eq!(source.cgroup(id).as_deref(), Some("/"));
    }
}
