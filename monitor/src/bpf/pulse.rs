//! The daemon's sign of life: a word of the policy, in the daemon's memory.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, bail};
use aya::Ebpf;
use aya::maps::Map;
use monitor_common::cap::Policy;

use super::mapping::Mapping;

/// See the module's documentation. Writing it takes no lock and makes no system call; what is written beside it through the
/// map, the policy, carries a sign of life of its own, some milliseconds older at most.
pub struct Pulse(Mapping);

impl Pulse {
    /// Maps the policy.
    ///
    /// # Errors
    /// When the kernel does not let it be mapped.
    pub fn new(ebpf: &Ebpf) -> Result<Self> {
        let Some(Map::Array(policy)) = ebpf.map("POLICY") else { bail!("the kernel side has no map POLICY") };
        Ok(Self(Mapping::new(policy, 0, size_of::<Policy>(), libc::PROT_READ | libc::PROT_WRITE)?))
    }
}

impl crate::sensor::Pulse for Pulse {
    fn beat(&self, now_ns: u64) {
        const AT: usize = std::mem::offset_of!(Policy, alive_ns);
        const _: () = assert!(AT.is_multiple_of(8) && AT + 8 <= size_of::<Policy>());
        // SAFETY: the mapping begins with a `Policy`, aligned to a page, and lives as long as `self`; the kernel side reads the
        // word as a whole.
        let alive = unsafe { self.0.start.add(AT).cast::<AtomicU64>().as_ref() };
        alive.store(now_ns, Ordering::Relaxed);
    }
}
