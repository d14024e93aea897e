//! One connection, and the bounded table of them.
//!
//! ```text
//! Request n  -> outstanding n            (or pairs at once with an early Response n)
//! Response n -> pairs with outstanding n; whatever was outstanding before n ends without an answer
//!            -> early n                  (its request is still to come: n >= next)
//! Close      -> all outstanding end without an answer
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::fast::RandomState;
use lru::LruCache;
use monitor_common::cap::ServerKey;
use monitor_common::event::{CREDS, Conn, Response, role};

use super::parts::Parts;
use super::shape::{Context, Shape};
use crate::address::Peer;
use crate::workload::ProcRef;

/// Most requests without a response on one connection.
const OUTSTANDING: usize = 1_024;
/// Most responses whose request is still to come.
const EARLY: usize = 64;

/// A request without a response so far.
#[derive(Clone, Debug)]
pub struct Outstanding {
    /// Number on the connection.
    pub seq: u32,
    /// `event::request_flag`s.
    pub flags: u16,
    /// End of the head, ns.
    pub ts_ns: u64,
    /// Bytes of the head.
    pub head_bytes: u32,
    /// Bytes of the body as announced, 0 when it was not.
    pub body_bytes: u64,
    /// What was decided about it.
    pub verdict: Option<Judged>,
    /// Everything else.
    pub shape: Arc<Shape>,
}

/// What was decided about a request that was not simply allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// One of `cap::action`.
    pub action: u8,
    /// One of `cap::reason`.
    pub reason: u8,
    /// The rule, or the role's number for an access level.
    pub rule: u32,
}

/// What became of a request.
#[derive(Clone, Debug)]
pub struct Paired {
    /// The request.
    pub request: Outstanding,
    /// Its response, `None` without an answer.
    pub response: Option<Response>,
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    /// One of `event::role`.
    pub role: u8,
    /// One of `event::transport`, 0 when not known.
    pub transport: u8,
    /// Joined in the middle.
    pub joined: bool,
    /// Network namespace.
    pub netns: u32,
    /// Local end.
    pub local: Peer,
    /// Remote end.
    pub remote: Peer,
    /// Process id.
    pub pid: u32,
    /// Process.
    pub process: Option<ProcRef>,
    /// First seen, ns.
    pub since_ns: u64,
    /// Last record, ns.
    pub last_ns: u64,
    /// Requests so far.
    pub requests: u64,
    /// Parts of the head that is arriving.
    pub parts: Option<Box<Parts>>,
    /// Meaning of the latest header block.
    pub context: Option<Arc<Context>>,
    /// The latest shape.
    pub shape: Option<Arc<Shape>>,
    /// What `shape` was made from: hash of the request line.
    pub line_hash: u64,
    /// Hash of the headers that mean something.
    pub block_hash: u64,
    /// Kernel-side fingerprints.
    pub prints: [u64; CREDS],
    /// Their kinds.
    pub creds: [u8; CREDS],
    /// Generation of the settings.
    pub epoch: u32,
    /// Number that the next request is expected to have.
    pub next: u32,
    outstanding: VecDeque<Outstanding>,
    early: VecDeque<Response>,
}

impl Connection {
    /// A connection of which nothing is known.
    pub fn unknown(now_ns: u64) -> Self {
        Self {
            role: role::UNKNOWN,
            transport: 0,
            joined: false,
            netns: 0,
            local: Peer::UNKNOWN,
            remote: Peer::UNKNOWN,
            pid: 0,
            process: None,
            since_ns: now_ns,
            last_ns: now_ns,
            requests: 0,
            parts: None,
            context: None,
            shape: None,
            line_hash: 0,
            block_hash: 0,
            prints: [0; CREDS],
            creds: [0; CREDS],
            epoch: 0,
            next: 0,
            outstanding: VecDeque::new(),
            early: VecDeque::new(),
        }
    }

    /// Takes over what a record says.
    pub fn update(&mut self, conn: &Conn, process: Option<ProcRef>) {
        self.role = conn.role;
        self.transport = conn.transport;
        self.joined |= conn.joined != 0;
        self.netns = conn.netns;
        self.local = Peer::local(conn);
        self.remote = Peer::remote(conn);
        self.pid = conn.tgid;
        self.process = process;
        self.last_ns = conn.ts_ns;
        self.shape = None;
    }

    /// The local end as the kernel side tells servers apart, zero when it is not known.
    pub fn end(&self) -> ServerKey {
        let (address, port) = self.local.words();
        ServerKey { address, netns: self.netns, port: u32::from(port) }
    }

    /// Requests without a response so far.
    pub fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// Adds a request. `finish` gets it back at once if its response was there already, or gets the oldest one if there
    /// are too many; returns how many responses turned out to belong to requests that never arrived.
    pub fn push(&mut self, request: Outstanding, mut finish: impl FnMut(Paired)) -> u64 {
        self.requests += 1;
        self.next = request.seq.wrapping_add(1);
        let mut orphans = 0;
        while let Some(early) = self.early.front() {
            if early.seq == request.seq {
                finish(Paired { request, response: self.early.pop_front() });
                return orphans;
            }
            if is_before(request.seq, early.seq) {
                break;
            }
            self.early.pop_front();
            orphans += 1;
        }
        if self.outstanding.len() >= OUTSTANDING
            && let Some(oldest) = self.outstanding.pop_front()
        {
            finish(Paired { request: oldest, response: None });
        }
        if self.outstanding.is_empty() {
            // most connections never have a second one; a queue's own first growth would take four
            self.outstanding.reserve_exact(1);
        }
        self.outstanding.push_back(request);
        orphans
    }

    /// Notes what was decided about request `seq`; returns its shape.
    pub fn judge(&mut self, seq: u32, verdict: Judged) -> Option<&Arc<Shape>> {
        let request = self.outstanding.iter_mut().rev().find(|request| request.seq == seq)?;
        request.verdict = Some(verdict);
        Some(&request.shape)
    }

    /// Takes a response; returns how many responses had no request.
    pub fn answer(&mut self, response: &Response, mut finish: impl FnMut(Paired)) -> u64 {
        self.last_ns = response.ts_end_ns;
        while let Some(oldest) = self.outstanding.front() {
            if is_before(response.seq, oldest.seq) {
                break;
            }
            let answered = oldest.seq == response.seq;
            let Some(request) = self.outstanding.pop_front() else { break };
            finish(Paired { request, response: answered.then_some(*response) });
            if answered {
                return 0;
            }
        }
        if is_before(response.seq, self.next) {
            return 1;
        }
        let full = self.early.len() >= EARLY;
        if full {
            self.early.pop_front();
        }
        self.early.push_back(*response);
        u64::from(full)
    }

    /// Ends the connection: what is outstanding gets no answer.
    pub fn close(&mut self, mut finish: impl FnMut(Paired)) -> u64 {
        for request in self.outstanding.drain(..) {
            finish(Paired { request, response: None });
        }
        self.early.drain(..).count() as u64
    }
}

/// Whether number `a` comes before `b`; numbers wrap.
fn is_before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// The table of connections.
pub struct Connections {
    table: LruCache<u64, Connection, RandomState>,
    limit: usize,
}

impl Connections {
    /// An empty table of at most `limit` connections.
    pub fn new(limit: usize) -> Self {
        Self { table: LruCache::unbounded_with_hasher(RandomState::default()), limit: limit.max(1) }
    }

    /// Changes the bound, for connections to come.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit.max(1);
    }

    /// The connection, as the most recently used one.
    pub fn get_mut(&mut self, id: u64) -> Option<&mut Connection> {
        self.table.get_mut(&id)
    }

    /// Adds a connection; returns the least recently used one that had to go.
    pub fn insert(&mut self, id: u64, connection: Connection) -> Option<Connection> {
        let evicted = if self.table.len() >= self.limit { self.table.pop_lru() } else { None };
        self.table.put(id, connection);
        evicted.map(|(_, connection)| connection)
    }

    /// Removes a connection.
    pub fn remove(&mut self, id: u64) -> Option<Connection> {
        self.table.pop(&id)
    }

    /// All connections with their identifiers, the most recently used first.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Connection)> {
        self.table.iter().map(|(id, connection)| (*id, connection))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }
}
