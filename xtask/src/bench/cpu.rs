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

/// Processes whose parent is `pid`.
pub fn children(pid: u32) -> Result<Vec<u32>> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    Ok(text.split_whitespace().filter_map(|child| child.parse().ok()).collect())
}
