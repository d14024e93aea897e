//! A daemon of fixed rows, for tests of everything that serves or shows them.

use std::sync::Mutex;
use std::time::Duration;

use super::{Source, Tail};
use crate::caps::Change;
use crate::core::{Remembered, Span};
use crate::metrics::{Durations, IdentitySeries, RequestSeries, Snapshot};
use crate::output::NameRow;
use crate::view::Carrier;
use crate::view::{
    CapExplanation, CapRow, ConnectionRow, Covered, Direction, HookRow, IdentityRow, LossRow, ProcessRow,
    RecentRecord, RequestRecord, RoleRow, RouteRow, Status, Totals,
};

/// The daemon.
#[derive(Default)]
pub struct Fake {
    /// Reasons for not being ready.
    pub missing: Vec<String>,
    /// Names that were set.
    pub named: Mutex<Vec<(String, Option<String>)>>,
    /// Finished requests.
    pub finished: Mutex<Vec<RequestRecord>>,
    /// Finished requests that are no longer kept.
    pub forgotten: u64,
    /// What is kept for replays.
    pub recent: Option<Vec<RecentRecord>>,
    /// Of so many seconds.
    pub kept_seconds: f64,
    /// Names of identities.
    pub names: Vec<NameRow>,
    /// Identities.
    pub identities: Vec<IdentityRow>,
    /// What is scraped.
    pub snapshot: Snapshot,
    /// Caps.
    pub caps: Vec<CapRow>,
    /// Changes that were asked for.
    pub changes: Mutex<Vec<Change>>,
}

/// An identity that made requests.
pub fn identity(name: &str, requests: u64) -> IdentityRow {
    IdentityRow {
        identity: name.into(),
        kind: "bearer".into(),
        fingerprint: "3f9c2a7be1d04c55".into(),
        direction: Direction::Inbound,
        carrier: "authorization".into(),
        issuer: String::new(),
        subject: String::new(),
        peers: vec!["10.0.0.1".into()],
        workloads: vec!["unit:a.service".into()],
        first_seen: "2026-01-01T00:00:00Z".into(),
        last_seen: "2026-01-01T00:00:01Z".into(),
        totals: Totals { requests, ..Totals::default() },
    }
}

/// A finished request.
pub fn record(path: &str, status: u16) -> RequestRecord {
    RequestRecord {
        time: "2026-01-01T00:00:00.000001Z".into(),
        direction: Direction::Inbound,
        identity: "bearer:1".into(),
        kind: "bearer".into(),
        also: vec!["cookie:2".into()],
        peer: "10.0.0.1:5".into(),
        pid: 7,
        workload: "unit:a.service".into(),
        method: "GET".into(),
        host: "api.example.com".into(),
        path: path.into(),
        route: path.into(),
        version: "1.1".into(),
        status,
        duration: 0.0123,
        request_bytes: 100,
        response_bytes: 200,
        transport: "tcp".into(),
        user_agent: "curl".into(),
        verdict: "allow".into(),
        cap: String::new(),
        reason: String::new(),
        notes: vec![],
    }
}

/// A request as it is kept for replays.
pub fn recent(second: u32, identity: &str) -> RecentRecord {
    RecentRecord {
        time: format!("2026-01-01T00:00:{second:02}.000000Z"),
        direction: Direction::Inbound,
        identity: identity.into(),
        kind: "bearer".into(),
        also: Vec::new(),
        peer: "10.0.0.1".into(),
        workload: "unit:a.service".into(),
        method: "GET".into(),
        host: "api.example.com".into(),
        path: "/v1/x".into(),
        status: 200,
    }
}

/// A snapshot with every kind of metric in it, and label values that want to break out.
pub fn snapshot() -> Snapshot {
    let hostile = "a\"b\\c\nd\x1b[2J\u{202e}é{}";
    let direction = Direction::Inbound;
    Snapshot {
        requests: vec![
            RequestSeries {
                direction,
                method: "GET".into(),
                route: hostile.into(),
                status: 200,
                version: "1.1".into(),
                count: 9_007_199_254_740_991,
            },
            RequestSeries {
                direction,
                method: "_OTHER".into(),
                route: "_lost".into(),
                status: 0,
                version: String::new(),
                count: 3,
            },
        ],
        ended: [("destroyed", 1), ("gone", 2), ("failed", 3), ("dropped", 4)],
        caps: vec![CapRow {
            name: hostile.into(),
            per_second: 100.0,
            top: vec![("bearer:1".into(), 0.5)],
            ..CapRow::default()
        }],
        durations: vec![Durations {
            direction,
            method: "GET".into(),
            route: "/a".into(),
            buckets: [1; 15],
            sum: 1.5,
        }],
        identities: vec![
            IdentitySeries { direction, identity: hostile.into(), kind: "bearer".into(), count: 5 },
            IdentitySeries { direction, identity: "other".into(), kind: "other".into(), count: 1 },
        ],
        losses: vec![LossRow { stage: "ring".into(), reason: "request".into(), count: 3 }],
        observed: vec![("TLS calls".into(), 4)],
        hooks: vec![
            HookRow { name: "recv".into(), target: hostile.into(), mandatory: true, attached: true },
            HookRow { name: "recv".into(), target: hostile.into(), mandatory: true, attached: false },
        ],
        programs: vec![crate::sensor::ProgramStats { name: "recv".into(), run_ns: 1_500_000_000, runs: 2 }],
        version: "0.1.0".into(),
        ..Snapshot::default()
    }
}

impl Source for Fake {
    fn status(&self) -> Status {
        Status { version: "0.1.0".into(), pid: 42, ready: self.missing.is_empty(), ..Status::default() }
    }
    fn missing(&self) -> Vec<String> {
        self.missing.clone()
    }
    fn identities(&self, _: usize) -> Vec<IdentityRow> {
        self.identities.clone()
    }
    fn processes(&self) -> Vec<ProcessRow> {
        Vec::new()
    }
    fn routes(&self) -> Vec<RouteRow> {
        Vec::new()
    }
    fn connections(&self) -> Vec<ConnectionRow> {
        Vec::new()
    }
    fn tail_end(&self) -> u64 {
        0
    }
    fn tail(&self, from: u64, most: usize) -> Tail {
        let finished = self.finished.lock().unwrap();
        let skipped = self.forgotten.saturating_sub(from);
        let at = (from + skipped - self.forgotten) as usize;
        let records: Vec<_> = finished.iter().skip(at).take(most).cloned().collect();
        Tail { next: from + skipped + records.len() as u64, skipped, records }
    }
    fn span(&self, since: Duration) -> Option<Span> {
        let requests = self.recent.as_ref()?.len() as u64;
        let covered = Covered {
            covers_from: "2026-01-01T00:00:00Z".into(),
            covers_seconds: since.as_secs_f64().min(self.kept_seconds),
            requests,
        };
        Some(Span { covered, from_ns: 0, first: 0, end: requests })
    }
    fn remembered(&self, _: &Span, from: u64, most: usize) -> Remembered {
        let kept = self.recent.iter().flatten();
        let records: Vec<_> = kept.skip(from as usize).take(most).cloned().collect();
        Remembered { next: from + records.len() as u64, skipped: 0, records }
    }
    fn names(&self) -> Vec<NameRow> {
        self.names.clone()
    }
    fn set_name(&self, identity: &str, name: Option<&str>) -> Result<(), String> {
        if identity == "refused" {
            return Err("no such identity".into());
        }
        self.named.lock().unwrap().push((identity.into(), name.map(Into::into)));
        Ok(())
    }
    fn fingerprint(&self, carrier: Carrier, name: &str, secret: &[u8]) -> Option<String> {
        crate::state::fingerprint([1; 16], carrier, name, secret)
    }
    fn caps(&self) -> Vec<CapRow> {
        self.caps.clone()
    }
    fn roles(&self) -> Vec<RoleRow> {
        Vec::new()
    }
    fn change_cap(&self, change: &Change) -> Result<Vec<CapRow>, String> {
        let known =
            matches!(change, Change::Set { .. }) || self.caps.iter().any(|row| row.name == change.name());
        if !known {
            return Err(format!("there is no cap {:?}", change.name()));
        }
        self.changes.lock().unwrap().push(change.clone());
        Ok(self.caps.clone())
    }
    fn explain_caps(&self, identity: &str) -> Vec<CapExplanation> {
        vec![CapExplanation {
            cap: "partner-fast".into(),
            scope: identity.into(),
            ..CapExplanation::default()
        }]
    }
    fn metrics(&self) -> Snapshot {
        self.snapshot.clone()
    }
}
