//! What the control socket and the metrics endpoint read: the seam between serving and the running daemon.
//!
//! Implemented by the application over the core and the sensor, and by a fake in tests.

use std::time::Duration;

use crate::caps::Change;
use crate::core::{Remembered, Span};
use crate::metrics::Snapshot;
use crate::output::NameRow;
use crate::view::{
    CapExplanation, CapRow, Carrier, ConnectionRow, IdentityRow, ProcessRow, RequestRecord, RoleRow,
    RouteRow, Status,
};

/// Finished requests after a position.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tail {
    /// Position to ask from next.
    pub next: u64,
    /// Requests between the position asked for and the first one here that are no longer kept.
    pub skipped: u64,
    /// The requests, oldest first.
    pub records: Vec<RequestRecord>,
}

/// The running daemon, as its servers see it. Methods may take milliseconds and must not be called on an async worker.
pub trait Source: Send + Sync + 'static {
    /// State.
    fn status(&self) -> Status;
    /// What is missing before the daemon is ready; empty when it is.
    fn missing(&self) -> Vec<String>;
    /// At least the `most` identities with the most requests.
    fn identities(&self, most: usize) -> Vec<IdentityRow>;
    /// All processes.
    fn processes(&self) -> Vec<ProcessRow>;
    /// All routes.
    fn routes(&self) -> Vec<RouteRow>;
    /// All open connections.
    fn connections(&self) -> Vec<ConnectionRow>;
    /// Position after the latest finished request.
    fn tail_end(&self) -> u64;
    /// At most `most` finished requests from position `from` on.
    fn tail(&self, from: u64, most: usize) -> Tail;
    /// What is kept of the last `since` for replays; `None` when nothing ever is.
    fn span(&self, since: Duration) -> Option<Span>;
    /// The requests of a span from position `from` on, of at most `most` positions.
    fn remembered(&self, span: &Span, from: u64, most: usize) -> Remembered;
    /// Names of identities.
    fn names(&self) -> Vec<NameRow>;
    /// Gives `identity` a name, or takes it away, for good and at once.
    ///
    /// # Errors
    /// Why not, for the caller to read.
    fn set_name(&self, identity: &str, name: Option<&str>) -> Result<(), String>;
    /// `kind:fingerprint` of a credential under the header, query key or cookie `name`, or `None` when it is none.
    fn fingerprint(&self, carrier: Carrier, name: &str, secret: &[u8]) -> Option<String>;
    /// Caps.
    fn caps(&self) -> Vec<CapRow>;
    /// Roles.
    fn roles(&self) -> Vec<RoleRow>;
    /// Changes a cap: in force when this returns. Returns the caps of that name.
    ///
    /// # Errors
    /// Why not, for the caller to read.
    fn change_cap(&self, change: &Change) -> Result<Vec<CapRow>, String>;
    /// What limits an identity, given as a name or identity string.
    fn explain_caps(&self, identity: &str) -> Vec<CapExplanation>;
    /// Everything that `/metrics` shows.
    fn metrics(&self) -> Snapshot;
}

#[cfg(test)]
#[path = "source_fake.rs"]
pub mod fake;
