//! Rows for the control socket, made when somebody asks.

use std::cmp::Reverse;
use std::collections::HashMap;

use monitor_common::event::{request_flag, response_flag, transport};

use super::{ByDirection, ClockBase, Core, Finished, verdict};
use crate::address::Peer;
use crate::identity::{Identity, Kind};
use crate::rates::Tally;
use crate::view::{ConnectionRow, Direction, IdentityRow, LossRow, ProcessRow, RequestRecord, RouteRow};
use crate::workload::Process;

/// Totals of the core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Records that were handed in, readable or not.
    pub records: u64,
    /// Request records that arrived.
    pub delivered: ByDirection,
    /// Requests that are finished, answered or not: the sum of all route rows, and of all process rows.
    pub finished: ByDirection,
    /// Requests that the kernel side counted but could not deliver and that are charged: with `finished` the sum of all
    /// identity rows.
    pub lost: ByDirection,
    /// Requests without a response so far.
    pub outstanding: u64,
    /// Connections followed.
    pub connections: u64,
    /// Identities counted by themselves.
    pub identities: u64,
}

/// Finished requests, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tail {
    /// The requests.
    pub records: Vec<RequestRecord>,
    /// Where to go on.
    pub next: u64,
    /// Requests that had already gone from the ring.
    pub skipped: u64,
}

impl Core {
    /// Totals.
    pub fn summary(&self) -> Summary {
        Summary {
            records: self.records,
            delivered: self.delivered,
            finished: self.finished,
            lost: self.lost,
            outstanding: self.delivered.sum() - self.finished.sum(),
            connections: self.connections.len() as u64,
            identities: self.identities.len() as u64,
        }
    }

    /// The `limit` heaviest identities, heaviest first, `other` included. Identities of one kind and direction that have
    /// the same configured name are one row.
    pub fn identities(&self, limit: usize) -> Vec<IdentityRow> {
        let mut named: HashMap<(&str, Kind, Direction), Identity> = HashMap::new();
        for (row, name) in self.named_rows() {
            let key = (name, row.id.kind, row.id.direction);
            named.entry(key).and_modify(|first| first.absorb(row)).or_insert_with(|| row.clone());
        }
        let named = named.into_iter().map(|((name, ..), row)| self.identity_row(name.to_owned(), &row));
        let plain =
            self.unnamed_rows(limit).map(|row| self.identity_row(row.id.text(row.label.as_deref()), row));
        let mut rows: Vec<_> = named.chain(plain).collect();
        rows.sort_by_key(|row| Reverse(row.totals.requests));
        rows.truncate(limit);
        rows
    }

    /// Rows with a configured name.
    pub(super) fn named_rows(&self) -> impl Iterator<Item = (&Identity, &str)> {
        self.names.iter().filter_map(|(id, name)| Some((self.identities.get(&id)?, name)))
    }

    /// The others among the `limit` heaviest.
    pub(super) fn unnamed_rows(&self, limit: usize) -> impl Iterator<Item = &Identity> {
        self.identities.heaviest(limit).into_iter().filter(|row| self.names.get(&row.id).is_none())
    }

    fn identity_row(&self, identity: String, row: &Identity) -> IdentityRow {
        let credential = row.fingerprint != 0;
        IdentityRow {
            identity,
            kind: row.id.kind.label().to_owned(),
            fingerprint: if credential { format!("{:016x}", row.fingerprint) } else { String::new() },
            direction: row.id.direction,
            carrier: self.prints.carrier_name(row.carrier),
            issuer: row.label.as_ref().map_or_else(String::new, |label| label.issuer.to_string()),
            subject: row.label.as_ref().map_or_else(String::new, |label| label.subject.to_string()),
            peers: row.peers.iter().map(Peer::text).collect(),
            workloads: row.workloads.iter().map(ToString::to_string).collect(),
            first_seen: if row.first_ns == u64::MAX { String::new() } else { self.time(row.first_ns) },
            last_seen: if row.last_ns == 0 { String::new() } else { self.time(row.last_ns) },
            totals: row.tally.totals(self.second()),
        }
    }

    /// Every process that is kept, and one row with process id 0 for each workload whose processes are gone.
    pub fn processes(&self) -> Vec<ProcessRow> {
        let live = self.processes.iter().flat_map(|process| {
            process.tallies().map(|(direction, tally)| self.process_row(process, direction, tally))
        });
        let gone = self.processes.retired_tallies().map(|(workload, direction, tally)| ProcessRow {
            pid: 0,
            started: String::new(),
            exe: String::new(),
            comm: String::new(),
            user: String::new(),
            workload: workload.to_string(),
            cgroup: String::new(),
            alive: false,
            direction,
            totals: tally.totals(self.second()),
        });
        let mut rows: Vec<_> = live.chain(gone).collect();
        rows.sort_by_key(|row| Reverse(row.totals.requests));
        rows
    }

    fn process_row(&self, process: &Process, direction: Direction, tally: &Tally) -> ProcessRow {
        ProcessRow {
            pid: process.tgid,
            started: ClockBase::text(self.clock.wall_of_boot(process.start_ns)),
            exe: process.exe.to_string(),
            comm: process.comm.to_string(),
            user: process.user.to_string(),
            workload: process.workload.to_string(),
            cgroup: process.cgroup.to_string(),
            alive: process.ended_ns.is_none(),
            direction,
            totals: tally.totals(self.second()),
        }
    }

    /// Every route that was used.
    pub fn routes(&self) -> Vec<RouteRow> {
        let used = self.routes.iter().filter(|route| route.tally.requests() > 0);
        let mut rows: Vec<_> = used
            .map(|route| RouteRow {
                host: route.host.to_string(),
                method: route.method.label().to_owned(),
                route: route.template.to_string(),
                direction: route.direction,
                workload: route.workload.as_deref().unwrap_or_default().to_owned(),
                totals: route.tally.totals(self.second()),
            })
            .collect();
        rows.sort_by_key(|row| Reverse(row.totals.requests));
        rows
    }

    /// Open connections that carried a request, the most recently used first, at most `limit`.
    pub fn connections(&self, limit: usize) -> Vec<ConnectionRow> {
        let used = self.connections.iter().filter_map(|(id, one)| Some((id, one, one.shape.as_ref()?)));
        used.take(limit)
            .map(|(id, one, shape)| ConnectionRow {
                id: format!("{id:x}"),
                direction: shape.direction,
                transport: transport_label(one.transport).to_owned(),
                local: if one.local.ip().is_some() { one.local.text() } else { String::new() },
                peer: one.remote.text(),
                pid: one.pid,
                workload: shape.workload.to_string(),
                identity: self.names.show(&shape.id, shape.label.as_deref()),
                requests: one.requests,
                outstanding: one.outstanding() as u64,
                joined: one.joined,
                since: self.time(one.since_ns),
            })
            .collect()
    }

    /// Number that the next finished request will get: where a `tail` that wants only new ones starts.
    pub fn tail_position(&self) -> u64 {
        self.recent.first + self.recent.ring.len() as u64
    }

    /// At most `limit` finished requests from number `from` on.
    pub fn tail(&self, from: u64, limit: usize) -> Tail {
        let start = from.clamp(self.recent.first, self.tail_position());
        let ring = self.recent.ring.iter().skip((start - self.recent.first) as usize).take(limit);
        let records: Vec<_> = ring.map(|finished| self.record(finished)).collect();
        Tail { next: start + records.len() as u64, skipped: start.saturating_sub(from), records }
    }

    fn record(&self, finished: &Finished) -> RequestRecord {
        let shape = &*finished.shape;
        let flagged = |flag: u16, note: &str| (finished.flags & flag != 0).then(|| note.to_owned());
        let ended = |flag: u16, note: &str| (finished.response_flags & flag != 0).then(|| note.to_owned());
        RequestRecord {
            time: self.time(finished.ts_ns),
            direction: shape.direction,
            identity: self.names.show(&shape.id, shape.label.as_deref()),
            kind: shape.id.kind.label().to_owned(),
            also: shape.also.iter().map(|(id, label)| self.names.show(id, label.as_deref())).collect(),
            peer: shape.peer.text(),
            pid: shape.pid,
            workload: shape.workload.to_string(),
            method: shape.method_text.to_string(),
            host: shape.host().to_owned(),
            path: shape.path.to_string(),
            route: self
                .routes
                .get(shape.route)
                .map_or(crate::route::OTHER, |route| &route.template)
                .to_owned(),
            version: version(shape.v10).to_owned(),
            status: finished.status,
            duration: finished.latency_ns as f64 / 1e9,
            request_bytes: finished.request_bytes,
            response_bytes: finished.response_bytes,
            transport: transport_label(shape.transport).to_owned(),
            user_agent: shape.context.user_agent.to_string(),
            verdict: finished.verdict.map_or("allow", |judged| verdict::word(judged.action)).to_owned(),
            cap: finished.verdict.map(|judged| self.cap_name(judged)).unwrap_or_default(),
            reason: finished.verdict.map_or("", |judged| verdict::reason_word(judged.reason)).to_owned(),
            notes: [
                flagged(request_flag::AMBIGUOUS, "ambiguous"),
                flagged(request_flag::UNFRAMED, "unframed"),
                flagged(request_flag::LAX, "lax"),
                flagged(request_flag::JOINED, "joined"),
                flagged(request_flag::CUT, "truncated"),
                flagged(request_flag::UPGRADE, "upgrade"),
                ended(response_flag::AT_CLOSE, "at_close"),
                ended(response_flag::TUNNEL, "tunnel"),
                ended(response_flag::DESYNC, "desync"),
            ]
            .into_iter()
            .flatten()
            .collect(),
        }
    }

    /// What went wrong inside the daemon, only what is not zero.
    pub fn losses(&self) -> Vec<LossRow> {
        let row = |stage: &str, reason: &str, count: u64| LossRow {
            stage: stage.into(),
            reason: reason.into(),
            count,
        };
        let mut rows = vec![
            row("decode", "unreadable record", self.losses.decode),
            row("tracker", "connection evicted, table full", self.losses.evicted),
            row("tracker", "request on an unknown connection", self.losses.unknown_connection),
            row("tracker", "response without request", self.losses.orphans),
            row("tracker", "request passed over by later responses", self.losses.unanswered),
            row("tracker", "head not seen", self.losses.headless),
            row("tracker", "head part refused, memory bound", self.budget.refused()),
            row("tracker", "route folded into _other", self.routes.folded()),
            row("tracker", "identity folded into other", self.identities.displaced()),
        ];
        rows.retain(|row| row.count > 0);
        rows
    }

    pub(super) fn time(&self, monotonic_ns: u64) -> String {
        ClockBase::text(self.clock.wall(monotonic_ns))
    }
}

pub(super) fn version(v10: bool) -> &'static str {
    if v10 { "1.0" } else { "1.1" }
}

fn transport_label(transport: u8) -> &'static str {
    match transport {
        transport::TCP => "tcp",
        transport::UNIX => "unix",
        transport::TLS => "tls",
        _ => "",
    }
}
