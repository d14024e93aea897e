//! What the daemon itself uses, from `/proc/self`.

/// Resources in use.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Resident memory.
    pub resident_bytes: u64,
    /// CPU time since the start, user and system.
    pub cpu_seconds: f64,
    /// Open file descriptors.
    pub open_fds: u64,
}

/// Reads it now; what cannot be read is zero.
pub fn usage() -> Usage {
    let Ok(own) = procfs::process::Process::myself() else { return Usage::default() };
    let stat = own.stat().ok();
    let ticks = procfs::ticks_per_second().max(1) as f64;
    Usage {
        resident_bytes: stat.as_ref().map_or(0, |stat| stat.rss * procfs::page_size()),
        cpu_seconds: stat.as_ref().map_or(0.0, |stat| (stat.utime + stat.stime) as f64 / ticks),
        open_fds: own.fd_count().unwrap_or_default() as u64,
    }
}
