//! The only user of aya: loads and attaches the kernel side, reads its maps, drains its ring.

pub mod answer;
pub mod bench;
pub mod budget;
mod fence;
mod hooks;
mod mapping;
mod maps;
pub mod merge;
mod offsets;
pub mod pins;
mod policy;
mod pulse;
mod ring;
mod tls;
pub mod trial;
mod worker;

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use aya::maps::{HashMap, MapData, PerCpuArray};
use aya::{Btf, Ebpf, EbpfLoader};
use monitor_common::event::{self, Event};
use monitor_common::http1::Names;
use monitor_common::kernel::{IdentityCount, IdentityKey};
use monitor_common::ledger::Counter;

use self::maps::Plain;
use self::merge::Merge;
use self::pins::Pins;
use self::ring::MappedRing;
use self::worker::{ProcessEvent, Worker};
use crate::core::KernelIdentity;
use crate::sensor::{DRAIN_MAX, Drained, Enforcer, ProgramStats};
use crate::view::HookRow;

pub use self::hooks::SocketHook;
pub use self::offsets::VMLINUX;

/// The kernel side, built by `build.rs`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("WEIR_EBPF_OBJECT"));

/// What the daemon chooses.
#[derive(Clone, Debug)]
pub struct Options {
    /// Size of the ring buffers together: a power of two.
    pub ring_bytes: u32,
    /// Whether TLS libraries are probed.
    pub tls: bool,
    /// Executables whose connections are not observed, and files that are never probed.
    pub exclude: Vec<std::path::PathBuf>,
    /// Header names in the order in which they name a request, lower case.
    pub headers: Vec<String>,
    /// Query keys that carry a credential.
    pub query_keys: Vec<String>,
    /// Cookies that carry a credential.
    pub cookies: Vec<String>,
    /// Key of the fingerprints.
    pub key: [u64; 2],
    /// Listeners whose denied callers are answered.
    pub listeners: Vec<answer::Listener>,
    /// What becomes of pinned programs.
    pub pins: pins::Mode,
}

/// The loaded and attached kernel side. Dropping it detaches everything that is not pinned.
pub struct Sensor {
    rings: Merge<MappedRing>,
    ledger: PerCpuArray<MapData, u64>,
    identities: HashMap<MapData, Plain<IdentityKey>, Plain<IdentityCount>>,
    worker: Worker,
    socket_hook: SocketHook,
    hooks: Vec<HookRow>,
    policy: Arc<policy::Tables>,
    pulse: Option<pulse::Pulse>,
    tokens: answer::Tokens,
    /// Sockets with a fence, by cookie.
    fenced: HashMap<MapData, u64, u32>,
    /// Some fences are an earlier daemon's.
    inherits: bool,
    polled: bool,
}

impl Sensor {
    /// Loads and attaches. Everything is detached again when this fails. The connections of `own`, a listener, are never
    /// decided about.
    ///
    /// # Errors
    /// One line that says what is missing and what to do.
    pub fn start(options: &Options, own: Option<BorrowedFd<'_>>) -> Result<Self> {
        let Loaded { mut ebpf, btf, rings, pins, cap_names, fenced, socket_hook } = Loaded::new(options)?;
        if let Some(own) = own {
            maps::set_own(&mut ebpf, own)?;
        }
        let inherits = !pins.shared().is_empty();
        let hazard = if options.tls { tls::Probes::hazard() } else { None };
        let probes = if options.tls { &tls::Probes::programs(hazard)[..] } else { &[] };
        let (socket_hook, hooks, links) = hooks::attach(&mut ebpf, &btf, socket_hook, probes)?;
        let ledger = PerCpuArray::try_from(maps::take(&mut ebpf, "LEDGER")?)?;
        let identities = HashMap::try_from(maps::take(&mut ebpf, "IDENTITIES")?)?;
        let tls = if options.tls {
            let state = tls::State::take(&mut ebpf)?;
            Some(tls::Probes::start(&mut ebpf, state, &options.exclude, hazard))
        } else {
            None
        };
        maps::switch_on(&mut ebpf, tls.as_ref().map_or(0, tls::Probes::sets))?;
        // the kernel's types were most of the heap and are not needed again
        drop(btf);
        // SAFETY: takes no pointers.
        unsafe { libc::malloc_trim(0) };
        let pulse = Some(pulse::Pulse::new(&ebpf)?);
        let maps = policy::Maps::take(&mut ebpf)?;
        let tokens = answer::Tokens::default();
        let answering = worker::Answering {
            listeners: options.listeners.clone(),
            socket_hook,
            tokens: Arc::clone(&tokens),
        };
        let worker = Worker::start(ebpf, tls, answering, links, pins.own)?;
        let policy = Arc::new(policy::Tables::new(maps, worker.preparer(), cap_names, pins.earlier));
        Ok(Self {
            rings,
            ledger,
            identities,
            worker,
            socket_hook,
            hooks,
            policy,
            pulse,
            tokens,
            fenced,
            inherits,
            polled: false,
        })
    }
}

/// The kernel side with its maps, before any program is loaded.
struct Loaded {
    ebpf: Ebpf,
    btf: Btf,
    rings: Merge<MappedRing>,
    /// What outlives the daemon, and what outlived an earlier one.
    pins: Pins,
    /// Which cap has which index, for whoever comes next.
    cap_names: Option<pins::CapNames>,
    /// Sockets with a fence, by cookie.
    fenced: HashMap<MapData, u64, u32>,
    /// What the kernel's types say; trying decides.
    socket_hook: SocketHook,
}

impl Loaded {
    fn new(options: &Options) -> Result<Self> {
        // three readers of the same file with different needs, at the same time (the loader's default cannot be kept from
        // reading it, nor asked for what it read)
        let (found, btf, loader) = std::thread::scope(|scope| {
            let btf = scope.spawn(Btf::from_sys_fs);
            let loader = scope.spawn(EbpfLoader::new);
            (offsets::Found::read(), btf.join(), loader.join())
        });
        let offsets::Found { mut config, socket_hook } = found?;
        let btf = btf.map_err(|_| anyhow::anyhow!("reading the kernel's BTF failed"))?;
        let btf = btf.context("cannot read the kernel's BTF")?;
        config.own_tgid = std::process::id();
        config.tls = options.tls.into();
        let excluded: Vec<_> = options.exclude.iter().filter_map(|path| maps::file_key(path)).collect();
        config.excluded = excluded.len() as u32;
        let count = maps::ring_count(options.ring_bytes);
        config.ring_mask = count - 1;
        let mut pins = Pins::open(options.pins);
        let mut loader = loader.map_err(|_| anyhow::anyhow!("reading the kernel's BTF failed"))?;
        for (name, path) in pins.shared() {
            loader.map_pin_path(name, path);
        }
        let config = Plain(config);
        let mut ebpf = loader
            .override_global("CONFIG", &config, true)
            .map_max_entries("ANSWERS", if options.listeners.is_empty() { 1 } else { answer::CONNECTIONS })
            .map_max_entries("BENCH_RING", maps::UNUSED_RING) // of the hooks that are never loaded here
            .allow_unsupported_maps() // task storage: created like any map, only the kernel side uses it
            .load(OBJECT)
            .map_err(explain)?;
        let cap_names = pins.keep_maps(&ebpf);
        let fenced = HashMap::try_from(maps::take(&mut ebpf, "FENCED")?)?;
        maps::set_names(&mut ebpf, &names(options)?)?;
        maps::set_excluded(&mut ebpf, &excluded)?;
        let rings = maps::set_rings(&mut ebpf, count, options.ring_bytes / count)?;
        Ok(Self { ebpf, btf, rings, pins, cap_names, fenced, socket_hook })
    }
}

impl crate::sensor::Sensor for Sensor {
    fn drain(&mut self, now_ns: u64, each: &mut dyn FnMut(&[u8])) -> Drained {
        let Self { rings, worker, tokens, .. } = self;
        self.polled = true;
        rings.drain(now_ns, DRAIN_MAX, &mut |record| {
            follow(worker, tokens, record);
            each(record);
        })
    }

    /// Fails also when the probes' thread has ended: that may not go unnoticed either.
    fn ledger(&self) -> Result<Vec<u64>> {
        self.worker.check()?;
        let mut sums = Vec::with_capacity(Counter::COUNT as usize);
        for index in 0..Counter::COUNT {
            let cells = self.ledger.get(&index, 0).context("reading the ledger")?;
            sums.push(cells.iter().sum());
        }
        Ok(sums)
    }

    fn identity_counts(&self) -> Vec<KernelIdentity> {
        let entries = self.identities.iter().filter_map(Result::ok);
        entries
            .map(|(Plain(key), Plain(value))| KernelIdentity {
                fp: key.fp,
                cred: key.cred as u8,
                role: key.role as u8,
                requests: value.requests,
            })
            .collect()
    }

    fn hooks(&self) -> Vec<HookRow> {
        self.hooks.iter().cloned().chain(self.worker.shown().probes).collect()
    }

    fn ready(&self) -> bool {
        self.polled && self.hooks.iter().all(|hook| hook.attached || !hook.mandatory)
    }

    fn socket_hook(&self) -> &str {
        self.socket_hook.name()
    }

    /// Up to a second old.
    fn program_stats(&self) -> Vec<ProgramStats> {
        self.worker.shown().programs
    }

    fn trouble(&self) -> Vec<String> {
        self.worker.trouble()
    }

    fn fenced(&self) -> BTreeSet<u64> {
        let keys = self.inherits.then(|| self.fenced.keys().filter_map(Result::ok));
        keys.into_iter().flatten().collect()
    }

    fn pulse(&mut self) -> Option<Box<dyn crate::sensor::Pulse>> {
        Some(Box::new(self.pulse.take()?))
    }

    fn enforcer(&self) -> Option<Arc<dyn Enforcer>> {
        Some(Arc::clone(&self.policy) as Arc<dyn Enforcer>)
    }
}

/// Tells the probes' thread about processes that came and went, and sends denied callers their answers.
fn follow(worker: &Worker, tokens: &answer::Tokens, record: &[u8]) {
    if !matches!(record.first(), Some(&event::kind::EXEC | &event::kind::EXIT | &event::kind::DUE)) {
        return;
    }
    match event::decode(record) {
        Ok(Event::Exec(exec, _)) => worker.process(ProcessEvent::Started(exec.tgid)),
        Ok(Event::Due(due)) => answer::send(tokens, due.cookie),
        Ok(Event::Exit(exit)) => worker.process(ProcessEvent::Ended(exit.tgid)),
        _ => {}
    }
}

/// Requests: framing headers and credentials; responses: framing headers only.
fn names(options: &Options) -> Result<[Names; 3]> {
    fn list(names: &[String]) -> Vec<&str> {
        names.iter().map(String::as_str).collect()
    }
    let (headers, query, cookies) =
        (list(&options.headers), list(&options.query_keys), list(&options.cookies));
    let requests = |host| {
        Names::request_with(&headers, &query, &cookies, host, options.key)
            .map_err(|error| anyhow::anyhow!("[identity] headers, query_keys or cookies: {error:?}"))
    };
    Ok([requests(false)?, Names::response(), requests(true)?])
}

/// A load error in words that lead on.
fn explain(error: aya::EbpfError) -> anyhow::Error {
    anyhow::Error::new(error)
        .context("cannot load the kernel side: run `weir doctor` to see what this kernel lacks")
}
