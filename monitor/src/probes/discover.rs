//! Finds files to probe: through the mappings of processes, and in standard places.
//!
//! Owns: what has been seen, so that each file is read once however many processes map it, and which process uses
//! which file. Must not attach. A [`Target`] holds its file open, so that what is probed is what was planned, even if
//! the process ends or the package is upgraded in between; drop it after attaching (an attached probe keeps the
//! inode by itself).
//!
//! Reading the mappings of every process every few seconds would cost more than all probes. A mapping changes the size
//! of the address space, so a process whose start time and size are those of the last look is passed over; a full
//! sweep now and then catches the rare exchange of mappings of equal size.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lru::LruCache;
use serde::Serialize;

pub use super::file::FileId;
use super::file::{descriptor_path, open_mapped, open_regular};
use super::maps::{self, Mapping, Shape};
use super::plan::plan_file;
use super::site::Plan;
use super::standard::{is_library_name, standard_libraries};
use super::watch::Work;

/// Most bytes of one `maps` file: 64,000 mappings, the kernel's own default limit, are about 6 MiB.
const MAX_MAPS_BYTES: u64 = 16 << 20;
/// Most files whose verdict is remembered.
const SEEN_FILES: NonZeroUsize = NonZeroUsize::new(8192).unwrap();
/// Most files that are probed at once; a host with many images has dozens.
const MAX_TARGETS: usize = 512;
/// Most processes that are looked at in a sweep.
const MAX_PROCESSES: usize = 65_536;
/// Most probed files that one process can bring in; a program uses one, seldom two or three.
const MAX_USES: usize = 8;
/// Most files with the name of a TLS library that are opened for one process.
const MAX_CANDIDATES: usize = 32;
/// Most processes that are named in a target.
const MAX_PIDS: usize = 64;
/// Full sweeps without a user after which a file that is no longer at its path is given up.
const UNUSED_SWEEPS: u8 = 2;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `libssl.so.1.1`, also under a longer name.
    OpenSsl11,
    /// `libssl.so.3`, also under a longer name.
    OpenSsl3,
    /// Another shared library with the same functions.
    Library,
    /// A program, or its main library, that contains them.
    Executable,
}

impl Kind {
    fn of(path: &[u8]) -> Self {
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        match name {
            name if !is_library_name(name) => Self::Executable,
            name if !name.starts_with(b"libssl") => Self::Library,
            name if name.windows(7).any(|part| part == b".so.1.1") => Self::OpenSsl11,
            name if name.windows(5).any(|part| part == b".so.3") => Self::OpenSsl3,
            _ => Self::Library,
        }
    }
}

/// A file to probe.
#[derive(Debug, Serialize)]
pub struct Target {
    /// Which file it is.
    pub id: FileId,
    /// What it is.
    pub kind: Kind,
    /// Its path as the first process that was seen with it sees it.
    pub path: PathBuf,
    /// What to probe.
    pub plan: Plan,
    /// Processes that were seen with it, at most 64; probes concern every process.
    pub pids: Vec<u32>,
    #[serde(skip)]
    file: File,
}

impl Target {
    /// The path to attach to, valid while this target lives and in this process only. It leads to the open file, so it
    /// works across mount namespaces and for files that were deleted or replaced.
    pub fn attach_path(&self) -> PathBuf {
        descriptor_path(&self.file)
    }
}

/// What a look brought.
#[derive(Debug, Default)]
pub struct Scan {
    /// Files that are not probed yet.
    pub new: Vec<Target>,
    /// Files that nobody uses any more and that are gone: their probes can be removed.
    pub gone: Vec<FileId>,
    /// Processes or files that could not be read for lack of rights, and files that a program answers for (FUSE).
    pub refused: u64,
    /// Files that somebody keeps from being opened with a lease, until the kernel takes it away.
    pub busy: u64,
    /// Files left out because too many are probed already.
    pub over_limit: u64,
}

/// A mapped file as the kernel names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct MapKey {
    device: (u32, u32),
    inode: u64,
    path: Box<[u8]>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    id: FileId,
    tls: bool,
    /// Full sweep in which the identity was compared last: inode numbers are reused.
    checked: u64,
}

#[derive(Debug)]
struct Known {
    path: PathBuf,
    unused: u8,
}

#[derive(Debug, Default)]
struct Process {
    shape: Shape,
    uses: Vec<FileId>,
    sweep: u64,
}

/// Remembers what was found. One per daemon.
#[derive(Debug)]
pub struct Scanner {
    proc_root: PathBuf,
    seen: LruCache<MapKey, Seen>,
    known: HashMap<FileId, Known>,
    processes: HashMap<u32, Process>,
    sweeps: u64,
    full_sweeps: u64,
    doing: Arc<Doing>,
    /// Processes that are not looked at.
    given_up: HashSet<u32>,
}

/// What a scanner is at, for whoever watches over it: what it reads can keep it for ever.
#[derive(Debug)]
pub struct Doing {
    began: Instant,
    pid: AtomicU32,
    /// Milliseconds from `began` to when it turned to that process, 0 while it is at none.
    since: AtomicU64,
}

impl Default for Doing {
    fn default() -> Self {
        Self { began: Instant::now(), pid: AtomicU32::new(0), since: AtomicU64::new(0) }
    }
}

impl Doing {
    fn begin(&self, pid: u32) {
        self.pid.store(pid, Ordering::Relaxed);
        self.since.store((self.began.elapsed().as_millis() as u64).max(1), Ordering::Release);
    }

    fn end(&self) {
        self.since.store(0, Ordering::Release);
    }

    /// The process (0 for a standard place) that it has been at for so long.
    pub fn hangs_for(&self, limit: Duration) -> Option<u32> {
        let since = Duration::from_millis(self.since.load(Ordering::Acquire));
        let hangs = !since.is_zero() && self.began.elapsed().saturating_sub(since) > limit;
        hangs.then(|| self.pid.load(Ordering::Relaxed))
    }
}

impl Scanner {
    /// A scanner of the process directory at `proc_root`, usually `/proc`.
    pub fn new(proc_root: impl Into<PathBuf>) -> Self {
        Self {
            proc_root: proc_root.into(),
            seen: LruCache::new(SEEN_FILES),
            known: HashMap::new(),
            processes: HashMap::new(),
            sweeps: 0,
            full_sweeps: 0,
            doing: Arc::default(),
            given_up: HashSet::new(),
        }
    }

    /// A scanner in the place of one that hangs: it knows what is probed, and leaves some processes alone.
    pub fn instead(
        proc_root: impl Into<PathBuf>,
        probed: impl Iterator<Item = (FileId, PathBuf)>,
        given_up: HashSet<u32>,
    ) -> Self {
        let known = probed.map(|(id, path)| (id, Known { path, unused: 0 })).collect();
        Self { known, given_up, ..Self::new(proc_root) }
    }

    /// What it is at.
    pub fn doing(&self) -> &Arc<Doing> {
        &self.doing
    }

    /// Does what a [`Watcher`](super::watch::Watcher) says is due. A full sweep visits the standard places too.
    pub fn perform(&mut self, work: Work) -> Scan {
        match work {
            Work::Process(pid) => self.scan_pid(pid),
            Work::Sweep { full: false } => self.sweep(false),
            Work::Sweep { full: true } => {
                let mut adopted = self.adopt(&standard_libraries());
                let mut scan = self.sweep(true);
                self.name_users(&mut adopted);
                scan.over_limit += adopted.over_limit;
                scan.new.append(&mut adopted.new);
                scan
            }
        }
    }

    /// Plans files by their paths in Weir's own mount namespace, whether or not anybody uses them.
    pub fn adopt(&mut self, paths: &[PathBuf]) -> Scan {
        let mut scan = Scan::default();
        for path in paths {
            self.doing.begin(0);
            let Ok(file) = open_regular(path) else { continue };
            let Ok(id) = FileId::of(&file) else { continue };
            let key = MapKey { device: (0, 0), inode: id.inode, path: path.as_os_str().as_bytes().into() };
            self.judge(key, file, id, None, &mut scan);
        }
        self.doing.end();
        scan
    }

    /// Looks at one process; cheap if its mappings did not change since the last look.
    pub fn scan_pid(&mut self, pid: u32) -> Scan {
        let mut scan = Scan::default();
        self.look(pid, false, &mut scan);
        self.name_users(&mut scan);
        scan
    }

    /// Looks at the processes whose mappings may have changed, or at all of them.
    pub fn sweep(&mut self, full: bool) -> Scan {
        let mut scan = Scan::default();
        self.sweeps += 1;
        self.full_sweeps += u64::from(full);
        let listing = fs::read_dir(&self.proc_root).into_iter().flatten().flatten();
        let pids = listing.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).take(MAX_PROCESSES);
        for pid in pids {
            self.look(pid, full, &mut scan);
        }
        let sweep = self.sweeps;
        self.processes.retain(|_, process| process.sweep == sweep);
        if full {
            self.doing.begin(0);
            scan.gone = self.give_up_unused();
            self.doing.end();
        }
        self.name_users(&mut scan);
        scan
    }

    /// A process ended.
    pub fn exited(&mut self, pid: u32) {
        self.processes.remove(&pid);
        self.given_up.remove(&pid);
    }

    /// Takes a file for new again when it is next seen in a full sweep, for instance because attaching failed.
    pub fn forget(&mut self, id: FileId) {
        self.known.remove(&id);
        for (_, seen) in self.seen.iter_mut().filter(|(_, seen)| seen.id == id) {
            seen.checked = 0;
        }
    }

    /// The probed files that a process was seen with, at most 8.
    pub fn uses(&self, pid: u32) -> &[FileId] {
        self.processes.get(&pid).map(|process| process.uses.as_slice()).unwrap_or_default()
    }

    /// The processes that were seen with a probed file, in the order of their numbers.
    pub fn users(&self, id: FileId) -> Vec<u32> {
        let mut pids: Vec<u32> = self
            .processes
            .iter()
            .filter(|(_, process)| process.uses.contains(&id))
            .map(|(pid, _)| *pid)
            .collect();
        pids.sort_unstable();
        pids
    }

    fn look(&mut self, pid: u32, always: bool, scan: &mut Scan) {
        if self.given_up.contains(&pid) {
            return;
        }
        self.doing.begin(pid);
        self.read(pid, always, scan);
        self.doing.end();
    }

    fn read(&mut self, pid: u32, always: bool, scan: &mut Scan) {
        let process = self.proc_root.join(pid.to_string());
        let shape = match fs::read(process.join("stat")) {
            Ok(stat) => maps::shape(&stat).unwrap_or_default(),
            Err(_) => return,
        };
        if let Some(known) = self.processes.get_mut(&pid) {
            known.sweep = self.sweeps;
            if known.shape == shape && !always {
                return;
            }
        }
        let text = match read_bounded(&process.join("maps")) {
            Ok(text) => text,
            Err(error) => {
                scan.refused += u64::from(error.kind() == io::ErrorKind::PermissionDenied);
                return;
            }
        };
        let program = fs::read_link(process.join("exe")).unwrap_or_default();
        let program = program.as_os_str().as_bytes();
        let program = program.strip_suffix(b" (deleted)").unwrap_or(program);
        let busy = scan.busy;
        let mut uses: Vec<FileId> = Vec::new();
        let mut done: HashSet<(u64, &[u8])> = HashSet::new();
        for mapping in maps::executable_files(&text) {
            let name = mapping.path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
            let is_program = mapping.path == program;
            if !(is_program || is_library_name(name)) || !done.insert((mapping.inode, mapping.path)) {
                continue;
            }
            if done.len() > MAX_CANDIDATES || uses.len() == MAX_USES {
                break;
            }
            if let Some(id) = self.examine(&process, &mapping, is_program, pid, scan)
                && !uses.contains(&id)
            {
                uses.push(id);
            }
        }
        // what could not be opened now is tried again in the next sweep, whether or not the process has changed
        let shape = if scan.busy == busy { shape } else { Shape::default() };
        self.processes.insert(pid, Process { shape, uses, sweep: self.sweeps });
    }

    /// The mapped file's identity if it is one to probe.
    fn examine(
        &mut self,
        process: &Path,
        mapping: &Mapping<'_>,
        is_program: bool,
        pid: u32,
        scan: &mut Scan,
    ) -> Option<FileId> {
        let key = MapKey { device: mapping.device, inode: mapping.inode, path: mapping.path.into() };
        if let Some(seen) = self.seen.get(&key)
            && seen.checked == self.full_sweeps
            && (!seen.tls || self.known.contains_key(&seen.id))
        {
            return seen.tls.then_some(seen.id);
        }
        let opened =
            open_mapped(process, mapping, is_program).and_then(|file| Ok((FileId::of(&file)?, file)));
        match opened {
            Ok((id, file)) => self.judge(key, file, id, Some(pid), scan),
            Err(error) => {
                match error.kind() {
                    io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported => scan.refused += 1,
                    io::ErrorKind::WouldBlock => scan.busy += 1,
                    _ => {}
                }
                None
            }
        }
    }

    /// Plans a file unless that was done before, and hands it out when it is new.
    fn judge(
        &mut self,
        key: MapKey,
        file: File,
        id: FileId,
        pid: Option<u32>,
        scan: &mut Scan,
    ) -> Option<FileId> {
        let before = self.seen.get_mut(&key).filter(|seen| seen.id == id);
        if let Some(seen) = before {
            seen.checked = self.full_sweeps;
            if !seen.tls {
                return None;
            }
        }
        if self.known.contains_key(&id) {
            self.seen.put(key, Seen { id, tls: true, checked: self.full_sweeps });
            return Some(id);
        }
        if self.known.len() >= MAX_TARGETS {
            scan.over_limit += 1;
            return None;
        }
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(&key.path));
        let kind = Kind::of(&key.path);
        let plan = plan_file(&file);
        self.seen.put(key, Seen { id, tls: plan.is_ok(), checked: self.full_sweeps });
        match plan {
            Ok(plan) => {
                self.known.insert(id, Known { path: path.clone(), unused: 0 });
                scan.new.push(Target { id, kind, path, plan, pids: pid.into_iter().collect(), file });
                Some(id)
            }
            Err(error) => {
                tracing::trace!(path = %path.display(), %error, "nothing to probe");
                None
            }
        }
    }

    fn give_up_unused(&mut self) -> Vec<FileId> {
        let used: HashSet<FileId> =
            self.processes.values().flat_map(|process| process.uses.iter().copied()).collect();
        let mut gone = Vec::new();
        self.known.retain(|id, known| {
            let at_its_path = || {
                open_regular(&known.path).and_then(|file| FileId::of(&file)).is_ok_and(|found| found == *id)
            };
            known.unused = if used.contains(id) || at_its_path() { 0 } else { known.unused + 1 };
            let keep = known.unused < UNUSED_SWEEPS;
            if !keep {
                gone.push(*id);
            }
            keep
        });
        gone
    }

    fn name_users(&self, scan: &mut Scan) {
        for target in &mut scan.new {
            target.pids = self.users(target.id);
            target.pids.truncate(MAX_PIDS);
        }
    }
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_MAPS_BYTES).read_to_end(&mut text)?;
    Ok(text)
}
