//! The bounded table of processes that use HTTP.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use foldhash::fast::RandomState;
use lru::LruCache;
use monitor_common::event::{Conn, Exec, Exit};

use super::{ProcSource, cgroup};
use crate::parser::escape::escape;
use crate::rates::{SECOND_NS, Sample, Tally};
use crate::view::Direction;

/// Processes with requests that are kept, dead ones included.
const PROCESSES: usize = 16_384;
/// Processes without requests whose exec is remembered.
const EXECS: usize = 8_192;
/// Workloads that keep the counts of processes that are gone; the rest is `other`.
const RETIRED: usize = 2_048;
/// Time for which a dead process keeps a row of its own.
const KEEP_DEAD_NS: u64 = 15 * 60 * SECOND_NS;
/// Longest path that is kept.
const PATH_CHARS: usize = 256;
/// Clock ticks of `/proc/PID/stat` are 10 ms: two starts that differ by less are the same.
pub(super) const START_GRAIN_NS: u64 = 20_000_000;

/// One process that uses HTTP.
#[derive(Clone, Debug)]
pub struct Process {
    /// Process id.
    pub tgid: u32,
    /// Start, ns since boot.
    pub start_ns: u64,
    /// Name of the command, escaped.
    pub comm: Box<str>,
    /// Executable, escaped.
    pub exe: Box<str>,
    /// User name, or the number.
    pub user: Arc<str>,
    /// `unit:NAME`, `container:ID` or `exe:PATH`.
    pub workload: Arc<str>,
    /// cgroup path, empty when not known.
    pub cgroup: Arc<str>,
    /// When it ended, in ns of the monotonic clock.
    pub ended_ns: Option<u64>,
    /// Connections of it that are open.
    pub connections: u32,
    tallies: [Option<Box<Tally>>; 2],
    last_ns: u64,
    generation: u32,
}

impl Process {
    /// Counts in each direction that it has any in.
    pub fn tallies(&self) -> impl Iterator<Item = (Direction, &Tally)> {
        directions().zip(&self.tallies).filter_map(|(direction, tally)| Some((direction, tally.as_deref()?)))
    }
}

fn directions() -> impl Iterator<Item = Direction> {
    [Direction::Inbound, Direction::Outbound].into_iter()
}

/// Index and generation of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcRef {
    at: u32,
    generation: u32,
}

/// What an exec record said.
struct Executed {
    file: Box<str>,
    comm: Box<str>,
}

/// The table.
pub struct Processes {
    slots: Vec<Process>,
    index: HashMap<(u32, u64), u32, RandomState>,
    /// The latest process with each number, while it lives.
    living: HashMap<u32, ProcRef, RandomState>,
    execs: LruCache<(u32, u64), Executed, RandomState>,
    /// Dead processes in order of their end.
    dead: VecDeque<ProcRef>,
    free: Vec<u32>,
    retired: HashMap<Arc<str>, [Option<Box<Tally>>; 2], RandomState>,
    unknown: Arc<str>,
    other: Arc<str>,
}

impl Default for Processes {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            index: HashMap::default(),
            living: HashMap::default(),
            execs: LruCache::unbounded_with_hasher(RandomState::default()),
            dead: VecDeque::new(),
            free: Vec::new(),
            retired: HashMap::default(),
            unknown: Arc::from("unknown"),
            other: Arc::from("other"),
        }
    }
}

impl Processes {
    /// The workload of processes that are not known.
    pub fn unknown(&self) -> &Arc<str> {
        &self.unknown
    }

    /// The process of a connection, looked up with `source` at first sight.
    pub fn meet(&mut self, conn: &Conn, source: &mut dyn ProcSource) -> Option<ProcRef> {
        if conn.tgid == 0 {
            return None;
        }
        let key = (conn.tgid, conn.start_ns);
        let at = match self.index.get(&key) {
            Some(at) => *at,
            None => self.insert(conn, source),
        };
        let process = self.slots.get_mut(at as usize)?;
        process.last_ns = conn.ts_ns;
        let found = ProcRef { at, generation: process.generation };
        if process.ended_ns.is_none() {
            self.living.insert(conn.tgid, found);
        }
        Some(found)
    }

    /// The living process with this number that was met before.
    pub fn living(&self, tgid: u32) -> Option<ProcRef> {
        self.living.get(&tgid).copied()
    }

    fn insert(&mut self, conn: &Conn, source: &mut dyn ProcSource) -> u32 {
        if self.index.len() >= PROCESSES {
            self.evict();
        }
        let executed = self.execs.pop(&(conn.tgid, conn.start_ns));
        let facts = source.process(conn.tgid, conn.start_ns);
        let facts = facts.unwrap_or_default();
        let comm = executed.as_ref().map_or_else(|| text(&conn.comm), |executed| executed.comm.clone());
        let exe = match (facts.exe, &executed) {
            (Some(exe), _) => {
                escape(exe.strip_suffix(" (deleted)").unwrap_or(&exe).as_bytes(), PATH_CHARS).into()
            }
            (None, Some(executed)) if executed.file.starts_with('/') => executed.file.clone(),
            _ => format!("[{comm}]").into_boxed_str(),
        };
        // the root says nothing: on a hybrid host the named hierarchy of systemd still may
        let unified = source.cgroup(conn.cgroup).filter(|path| &**path != "/");
        let cgroup = unified.or_else(|| facts.cgroup.map(Arc::from)).unwrap_or_else(|| Arc::from(""));
        let workload = cgroup::workload(&cgroup).unwrap_or_else(|| format!("exe:{exe}"));
        let user = source.user(conn.uid).unwrap_or_else(|| Arc::from(conn.uid.to_string()));
        let process = Process {
            tgid: conn.tgid,
            start_ns: conn.start_ns,
            comm,
            exe,
            user: escape(user.as_bytes(), 64).into(),
            workload: Arc::from(workload),
            cgroup: escape(cgroup.as_bytes(), PATH_CHARS).into(),
            ended_ns: None,
            connections: 0,
            tallies: [None, None],
            last_ns: conn.ts_ns,
            generation: 0,
        };
        let at = match self.free.pop() {
            Some(at) => at,
            None => self.slots.len() as u32,
        };
        match self.slots.get_mut(at as usize) {
            Some(slot) => {
                let generation = slot.generation.wrapping_add(1);
                *slot = Process { generation, ..process };
            }
            None => self.slots.push(process),
        }
        self.index.insert((conn.tgid, conn.start_ns), at);
        at
    }

    /// A process executed a file.
    pub fn exec(&mut self, exec: &Exec, file: &[u8]) {
        let key = (exec.tgid, exec.start_ns);
        let file =
            escape(file.split(|byte| *byte == 0).next().unwrap_or_default(), PATH_CHARS).into_boxed_str();
        let comm = text(&exec.comm);
        if let Some(process) = self.index.get(&key).and_then(|at| self.slots.get_mut(*at as usize)) {
            // the same process with another program: what it does from now on belongs to that
            if process.workload.starts_with("exe:") {
                process.workload = Arc::from(format!("exe:{file}"));
            }
            process.exe = file;
            process.comm = comm;
            return;
        }
        if self.execs.len() >= EXECS {
            self.execs.pop_lru();
        }
        self.execs.put(key, Executed { file, comm });
    }

    /// A process ended at about `now_ns`.
    pub fn exit(&mut self, exit: &Exit, now_ns: u64) {
        let key = (exit.tgid, exit.start_ns);
        self.execs.pop(&key);
        let Some(at) = self.index.get(&key).copied() else { return };
        let Some(process) = self.slots.get_mut(at as usize) else { return };
        if process.ended_ns.is_none() {
            process.ended_ns = Some(now_ns);
            let found = ProcRef { at, generation: process.generation };
            self.dead.push_back(found);
            if self.living.get(&exit.tgid) == Some(&found) {
                self.living.remove(&exit.tgid);
            }
        }
    }

    /// The process, `None` when it was evicted.
    pub fn get(&self, process: ProcRef) -> Option<&Process> {
        self.slots.get(process.at as usize).filter(|found| found.generation == process.generation)
    }

    /// Counts a connection of the process that was opened or closed.
    pub fn connected(&mut self, process: Option<ProcRef>, open: bool) {
        let Some(process) = process else { return };
        if let Some(found) =
            self.slots.get_mut(process.at as usize).filter(|p| p.generation == process.generation)
        {
            found.connections =
                if open { found.connections.saturating_add(1) } else { found.connections.saturating_sub(1) };
        }
    }

    /// Counts a finished request, for the process or, when that is gone or was never known, for its workload.
    pub fn charge(
        &mut self,
        process: Option<ProcRef>,
        workload: &Arc<str>,
        direction: Direction,
        sample: &Sample,
    ) {
        let living = process.and_then(|found| {
            self.slots.get_mut(found.at as usize).filter(|slot| slot.generation == found.generation)
        });
        let tallies = match living {
            Some(process) => &mut process.tallies,
            None => self.retired(workload),
        };
        tally(tallies, direction).add(sample);
    }

    fn retired(&mut self, workload: &Arc<str>) -> &mut [Option<Box<Tally>>; 2] {
        let room = self.retired.len() < RETIRED || self.retired.contains_key(workload);
        let name = if room { workload } else { &self.other };
        self.retired.entry(Arc::clone(name)).or_default()
    }

    /// Makes room: the process that died first, else the one that was idle for longest.
    fn evict(&mut self) {
        while let Some(found) = self.dead.pop_front() {
            if self.get(found).is_some() {
                return self.retire(found);
            }
        }
        let idle =
            self.index.values().filter_map(|at| Some((self.slots.get(*at as usize)?.last_ns, *at))).min();
        if let Some((_, at)) = idle {
            let generation = self.slots.get(at as usize).map_or(0, |slot| slot.generation);
            self.retire(ProcRef { at, generation });
        }
    }

    /// Folds the counts of a process into those of its workload and frees its place.
    fn retire(&mut self, found: ProcRef) {
        let Some(slot) = self.slots.get_mut(found.at as usize) else { return };
        slot.generation = slot.generation.wrapping_add(1);
        let tallies = std::mem::take(&mut slot.tallies);
        let (key, workload) = ((slot.tgid, slot.start_ns), Arc::clone(&slot.workload));
        self.index.remove(&key);
        if self.living.get(&key.0) == Some(&found) {
            self.living.remove(&key.0);
        }
        self.free.push(found.at);
        let retired = self.retired(&workload);
        for (direction, old) in directions().zip(&tallies) {
            if let Some(old) = old {
                tally(retired, direction).merge(old);
            }
        }
    }

    /// Retires processes that died long ago and frees what is older than any rate looks back. Returns whether a process
    /// that died before `now_ns` minus `grace_ns` still has open connections.
    pub fn tick(&mut self, now_ns: u64, grace_ns: u64) -> bool {
        while let Some(found) = self.dead.front().copied() {
            let ended = self.get(found).map(|process| process.ended_ns.unwrap_or(now_ns));
            if ended.is_some_and(|ended| ended.saturating_add(KEEP_DEAD_NS) > now_ns) {
                break;
            }
            self.dead.pop_front();
            if ended.is_some() {
                self.retire(found);
            }
        }
        let second = (now_ns / SECOND_NS) as u32;
        let live = self.slots.iter_mut().flat_map(|process| &mut process.tallies);
        for tally in live.chain(self.retired.values_mut().flatten()).flatten() {
            tally.expire(second);
        }
        self.dead.iter().filter_map(|found| self.get(*found)).any(|process| {
            process.connections > 0
                && process.ended_ns.is_some_and(|ended| ended.saturating_add(grace_ns) <= now_ns)
        })
    }

    /// All processes that are kept.
    pub fn iter(&self) -> impl Iterator<Item = &Process> {
        self.index.values().filter_map(|at| self.slots.get(*at as usize))
    }

    /// Counts of processes that are gone, by workload.
    pub fn retired_tallies(&self) -> impl Iterator<Item = (&Arc<str>, Direction, &Tally)> {
        self.retired.iter().flat_map(|(workload, tallies)| {
            directions()
                .zip(tallies)
                .filter_map(move |(direction, tally)| Some((workload, direction, tally.as_deref()?)))
        })
    }
}

fn tally(tallies: &mut [Option<Box<Tally>>; 2], direction: Direction) -> &mut Tally {
    let [inbound, outbound] = tallies;
    match direction {
        Direction::Inbound => inbound.get_or_insert_default(),
        Direction::Outbound => outbound.get_or_insert_default(),
    }
}

/// NUL-padded text of a record, escaped.
fn text(bytes: &[u8]) -> Box<str> {
    escape(bytes.split(|byte| *byte == 0).next().unwrap_or_default(), 64).into()
}
