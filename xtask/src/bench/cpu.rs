//! Time on a processor, from `/proc/PID/task/TID/schedstat`: nanoseconds, counted by the scheduler at every switch.

use std::fs;

use anyhow::{Context, Result};

/// Nanoseconds that the threads of `pid` have run so far.
pub fn on_cpu_ns(pid: u32) -> Result<u64> {
    let tasks =
        fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("process {pid} is gone"))?;
    let mut sum = 0;
    for task in tasks {
        // A thread may end between the listing and the reading.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        sum += text.split(' ').next().and_then(|field| field.parse::<u64>().ok()).context("no schedstat")?;
    }
    Ok(sum)
}

/// Nanoseconds that the children of this process ran which have ended: the scheduler's sum, to the microsecond.
pub fn ended_children_ns() -> u64 {
    // SAFETY: integers only, for which zeros are a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live `rusage`, which the kernel writes; it cannot fail with this constant.
    unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) };
    let ns = |time: libc::timeval| time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1_000;
    ns(usage.ru_utime) + ns(usage.ru_stime)
}

/// Processes whose parent is `pid`.
pub fn children(pid: u32) -> Result<Vec<u32>> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    Ok(text.split_whitespace().filter_map(|child| child.parse().ok()).collect())
}
