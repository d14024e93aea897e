//! Attaches the TLS probes that `probes` plans, to the libraries that `probes` finds.
//!
//! Probes belong to files, not to processes: once a library is probed, every process that maps it later is covered from
//! its first call.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aya::programs::uprobe::{UProbeAttachPoint, UProbeLink, UProbeScope};
use aya::programs::{ProgramError, UProbe};
use aya::{Ebpf, maps};
use monitor_common::kernel::{TlsKey, tls_site};
use tracing::{debug, info, warn};

use super::maps::{Plain, TlsConn};
use crate::probes::discover::{Scan, Scanner, Target};
use crate::probes::file::FileId;
use crate::probes::standard::standard_libraries;
use crate::probes::watch::Watcher;
use crate::probes::{OutReg, Role, Site, kernel};
use crate::view::HookRow;

/// How often the TLS connections of processes that ended are looked for.
const PURGE_EVERY: Duration = Duration::from_secs(1);
/// Shortest wait between two looks at what is due.
const MIN_IDLE: Duration = Duration::from_millis(1);
/// Most TLS connections dropped at a time.
const PURGE_MAX: usize = 4096;

/// State of TLS connections in the kernel.
type State = maps::HashMap<maps::MapData, Plain<TlsKey>, TlsConn>;

/// The TLS probes in place.
pub struct Probes {
    scanner: Scanner,
    watcher: Watcher,
    started: Instant,
    attached: HashMap<FileId, Attached>,
    exclude: Vec<PathBuf>,
    /// Why return probes must not be used on this kernel.
    hazard: Option<&'static str>,
    state: State,
    ended: HashSet<u32>,
    purged: Instant,
}

/// The probes in one file. Dropping the links removes them.
struct Attached {
    row: HookRow,
    _links: Vec<UProbeLink>,
}

impl Probes {
    /// Loads the probe programs and probes the libraries in the standard places.
    pub fn start(ebpf: &mut Ebpf, state: State, exclude: &[PathBuf]) -> Result<Self> {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let hazard = kernel::uretprobe_hazard(release.trim());
        if let Some(why) = hazard {
            warn!("{why}: TLS results are read at other instructions where a library has them");
        }
        let result = if hazard.is_some() { "tls_after" } else { "tls_return" };
        for name in ["tls_enter", result, "tls_free", "tls_set_fd"] {
            program(ebpf, name)?.load().with_context(|| format!("cannot load {name}"))?;
        }
        let started = Instant::now();
        let mut probes = Self {
            scanner: Scanner::new("/proc"),
            watcher: Watcher::new(Duration::ZERO),
            started,
            attached: HashMap::new(),
            exclude: exclude.to_vec(),
            hazard,
            state,
            ended: HashSet::new(),
            purged: started,
        };
        let scan = probes.scanner.adopt(&standard_libraries());
        probes.apply(ebpf, scan);
        Ok(probes)
    }

    /// One row a probed file.
    pub fn rows(&self) -> impl Iterator<Item = HookRow> + '_ {
        self.attached.values().map(|attached| attached.row.clone())
    }

    /// How long nothing will be due.
    pub fn idle_for(&self) -> Duration {
        self.watcher.next_at().saturating_sub(self.started.elapsed()).max(MIN_IDLE)
    }

    /// Does what is due: looks at new processes, sweeps, drops the state of processes that ended. Returns whether the probes
    /// changed.
    pub fn maintain(&mut self, ebpf: &mut Ebpf) -> bool {
        let mut changed = false;
        while let Some(work) = self.watcher.poll(self.started.elapsed()) {
            let scan = self.scanner.perform(work);
            changed |= !scan.new.is_empty() || !scan.gone.is_empty();
            self.apply(ebpf, scan);
        }
        if !self.ended.is_empty() && self.purged.elapsed() >= PURGE_EVERY {
            self.purge();
        }
        changed
    }

    /// A process executed a file: it may load a TLS library soon.
    pub fn process_started(&mut self, tgid: u32) {
        self.watcher.executed(tgid, self.started.elapsed());
    }

    /// A process ended: nothing else drops its TLS connections.
    pub fn process_ended(&mut self, tgid: u32) {
        self.watcher.exited(tgid);
        self.scanner.exited(tgid);
        self.ended.insert(tgid);
    }

    fn purge(&mut self) {
        let gone = |key: &Plain<TlsKey>| self.ended.contains(&key.0.tgid);
        let keys: Vec<_> = self.state.keys().filter_map(Result::ok).filter(gone).take(PURGE_MAX).collect();
        for key in &keys {
            let _ = self.state.remove(key);
        }
        if keys.len() < PURGE_MAX {
            self.ended.clear();
        }
        self.purged = Instant::now();
    }

    fn apply(&mut self, ebpf: &mut Ebpf, scan: Scan) {
        for id in scan.gone {
            self.attached.remove(&id);
        }
        for target in scan.new {
            if self.exclude.contains(&target.path) {
                info!(path = %target.path.display(), "not probed: excluded by configuration");
                continue;
            }
            match attach(ebpf, &target, self.hazard.is_some()) {
                Ok(attached) => {
                    debug!(path = %target.path.display(), plan = %target.plan, "probed");
                    self.attached.insert(target.id, attached);
                }
                Err(error) => {
                    warn!(path = %target.path.display(), "cannot probe: {error:#}");
                    self.scanner.forget(target.id);
                }
            }
        }
    }
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut UProbe> {
    let program = ebpf.program_mut(name).with_context(|| format!("the kernel side has no program {name}"))?;
    Ok(program.try_into()?)
}

/// Attaches every site of a file, or none.
fn attach(ebpf: &mut Ebpf, target: &Target, no_return_probes: bool) -> Result<Attached> {
    let path = target.attach_path();
    let mut links = Vec::new();
    for site in &target.plan.sites {
        let cookie = cookie(site);
        let mut probe = |name: &str, offset: u64| -> Result<()> {
            let program = program(ebpf, name)?;
            let point = UProbeAttachPoint { location: offset.into(), cookie: Some(cookie) };
            let attached = program.attach(point, &path, UProbeScope::AllProcesses);
            let link = attached.and_then(|id| program.take_link(id)).map_err(describe)?;
            links.push(link);
            Ok(())
        };
        match site.role {
            Role::Read | Role::Write => {
                // the result first: an entry without a return would only cost
                if no_return_probes {
                    for after in &site.return_alternative {
                        probe("tls_after", after.point.offset)?;
                    }
                    if site.return_alternative.is_empty() {
                        continue;
                    }
                } else {
                    probe("tls_return", site.point.offset)?;
                }
                probe("tls_enter", site.point.offset)?;
            }
            Role::Free => probe("tls_free", site.point.offset)?,
            Role::SetFd | Role::SetReadFd | Role::SetWriteFd => probe("tls_set_fd", site.point.offset)?,
            // a BIO pair has no socket: the peer stays unknown
            Role::SetBio => {}
        }
    }
    let row = HookRow {
        name: "tls".into(),
        target: target.path.display().to_string(),
        mandatory: false,
        attached: !links.is_empty(),
    };
    Ok(Attached { row, _links: links })
}

/// What the kernel side must know about a site.
fn cookie(site: &Site) -> u64 {
    let read = if site.role == Role::Read { tls_site::READ } else { 0 };
    let out = match site.out {
        Some(OutReg::Rcx) => tls_site::OUT_ARG4,
        Some(OutReg::R8) => tls_site::OUT_ARG5,
        None => 0,
    };
    read | out
}

fn describe(error: ProgramError) -> anyhow::Error {
    anyhow::Error::new(error)
}
