//! The running daemon as its servers see it: the core and the latest state of the kernel side, behind locks that are
//! held for one look at a time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use monitor_common::ledger::Counter;
use tokio::sync::Notify;

use super::beat::Progress;
use super::{clock, losses, settings};
use crate::caps::{Change, Engine};
use crate::config::{Config, Enforce};
use crate::core::{ByDirection, Core, Remembered, Span, Summary};
use crate::metrics::{Durations, Events, IdentitySeries, RequestSeries, Snapshot};
use crate::output::NameRow;
use crate::sensor::{Enforcer, ProgramStats};
use crate::source::{Source, Tail};
use crate::state::{self, Names, StateDir};
use crate::threads::lock;
use crate::view::Carrier;
use crate::view::{
    CapExplanation, CapRow, ConnectionRow, DenialCounts, HookRow, IdentityRow, ProcessRow, RoleRow, RouteRow,
    Status,
};

/// Without a drain for so long the daemon is not ready any more.
const STALLED: Duration = Duration::from_secs(5);

/// What the drain thread last read from the kernel side.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    /// The ledger.
    pub ledger: Vec<u64>,
    /// Hooks and probes.
    pub hooks: Vec<HookRow>,
    /// Every mandatory hook is attached.
    pub ready: bool,
    /// Form of the socket hook.
    pub socket_hook: String,
    /// Run time of the programs.
    pub programs: Vec<ProgramStats>,
    /// What became of denied connections.
    pub ended: [(&'static str, u64); 4],
    /// What is wrong with the kernel side, in words.
    pub trouble: Vec<String>,
}

impl Kernel {
    /// Requests and records produced in the kernel. The ledger is a little older than the core's totals; what was
    /// delivered since was produced, too.
    fn produced(&self, delivered: &Summary) -> (ByDirection, u64) {
        let count = |counter, at_least: u64| losses::count(&self.ledger, counter).max(at_least);
        let requests = ByDirection {
            inbound: count(Counter::RequestsInbound, delivered.delivered.inbound),
            outbound: count(Counter::RequestsOutbound, delivered.delivered.outbound),
        };
        (requests, count(Counter::Records, delivered.records))
    }
}

/// See the module's documentation.
pub struct Daemon {
    core: Mutex<Core>,
    kernel: Mutex<Kernel>,
    names: Mutex<Names>,
    config: Mutex<Config>,
    caps: Mutex<Engine>,
    /// Something is configured that denies: without it no connection is ever ended.
    denies: AtomicBool,
    /// Ports whose servers cannot be spared.
    blocking: Mutex<HashMap<u16, u32>>,
    key: [u8; 16],
    /// Locked while the daemon runs.
    _state: StateDir,
    /// What of it was damaged, in words.
    damage: Vec<String>,
    started: SystemTime,
    progress: Arc<Progress>,
    became_ready: Notify,
    reload_ok: AtomicBool,
}

/// Seconds since 1970.
fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Daemon {
    /// Reads (or makes) the key and the names.
    pub fn new(config: Config) -> anyhow::Result<Self> {
        let state = StateDir::open(&config.state.dir)?;
        let damage = state.repair(config.state.on_bad_state)?;
        let key = state::load_or_create_key(&config.state.dir)?;
        let names = Names::load(&config.state.dir, &config.identity.name)?;
        let settings = settings::core(&config, &names, key);
        let caps = Engine::new(&config, &settings, key)?;
        let core = Core::new(settings, clock::base());
        Ok(Self {
            core: Mutex::new(core),
            kernel: Mutex::default(),
            names: Mutex::new(names),
            config: Mutex::new(config),
            caps: Mutex::new(caps),
            denies: AtomicBool::new(false),
            blocking: Mutex::default(),
            key,
            _state: state,
            damage,
            started: SystemTime::now(),
            progress: Arc::default(),
            became_ready: Notify::new(),
            reload_ok: AtomicBool::new(true),
        })
    }

    /// The core.
    pub fn core(&self) -> MutexGuard<'_, Core> {
        lock(&self.core)
    }

    /// Caps and roles. Locked behind configuration and names, before the core.
    pub fn caps(&self) -> MutexGuard<'_, Engine> {
        lock(&self.caps)
    }

    /// Puts caps into force through the kernel side.
    ///
    /// # Errors
    /// Why they cannot be enforced on this host.
    pub fn enforce(&self, enforcer: Option<Arc<dyn Enforcer>>) -> anyhow::Result<()> {
        let mut caps = self.caps();
        if let Some(enforcer) = enforcer {
            caps.attach(enforcer)
                .map_err(anyhow::Error::msg)
                .context("caps cannot be enforced on this host")?;
        }
        self.show_caps(&caps);
        Ok(())
    }

    /// Tells the core which caps there are.
    pub(super) fn show_caps(&self, caps: &Engine) {
        self.denies.store(caps.tables().denies, Ordering::Relaxed);
        let mut core = self.core();
        core.set_caps(caps.cap_names());
        core.tell_again(caps.generation_of_answers());
    }

    /// A listener answers, and its server waits in its system calls: said once for each port.
    pub fn cannot_answer(&self, port: u16) {
        const FEW: u32 = 3; // a server may be about to switch a new connection over
        let mut ports = lock(&self.blocking);
        let seen = ports.entry(port).or_default();
        *seen = seen.saturating_add(1);
        if *seen == FEW {
            tracing::warn!(
                port,
                "respond = 429 has no effect here: the server uses blocking sockets, so denied connections are ended instead"
            );
        }
    }

    /// Whether denied connections may be ended: shadow and observation alone never touch one.
    pub fn denies(&self) -> bool {
        self.denies.load(Ordering::Relaxed)
    }

    /// Caps as they are shown. The locks are taken one after the other: reading buckets takes long, and the rings must not wait.
    fn cap_rows(&self) -> Vec<CapRow> {
        let shown = self.caps().rows();
        self.core().describe_caps(shown)
    }

    /// What is due now and then: credentials that servers have accepted; once a second workloads that came or
    /// went, and the counts of caps.
    pub fn maintain_caps(&self, second: bool) {
        let mut caps = self.caps();
        let seen = self.core().take_answers();
        if !seen.is_empty() {
            let before = caps.generation_of_answers();
            caps.answered(seen, unix_seconds());
            let generation = caps.generation_of_answers();
            if generation != before {
                self.core().tell_again(generation);
            }
        }
        if second {
            caps.look();
        }
        if second
            && caps.has_workloads()
            && let Err(error) = caps.refresh()
        {
            tracing::warn!("caps of workloads are not up to date: {error}");
        }
    }

    /// Keeps what servers have proven, if that has changed. Writes without a lock: a disk may be slow.
    pub fn keep_proofs(&self) {
        let kept = {
            let mut caps = self.caps();
            caps.expire(unix_seconds());
            caps.take_proofs()
        };
        if let Some((file, text)) = kept
            && let Err(error) = file.write(&text)
        {
            tracing::warn!("what servers have proven is not kept over a restart: {error:#}");
        }
    }

    /// The installation key.
    pub fn key(&self) -> [u8; 16] {
        self.key
    }

    /// The configuration in force.
    pub fn config(&self) -> MutexGuard<'_, Config> {
        lock(&self.config)
    }

    /// Takes what the drain thread read.
    pub fn publish(&self, kernel: Kernel) {
        *lock(&self.kernel) = kernel;
        if self.missing().is_empty() {
            self.became_ready.notify_one();
        }
    }

    /// How far the drain has come.
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Returns when the daemon is ready for the first time.
    pub async fn ready(&self) {
        self.became_ready.notified().await;
    }

    /// Puts a new configuration into force as far as that is possible. Returns the keys that need a restart.
    ///
    /// # Errors
    /// When the kept names cannot be read; then nothing has changed.
    pub fn reload(&self, new: Config) -> anyhow::Result<Vec<String>> {
        let mut config = self.config();
        let names = Names::load(&config.state.dir, &new.identity.name)?;
        let restart = settings::needs_restart(&config, &new);
        let mut next = config.clone();
        next.identity.name.clone_from(&new.identity.name);
        next.identity.trusted_proxies.clone_from(&new.identity.trusted_proxies);
        next.role.clone_from(&new.role);
        next.cap.clone_from(&new.cap);
        next.listener.clone_from(&new.listener);
        next.enforce = Enforce { on_exit: config.enforce.on_exit, ..new.enforce };
        {
            let mut caps = self.caps();
            caps.configure(&next, &settings::core(&next, &names, self.key)).map_err(anyhow::Error::msg)?;
            self.show_caps(&caps);
        }
        config.identity.name = new.identity.name;
        config.identity.trusted_proxies = new.identity.trusted_proxies;
        config.route = new.route;
        (config.limits, config.history) = (new.limits, new.history);
        (config.role, config.cap) = (new.role, new.cap);
        (config.listener, config.enforce) = (new.listener, next.enforce);
        self.core().reconfigure(settings::core(&config, &names, self.key));
        *lock(&self.names) = names;
        self.reload_ok.store(true, Ordering::Relaxed);
        Ok(restart)
    }

    /// Takes note that the configuration could not be reloaded.
    pub fn reload_failed(&self) {
        self.reload_ok.store(false, Ordering::Relaxed);
    }

    fn kernel(&self) -> Kernel {
        lock(&self.kernel).clone()
    }
}

impl Source for Daemon {
    fn status(&self) -> Status {
        let kernel = self.kernel();
        let (summary, lost, denials) = {
            let core = self.core();
            (core.summary(), core.losses(), core.denials())
        };
        let (counted, produced) = kernel.produced(&summary);
        let mut losses = losses::rows(&kernel.ledger);
        losses.extend(lost);
        losses.retain(|row| row.count > 0);
        let config = self.config();
        let mut excluded = vec!["weir itself".to_owned()];
        excluded.extend(config.observe.exclude_exe.iter().map(|exe| exe.display().to_string()));
        if !config.observe.tls {
            excluded.push("TLS (`[observe] tls = false`)".into());
        }
        drop(config);
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            started: humantime::format_rfc3339_seconds(self.started).to_string(),
            kernel: crate::host::release(),
            ready: self.missing().is_empty(),
            requests_inbound: counted.inbound,
            requests_outbound: counted.outbound,
            records_produced: produced,
            records_delivered: summary.records,
            losses,
            denied: DenialCounts {
                cap: denials.cap.sum(),
                access: denials.access.sum(),
                credentials: denials.credentials.sum(),
                framing: denials.framing.sum(),
            },
            identities: summary.identities,
            connections: summary.connections,
            excluded,
            resident_bytes: crate::host::usage().resident_bytes,
            socket_hook: kernel.socket_hook,
            hooks: kernel.hooks,
            degraded: kernel.trouble.into_iter().chain(self.damage.iter().cloned()).collect(),
        }
    }

    fn missing(&self) -> Vec<String> {
        let kernel = self.kernel();
        let unattached = kernel.hooks.iter().filter(|hook| hook.mandatory && !hook.attached);
        let mut missing: Vec<_> =
            unattached.map(|hook| format!("{} is not attached to {}", hook.name, hook.target)).collect();
        if missing.is_empty() && !kernel.ready {
            missing.push("the hooks are not attached".into());
        }
        match self.progress.drain_age() {
            None => missing.push("the ring has not been read".into()),
            Some(age) if age > STALLED => {
                missing.push(format!("the ring was last read {} s ago", age.as_secs()));
            }
            Some(_) => {}
        }
        missing
    }

    fn identities(&self, most: usize) -> Vec<IdentityRow> {
        let core = self.core();
        // identities with one name are one row: the small ones belong to it, too
        let named = !core.settings().names.is_empty();
        core.identities(if named { usize::MAX } else { most })
    }

    fn processes(&self) -> Vec<ProcessRow> {
        self.core().processes()
    }

    fn routes(&self) -> Vec<RouteRow> {
        self.core().routes()
    }

    fn connections(&self) -> Vec<ConnectionRow> {
        self.core().connections(usize::MAX)
    }

    fn tail_end(&self) -> u64 {
        self.core().tail_position()
    }

    fn tail(&self, from: u64, most: usize) -> Tail {
        let tail = self.core().tail(from, most);
        Tail { next: tail.next, skipped: tail.skipped, records: tail.records }
    }

    fn span(&self, since: Duration) -> Option<Span> {
        self.core().span(since)
    }

    fn remembered(&self, span: &Span, from: u64, most: usize) -> Remembered {
        self.core().remembered(span, from, most)
    }

    fn names(&self) -> Vec<NameRow> {
        lock(&self.names).rows()
    }

    fn set_name(&self, identity: &str, name: Option<&str>) -> Result<(), String> {
        // in the order of `reload`, so that two changes cannot wait for each other
        let config = self.config();
        let mut names = lock(&self.names);
        names.set(identity, name)?;
        let settings = settings::core(&config, &names, self.key);
        let mut caps = self.caps();
        caps.configure(&config, &settings)?;
        self.core().reconfigure(settings);
        Ok(())
    }

    fn fingerprint(&self, carrier: Carrier, name: &str, secret: &[u8]) -> Option<String> {
        state::fingerprint(self.key, carrier, name, secret)
    }

    fn caps(&self) -> Vec<CapRow> {
        self.cap_rows()
    }

    fn roles(&self) -> Vec<RoleRow> {
        self.caps().role_rows()
    }

    fn change_cap(&self, change: &Change) -> Result<Vec<CapRow>, String> {
        let shown = {
            let mut caps = self.caps();
            caps.change(change)?;
            self.show_caps(&caps);
            if let (Change::Reset { identity: None, .. }, Some(index)) = (change, caps.index(change.name())) {
                self.core().forget_refusal(index);
            }
            caps.rows()
        };
        let rows = self.core().describe_caps(shown);
        Ok(rows.into_iter().filter(|row| row.name == change.name()).collect())
    }

    fn explain_caps(&self, identity: &str) -> Vec<CapExplanation> {
        self.caps().explain(identity)
    }

    fn metrics(&self) -> Snapshot {
        let kernel = self.kernel();
        let most = self.config().metrics.identities;
        // all of it under one lock, so that the sums agree
        let (summary, requests, durations, identities, lost) = {
            let core = self.core();
            let identities = core.identity_series(most);
            (core.summary(), core.request_series(), core.duration_series(), identities, core.losses())
        };
        let (counted, produced) = kernel.produced(&summary);
        let mut snapshot = Snapshot {
            outstanding: [
                summary.delivered.inbound.saturating_sub(summary.finished.inbound),
                summary.delivered.outbound.saturating_sub(summary.finished.outbound),
            ],
            identity_count: summary.identities,
            connections: summary.connections,
            routes: durations.len() as u64,
            kernel_requests: [counted.inbound, counted.outbound],
            events: Events { produced, delivered: summary.records },
            losses: losses::rows(&kernel.ledger).into_iter().chain(lost).collect(),
            observed: losses::observed(&kernel.ledger),
            caps: self.cap_rows(),
            denials: self.core().denials(),
            ended: kernel.ended,
            drain_age: self.progress.drain_age().unwrap_or_else(|| self.progress.age()).as_secs_f64(),
            ready: self.missing().is_empty(),
            reload_ok: self.reload_ok.load(Ordering::Relaxed),
            version: env!("CARGO_PKG_VERSION").into(),
            kernel: crate::host::release(),
            started: self.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
            hooks: kernel.hooks,
            degraded: (kernel.trouble.len() + self.damage.len()) as u64,
            programs: kernel.programs,
            socket_hook: kernel.socket_hook,
            ..Snapshot::default()
        };
        for one in &durations {
            let at = usize::from(one.direction == crate::view::Direction::Outbound);
            for (sum, bytes) in [
                (snapshot.request_bytes.get_mut(at), one.request_bytes),
                (snapshot.response_bytes.get_mut(at), one.response_bytes),
            ] {
                if let Some(sum) = sum {
                    *sum += bytes;
                }
            }
        }
        snapshot.requests = requests
            .into_iter()
            .map(|one| RequestSeries {
                direction: one.direction,
                method: one.method.into(),
                route: one.route,
                status: one.status,
                version: one.version.into(),
                count: one.requests,
            })
            .collect();
        snapshot.durations = durations
            .into_iter()
            .map(|one| Durations {
                direction: one.direction,
                method: one.method.into(),
                route: one.route,
                buckets: one.buckets,
                sum: one.sum,
            })
            .collect();
        snapshot.identities = identities
            .into_iter()
            .map(|one| IdentitySeries {
                direction: one.direction,
                identity: one.identity,
                kind: one.kind.into(),
                count: one.requests,
            })
            .collect();
        snapshot
    }
}
