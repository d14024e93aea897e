//! Keeps the kernel's tables equal to what is wanted: configuration, changes at run time, names, workloads that come and go,
//! credentials that servers accept. Every change is compiled as a whole and written as a difference.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use monitor_common::cap::{BucketKey, Policy, policy_flag};
use serde::{Deserialize, Serialize};

use super::apply::apply;
use super::compile::{Inputs, Tables, claims, compile};
use super::rates::Rates;
use super::subjects::Resolver;
use crate::config::{Action, Cap, Config, Enforce, OnExit, Role, Unframed};
use crate::core::{Acceptance, Accepted, Settings};
use crate::identity::SipKey;
use crate::proof::{Change as Proven, Proofs};
use crate::sensor::{Enforcer, Inherited, Need};
use crate::state::{CapsFile, Override, ProvenFile};

/// Most caps.
const CAPS: usize = monitor_common::cap::RULES as usize;
/// Most proven credentials that are remembered by name; half of them those that nothing configured asks for.
const CLAIMS: usize = 32_768;
/// Without a sign of life for so long the kernel side denies nothing any more, unless it is to outlive the daemon.
const OPEN_LEASE: Duration = Duration::from_secs(3);

/// A change at run time. `persist`: it is kept over a restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "lowercase")]
pub enum Change {
    /// A new cap, or another one in its place.
    Set {
        /// The cap.
        cap: Cap,
        /// Kept over a restart.
        #[serde(default)]
        persist: bool,
    },
    /// A cap that was set at run time goes.
    Remove {
        /// Its name.
        name: String,
    },
    /// A cap is in force, or not.
    Enable {
        /// Its name.
        name: String,
        /// Whether it is in force.
        on: bool,
        /// Kept over a restart.
        #[serde(default)]
        persist: bool,
    },
    /// Another action.
    Action {
        /// Name of the cap.
        name: String,
        /// What happens from now on.
        action: Action,
        /// Kept over a restart.
        #[serde(default)]
        persist: bool,
    },
    /// Buckets and counts begin anew; with an identity only its bucket, of a cap that has many.
    Reset {
        /// Name of the cap.
        name: String,
        /// A name, or an identity string.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        identity: Option<String>,
    },
}

impl Change {
    /// Name of the cap that changes.
    pub fn name(&self) -> &str {
        match self {
            Self::Set { cap, .. } => &cap.name,
            Self::Remove { name }
            | Self::Enable { name, .. }
            | Self::Action { name, .. }
            | Self::Reset { name, .. } => name,
        }
    }
}

/// A cap as it is in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Effective {
    /// The cap.
    pub cap: Cap,
    /// Index of its rule.
    pub index: u16,
    /// In force.
    pub on: bool,
    /// `config`, `runtime` or `persisted`.
    pub source: &'static str,
}

/// What a restart finds: contents of the file of kept caps.
#[derive(Clone, Debug, Default, PartialEq)]
struct Kept {
    caps: BTreeMap<String, Cap>,
    overrides: BTreeMap<String, Override>,
}

/// What is wanted; a change works on a copy and takes its place only when all of it works.
#[derive(Clone, Debug, Default)]
struct Wanted {
    // shared, not copied: a role may have ten thousand members
    roles: Arc<[Role]>,
    config: Vec<Cap>,
    enforce: Enforce,
    proxies: Vec<IpNet>,
    resolver: Arc<Resolver>,
    runtime: BTreeMap<String, Cap>,
    overrides: BTreeMap<String, Override>,
    kept: Kept,
    slots: BTreeMap<String, u16>,
}

/// See the module's documentation.
pub struct Engine {
    wanted: Wanted,
    key: [u64; 2],
    file: CapsFile,
    claims: VecDeque<Accepted>,
    proofs: Proofs,
    proven: ProvenFile,
    tables: Tables,
    pub(super) rates: Rates,
    generation: u32,
    enforcer: Option<Arc<dyn Enforcer>>,
}

impl Wanted {
    /// The caps in force, in order of their names.
    fn effective(&self) -> Vec<Effective> {
        let config = self.config.iter().map(|cap| (cap, "config"));
        let given = self.runtime.values().map(|cap| {
            let is_kept = self.kept.caps.get(&cap.name) == Some(cap);
            (cap, if is_kept { "persisted" } else { "runtime" })
        });
        let mut all: Vec<_> = config
            .chain(given)
            .map(|(cap, source)| {
                let over = self.overrides.get(&cap.name).copied().unwrap_or_default();
                let mut cap = cap.clone();
                cap.action = over.action.unwrap_or(cap.action);
                let index = self.slots.get(&cap.name).copied().unwrap_or(u16::MAX);
                Effective { index, on: over.on.unwrap_or(true), source, cap }
            })
            .collect();
        all.sort_by(|a, b| a.cap.name.cmp(&b.cap.name));
        all
    }

    /// Gives each cap an index. Those of caps that are gone are free again, but go to others only when there is no other left:
    /// their subjects are still in the kernel while the new rules are written.
    fn number(&mut self) -> Result<(), String> {
        let names: HashSet<String> =
            self.config.iter().chain(self.runtime.values()).map(|cap| cap.name.clone()).collect();
        let before: HashSet<u16> = self.slots.values().copied().collect();
        self.slots.retain(|name, _| names.contains(name));
        self.overrides.retain(|name, _| names.contains(name));
        self.kept.overrides.retain(|name, _| names.contains(name));
        let mut taken: HashSet<u16> = self.slots.values().copied().collect();
        let mut free = (0..CAPS as u16).filter(|index| !before.contains(index)).chain(before.iter().copied());
        let mut names: Vec<_> = names.into_iter().filter(|name| !self.slots.contains_key(name)).collect();
        names.sort();
        for name in names {
            let index = free.find(|index| taken.insert(*index));
            let index = index.ok_or_else(|| format!("more than {CAPS} caps: remove some"))?;
            self.slots.insert(name, index);
        }
        Ok(())
    }

    /// The indices that were not the same caps' in `before`.
    fn fresh(&self, before: &BTreeMap<String, u16>) -> HashSet<u16> {
        let fresh = self.slots.iter().filter(|(name, index)| before.get(*name) != Some(index));
        fresh.map(|(_, index)| *index).collect()
    }
}

impl Engine {
    /// From the configuration and the caps that were kept. Nothing is written until [`Engine::attach`].
    ///
    /// # Errors
    /// When the file of kept caps cannot be understood, or the caps contradict each other.
    pub fn new(config: &Config, settings: &Settings, key: [u8; 16]) -> anyhow::Result<Self> {
        let file = CapsFile::new(&config.state.dir);
        let (runtime, overrides) = file.read()?;
        let proven = ProvenFile::new(&config.state.dir);
        let mut engine = Self {
            wanted: Wanted::default(),
            key: SipKey::from_bytes(key).words(),
            file,
            claims: VecDeque::new(),
            proofs: proven.read(Proofs::read),
            proven,
            tables: Tables::default(),
            rates: Rates::default(),
            generation: 0,
            enforcer: None,
        };
        engine.wanted.runtime = runtime.into_iter().map(|cap| (cap.name.clone(), cap)).collect();
        engine.wanted.overrides = overrides;
        engine.wanted.kept =
            Kept { caps: engine.wanted.runtime.clone(), overrides: engine.wanted.overrides.clone() };
        engine.configure(config, settings).map_err(anyhow::Error::msg)?;
        Ok(engine)
    }

    /// Takes a configuration over: all of it or, when it cannot be, nothing.
    ///
    /// # Errors
    /// Why not.
    pub fn configure(&mut self, config: &Config, settings: &Settings) -> Result<(), String> {
        let mut wanted = self.wanted.clone();
        wanted.roles = config.role.as_slice().into();
        wanted.config.clone_from(&config.cap);
        wanted.enforce = config.enforce.clone();
        wanted.proxies.clone_from(&settings.trusted_proxies);
        wanted.resolver = Resolver::new(settings, crate::workload::cgroup2_root()).into();
        if let Some(twice) = wanted.config.iter().find(|cap| wanted.runtime.contains_key(&cap.name)) {
            return Err(format!(
                "cap {:?} is in the configuration and was set at run time, too: rename it, or remove the other with `weir caps \
                 remove` (while weir is not running, from {})",
                twice.name,
                self.file.path().display()
            ));
        }
        self.adopt(wanted)?;
        let guarded = config.listener.iter().map(|listener| (listener.port, listener.guarded.clone()));
        self.proofs.configure(config.enforce.newcomers, guarded.collect());
        Ok(())
    }

    /// Writes everything into the kernel side, and keeps it up to date from now on.
    ///
    /// # Errors
    /// Why caps cannot be enforced here.
    pub fn attach(&mut self, enforcer: Arc<dyn Enforcer>) -> Result<(), String> {
        let Inherited { caps, accepted } = enforcer.inherited();
        let mut wanted = self.wanted.clone();
        wanted.slots = caps.clone();
        wanted.number()?;
        let tables = self.compile(&wanted)?;
        self.tables = Tables::default();
        let proven: HashSet<_> = self.proofs.proven().collect();
        for key in accepted.difference(&proven) {
            enforcer.proven(&Proven::Credential(*key, false)).map_err(|error| format!("{error:#}"))?;
        }
        self.enforcer = Some(enforcer);
        let fresh = wanted.fresh(&caps);
        self.wanted = wanted;
        self.write(tables, &fresh)?;
        self.name(&caps);
        let gone = caps.iter().filter(|(name, _)| !self.wanted.slots.contains_key(*name));
        for (_, index) in gone {
            if let Some(Err(error)) = self.enforcer.as_ref().map(|enforcer| enforcer.reset(*index)) {
                tracing::warn!("the buckets of a cap that is gone stay: {error:#}");
            }
        }
        Ok(())
    }

    /// Says in the kernel side which cap has which index, as far as that differs from `before`.
    fn name(&self, before: &BTreeMap<String, u16>) {
        let Some(enforcer) = &self.enforcer else { return };
        let slots = &self.wanted.slots;
        for (_, index) in before.iter().filter(|(name, index)| slots.get(*name) != Some(index)) {
            enforcer.name(*index, "");
        }
        for (name, index) in slots.iter().filter(|(name, index)| before.get(*name) != Some(index)) {
            enforcer.name(*index, name);
        }
    }

    /// The names of the caps by rule, for whoever shows verdicts.
    pub fn cap_names(&self) -> HashMap<u32, Arc<str>> {
        self.wanted.slots.iter().map(|(name, index)| (u32::from(*index), name.as_str().into())).collect()
    }

    /// The caps in force.
    pub fn caps(&self) -> Vec<Effective> {
        self.wanted.effective()
    }

    /// The roles.
    pub fn roles(&self) -> &[Role] {
        &self.wanted.roles
    }

    /// The names and carriers.
    pub fn resolver(&self) -> &Resolver {
        &self.wanted.resolver
    }

    /// The tables in the kernel.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Credentials whose claims were accepted.
    pub fn claims(&mut self) -> &[Accepted] {
        self.claims.make_contiguous()
    }

    /// The kernel side, once it is attached.
    pub fn enforcer(&self) -> Option<&Arc<dyn Enforcer>> {
        self.enforcer.as_ref()
    }

    /// Counted up when what servers have answered before is to be told again.
    pub fn generation_of_answers(&self) -> u32 {
        self.proofs.generation()
    }

    /// What is proven and is to be kept, if it has changed since the last call, and where.
    pub fn take_proofs(&mut self) -> Option<(ProvenFile, String)> {
        Some((self.proven.clone(), self.proofs.take_text()?))
    }

    /// Changes a cap at run time: it is in force when this returns.
    ///
    /// # Errors
    /// Why not, for the caller to read. Nothing has changed then.
    pub fn change(&mut self, change: &Change) -> Result<(), String> {
        let mut wanted = self.wanted.clone();
        let name = change.name().to_owned();
        let in_config = wanted.config.iter().any(|cap| cap.name == name);
        let known = in_config || wanted.runtime.contains_key(&name);
        if !known && !matches!(change, Change::Set { .. }) {
            return Err(format!("there is no cap {name:?}: `weir caps list` shows them"));
        }
        match change {
            Change::Set { cap, persist } => {
                cap.check().map_err(|(message, help)| format!("{message}; {help}"))?;
                if in_config {
                    return Err(format!("cap {name:?} is in the configuration: change it there and reload"));
                }
                // what was said about the cap in whose place it comes is not about this one
                wanted.overrides.remove(&name);
                if *persist {
                    wanted.kept.overrides.remove(&name);
                    wanted.kept.caps.insert(name.clone(), cap.clone());
                }
                wanted.runtime.insert(name, cap.clone());
            }
            Change::Remove { .. } => {
                if wanted.runtime.remove(&name).is_none() {
                    return Err(format!(
                        "cap {name:?} is in the configuration: remove it there, or `weir caps disable` it"
                    ));
                }
                wanted.kept.caps.remove(&name);
            }
            Change::Enable { on, persist, .. } => {
                if *persist {
                    wanted.kept.overrides.entry(name.clone()).or_default().on = Some(*on);
                }
                wanted.overrides.entry(name).or_default().on = Some(*on);
            }
            Change::Action { action, persist, .. } => {
                if *persist {
                    wanted.kept.overrides.entry(name.clone()).or_default().action = Some(*action);
                }
                wanted.overrides.entry(name).or_default().action = Some(*action);
            }
            Change::Reset { identity: Some(identity), .. } => return self.reset_bucket(&name, identity),
            Change::Reset { identity: None, .. } => {
                if let (Some(enforcer), Some(index)) = (&self.enforcer, wanted.slots.get(&name)) {
                    enforcer.reset(*index).map_err(|error| format!("{error:#}"))?;
                }
                return Ok(());
            }
        }
        let before = self.wanted.clone();
        self.adopt(wanted)?;
        if self.wanted.kept != before.kept
            && let Err(error) = self.keep()
        {
            // what is not kept must not be in force either: the caller asked for both
            self.adopt(before)?;
            return Err(format!("{}: {error:#}", self.file.path().display()));
        }
        Ok(())
    }

    /// Empties the bucket of one identity.
    fn reset_bucket(&mut self, name: &str, identity: &str) -> Result<(), String> {
        let effective = self.wanted.effective().into_iter().find(|one| one.cap.name == name);
        let Some(Effective { cap, index, .. }) = effective else { return Ok(()) };
        if cap.each.is_none() {
            return Err(format!(
                "cap {name:?} has one bucket for all that it limits: `weir caps reset {name}` empties it"
            ));
        }
        let mut keys = self.wanted.resolver.keys(identity, cap.direction(), self.claims.make_contiguous());
        keys.extend(super::rows::unnamed_client(identity, cap.direction()));
        let Some(enforcer) = &self.enforcer else { return Ok(()) };
        let mut found = false;
        for subject in keys {
            let key = BucketKey { subject, rule: u32::from(index), pad: 0 };
            found |= enforcer.reset_bucket(&key).map_err(|error| format!("{error:#}"))?;
        }
        if found {
            return Ok(());
        }
        Err(format!(
            "cap {name:?} has no bucket of {identity:?}: `weir top --view caps` shows the fullest; strangers are charged to \
             `client:ADDRESS`, too"
        ))
    }

    fn keep(&self) -> anyhow::Result<()> {
        let Kept { caps, overrides } = &self.wanted.kept;
        self.file.write(&caps.values().cloned().collect::<Vec<_>>(), overrides)
    }

    fn adopt(&mut self, mut wanted: Wanted) -> Result<(), String> {
        wanted.number()?;
        let tables = self.compile(&wanted)?;
        self.write(tables, &wanted.fresh(&self.wanted.slots))?;
        let before = std::mem::replace(&mut self.wanted, wanted);
        self.name(&before.slots);
        Ok(())
    }

    fn compile(&mut self, wanted: &Wanted) -> Result<Tables, String> {
        let effective = wanted.effective();
        let caps: Vec<_> = effective.iter().map(|one| (one.index, &one.cap, one.on)).collect();
        compile(&Inputs {
            roles: &wanted.roles,
            caps: &caps,
            enforce: &wanted.enforce,
            proxies: &wanted.proxies,
            resolver: &wanted.resolver,
            accepted: self.claims.make_contiguous(),
            key: self.key,
        })
    }

    /// Compiles anew: workloads may have come or gone, or credentials were accepted.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn refresh(&mut self) -> Result<(), String> {
        let wanted = std::mem::take(&mut self.wanted);
        let tables = self.compile(&wanted);
        self.wanted = wanted;
        self.write(tables?, &HashSet::new())
    }

    /// Whether workloads are limited, which come and go.
    pub fn has_workloads(&self) -> bool {
        self.tables.flags & policy_flag::WORKLOADS != 0
    }

    /// Looks at the kernel's counts, for rates. Due about once a second; costs four system calls a cap.
    pub fn look(&mut self) {
        if let Some(enforcer) = &self.enforcer
            && !self.wanted.slots.is_empty()
        {
            let count = |index: &u16| (*index, enforcer.counts(*index).iter().sum());
            let counts = self.wanted.slots.values().map(count).collect();
            self.rates.note(enforcer.now_ns(), counts);
        }
    }

    /// The rule of a cap.
    pub fn index(&self, name: &str) -> Option<u16> {
        self.wanted.slots.get(name).copied()
    }

    fn policy(&self, now_ns: u64) -> Policy {
        let (lease, flag) = match self.wanted.enforce.on_exit {
            OnExit::Open => (OPEN_LEASE, 0),
            OnExit::Keep => (self.wanted.enforce.lease.0, policy_flag::KEEP),
        };
        let unframed = match self.wanted.enforce.unframed {
            Unframed::Deny if self.tables.flags & policy_flag::DENIES != 0 => policy_flag::UNFRAMED_DENIED,
            Unframed::Deny | Unframed::Charge => 0,
            Unframed::Allow => policy_flag::UNFRAMED_FREE,
        };
        Policy {
            // nothing configured stays nothing
            flags: if self.tables.flags == 0 { 0 } else { self.tables.flags | flag | unframed },
            generation: self.generation,
            alive_ns: now_ns,
            lease_ns: lease.as_nanos() as u64,
        }
    }

    /// Takes note of what servers have answered, at `now` (s since 1970). Proven credentials that claim a name are put where that
    /// name belongs.
    pub fn answered(&mut self, seen: Vec<Acceptance>, now: u64) {
        let mut named = false;
        for Acceptance { answered, claim } in seen {
            let mut good = true;
            if let Some(answered) = answered {
                let (changes, is_good) = self.proofs.answered(&answered, now);
                self.tell(&changes);
                good = is_good;
            }
            if let Some(claim) = claim.filter(|_| good) {
                named |= self.remember(claim);
            }
        }
        if named && let Err(error) = self.refresh() {
            tracing::warn!("a proven credential has no effect on caps: {error}");
        }
    }

    /// Forgets what was not used for months.
    pub fn expire(&mut self, now: u64) {
        let changes = self.proofs.expire(now);
        self.tell(&changes);
    }

    /// Remembers what a good credential claims. Whether anything configured asks for it.
    fn remember(&mut self, claim: Accepted) -> bool {
        if self.claims.iter().any(|known| known.key == claim.key) {
            return false;
        }
        let resolver = &self.wanted.resolver;
        let caps = self.wanted.config.iter().chain(self.wanted.runtime.values());
        let names = caps.filter_map(|cap| cap.identity.as_ref());
        let names = names.chain(self.wanted.roles.iter().flat_map(|role| &role.identities));
        let mut names = names.chain(&self.wanted.enforce.exempt);
        let is_asked = self.wanted.roles.iter().any(|role| claims(role, &claim))
            || names.any(|name| *name == claim.identity || resolver.stands_for(name, &claim.identity));
        if is_asked && self.claims.len() >= CLAIMS {
            self.claims.pop_front();
        } else if !is_asked && self.claims.len() >= CLAIMS / 2 {
            return false;
        }
        self.claims.push_back(claim);
        is_asked
    }

    /// Tells the kernel side what servers have proven, if it asks.
    fn tell(&self, changes: &[Proven]) {
        let Some(enforcer) = &self.enforcer else { return };
        if self.tables.flags & policy_flag::PROVEN == 0 {
            return;
        }
        for change in changes {
            if let Err(error) = enforcer.proven(change) {
                tracing::warn!("a proven credential stays a stranger's: {error:#}");
            }
        }
    }

    /// Writes the difference between the tables in the kernel and `new`: the policy last. `fresh`: rules whose buckets begin
    /// anew.
    fn write(&mut self, new: Tables, fresh: &HashSet<u16>) -> Result<(), String> {
        let Some(enforcer) = self.enforcer.clone() else {
            self.tables = new;
            return Ok(());
        };
        let need = Need {
            fences: new.denies,
            gate: new.flags & policy_flag::GATE != 0,
            early: new.flags & policy_flag::EARLY != 0,
        };
        enforcer.prepare(need).map_err(|error| format!("{error:#}"))?;
        let old = std::mem::replace(&mut self.tables, new);
        self.generation = self.generation.wrapping_add(1);
        let written = apply(&*enforcer, &old, &self.tables, fresh, &self.proofs)
            .and_then(|()| enforcer.policy(&self.policy(enforcer.now_ns())));
        let Err(error) = written else { return Ok(()) };
        // half of a change must not stay in force: nobody would see it, and the next cap would inherit its subjects (the policy
        // is the old one still)
        let new = std::mem::replace(&mut self.tables, old);
        if let Err(error) = apply(&*enforcer, &new, &self.tables, &HashSet::new(), &self.proofs) {
            tracing::error!("a change of caps could not be taken back, restart weir: {error:#}");
        }
        Err(format!("the kernel side does not take the change: {error:#}"))
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
