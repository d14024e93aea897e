//! Attaches the TLS probes that `probes` plans, to the libraries that `probes` finds.
//!
//! Probes belong to files, not to processes: once a library is probed, every process that maps it later is covered from
//! its first call.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::maps::MapData;
use aya::programs::UProbe;
use aya::programs::links::FdLink;
use aya::programs::uprobe::{UProbeAttachPoint, UProbeScope};
use monitor_common::kernel::{TlsKey, tls_site};
use tracing::{debug, info, warn};

use super::hooks::program;
use super::maps::{self, Plain, TlsConn, TlsPeer};
use super::pins::Held;
use crate::probes::discover::{Scan, Scanner, Target};
use crate::probes::file::FileId;
use crate::probes::scout::{Found, Scout};
use crate::probes::standard::standard_libraries;
use crate::probes::{OutReg, Role, Site, kernel};
use crate::view::HookRow;

/// How often the TLS connections of processes that ended are looked for.
const PURGE_EVERY: Duration = Duration::from_secs(1);
/// How long a look at new processes may take before it is decided for the first time whether requests are denied.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// Most TLS connections dropped at a time.
const PURGE_MAX: usize = 4096;

type Table<V> = aya::maps::HashMap<MapData, Plain<TlsKey>, V>;

/// State of TLS connections in the kernel.
pub struct State {
    connections: Table<TlsConn>,
    peers: Table<TlsPeer>,
}

impl State {
    /// Takes the tables over.
    pub fn take(ebpf: &mut Ebpf) -> Result<Self> {
        Ok(Self {
            connections: Table::try_from(maps::take(ebpf, "TLS")?)?,
            peers: Table::try_from(maps::take(ebpf, "TLS_PEERS")?)?,
        })
    }

    /// Drops what belongs to processes that ended; false when some may be left.
    fn purge(&mut self, ended: &impl Fn(u32) -> bool) -> bool {
        let connections = purge(&mut self.connections, ended);
        purge(&mut self.peers, ended) && connections
    }
}

fn purge<V: aya::Pod>(table: &mut Table<V>, ended: &impl Fn(u32) -> bool) -> bool {
    let gone = |key: &Plain<TlsKey>| ended(key.0.tgid);
    let keys: Vec<_> = table.keys().filter_map(Result::ok).filter(gone).take(PURGE_MAX).collect();
    for key in &keys {
        let _ = table.remove(key);
    }
    keys.len() < PURGE_MAX
}

/// The TLS probes in place.
pub struct Probes {
    /// What looks for libraries, until its thread starts.
    scanner: Option<Scanner>,
    scout: Option<Scout>,
    attached: HashMap<FileId, Attached>,
    exclude: Vec<PathBuf>,
    /// Why return probes must not be used on this kernel.
    hazard: Option<&'static str>,
    /// Number of the latest library whose probes are all in place.
    sets: u32,
    /// Whether writes are looked at before they are encrypted, too.
    early: bool,
    state: State,
    ended: HashSet<u32>,
    /// Nobody told of processes that ended.
    missed: bool,
    purged: Instant,
}

/// The probes in one file.
struct Attached {
    row: HookRow,
    target: Target,
    set: u32,
    links: Vec<Held>,
}

impl Probes {
    /// Probes the libraries in the standard places; the programs are loaded. `hazard` as [`Self::hazard`] returned it.
    pub fn start(ebpf: &mut Ebpf, state: State, exclude: &[PathBuf], hazard: Option<&'static str>) -> Self {
        let mut scanner = Scanner::new("/proc");
        let scan = scanner.adopt(&standard_libraries());
        let mut probes = Self {
            scanner: Some(scanner),
            scout: None,
            attached: HashMap::new(),
            exclude: exclude.to_vec(),
            hazard,
            sets: 0,
            early: false,
            state,
            ended: HashSet::new(),
            missed: false,
            purged: Instant::now(),
        };
        probes.apply(ebpf, scan);
        probes
    }

    /// Looks for libraries from now on, on a thread of its own that hands them to `found`.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn look(&mut self, found: Found) -> Result<()> {
        if let Some(scanner) = self.scanner.take() {
            self.scout = Some(
                Scout::start(scanner, found).context("cannot start the thread that looks for libraries")?,
            );
        }
        Ok(())
    }

    /// Why return probes must not be used on this kernel, `None` when they may.
    pub fn hazard() -> Option<&'static str> {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let hazard = kernel::uretprobe_hazard(release.trim());
        if let Some(why) = hazard {
            warn!("{why}: TLS results are read at other instructions where a library has them");
        }
        hazard
    }

    /// The probe programs.
    pub fn programs(hazard: Option<&'static str>) -> [&'static str; 4] {
        let result = if hazard.is_some() { "tls_after" } else { "tls_return" };
        ["tls_enter", result, "tls_free", "tls_set_fd"]
    }

    /// Looks at writes before they are encrypted, from now on.
    ///
    /// # Errors
    /// When the program is refused. A library that cannot be probed again is only logged.
    pub fn start_early(&mut self, ebpf: &mut Ebpf) -> Result<()> {
        program::<UProbe>(ebpf, "tls_early")?.load().context("cannot load tls_early")?;
        self.early = true;
        for attached in self.attached.values_mut() {
            if let Err(error) = attach_early(ebpf, attached) {
                warn!(path = %attached.target.path.display(), "requests are not seen before they leave: {error:#}");
            }
        }
        Ok(())
    }

    /// One row a probed file.
    pub fn rows(&self) -> impl Iterator<Item = HookRow> + '_ {
        self.attached.values().map(|attached| attached.row.clone())
    }

    /// The links of all probes.
    pub fn links(&mut self) -> impl Iterator<Item = &mut Held> {
        self.attached.values_mut().flat_map(|attached| &mut attached.links)
    }

    /// Probes what a thread has found. Returns whether the probes changed.
    pub fn take(&mut self, ebpf: &mut Ebpf, number: usize, scan: Scan) -> bool {
        // what a thread says that was given up is old
        self.scout.as_ref().is_some_and(|scout| scout.is_current(number)) && self.take_all(ebpf, [scan])
    }

    /// Looks at what is due at once, and probes it. Returns whether the probes changed.
    pub fn look_now(&mut self, ebpf: &mut Ebpf) -> bool {
        let scans = self.scout.as_ref().map(|scout| scout.now(FIRST_LOOK)).unwrap_or_default();
        self.take_all(ebpf, scans)
    }

    fn take_all(&mut self, ebpf: &mut Ebpf, scans: impl IntoIterator<Item = Scan>) -> bool {
        let mut changed = false;
        for scan in scans {
            changed |= !scan.new.is_empty() || !scan.gone.is_empty();
            let sets = self.sets;
            self.apply(ebpf, scan);
            if self.sets != sets
                && let Err(error) = maps::switch_on(ebpf, self.sets)
            {
                warn!("the new libraries' connections are not taken up: {error:#}");
            }
        }
        changed
    }

    /// Drops the state of processes that ended, and sees to the thread that looks for libraries.
    pub fn maintain(&mut self) {
        let probed = self.attached.iter().map(|(id, attached)| (*id, attached.target.path.clone()));
        if let Some(scout) = &mut self.scout
            && let Some(pid) = scout.supervise(probed)
        {
            warn!(pid, "looking for TLS libraries hangs at a process: it is left alone from now on");
        }
        if (self.missed || !self.ended.is_empty()) && self.purged.elapsed() >= PURGE_EVERY {
            self.purge();
        }
    }

    /// What is wrong, in words.
    pub fn trouble(&self) -> Vec<String> {
        self.scout.as_ref().map(Scout::trouble).unwrap_or_default()
    }

    /// Number of the latest library whose probes are all in place.
    pub fn sets(&self) -> u32 {
        self.sets
    }

    /// A process executed a file: it may load a TLS library soon.
    pub fn process_started(&mut self, tgid: u32) {
        if let Some(scout) = &self.scout {
            scout.started(tgid);
        }
    }

    /// A process ended: nothing else drops its TLS connections.
    pub fn process_ended(&mut self, tgid: u32) {
        if let Some(scout) = &self.scout {
            scout.ended(tgid);
        }
        self.ended.insert(tgid);
    }

    /// Processes came or went that nobody told of.
    pub fn missed_processes(&mut self) {
        self.missed = true;
    }

    fn purge(&mut self) {
        let all = if self.missed {
            self.state.purge(&|tgid| !Path::new("/proc").join(tgid.to_string()).exists())
        } else {
            self.state.purge(&|tgid| self.ended.contains(&tgid))
        };
        if all {
            self.ended.clear();
            self.missed = false;
        }
        self.purged = Instant::now();
    }

    fn apply(&mut self, ebpf: &mut Ebpf, scan: Scan) {
        for attached in scan.gone.iter().filter_map(|id| self.attached.remove(id)) {
            attached.links.into_iter().for_each(Held::detach);
        }
        for target in scan.new {
            if self.attached.contains_key(&target.id) {
                continue;
            }
            if self.exclude.contains(&target.path) {
                info!(path = %target.path.display(), "not probed: excluded by configuration");
                continue;
            }
            let (id, path) = (target.id, target.path.clone());
            let attached =
                attach(ebpf, target, self.sets + 1, self.hazard.is_some()).and_then(|mut attached| {
                    if self.early {
                        attach_early(ebpf, &mut attached)?;
                    }
                    Ok(attached)
                });
            match attached {
                Ok(attached) => {
                    self.sets += 1;
                    debug!(path = %path.display(), plan = %attached.target.plan, "probed");
                    self.attached.insert(id, attached);
                }
                Err(error) => {
                    warn!(path = %path.display(), "cannot probe: {error:#}");
                    if let Some(scout) = &self.scout {
                        scout.forget(id);
                    }
                }
            }
        }
    }
}

/// Attaches every site of a file, the `set`th, or none.
fn attach(ebpf: &mut Ebpf, target: Target, set: u32, no_return_probes: bool) -> Result<Attached> {
    let path = target.attach_path();
    let mut links = Vec::new();
    for site in &target.plan.sites {
        let cookie = cookie(site, set);
        let mut probe = |name: &str, offset: u64| -> Result<()> {
            links.push(attach_one(ebpf, name, &path, offset, cookie)?);
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
    Ok(Attached { row, target, set, links })
}

/// Adds the probes that see writes before they are encrypted: at the sites whose results are seen, since what is framed ahead
/// must be known to have been sent.
fn attach_early(ebpf: &mut Ebpf, attached: &mut Attached) -> Result<()> {
    let path = attached.target.attach_path();
    for site in attached.target.plan.sites.iter().filter(|site| site.role == Role::Write) {
        let link = attach_one(ebpf, "tls_early", &path, site.point.offset, cookie(site, attached.set))?;
        attached.links.push(link);
    }
    Ok(())
}

fn attach_one(ebpf: &mut Ebpf, name: &str, path: &Path, offset: u64, cookie: u64) -> Result<Held> {
    let program: &mut UProbe = program(ebpf, name)?;
    let point = UProbeAttachPoint { location: offset.into(), cookie: Some(cookie) };
    let attached = program.attach(point, path, UProbeScope::AllProcesses);
    let link = attached.and_then(|id| program.take_link(id))?;
    Ok(FdLink::try_from(link)?.into())
}

/// What the kernel side must know about a site.
fn cookie(site: &Site, set: u32) -> u64 {
    let read = if site.role == Role::Read { tls_site::READ } else { 0 };
    let out = match site.out {
        Some(OutReg::Rcx) => tls_site::OUT_ARG4,
        Some(OutReg::R8) => tls_site::OUT_ARG5,
        None => 0,
    };
    read | out | u64::from(set) << tls_site::SET_SHIFT
}
