//! Replays requests that were seen against caps that are only proposed: `weir caps test`.
//!
//! Owns: reading recorded requests ([`requests`]), and deciding each of them as the kernel side would ([`engine`]), with the
//! arithmetic of [`monitor_common::gcra`]. Pure: takes bytes and records, gives counts. Must not change a cap, ask a daemon or
//! read the configuration; whoever calls it says what a proposal's members are.

mod engine;
mod requests;

use ipnet::IpNet;
use monitor_common::gcra::Limit;

pub use engine::{Report, replay};
pub use requests::{ReadError, Request, of_records, read};

use crate::view::{Direction, ReplayRow};

/// What decides who is proven, beside the requests.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Credentials of one client network that become proven in an hour, at most.
    pub newcomers: u32,
    /// Beginnings of paths that are guarded by the operator's word, by listener.
    pub guarded: Vec<Vec<String>>,
}

/// A cap to try.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// Its name.
    pub name: String,
    /// Rate and burst.
    pub limit: Limit,
    /// Those of the strangers at one client.
    pub strangers: Limit,
    /// One of [`monitor_common::cap::action`]: only `DENY` keeps a request from using up other caps.
    pub action: u8,
    /// One of [`monitor_common::cap::scope`].
    pub scope: u8,
    /// Whose requests it is for.
    pub members: Members,
    /// Whose requests it leaves alone, of those for each client.
    pub except: Vec<Members>,
    /// Side of the requests.
    pub direction: Direction,
    /// Only paths that begin like this, in whatever case.
    pub route: Option<String>,
    /// Only this destination, in whatever case and at any port.
    pub host: Option<String>,
}

/// Whose requests a proposal is for.
#[derive(Clone, Debug)]
pub enum Members {
    /// Everybody's: for the scopes that have a bucket for each credential or client.
    Everybody,
    /// Those of a role, or of one identity.
    Of {
        /// Identities as requests show them, by name or as `kind:value`.
        identities: Vec<String>,
        /// Networks of clients, whatever credentials they carry.
        networks: Vec<IpNet>,
    },
    /// Those of one local workload.
    Workload(String),
}

impl From<Report> for ReplayRow {
    fn from(report: Report) -> Self {
        let time = |ns| {
            let at = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(ns);
            humantime::format_rfc3339_micros(at).to_string()
        };
        Self {
            cap: report.cap,
            applied: report.applied,
            admitted: report.admitted,
            denied: report.refused,
            elsewhere: report.elsewhere,
            first: report.first_ns.map(time).unwrap_or_default(),
            worst: report.worst.map(|(ns, _)| time(ns)).unwrap_or_default(),
            worst_denied: report.worst.map_or(0, |(_, most)| most),
            top: report.top,
        }
    }
}

#[cfg(test)]
mod tests;
