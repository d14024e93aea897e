//! What the daemon needs from the kernel side: the only seam between the application and `bpf`.

use crate::core::KernelIdentity;
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
}
