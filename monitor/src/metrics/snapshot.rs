//! What one scrape shows, as plain values.

use crate::core::Denials;
use crate::sensor::ProgramStats;
use crate::view::{CapRow, Direction, HookRow, LossRow};

/// Upper bounds of the duration buckets in seconds: OpenTelemetry's for HTTP.
pub const BOUNDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// Requests with the same labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestSeries {
    /// Direction.
    pub direction: Direction,
    /// Method or `_OTHER`.
    pub method: String,
    /// Route, `_other`, `_unknown` or `_lost`.
    pub route: String,
    /// Status code, 0 without an answer.
    pub status: u16,
    /// `1.0`, `1.1`, or empty when not known.
    pub version: String,
    /// How many.
    pub count: u64,
}

/// Durations with the same labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Durations {
    /// Direction.
    pub direction: Direction,
    /// Method or `_OTHER`.
    pub method: String,
    /// Route.
    pub route: String,
    /// Requests per bucket of [`BOUNDS`] (not cumulative), and those beyond the last.
    pub buckets: [u64; BOUNDS.len() + 1],
    /// Sum in seconds.
    pub sum: f64,
}

/// Requests of one identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentitySeries {
    /// Direction.
    pub direction: Direction,
    /// Identity, or `other`.
    pub identity: String,
    /// Kind.
    pub kind: String,
    /// How many.
    pub count: u64,
}

/// Counts of one direction, inbound first.
pub type PerDirection = [u64; 2];

/// Records of the ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// Produced in the kernel.
    pub produced: u64,
    /// Delivered to the daemon.
    pub delivered: u64,
}

/// Everything that one scrape shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Requests, every combination of labels once.
    pub requests: Vec<RequestSeries>,
    /// Durations, every combination of labels once.
    pub durations: Vec<Durations>,
    /// The largest identities, and `other`.
    pub identities: Vec<IdentitySeries>,
    /// Bytes of requests.
    pub request_bytes: PerDirection,
    /// Bytes of responses.
    pub response_bytes: PerDirection,
    /// Requests without a response so far.
    pub outstanding: PerDirection,
    /// Identities tracked.
    pub identity_count: u64,
    /// Open connections.
    pub connections: u64,
    /// Routes, by method.
    pub routes: u64,
    /// Requests counted in the kernel.
    pub kernel_requests: PerDirection,
    /// Records.
    pub events: Events,
    /// Losses by stage and reason, zeros included.
    pub losses: Vec<LossRow>,
    /// Caps.
    pub caps: Vec<CapRow>,
    /// Denied requests.
    pub denials: Denials,
    /// What became of their connections.
    pub ended: [(&'static str, u64); 4],
    /// What else the kernel side observed, and how often.
    pub observed: Vec<(String, u64)>,
    /// Hooks.
    pub hooks: Vec<HookRow>,
    /// Things that do not work as they should.
    pub degraded: u64,
    /// Kernel programs.
    pub programs: Vec<ProgramStats>,
    /// Seconds since the last drain.
    pub drain_age: f64,
    /// Ready.
    pub ready: bool,
    /// Whether the last reload succeeded.
    pub reload_ok: bool,
    /// Version of the daemon.
    pub version: String,
    /// Kernel release.
    pub kernel: String,
    /// Form of the socket hook.
    pub socket_hook: String,
    /// Start, seconds since the epoch.
    pub started: f64,
}
