//! Integration tests: the real daemon on this kernel, with real servers and clients, compared with the servers' own
//! counts.
//!
//! Everything that is observed belongs to the test that observes it: counts are compared per process (or by a route
//! that only the test uses), so that other traffic on the host does not disturb them. Tests take turns ([`harness::turn`])
//! because one load at a time is enough for a host. Nothing waits for time: every wait is for a signal, with a deadline.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    clippy::print_stdout,
    reason = "a test stops at the first thing that is not as it should be, and says so"
)]

mod attacks;
mod attribution;
mod budget;
mod caps;
mod differential;
mod framing;
mod harness;
mod identity;
mod kill;
mod ledger;
mod nginx;
mod open;
mod servers;
mod start;
