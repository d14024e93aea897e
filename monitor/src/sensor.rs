//! What the daemon needs from the kernel side: the only seam between the application and `bpf`.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use ipnet::IpNet;
use monitor_common::answer::Text;
use monitor_common::cap::{
    Bucket, BucketKey, NetworkKey, PathValue, Policy, Rule, Subject, SubjectKey, VERDICTS,
};

use crate::core::KernelIdentity;
use crate::proof::Change as Proven;
use crate::view::HookRow;

/// Most records of one [`Sensor::drain`]: some 20 ms of work, after which others get their turn at the core.
pub const DRAIN_MAX: usize = 1 << 16;

/// Run-time statistics of one kernel program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgramStats {
    /// Name of the program.
    pub name: String,
    /// Nanoseconds it ran, 0 unless the kernel's BPF statistics are on.
    pub run_ns: u64,
    /// Times it ran, 0 unless the kernel's BPF statistics are on.
    pub runs: u64,
}

/// What a drain did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Records handed on.
    pub records: usize,
    /// Every record that was written before the drain began was handed on.
    pub all: bool,
}

/// The attached kernel side. Dropping it detaches everything.
pub trait Sensor: Send {
    /// Hands the records that are in the rings to `each`, in order, but at most [`DRAIN_MAX`], and none that is younger than
    /// `now_ns` (monotonic clock, read before the call).
    fn drain(&mut self, now_ns: u64, each: &mut dyn FnMut(&[u8])) -> Drained;
    /// The loss ledger, indexed by `monitor_common::ledger::Counter`, summed over CPUs.
    ///
    /// # Errors
    /// When the kernel refuses to read the map.
    fn ledger(&self) -> anyhow::Result<Vec<u64>>;
    /// The kernel's exact counts per identity. Costs a system call each: only for when records were lost.
    fn identity_counts(&self) -> Vec<KernelIdentity>;
    /// Hooks and probes, attached or not.
    fn hooks(&self) -> Vec<HookRow>;
    /// Every mandatory hook is attached.
    fn ready(&self) -> bool;
    /// Form of the socket hook: `tp_btf` or `fexit`.
    fn socket_hook(&self) -> &str;
    /// Run time per program.
    fn program_stats(&self) -> Vec<ProgramStats>;
    /// What is wrong, in words: threads that hang, what was refused.
    fn trouble(&self) -> Vec<String>;
    /// Sockets, by cookie, that an earlier daemon's programs fenced and that nobody may have destroyed.
    fn fenced(&self) -> BTreeSet<u64>;
    /// How the kernel side is told that the daemon is alive; `None` when this sensor only observes, and from the second time on.
    fn pulse(&mut self) -> Option<Box<dyn Pulse>>;
    /// What applies caps; `None` when this sensor only observes.
    fn enforcer(&self) -> Option<Arc<dyn Enforcer>>;
}

/// Tells the kernel side that the daemon is alive.
pub trait Pulse: Send {
    /// The daemon is alive at `now_ns` (monotonic clock). Takes no lock and waits for nothing.
    fn beat(&self, now_ns: u64);
}

/// What must be in place before tables are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// Requests may be denied: connections are cut.
    pub fences: bool,
    /// Inbound requests may be denied: they are seen before the server has them.
    pub gate: bool,
    /// Outbound requests may be denied: they are seen before they leave.
    pub early: bool,
}

impl Need {
    /// What is needed here or there.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            fences: self.fences || other.fences,
            gate: self.gate || other.gate,
            early: self.early || other.early,
        }
    }
}

/// What an earlier daemon left in the kernel for this one to go on with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inherited {
    /// Caps whose buckets go on, and the indices of their rules.
    pub caps: BTreeMap<String, u16>,
    /// Credentials that servers have accepted.
    pub accepted: HashSet<SubjectKey>,
}

/// Key of a path in the trie: space, then path; without the length in bits, which is `32 + 8 * path.len()`.
pub type PathEntry = (u32, Vec<u8>);
/// Key of a network: direction, network.
pub type NetworkEntry = (u32, IpNet);

/// Key of a network as the kernel has it.
pub fn network_key((direction, network): &NetworkEntry) -> NetworkKey {
    let (address, bits) = match network {
        IpNet::V4(network) => (network.network().to_ipv6_mapped(), 96 + u32::from(network.prefix_len())),
        IpNet::V6(network) => (network.network(), u32::from(network.prefix_len())),
    };
    NetworkKey { bits: 32 + bits, direction: direction.to_be_bytes(), address: address.octets() }
}

/// The kernel's tables of caps, as `monitor_common::cap` describes them. Every method has taken effect when it returns.
pub trait Enforcer: Send + Sync {
    /// Puts in place what is needed and not there yet; takes no time when all of it is.
    ///
    /// # Errors
    /// What this kernel or host lacks, or that it takes too long.
    fn prepare(&self, need: Need) -> anyhow::Result<()>;
    /// Sets a rule. Its bucket stays as it is.
    ///
    /// # Errors
    /// As for all of these: when the kernel refuses, because a table is full for instance.
    fn rule(&self, index: u16, rule: &Rule) -> anyhow::Result<()>;
    /// Sets what callers are answered whom a rule denies; behind the last rule's: those whom an access level does.
    ///
    /// # Errors
    /// See [`Enforcer::rule`].
    fn text(&self, index: u16, text: &Text) -> anyhow::Result<()>;
    /// Sets what holds for every credential or client: index of `EVERY`.
    ///
    /// # Errors
    /// See [`Enforcer::rule`].
    fn every(&self, place: u32, subject: &Subject) -> anyhow::Result<()>;
    /// Sets a subject, or removes it.
    ///
    /// # Errors
    /// See [`Enforcer::rule`].
    fn subject(&self, key: &SubjectKey, subject: Option<&Subject>) -> anyhow::Result<()>;
    /// Sets the value of a path, or removes it.
    ///
    /// # Errors
    /// See [`Enforcer::rule`].
    fn path(&self, path: &PathEntry, value: Option<PathValue>) -> anyhow::Result<()>;
    /// Sets a network, or removes it.
    ///
    /// # Errors
    /// See [`Enforcer::rule`].
    fn network(&self, network: &NetworkEntry, subject: Option<&Subject>) -> anyhow::Result<()>;
    /// Which server is at an end, or whether a credential is proven.
    ///
    /// # Errors
    /// See [`Enforcer::rule`].
    fn proven(&self, change: &Proven) -> anyhow::Result<()>;
    /// Sets what there is to decide, and when the daemon was last alive. With the first one this daemon takes over from what
    /// an earlier one kept.
    ///
    /// # Errors
    /// See [`Enforcer::rule`].
    fn policy(&self, policy: &Policy) -> anyhow::Result<()>;
    /// What an earlier daemon left.
    fn inherited(&self) -> Inherited;
    /// Says whose rule an index is, nobody's when `name` is empty: for the next daemon to inherit.
    fn name(&self, index: u16, name: &str);
    /// Buckets and counts of a rule begin anew.
    ///
    /// # Errors
    /// See [`Enforcer::rule`].
    fn reset(&self, index: u16) -> anyhow::Result<()>;
    /// A bucket of a rule that has many begins anew. Whether there was one.
    ///
    /// # Errors
    /// See [`Enforcer::rule`].
    fn reset_bucket(&self, key: &BucketKey) -> anyhow::Result<bool>;
    /// Requests of a rule by `cap::verdict`.
    fn counts(&self, index: u16) -> [u64; VERDICTS as usize];
    /// The bucket of a rule that has one.
    fn bucket(&self, index: u16) -> Bucket;
    /// The buckets of rules that have many. Costs a system call each.
    fn buckets(&self) -> Vec<(BucketKey, Bucket)>;
    /// The kernel's clock for buckets.
    fn now_ns(&self) -> u64;
}
