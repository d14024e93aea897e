//! Threads that must have their turn on a saturated host. Where a priority is not permitted, nothing changes.

use std::io::Error;

/// Puts this thread ahead of ordinary programs.
pub fn hurry() {
    nice(-10);
}

/// Puts this thread ahead of everything but other real-time threads, whatever share of the host its cgroup has: for one that
/// runs for microseconds.
pub fn real_time() {
    let lowest = libc::sched_param { sched_priority: 1 };
    // SAFETY: a `sched_param` to read; 0 is the calling thread.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const lowest) } != 0 {
        tracing::debug!("no real-time priority: {}", Error::last_os_error());
        nice(-20);
    }
}

fn nice(nice: libc::c_int) {
    // SAFETY: takes no pointers; 0 is the calling thread.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) } != 0 {
        tracing::debug!("a thread keeps its priority: {}", Error::last_os_error());
    }
}
