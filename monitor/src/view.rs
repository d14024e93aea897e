//! What the daemon shows: the rows and records that the control socket serves as JSON and the CLI prints.
//!
//! Field names are an interface: `-o json` prints them as they stand. Add fields, never rename or remove one.
//! Counts are exact unless a field says otherwise; times are RFC 3339 in UTC or seconds as `f64`; sizes are bytes.

use serde::{Deserialize, Serialize};

/// Side of a request that the observed process is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Served by the process.
    Inbound,
    /// Made by the process.
    Outbound,
}

/// Requests per second, averaged over the last 1 s, 10 s, 1 min and 1 h.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Over the last complete second.
    #[serde(rename = "1s")]
    pub s1: f64,
    /// Over the last 10 complete seconds.
    #[serde(rename = "10s")]
    pub s10: f64,
    /// Over the last 60 complete seconds.
    #[serde(rename = "1m")]
    pub m1: f64,
    /// Over the last hour, in steps of a minute.
    #[serde(rename = "1h")]
    pub h1: f64,
}

/// Totals of one identity, workload or route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Requests, answered or not.
    pub requests: u64,
    /// Requests by class of status: none (no answer), 1xx (tunnels), 2xx, 3xx, 4xx, 5xx.
    pub status: [u64; 6],
    /// Bytes of requests (heads and bodies).
    pub request_bytes: u64,
    /// Bytes of responses (heads and bodies).
    pub response_bytes: u64,
    /// Rates.
    pub rates: Rates,
    /// Latency in seconds: median, 95th and 99th percentile; `None` without an answered request.
    pub latency: Option<Latency>,
}

/// Percentiles of the time from the end of the request head to the end of the response, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
}

/// One identity in one direction. `weir identities`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IdentityRow {
    /// The string by which configuration and CLI refer to it: its configured name, else `kind:` and what identifies it.
    pub identity: String,
    /// `bearer`, `jwt`, `basic`, `aws`, `api_key`, `query_key`, `cookie`, `client`, `workload`, or `other`.
    pub kind: String,
    /// Fingerprint of the credential as 16 hexadecimal digits; empty for identities without a credential.
    pub fingerprint: String,
    /// Direction.
    pub direction: Direction,
    /// Name of the header, query key or cookie that carried it; empty without a credential.
    pub carrier: String,
    /// JWT issuer, unverified; empty otherwise.
    pub issuer: String,
    /// JWT subject, unverified, or Basic user; empty otherwise.
    pub subject: String,
    /// Client addresses (or destinations, for outbound) seen, at most 8, the latest first.
    pub peers: Vec<String>,
    /// Workloads seen, at most 8, the latest first.
    pub workloads: Vec<String>,
    /// Time of the first request.
    pub first_seen: String,
    /// Time of the latest request.
    pub last_seen: String,
    /// Counts.
    #[serde(flatten)]
    pub totals: Totals,
}

/// One local process in one direction. `weir processes`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessRow {
    /// Process id.
    pub pid: u32,
    /// Start, RFC 3339.
    pub started: String,
    /// Executable, or the thread's name in brackets when it was gone too soon.
    pub exe: String,
    /// Name of the command.
    pub comm: String,
    /// User name, or the number.
    pub user: String,
    /// `unit:NAME`, `container:ID` or `exe:PATH`.
    pub workload: String,
    /// cgroup path, empty when not known.
    pub cgroup: String,
    /// Whether it still runs.
    pub alive: bool,
    /// Direction.
    pub direction: Direction,
    /// Counts.
    #[serde(flatten)]
    pub totals: Totals,
}

/// One route in one direction. `weir routes`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouteRow {
    /// Host as named by the request, empty for inbound.
    pub host: String,
    /// Method, `_OTHER` for unknown ones.
    pub method: String,
    /// Template, `_other` beyond the bound, `_unknown` when the path was not seen.
    pub route: String,
    /// Direction.
    pub direction: Direction,
    /// Workload that serves or calls it (the latest).
    pub workload: String,
    /// Counts.
    #[serde(flatten)]
    pub totals: Totals,
}

/// One open connection that carries HTTP. `weir connections`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConnectionRow {
    /// Identifier, hexadecimal.
    pub id: String,
    /// Direction.
    pub direction: Direction,
    /// `tcp`, `unix` or `tls`.
    pub transport: String,
    /// Local address and port, empty when not known.
    pub local: String,
    /// Remote address and port, `unknown` when not known.
    pub peer: String,
    /// Process id.
    pub pid: u32,
    /// `unit:NAME`, `container:ID` or `exe:PATH`.
    pub workload: String,
    /// Identity of the latest request.
    pub identity: String,
    /// Requests so far.
    pub requests: u64,
    /// Requests without a response so far.
    pub outstanding: u64,
    /// Joined in the middle.
    pub joined: bool,
    /// Since, RFC 3339.
    pub since: String,
}

/// One finished request. `weir tail`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// Time of the head, RFC 3339 with microseconds.
    pub time: String,
    /// Direction.
    pub direction: Direction,
    /// Identity.
    pub identity: String,
    /// Kind of the identity.
    pub kind: String,
    /// Other credentials in the same request.
    pub also: Vec<String>,
    /// Client address (inbound) or destination (outbound), `unknown` when not known.
    pub peer: String,
    /// Process id.
    pub pid: u32,
    /// `unit:NAME`, `container:ID` or `exe:PATH`.
    pub workload: String,
    /// Method as sent, escaped and bounded.
    pub method: String,
    /// Host as sent, escaped and bounded.
    pub host: String,
    /// Path without query, escaped and bounded.
    pub path: String,
    /// Route template.
    pub route: String,
    /// `1.0` or `1.1`.
    pub version: String,
    /// Status code, 0 without an answer.
    pub status: u16,
    /// Seconds from the end of the request head to the end of the response.
    pub duration: f64,
    /// Bytes of the request.
    pub request_bytes: u64,
    /// Bytes of the response.
    pub response_bytes: u64,
    /// `tcp`, `unix` or `tls`.
    pub transport: String,
    /// User agent, escaped and bounded.
    pub user_agent: String,
    /// `allow`, `shadow` (would have been denied) or `deny`.
    #[serde(default)]
    pub verdict: String,
    /// The cap that refused it; empty otherwise.
    #[serde(default)]
    pub cap: String,
    /// Why it was refused: `cap`, `access`, `credentials` or `framing`; empty otherwise.
    #[serde(default)]
    pub reason: String,
    /// `ambiguous`, `lax`, `joined`, `truncated`: what was odd about it.
    pub notes: Vec<String>,
}

/// A finished request as it is kept for replays. `GET /v1/recent`, behind a line of [`Covered`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecentRecord {
    /// Time of the head, RFC 3339 with microseconds.
    pub time: String,
    /// Direction.
    pub direction: Direction,
    /// Identity.
    pub identity: String,
    /// Kind of the identity.
    pub kind: String,
    /// Other credentials in the same request.
    pub also: Vec<String>,
    /// Client address (inbound) or destination (outbound) without its port, `unknown` when not known.
    pub peer: String,
    /// `unit:NAME`, `container:ID` or `exe:PATH`.
    pub workload: String,
    /// Method, `_OTHER` for unknown ones.
    pub method: String,
    /// Host as sent, escaped and bounded.
    pub host: String,
    /// The first 128 bytes of the path, without query.
    pub path: String,
    /// Status code, 0 without an answer.
    pub status: u16,
}

/// Which requests are kept: the first line of `GET /v1/recent`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Covered {
    /// Every request that has finished and began after this is kept, RFC 3339.
    pub covers_from: String,
    /// Seconds from then to now; at most what was asked for.
    pub covers_seconds: f64,
    /// Requests that follow.
    pub requests: u64,
}

/// A line between records that says how many of them this reader missed because it was too slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Requests that are not in this stream.
    pub skipped: u64,
}

/// One cap. `weir caps list`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CapRow {
    /// Name.
    pub name: String,
    /// Whom it limits: `role partner`, `identity acme`, `each client`, `workload unit:a.service`.
    pub scope: String,
    /// `inbound` or `outbound`.
    pub direction: String,
    /// Roles whose members a cap for each client leaves alone: `role:partner`.
    #[serde(default)]
    pub except: Vec<String>,
    /// Rate of the strangers at one client; empty for ten times the cap's own.
    #[serde(default)]
    pub strangers: String,
    /// Their burst, 0 for ten times the cap's own.
    #[serde(default)]
    pub strangers_burst: u64,
    /// Beginning of the paths that it is for; empty for all.
    pub route: String,
    /// Destination; empty for all.
    pub host: String,
    /// Rate as written: `100/s`.
    pub rate: String,
    /// Requests per second.
    pub per_second: f64,
    /// Requests at once.
    pub burst: u64,
    /// `observe`, `shadow` or `deny`.
    pub action: String,
    /// Whether it is in force.
    pub enabled: bool,
    /// `config`, `runtime` (gone at the next start) or `persisted`.
    pub source: String,
    /// Credentials, clients or workloads that it is known to be for, 0 for those of every identity of a kind.
    pub members: u64,
    /// Requests that it admitted.
    pub allowed: u64,
    /// Requests over an `observe` cap.
    pub observed: u64,
    /// Requests that it would have denied.
    pub shadowed: u64,
    /// Requests that it denied.
    pub denied: u64,
    /// Share of the burst that is used up now, from 0 to 1; of the fullest bucket when there are many.
    pub used: f64,
    /// The fullest buckets of a cap that has many, at most 8: identity and share.
    pub top: Vec<(String, f64)>,
    /// Whom it limits: `scope`, an identity by the name it was given.
    #[serde(default)]
    pub who: String,
    /// Requests per second that it applied to, over the last second or two.
    #[serde(default)]
    pub rate_1s: f64,
    /// The same over the last ten seconds.
    #[serde(default)]
    pub rate_10s: f64,
    /// Time of the latest request that it denied, or would have; empty when there is none.
    #[serde(default)]
    pub last_denied: String,
    /// Who made that request; empty when that is not known.
    #[serde(default)]
    pub last_denied_identity: String,
    /// What `top` shows, with counts. Two credentials of one name are two buckets.
    #[serde(default)]
    pub buckets: Vec<BucketUse>,
}

/// One bucket of a cap that has many.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BucketUse {
    /// Whose it is: by name where one was given or a server has accepted it, else by fingerprint.
    pub identity: String,
    /// Share of the burst that is used up now.
    pub used: f64,
    /// Requests admitted, since the bucket was made.
    pub admitted: u64,
    /// Requests over it.
    pub refused: u64,
}

/// One line of the caps in `weir top`: a cap, or one of the fullest buckets of a cap that has many.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CapUse {
    /// The cap.
    pub cap: String,
    /// Whom it limits; of a bucket whose it is.
    pub who: String,
    /// `inbound` or `outbound`.
    pub direction: String,
    /// `observe`, `shadow`, `deny` or `off`.
    pub action: String,
    /// Rate and burst: `100/s+20`.
    pub limit: String,
    /// Requests per second that it applied to; not known of a single bucket.
    pub rate: Option<f64>,
    /// Share of the burst that is used up now, from 0 to 1.
    pub used: f64,
    /// Requests admitted.
    pub admitted: u64,
    /// Requests that were over it and only counted.
    pub counted: u64,
    /// Requests denied.
    pub denied: u64,
    /// Seconds since it last denied a request, or would have.
    pub last_denied: Option<f64>,
}

impl CapUse {
    /// The lines of some caps, as they are at `now`.
    pub fn of(rows: &[CapRow], now: std::time::SystemTime) -> Vec<Self> {
        rows.iter().flat_map(|row| Self::of_cap(row, now)).collect()
    }

    fn of_cap(row: &CapRow, now: std::time::SystemTime) -> Vec<Self> {
        let last = humantime::parse_rfc3339_weak(&row.last_denied).ok();
        let whole = Self {
            cap: row.name.clone(),
            who: row.who.clone(),
            direction: row.direction.clone(),
            action: if row.enabled { row.action.clone() } else { "off".into() },
            limit: format!("{}+{}", row.rate, row.burst),
            rate: Some(row.rate_1s),
            used: row.used,
            admitted: row.allowed,
            counted: row.observed + row.shadowed,
            denied: row.denied,
            last_denied: last.map(|last| now.duration_since(last).unwrap_or_default().as_secs_f64()),
        };
        let denies = row.action == "deny";
        let bucket = |bucket: &BucketUse| Self {
            who: bucket.identity.clone(),
            rate: None,
            used: bucket.used,
            admitted: bucket.admitted,
            counted: if denies { 0 } else { bucket.refused },
            denied: if denies { bucket.refused } else { 0 },
            last_denied: None,
            ..whole.clone()
        };
        let buckets: Vec<_> = row.buckets.iter().map(bucket).collect();
        std::iter::once(whole).chain(buckets).collect()
    }
}

/// Where a credential stands in a request. `weir identity hash --carrier`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Carrier {
    /// Value of the `Authorization` header, scheme included
    #[default]
    Authorization,
    /// Value of an API-key header
    Header,
    /// Value of a query key
    Query,
    /// Value of a cookie
    Cookie,
}

/// What a proposed cap would have done. `weir caps test`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayRow {
    /// The cap.
    pub cap: String,
    /// Requests that it was for.
    pub applied: u64,
    /// Those that it would have admitted.
    pub admitted: u64,
    /// Those that it would have denied; with another action: counted.
    pub denied: u64,
    /// Those that another cap would have denied.
    pub elsewhere: u64,
    /// Time of the first that it would have denied, RFC 3339; empty when there is none.
    pub first: String,
    /// The second with the most of them, RFC 3339; empty when there is none.
    pub worst: String,
    /// How many in that second.
    pub worst_denied: u64,
    /// Who was denied most often: identity and requests.
    pub top: Vec<(String, u64)>,
}

/// One role. `weir roles`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleRow {
    /// Name.
    pub name: String,
    /// Members by name, by claim, by network.
    pub members: Vec<String>,
    /// What they may do; empty: everything.
    pub access: Vec<String>,
    /// What happens to anything else.
    pub access_action: String,
    /// Caps of the role.
    pub caps: Vec<String>,
}

/// A cap and one identity. `weir caps explain`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CapExplanation {
    /// The cap, or `access of role NAME`.
    pub cap: String,
    /// Whom it limits.
    pub scope: String,
    /// What it allows: `100/s, burst 20`, or methods and paths.
    pub limit: String,
    /// What happens to anything else.
    pub action: String,
    /// Where it is decided: `kernel`, or `kernel, once accepted` for identities that a credential only claims.
    pub decided: String,
    /// Requests that may pass before it is decided there.
    pub may_pass: String,
    /// Share of the burst that is used up now.
    pub used: Option<f64>,
    /// Seconds until the next request is admitted.
    pub next_in: Option<f64>,
}

/// One row of the loss ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossRow {
    /// `hook`, `ring`, `state`, `tls`, `decode` or `tracker`.
    pub stage: String,
    /// What happened.
    pub reason: String,
    /// How often.
    pub count: u64,
}

/// A hook or probe. `weir status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookRow {
    /// Name of the program.
    pub name: String,
    /// What it is attached to.
    pub target: String,
    /// Whether `/readyz` waits for it.
    pub mandatory: bool,
    /// Whether it is attached.
    pub attached: bool,
}

/// Requests that were denied, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DenialCounts {
    /// Over a cap.
    pub cap: u64,
    /// Outside an access level.
    pub access: u64,
    /// More credentials than are told apart.
    pub credentials: u64,
    /// Bytes that cannot be framed.
    #[serde(default)]
    pub framing: u64,
}

impl DenialCounts {
    /// All of them.
    pub fn sum(&self) -> u64 {
        self.cap + self.access + self.credentials + self.framing
    }
}

/// The daemon's state. `weir status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Process id of the daemon.
    pub pid: u32,
    /// Since, RFC 3339.
    pub started: String,
    /// Kernel release.
    pub kernel: String,
    /// Every mandatory hook is attached and the ring has been polled.
    pub ready: bool,
    /// Form of the socket hook: `tp_btf` or `fexit`.
    pub socket_hook: String,
    /// Hooks and probes.
    pub hooks: Vec<HookRow>,
    /// Requests counted in the kernel, inbound.
    pub requests_inbound: u64,
    /// Requests counted in the kernel, outbound.
    pub requests_outbound: u64,
    /// Records produced in the kernel.
    pub records_produced: u64,
    /// Records delivered to the daemon.
    pub records_delivered: u64,
    /// Losses, only the rows that are not zero.
    pub losses: Vec<LossRow>,
    /// Requests that were denied.
    #[serde(default)]
    pub denied: DenialCounts,
    /// Identities tracked.
    pub identities: u64,
    /// Connections open.
    pub connections: u64,
    /// What is excluded from observation and why.
    pub excluded: Vec<String>,
    /// Resident memory of the daemon.
    pub resident_bytes: u64,
    /// What does not work as it should, in words.
    #[serde(default)]
    pub degraded: Vec<String>,
}

/// One check of `weir doctor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckRow {
    /// `PASS`, `WARN` or `FAIL`.
    pub result: String,
    /// What was checked.
    pub check: String,
    /// What was found.
    pub detail: String,
    /// What to do, empty on PASS.
    pub remedy: String,
}
