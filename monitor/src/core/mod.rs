//! The daemon's core: ring-buffer records in, counts and finished requests out.
//!
//! Owns: the order in which a record passes tracker, parser, identity, route and rates, and the exactness of the totals:
//! at any time the sum of the identity rows, of the route rows and of the process rows is what was finished plus what is
//! known to be lost. Must not: do I/O or read a clock (time and facts come in), block, or grow beyond its settings.
//!
//! ```text
//! record -> tracker (connection, head, pairing) -> resolve (identity, route, process = a Shape) -> outstanding
//! response, close, eviction --------------------> finish: charge rows, put into recent ring and history
//! kernel counters ------------------------------> reconcile: charge what the ring lost
//! ```

mod caps;
mod clock;
mod finish;
mod history;
mod reconcile;
mod resolve;
mod series;
mod settings;
#[cfg(test)]
mod tests;
mod verdict;
mod views;

pub use caps::Shown;
pub use clock::ClockBase;
pub use finish::Finished;
pub use history::{Remembered, Span};
pub use reconcile::{KernelCounts, KernelIdentity};
pub use series::{DurationSeries, IdentitySeries, RequestSeries};
pub use settings::Settings;
pub use verdict::{Accepted, Denials, Seen as Acceptance};
pub use views::{Summary, Tail};

use std::hash::BuildHasher;
use std::num::NonZeroUsize;
use std::sync::Arc;

use foldhash::fast::RandomState;
use lru::LruCache;
use monitor_common::event::{self, Close, Conn, Event, HeadPart, Request, Response, request_flag, role};

use crate::identity::{Claims, Names, Prints, Table};
use crate::parser::head::{self, first_line};
use crate::rates::SECOND_NS;
use crate::route::Routes;
use crate::tracker::{Budget, Connection, Connections, Context, Outstanding, Paired};
use crate::view::Direction;
use crate::workload::{ProcRef, ProcSource, Processes};

/// A process that ended this long ago and whose connections are silent since has closed them: TLS libraries that are
/// never asked to free their state send no close.
const GRACE_NS: u64 = 2 * SECOND_NS;

/// Most ports whose servers are remembered.
const LISTENERS: NonZeroUsize = NonZeroUsize::new(1_024).unwrap();

/// Requests by direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByDirection {
    /// Served.
    pub inbound: u64,
    /// Made.
    pub outbound: u64,
}

impl ByDirection {
    fn get_mut(&mut self, direction: Direction) -> &mut u64 {
        match direction {
            Direction::Inbound => &mut self.inbound,
            Direction::Outbound => &mut self.outbound,
        }
    }

    /// Both.
    pub fn sum(&self) -> u64 {
        self.inbound + self.outbound
    }
}

/// What went wrong inside the daemon, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Losses {
    decode: u64,
    evicted: u64,
    orphans: u64,
    unanswered: u64,
    unknown_connection: u64,
    headless: u64,
}

/// See the module's documentation.
pub struct Core {
    settings: Settings,
    clock: ClockBase,
    prints: Prints,
    names: Names,
    claims: Claims,
    connections: Connections,
    budget: Budget,
    processes: Processes,
    identities: Table,
    routes: Routes,
    kernel: reconcile::Delivered,
    recent: finish::Recent,
    history: history::History,
    hasher: RandomState,
    no_context: Arc<Context>,
    epoch: u32,
    now_ns: u64,
    swept_second: u32,
    records: u64,
    delivered: ByDirection,
    finished: ByDirection,
    lost: ByDirection,
    losses: Losses,
    verdicts: verdict::Verdicts,
    /// Who served a port last, by network namespace and port.
    listeners: LruCache<(u32, u16), ProcRef, RandomState>,
}

impl Core {
    /// An empty core.
    pub fn new(settings: Settings, clock: ClockBase) -> Self {
        let prints = Prints::new(&settings.credentials);
        Self {
            names: Names::new(&settings.names, &prints),
            prints,
            claims: Claims::default(),
            connections: Connections::new(settings.max_connections),
            budget: Budget::default(),
            processes: Processes::default(),
            identities: Table::new(settings.max_identities),
            routes: Routes::new(&settings.routes, settings.max_routes),
            kernel: reconcile::Delivered::default(),
            recent: finish::Recent::new(settings.max_recent),
            history: history::History::new(
                settings.max_history,
                settings.max_history_bytes,
                clock.monotonic_ns,
            ),
            hasher: RandomState::default(),
            no_context: Arc::default(),
            epoch: 0,
            now_ns: clock.monotonic_ns,
            swept_second: 0,
            records: 0,
            delivered: ByDirection::default(),
            finished: ByDirection::default(),
            lost: ByDirection::default(),
            losses: Losses::default(),
            verdicts: verdict::Verdicts::default(),
            listeners: LruCache::with_hasher(LISTENERS, RandomState::default()),
            settings,
            clock,
        }
    }

    /// Takes new settings for requests to come. Counts are kept; smaller bounds hold for newcomers.
    pub fn reconfigure(&mut self, settings: Settings) {
        self.prints = Prints::new(&settings.credentials);
        self.names = Names::new(&settings.names, &self.prints);
        self.connections.set_limit(settings.max_connections);
        self.identities.set_limit(settings.max_identities);
        self.routes.configure(&settings.routes, settings.max_routes);
        self.recent.set_limit(settings.max_recent);
        self.history.set_limits(settings.max_history, settings.max_history_bytes, self.now_ns);
        self.epoch = self.epoch.wrapping_add(1);
        self.settings = settings;
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Replaces the relation between the kernel's clocks and wall time (which is stepped now and then).
    pub fn set_clock(&mut self, clock: ClockBase) {
        self.clock = clock;
    }

    /// Takes one ring-buffer record.
    pub fn event(&mut self, record: &[u8], source: &mut dyn ProcSource) {
        self.records += 1;
        match event::decode(record) {
            Ok(Event::Request(request, head)) => self.request(&request, head),
            Ok(Event::Response(response)) => self.response(&response),
            Ok(Event::Conn(conn)) => self.conn(&conn, source),
            Ok(Event::HeadPart(part, bytes)) => self.head_part(&part, bytes),
            Ok(Event::Close(close)) => self.close(&close),
            Ok(Event::Exec(exec, file)) => self.processes.exec(&exec, file),
            Ok(Event::Exit(exit)) => self.processes.exit(&exit, self.now_ns),
            Ok(Event::Verdict(verdict)) => self.verdict(&verdict),
            Ok(Event::Due(_)) => {}
            Err(_) => self.losses.decode += 1,
        }
    }

    /// Lets time pass: rates, idle memory, connections of dead processes. Cheap to call often.
    pub fn tick(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
        let second = self.second();
        if second == self.swept_second {
            return;
        }
        self.swept_second = second;
        self.identities.expire(second);
        self.routes.expire(second);
        if self.processes.tick(self.now_ns, GRACE_NS) {
            self.close_abandoned();
        }
    }

    /// The current second of the monotonic clock.
    fn second(&self) -> u32 {
        (self.now_ns / SECOND_NS) as u32
    }

    fn conn(&mut self, conn: &Conn, source: &mut dyn ProcSource) {
        let process = self.server_of(conn, source);
        let mut fresh = None;
        let known = match self.connections.get_mut(conn.conn) {
            Some(known) => known,
            None => fresh.insert(Connection::unknown(conn.ts_ns)),
        };
        let before = known.process;
        if before != process {
            self.processes.connected(before, false);
            self.processes.connected(process, true);
        }
        known.update(conn, process);
        if let Some(fresh) = fresh {
            self.adopt(conn.conn, fresh);
        }
    }

    /// The process of a connection. A packet has none, but it goes to whoever serves its port.
    fn server_of(&mut self, conn: &Conn, source: &mut dyn ProcSource) -> Option<ProcRef> {
        let port = (conn.netns, conn.local_port);
        if conn.tgid == 0 && conn.role == role::INBOUND {
            let server = self.connections.get_mut(event::server_conn(conn.conn));
            let server = server.and_then(|server| server.process);
            return server.or_else(|| self.listeners.get(&port).copied());
        }
        let process = self.processes.meet(conn, source)?;
        if conn.role == role::INBOUND && conn.local_port != 0 {
            self.listeners.put(port, process);
        }
        Some(process)
    }

    fn adopt(&mut self, id: u64, connection: Connection) {
        if let Some(evicted) = self.connections.insert(id, connection) {
            self.losses.evicted += 1;
            self.end(evicted, self.now_ns);
        }
    }

    /// The record about the connection was lost: the process may still be known by its number.
    fn adopt_unknown(&mut self, record: &Request) {
        self.losses.unknown_connection += 1;
        let mut unknown = Connection::unknown(record.ts_ns);
        unknown.pid = record.tgid;
        unknown.process = self.processes.living(record.tgid);
        self.processes.connected(unknown.process, true);
        self.adopt(record.conn, unknown);
    }

    fn head_part(&mut self, part: &HeadPart, bytes: &[u8]) {
        if self.connections.get_mut(part.conn).is_none() {
            self.adopt(part.conn, Connection::unknown(self.now_ns));
        }
        if let Some(connection) = self.connections.get_mut(part.conn) {
            connection.parts.get_or_insert_default().add(part.seq, part.from, bytes, &mut self.budget);
        }
    }

    fn request(&mut self, record: &Request, bytes: &[u8]) {
        let verdict = self.verdicts.before(record.conn, record.seq);
        let connection = if let Some(connection) = self.connections.get_mut(record.conn) {
            connection
        } else {
            self.adopt_unknown(record);
            let Some(connection) = self.connections.get_mut(record.conn) else { return };
            connection
        };
        let direction = match (record.role, connection.role) {
            (role::OUTBOUND, _) | (role::UNKNOWN, role::OUTBOUND) => Direction::Outbound,
            _ => Direction::Inbound,
        };
        *self.delivered.get_mut(direction) += 1;
        connection.last_ns = record.ts_ns;

        let same = record.flags & request_flag::SAME_HEADERS != 0;
        let whole = record.flags & (request_flag::PARTS | request_flag::CUT) == 0;
        let line_hash = self.hasher.hash_one(first_line(bytes).0);
        // of the headers that mean something: most blocks that differ do so in a number that traces the request
        let block_hash = if same { connection.block_hash } else { head::block_hash(bytes, &self.hasher) };
        let repeated = whole
            && connection.parts.is_none()
            && line_hash == connection.line_hash
            && block_hash == connection.block_hash
            && record.fp == connection.prints
            && record.cred == connection.creds
            && self.epoch == connection.epoch
            && (!same || record.seq == connection.next);
        let shape = match &connection.shape {
            Some(shape)
                if repeated
                    && shape.direction == direction
                    && !shape.superseded.load(std::sync::atomic::Ordering::Relaxed) =>
            {
                Arc::clone(shape)
            }
            _ => {
                connection.line_hash = line_hash;
                connection.block_hash = block_hash;
                connection.prints = record.fp;
                connection.creds = record.cred;
                connection.epoch = self.epoch;
                let mut resolver = resolve::Resolver {
                    prints: &self.prints,
                    names: &self.names,
                    trusted: &self.settings.trusted_proxies,
                    claims: &mut self.claims,
                    routes: &mut self.routes,
                    processes: &self.processes,
                    budget: &mut self.budget,
                    no_context: &self.no_context,
                    headless: &mut self.losses.headless,
                };
                let shape = Arc::new(resolver.shape(connection, record, bytes, direction));
                connection.shape = Some(Arc::clone(&shape));
                shape
            }
        };
        self.kernel.count(record, &shape);
        let audited = verdict.map(|judged| (Arc::clone(&shape), judged));
        let announced = if record.content_length == event::CHUNKED { 0 } else { record.content_length };
        let request = Outstanding {
            seq: record.seq,
            flags: record.flags,
            ts_ns: record.ts_ns,
            head_bytes: record.head_len,
            body_bytes: announced,
            verdict,
            shape,
        };
        let mut done = None;
        self.losses.orphans += connection.push(request, |paired| done = Some(paired));
        if let Some((shape, judged)) = audited {
            self.audit(&shape, judged);
        }
        if let Some(paired) = done {
            if paired.response.is_none() {
                self.losses.unanswered += 1;
            }
            self.finish(paired, record.ts_ns);
        }
    }

    fn response(&mut self, response: &Response) {
        let Some(connection) = self.connections.get_mut(response.conn) else {
            // the first one of a connection that was open before answers a request from before: nothing is lost
            self.losses.orphans += u64::from(response.seq != u32::MAX);
            return;
        };
        let (mut first, mut more) = (None, Vec::new());
        self.losses.orphans += connection.answer(response, |paired| {
            if first.is_none() {
                first = Some(paired);
            } else {
                more.push(paired);
            }
        });
        for paired in first.into_iter().chain(more) {
            if paired.response.is_none() {
                self.losses.unanswered += 1;
            }
            self.finish(paired, response.ts_end_ns);
        }
    }

    fn close(&mut self, close: &Close) {
        if let Some(connection) = self.connections.remove(close.conn) {
            self.end(connection, close.ts_ns);
        }
    }

    /// Finishes what a connection that is gone leaves behind.
    fn end(&mut self, mut connection: Connection, now_ns: u64) {
        self.processes.connected(connection.process, false);
        if let Some(mut parts) = connection.parts.take() {
            parts.clear(&mut self.budget);
        }
        let mut left: Vec<Paired> = Vec::new();
        self.losses.orphans += connection.close(|paired| left.push(paired));
        for paired in left {
            self.finish(paired, now_ns);
        }
    }

    fn close_abandoned(&mut self) {
        let before = self.now_ns.saturating_sub(GRACE_NS);
        let abandoned = |connection: &Connection| {
            let process = connection.process.and_then(|process| self.processes.get(process));
            let dead = process.is_some_and(|process| process.ended_ns.is_some_and(|ended| ended <= before));
            dead && connection.last_ns <= before
        };
        let gone: Vec<u64> =
            self.connections.iter().filter(|(_, one)| abandoned(one)).map(|(id, _)| id).collect();
        for id in gone {
            if let Some(connection) = self.connections.remove(id) {
                self.end(connection, self.now_ns);
            }
        }
    }
}
