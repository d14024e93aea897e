//! Which local process a request belongs to, and what that process is a part of.
//!
//! Owns: the bounded table of processes that use HTTP, keyed by process id *and* start time, and their counts. Must not:
//! do I/O itself: what is not in the records comes from a [`ProcSource`].

mod cgroup;
mod source;
mod table;

pub use cgroup::workload;
pub use source::{Procfs, cgroup2_root};
pub use table::{ProcRef, Process, Processes};

use std::sync::Arc;

/// What the system knows about a process that the records do not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Path of the executable.
    pub exe: Option<String>,
    /// Path of its cgroup.
    pub cgroup: Option<String>,
}

/// Where facts come from: the system, or a test.
pub trait ProcSource {
    /// Facts about the process `tgid` that started `start_ns` after boot; `None` when that process is gone, even if its
    /// number is in use again. A `start_ns` of 0 is not checked.
    fn process(&mut self, tgid: u32, start_ns: u64) -> Option<Facts>;
    /// Path of the cgroup (v2) with this id.
    fn cgroup(&mut self, id: u64) -> Option<Arc<str>>;
    /// Name of a user.
    fn user(&mut self, uid: u32) -> Option<Arc<str>>;
}

/// A source that knows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSource;

impl ProcSource for NoSource {
    fn process(&mut self, _tgid: u32, _start_ns: u64) -> Option<Facts> {
        None
    }
    fn cgroup(&mut self, _id: u64) -> Option<Arc<str>> {
        None
    }
    fn user(&mut self, _uid: u32) -> Option<Arc<str>> {
        None
    }
}
