//! The kernel's clocks.

use std::time::SystemTime;

use crate::core::ClockBase;

/// `CLOCK_MONOTONIC` in ns: what `bpf_ktime_get_ns` returns.
pub fn monotonic_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// All clocks at one instant.
pub fn base() -> ClockBase {
    ClockBase { monotonic_ns: monotonic_ns(), boot_ns: read(libc::CLOCK_BOOTTIME), wall: SystemTime::now() }
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid timespec to write to; both clocks exist since Linux 2.6.39, and if the call failed `now`
    // would keep its zeros.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    (now.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(now.tv_nsec as u64)
}
