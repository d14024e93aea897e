//! The columns of every kind of row.

use serde::{Deserialize, Serialize};

use super::columns::{Column, Row, Value};
use crate::view::{
    CapExplanation, CapRow, CapUse, CheckRow, ConnectionRow, Direction, HookRow, IdentityRow, LossRow,
    ProcessRow, ReplayRow, RequestRecord, RoleRow, RouteRow, Totals,
};

/// A name given to an identity. `weir identity list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameRow {
    /// The name.
    pub name: String,
    /// The identity it stands for.
    pub identity: String,
    /// `config` or `state`: where it was given.
    pub source: String,
}

/// A TLS library mapped by a process. `weir explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LibraryRow {
    /// Path as the process sees it.
    pub path: String,
    /// Device and inode.
    pub inode: String,
    /// What Weir does with it.
    pub state: String,
}

macro_rules! columns {
    ($($name:literal $(, $flag:ident)* => |$row:ident| $value:expr;)*) => {
        &[$(Column { name: $name, wide: columns!(@has wide $($flag)*), right: columns!(@has right $($flag)*),
                     value: |$row| $value },)*]
    };
    (@has wide wide $($rest:ident)*) => { true };
    (@has right right $($rest:ident)*) => { true };
    (@has $flag:ident $other:ident $($rest:ident)*) => { columns!(@has $flag $($rest)*) };
    (@has $flag:ident) => { false };
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn list(texts: &[String]) -> Value {
    Value::Text(texts.join(" "))
}

fn direction(direction: Direction) -> Value {
    text(match direction {
        Direction::Inbound => "inbound",
        Direction::Outbound => "outbound",
    })
}

fn status(totals: &Totals, class: usize) -> Value {
    Value::Count(totals.status.get(class).copied().unwrap_or_default())
}

fn rate(per_second: f64) -> Value {
    Value::Rate(Some(per_second))
}

fn latency(totals: &Totals, which: fn(&crate::view::Latency) -> f64) -> Value {
    Value::Seconds(totals.latency.as_ref().map(which))
}

impl Row for IdentityRow {
    const SORT: &'static str = "requests";
    const COLUMNS: &'static [Column<Self>] = columns! {
        "identity" => |row| text(&row.identity);
        "kind" => |row| text(&row.kind);
        "direction" => |row| direction(row.direction);
        "requests", right => |row| Value::Count(row.totals.requests);
        "rate_1s", right => |row| rate(row.totals.rates.s1);
        "rate_10s", right => |row| rate(row.totals.rates.s10);
        "rate_1m", right => |row| rate(row.totals.rates.m1);
        "rate_1h", right, wide => |row| rate(row.totals.rates.h1);
        "status_2xx", right, wide => |row| status(&row.totals, 2);
        "status_3xx", right, wide => |row| status(&row.totals, 3);
        "status_4xx", right => |row| status(&row.totals, 4);
        "status_5xx", right => |row| status(&row.totals, 5);
        "status_none", right, wide => |row| status(&row.totals, 0);
        "p50", right => |row| latency(&row.totals, |latency| latency.p50);
        "p95", right, wide => |row| latency(&row.totals, |latency| latency.p95);
        "p99", right => |row| latency(&row.totals, |latency| latency.p99);
        "request_bytes", right, wide => |row| Value::Bytes(row.totals.request_bytes);
        "response_bytes", right, wide => |row| Value::Bytes(row.totals.response_bytes);
        "fingerprint", wide => |row| text(&row.fingerprint);
        "carrier", wide => |row| text(&row.carrier);
        "issuer", wide => |row| text(&row.issuer);
        "subject", wide => |row| text(&row.subject);
        "peers", wide => |row| list(&row.peers);
        "workloads", wide => |row| list(&row.workloads);
        "first_seen", wide => |row| text(&row.first_seen);
        "last_seen", wide => |row| text(&row.last_seen);
    };
}

impl Row for ProcessRow {
    const SORT: &'static str = "requests";
    const COLUMNS: &'static [Column<Self>] = columns! {
        "pid", right => |row| Value::Count(row.pid.into());
        "comm" => |row| text(&row.comm);
        "workload" => |row| text(&row.workload);
        "user" => |row| text(&row.user);
        "direction" => |row| direction(row.direction);
        "requests", right => |row| Value::Count(row.totals.requests);
        "rate_1s", right => |row| rate(row.totals.rates.s1);
        "rate_10s", right, wide => |row| rate(row.totals.rates.s10);
        "rate_1m", right => |row| rate(row.totals.rates.m1);
        "rate_1h", right, wide => |row| rate(row.totals.rates.h1);
        "status_2xx", right, wide => |row| status(&row.totals, 2);
        "status_3xx", right, wide => |row| status(&row.totals, 3);
        "status_4xx", right => |row| status(&row.totals, 4);
        "status_5xx", right => |row| status(&row.totals, 5);
        "status_none", right, wide => |row| status(&row.totals, 0);
        "p50", right => |row| latency(&row.totals, |latency| latency.p50);
        "p95", right, wide => |row| latency(&row.totals, |latency| latency.p95);
        "p99", right, wide => |row| latency(&row.totals, |latency| latency.p99);
        "request_bytes", right, wide => |row| Value::Bytes(row.totals.request_bytes);
        "response_bytes", right, wide => |row| Value::Bytes(row.totals.response_bytes);
        "exe", wide => |row| text(&row.exe);
        "cgroup", wide => |row| text(&row.cgroup);
        "alive" => |row| Value::Flag(row.alive);
        "started", wide => |row| text(&row.started);
    };
}

impl Row for RouteRow {
    const SORT: &'static str = "requests";
    const COLUMNS: &'static [Column<Self>] = columns! {
        "method" => |row| text(&row.method);
        "host" => |row| text(&row.host);
        "route" => |row| text(&row.route);
        "direction" => |row| direction(row.direction);
        "requests", right => |row| Value::Count(row.totals.requests);
        "rate_1s", right => |row| rate(row.totals.rates.s1);
        "rate_10s", right, wide => |row| rate(row.totals.rates.s10);
        "rate_1m", right => |row| rate(row.totals.rates.m1);
        "rate_1h", right, wide => |row| rate(row.totals.rates.h1);
        "status_2xx", right, wide => |row| status(&row.totals, 2);
        "status_3xx", right, wide => |row| status(&row.totals, 3);
        "status_4xx", right => |row| status(&row.totals, 4);
        "status_5xx", right => |row| status(&row.totals, 5);
        "status_none", right, wide => |row| status(&row.totals, 0);
        "p50", right => |row| latency(&row.totals, |latency| latency.p50);
        "p95", right, wide => |row| latency(&row.totals, |latency| latency.p95);
        "p99", right => |row| latency(&row.totals, |latency| latency.p99);
        "request_bytes", right, wide => |row| Value::Bytes(row.totals.request_bytes);
        "response_bytes", right, wide => |row| Value::Bytes(row.totals.response_bytes);
        "workload", wide => |row| text(&row.workload);
    };
}

impl Row for ConnectionRow {
    const SORT: &'static str = "requests";
    const COLUMNS: &'static [Column<Self>] = columns! {
        "id", wide => |row| text(&row.id);
        "direction" => |row| direction(row.direction);
        "transport" => |row| text(&row.transport);
        "local" => |row| text(&row.local);
        "peer" => |row| text(&row.peer);
        "pid", right => |row| Value::Count(row.pid.into());
        "workload" => |row| text(&row.workload);
        "identity" => |row| text(&row.identity);
        "requests", right => |row| Value::Count(row.requests);
        "outstanding", right => |row| Value::Count(row.outstanding);
        "joined", wide => |row| Value::Flag(row.joined);
        "since" => |row| text(&row.since);
    };
}

impl Row for ReplayRow {
    const SORT: &'static str = "denied";
    const COLUMNS: &'static [Column<Self>] = columns! {
        "cap" => |row| text(&row.cap);
        "applied", right => |row| Value::Count(row.applied);
        "admitted", right => |row| Value::Count(row.admitted);
        "denied", right => |row| Value::Count(row.denied);
        "elsewhere", right => |row| Value::Count(row.elsewhere);
        "first" => |row| text(&row.first);
        "worst" => |row| text(&row.worst);
        "worst_denied", right => |row| Value::Count(row.worst_denied);
        "top" => |row| {
            let top = row.top.iter().map(|(who, count)| format!("{who}={count}"));
            Value::Text(top.collect::<Vec<_>>().join(" "))
        };
    };
}

impl Row for RequestRecord {
    const SORT: &'static str = "time";
    const COLUMNS: &'static [Column<Self>] = columns! {
        "time" => |row| text(&row.time);
        "direction" => |row| direction(row.direction);
        "identity" => |row| text(&row.identity);
        "kind", wide => |row| text(&row.kind);
        "also", wide => |row| list(&row.also);
        "peer" => |row| text(&row.peer);
        "pid", right => |row| Value::Count(row.pid.into());
        "workload", wide => |row| text(&row.workload);
        "method" => |row| text(&row.method);
        "host" => |row| text(&row.host);
        "path" => |row| text(&row.path);
        "route", wide => |row| text(&row.route);
        "version", wide => |row| text(&row.version);
        "status", right => |row| Value::Count(row.status.into());
        "duration", right => |row| Value::Seconds((row.status != 0).then_some(row.duration));
        "request_bytes", right, wide => |row| Value::Bytes(row.request_bytes);
        "response_bytes", right => |row| Value::Bytes(row.response_bytes);
        "transport", wide => |row| text(&row.transport);
        "user_agent", wide => |row| text(&row.user_agent);
        "verdict" => |row| text(&row.verdict);
        "cap", wide => |row| text(&row.cap);
        "reason", wide => |row| text(&row.reason);
        "notes", wide => |row| list(&row.notes);
    };
}

impl Row for CapRow {
    const SORT: &'static str = "denied";
    const COLUMNS: &'static [Column<Self>] = columns! {
        "name" => |row| text(&row.name);
        "scope" => |row| text(&row.scope);
        "direction" => |row| text(&row.direction);
        "except", wide => |row| Value::Text(row.except.join(" "));
        "route" => |row| text(&row.route);
        "host" => |row| text(&row.host);
        "rate" => |row| text(&row.rate);
        "burst", right => |row| Value::Count(row.burst);
        "action" => |row| text(if row.enabled { &row.action } else { "off" });
        "used", right => |row| Value::Share(Some(row.used));
        "allowed", right => |row| Value::Count(row.allowed);
        "denied", right => |row| Value::Count(row.denied);
        "shadowed", right => |row| Value::Count(row.shadowed);
        "observed", right, wide => |row| Value::Count(row.observed);
        "members", right, wide => |row| Value::Count(row.members);
        "source", wide => |row| text(&row.source);
        "per_second", right, wide => |row| rate(row.per_second);
        "rate_1s", right, wide => |row| rate(row.rate_1s);
        "rate_10s", right, wide => |row| rate(row.rate_10s);
        "who", wide => |row| text(&row.who);
        "last_denied", wide => |row| text(&row.last_denied);
        "last_denied_identity", wide => |row| text(&row.last_denied_identity);
        "top", wide => |row| {
            let top = row.top.iter().map(|(who, used)| format!("{who} {:.0}%", used * 100.0));
            Value::Text(top.collect::<Vec<_>>().join(", "))
        };
    };
}

impl Row for CapUse {
    const SORT: &'static str = "used";
    const COLUMNS: &'static [Column<Self>] = columns! {
        "cap" => |row| text(&row.cap);
        "who" => |row| text(&row.who);
        "direction" => |row| text(&row.direction);
        "action" => |row| text(&row.action);
        "limit", right => |row| text(&row.limit);
        "rate", right => |row| Value::Rate(row.rate);
        "used", right => |row| Value::Share(Some(row.used));
        "admitted", right => |row| Value::Count(row.admitted);
        "counted", right => |row| Value::Count(row.counted);
        "denied", right => |row| Value::Count(row.denied);
        "last_denied", right => |row| Value::Seconds(row.last_denied);
    };
}

impl Row for RoleRow {
    const SORT: &'static str = "name";
    const COLUMNS: &'static [Column<Self>] = columns! {
        "name" => |row| text(&row.name);
        "members" => |row| list(&row.members);
        "access" => |row| Value::Text(row.access.join(", "));
        "access_action" => |row| text(&row.access_action);
        "caps" => |row| list(&row.caps);
    };
}

impl Row for CapExplanation {
    const SORT: &'static str = "cap";
    const COLUMNS: &'static [Column<Self>] = columns! {
        "cap" => |row| text(&row.cap);
        "scope" => |row| text(&row.scope);
        "limit" => |row| text(&row.limit);
        "action" => |row| text(&row.action);
        "used", right => |row| Value::Share(row.used);
        "next_in", right => |row| Value::Seconds(row.next_in);
        "decided" => |row| text(&row.decided);
        "may_pass" => |row| text(&row.may_pass);
    };
}

impl Row for HookRow {
    const SORT: &'static str = "name";
    const COLUMNS: &'static [Column<Self>] = columns! {
        "name" => |row| text(&row.name);
        "target" => |row| text(&row.target);
        "mandatory" => |row| Value::Flag(row.mandatory);
        "attached" => |row| Value::Flag(row.attached);
    };
}

impl Row for LossRow {
    const SORT: &'static str = "count";
    const COLUMNS: &'static [Column<Self>] = columns! {
        "stage" => |row| text(&row.stage);
        "reason" => |row| text(&row.reason);
        "count", right => |row| Value::Count(row.count);
    };
}

impl Row for CheckRow {
    const SORT: &'static str = "result";
    const COLUMNS: &'static [Column<Self>] = columns! {
        "result" => |row| text(&row.result);
        "check" => |row| text(&row.check);
        "detail" => |row| text(&row.detail);
        "remedy" => |row| text(&row.remedy);
    };
}

impl Row for NameRow {
    const SORT: &'static str = "name";
    const COLUMNS: &'static [Column<Self>] = columns! {
        "name" => |row| text(&row.name);
        "identity" => |row| text(&row.identity);
        "source" => |row| text(&row.source);
    };
}

impl Row for LibraryRow {
    const SORT: &'static str = "path";
    const COLUMNS: &'static [Column<Self>] = columns! {
        "path" => |row| text(&row.path);
        "inode" => |row| text(&row.inode);
        "state" => |row| text(&row.state);
    };
}
