//! The only writer of the rings. Records never wake the daemon: a wake-up costs the observed program 3.5 us, so the
//! daemon drains on a timer instead. Each record that does not fit is counted by what it was.
//!
//! Each CPU writes to a ring of its own (CPUs share one where there are more than [`RINGS_MAX`]): two CPUs at one ring's
//! lock cost 200 ns a record instead of 26. The daemon merges the rings by the records' times.

use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_ns, bpf_ringbuf_output};
use monitor_common::event::Head;
#[cfg(doc)]
use monitor_common::kernel::RINGS_MAX;
use monitor_common::ledger::Counter;

use crate::maps::{RINGS, config, count};
use crate::scratch::Scratch;

/// Start of a record of `len` bytes.
#[inline(always)]
pub fn head(kind: u8, len: u32) -> Head {
    Head { kind, pad: [0; 3], len }
}

/// Sends a fixed record.
#[inline(always)]
pub fn send<T>(record: &T, lost: Counter) {
    let size = core::mem::size_of::<T>() as u64;
    // SAFETY: the record is `size` initialised bytes (records have no padding).
    unsafe { output(core::ptr::from_ref(record).cast(), size, lost) }
}

/// Sends `len` bytes at `at`, a record whose bytes follow its fixed part.
///
/// # Safety
/// `len` bytes at `at` must be readable; the verifier checks it.
#[inline(always)]
pub unsafe fn output(at: *const c_void, len: u64, lost: Counter) {
    // SAFETY: takes no arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let Some(ring) = RINGS.get(cpu & config!(ring_mask)) else {
        count(lost, 1);
        return;
    };
    // SAFETY: the caller's promise.
    let result = unsafe {
        bpf_ringbuf_output(
            core::ptr::from_ref(ring).cast_mut().cast(),
            at.cast_mut(),
            len,
            BPF_RB_NO_WAKEUP as u64,
        )
    };
    count(if result == 0 { Counter::Records } else { lost }, 1);
}

/// Time of the current call: asked for once, since reading the clock costs 34 ns.
///
/// # Safety
/// `scratch` must be this CPU's working memory.
#[inline(always)]
pub unsafe fn now(scratch: *mut Scratch) -> u64 {
    // SAFETY: the caller's promise; the helper takes no arguments.
    unsafe {
        if (*scratch).now == 0 {
            (*scratch).now = bpf_ktime_get_ns();
        }
        (*scratch).now
    }
}
