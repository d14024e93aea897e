//! Recorded requests, from JSON Lines as `weir tail -o jsonl` and `GET /v1/recent` write them or from records of the daemon.

use std::io::BufRead;
use std::net::{IpAddr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use crate::view::{Direction, RequestRecord};

/// Most requests of one replay: about 2 GB of memory.
const MOST: usize = 4_000_000;
/// Most bytes of a line: a record with the longest path, host and user agent has about 10,000.
const LINE_BYTES: usize = 1 << 20;

/// What a replay needs to know of a request. Other fields of a line are ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Time of the head, ns since 1970.
    pub time_ns: u64,
    /// Direction.
    pub direction: Direction,
    /// Its credentials as shown, none when it carried none.
    pub credentials: Vec<String>,
    /// Client (inbound) or destination (outbound) without its port.
    pub peer: String,
    /// The peer when it is an address.
    pub address: Option<IpAddr>,
    /// Local workload.
    pub workload: String,
    /// Host in lower case, without its port.
    pub host: String,
    /// Path in lower case.
    pub path: String,
    /// Method and templated path, empty when they are not recorded.
    pub route: String,
    /// Status of the answer, 0 for none.
    pub status: u16,
}

/// Why requests cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A line is no request.
    #[error("line {line} is no request as `weir tail -o jsonl` writes it: {why}")]
    Line {
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// There are too many.
    #[error("more than {MOST} requests: replay a shorter time")]
    Many,
    /// They cannot be read.
    #[error("the requests cannot be read: {0}")]
    Io(#[from] std::io::Error),
}

/// The fields of a line that matter. Those without a default have to be there.
#[derive(Deserialize)]
struct Line {
    time: String,
    direction: Direction,
    identity: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    also: Vec<String>,
    #[serde(default)]
    peer: String,
    #[serde(default)]
    workload: String,
    #[serde(default)]
    host: String,
    #[serde(default)]
    method: String,
    #[serde(default)]
    route: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    status: u16,
}

impl Line {
    fn request(self) -> Result<Request, String> {
        let time = humantime::parse_rfc3339_weak(&self.time);
        let time = time.map_err(|why| format!("its time {:?} is none: {why}", self.time))?;
        let since = SystemTime::duration_since(&time, UNIX_EPOCH);
        let time_ns = since.ok().and_then(|since| u64::try_from(since.as_nanos()).ok());
        let time_ns = time_ns.ok_or_else(|| format!("its time {:?} is out of range", self.time))?;
        let kind = if self.kind.is_empty() {
            self.identity.split_once(':').map_or("", |(kind, _)| kind)
        } else {
            &self.kind
        };
        // a trusted proxy's clients are known by their identity only, not by the peer
        let client = (kind == "client").then(|| self.identity.strip_prefix("client:")).flatten();
        let peer = match client {
            Some(client) if self.direction == Direction::Inbound => client.to_owned(),
            _ => without_port(&self.peer),
        };
        let mut credentials = self.also;
        if !matches!(kind, "client" | "workload") && !credentials.contains(&self.identity) {
            credentials.insert(0, self.identity);
        }
        Ok(Request {
            time_ns,
            direction: self.direction,
            credentials,
            address: peer.parse().ok(),
            peer,
            workload: self.workload,
            host: host_name(&self.host),
            path: self.path.to_ascii_lowercase(),
            route: if self.route.is_empty() {
                String::new()
            } else {
                format!("{} {}", self.method, self.route)
            },
            status: self.status,
        })
    }
}

/// `192.0.2.7` of `192.0.2.7:4711`; `uid=33` of `uid=33 pid=5`.
fn without_port(peer: &str) -> String {
    match peer.parse::<SocketAddr>() {
        Ok(address) => address.ip().to_canonical().to_string(),
        Err(_) => peer.split(' ').next().unwrap_or_default().to_owned(),
    }
}

/// `api.example.com` of `API.example.com:443`.
pub(super) fn host_name(host: &str) -> String {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// Whether a line only says what a slow reader skipped, or what the lines behind it cover.
fn is_remark(line: &[u8]) -> bool {
    serde_json::from_slice::<crate::view::Skipped>(line).is_ok()
        || serde_json::from_slice::<crate::view::Covered>(line).is_ok()
}

/// The requests of JSON Lines, in order of time. Empty lines and remarks about others are passed over.
///
/// # Errors
/// The first line that is no request, or that they cannot be read.
pub fn read(mut lines: impl BufRead) -> Result<Vec<Request>, ReadError> {
    let mut requests = Vec::new();
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        let broken = |why: String| ReadError::Line { line: number, why };
        let most = LINE_BYTES as u64 + 1;
        if std::io::Read::take(&mut lines, most).read_until(b'\n', &mut bytes)? == 0 {
            break;
        }
        if bytes.len() > LINE_BYTES {
            return Err(broken(format!("it has more than {LINE_BYTES} bytes")));
        }
        let text = bytes.trim_ascii();
        if text.is_empty() || is_remark(text) {
            continue;
        }
        let line: Line = serde_json::from_slice(text).map_err(|why| broken(why.to_string()))?;
        if requests.len() == MOST {
            return Err(ReadError::Many);
        }
        requests.push(line.request().map_err(broken)?);
    }
    requests.sort_by_key(|request: &Request| request.time_ns);
    Ok(requests)
}

/// The same of the daemon's records, in order of time.
///
/// # Errors
/// The first record that has no time, by its place.
pub fn of_records(records: &[RequestRecord]) -> Result<Vec<Request>, ReadError> {
    let request = |(at, record): (usize, &RequestRecord)| {
        let RequestRecord { direction, status, .. } = *record;
        let line = Line {
            time: record.time.clone(),
            direction,
            identity: record.identity.clone(),
            kind: record.kind.clone(),
            also: record.also.clone(),
            peer: record.peer.clone(),
            workload: record.workload.clone(),
            host: record.host.clone(),
            method: record.method.clone(),
            route: record.route.clone(),
            path: record.path.clone(),
            status,
        };
        line.request().map_err(|why| ReadError::Line { line: at + 1, why })
    };
    let mut requests = records.iter().enumerate().map(request).collect::<Result<Vec<_>, _>>()?;
    requests.sort_by_key(|request| request.time_ns);
    Ok(requests)
}
