//! Callers under a cap: what each of their requests met.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What a request met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// An answer with this status.
    Answer(u16),
    /// The connection was cut before a byte of an answer came.
    Cut,
    /// Nothing, for as long as the caller waits.
    Silence,
    /// Bytes that are no answer.
    Odd,
}

/// How long a caller waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// One caller with one connection, which it makes anew when it is cut.
pub struct Caller {
    to: SocketAddr,
    patience: Duration,
    stream: Option<TcpStream>,
    /// Connections that were made.
    pub connections: u64,
}

impl Caller {
    pub fn new(to: SocketAddr) -> Self {
        Self::patient(to, PATIENCE)
    }

    /// One that waits `patience` for an answer.
    pub fn patient(to: SocketAddr, patience: Duration) -> Self {
        Self { to, patience, stream: None, connections: 0 }
    }

    /// The next request gets a connection of its own.
    pub fn hang_up(&mut self) {
        self.stream = None;
    }

    /// Sends the bytes of one request and waits for its answer.
    pub fn call(&mut self, request: &[u8]) -> Met {
        self.call_in(&[request])
    }

    /// The same, with a write for each part.
    pub fn call_in(&mut self, parts: &[&[u8]]) -> Met {
        let met = self.exchange(parts).unwrap_or_else(|error| match error.kind() {
            ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => Met::Cut,
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Met::Silence,
            _ => Met::Odd,
        });
        if !matches!(met, Met::Answer(_)) {
            self.stream = None;
        }
        met
    }

    fn exchange(&mut self, parts: &[&[u8]]) -> std::io::Result<Met> {
        if self.stream.is_none() {
            let stream = TcpStream::connect(self.to)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(self.patience))?;
            self.stream = Some(stream);
            self.connections += 1;
        }
        let stream = self.stream.as_mut().ok_or(ErrorKind::NotConnected)?;
        for part in parts {
            stream.write_all(part)?;
        }
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let n = stream.read(&mut piece)?;
            if n == 0 {
                return Ok(if answer.is_empty() { Met::Cut } else { Met::Odd });
            }
            answer.extend_from_slice(&piece[..n]);
            let text = String::from_utf8_lossy(&answer);
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("Content-Length: ")?.trim().parse::<usize>().ok());
                if body.len() >= length.unwrap_or(0) {
                    let status = head.get(9..12).and_then(|status| status.parse().ok());
                    return Ok(status.map_or(Met::Odd, Met::Answer));
                }
            }
        }
    }
}

/// Who calls, and how.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    pub callers: usize,
    /// Calls of all of them in a second; without it each calls again as soon as it is answered.
    pub rate: Option<f64>,
    pub time: Duration,
    /// Every request has a connection of its own.
    pub fresh: bool,
    /// How long a caller waits for an answer.
    pub patience: Duration,
}

impl Default for Offer {
    fn default() -> Self {
        Self { callers: 1, rate: None, time: Duration::from_secs(3), fresh: false, patience: PATIENCE }
    }
}

/// What a load met.
#[derive(Debug, Default)]
pub struct Load {
    pub answered: u64,
    /// Answered with 429.
    pub refused: u64,
    /// Connections that were made.
    pub connections: u64,
    pub cut: u64,
    pub silent: u64,
    pub odd: u64,
    /// From the first request to the last answer.
    pub seconds: f64,
    /// Of that, what lies for sure between the cap's decisions about the first request and about the last that was cut: from
    /// the first answer to that request.
    pub sure: f64,
    pub latencies: Latencies,
}

/// Of the requests that were answered.
#[derive(Default)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    /// The latency that this share of the requests did not exceed.
    pub fn at(&self, share: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort();
        let at = (share * sorted.len().saturating_sub(1) as f64).round() as usize;
        sorted.get(at).copied().unwrap_or_default()
    }
}

impl std::fmt::Debug for Latencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p50 {:?}, p99 {:?}", self.at(0.5), self.at(0.99))
    }
}

/// What one caller met.
#[derive(Default)]
struct Part {
    answered: u64,
    refused: u64,
    connections: u64,
    cut: u64,
    silent: u64,
    odd: u64,
    first_met: Option<Instant>,
    last_cut: Option<Instant>,
    latencies: Vec<Duration>,
}

/// Loads a server. The first call comes before the others: it lets the cap know that somebody is close to it.
pub fn load(to: SocketAddr, request: &[u8], offer: Offer) -> Load {
    let parts = Mutex::new(Vec::new());
    let start = Instant::now();
    let ahead = call(to, request, Offer { time: Duration::from_nanos(1), ..offer }, start, 0);
    parts.lock().unwrap().push(ahead);
    std::thread::scope(|scope| {
        for number in 0..offer.callers {
            let parts = &parts;
            scope.spawn(move || {
                let part = call(to, request, offer, start, number);
                parts.lock().unwrap().push(part);
            });
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    let parts = parts.into_inner().unwrap();
    let first_met = parts.iter().filter_map(|part| part.first_met).min();
    let last_cut = parts.iter().filter_map(|part| part.last_cut).max();
    let sure = first_met.zip(last_cut).map(|(first, last)| last.saturating_duration_since(first));
    let sum = |of: fn(&Part) -> u64| parts.iter().map(of).sum();
    Load {
        answered: sum(|part| part.answered),
        refused: sum(|part| part.refused),
        connections: sum(|part| part.connections),
        cut: sum(|part| part.cut),
        silent: sum(|part| part.silent),
        odd: sum(|part| part.odd),
        seconds,
        sure: sure.unwrap_or_default().as_secs_f64(),
        latencies: Latencies(parts.iter().flat_map(|part| &part.latencies).copied().collect()),
    }
}

fn call(to: SocketAddr, request: &[u8], offer: Offer, start: Instant, number: usize) -> Part {
    let mut caller = Caller::patient(to, offer.patience);
    let mut part = Part::default();
    let gap = offer.rate.map(|rate| Duration::from_secs_f64(offer.callers as f64 / rate));
    let mut due = gap.map(|gap| start + gap.mul_f64(number as f64 / offer.callers as f64));
    loop {
        if let (Some(at), Some(gap)) = (&mut due, gap) {
            // the cap's clock is what is measured here: requests come at their times
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            *at += gap;
        }
        if offer.fresh {
            caller.hang_up();
        }
        let sent = Instant::now();
        match caller.call(request) {
            Met::Answer(200) => {
                part.answered += 1;
                part.latencies.push(sent.elapsed());
            }
            Met::Answer(429) => {
                part.refused += 1;
                part.last_cut = Some(sent);
            }
            Met::Cut => {
                part.cut += 1;
                part.last_cut = Some(sent);
            }
            Met::Silence => part.silent += 1,
            _ => part.odd += 1,
        }
        part.first_met.get_or_insert_with(Instant::now);
        if start.elapsed() >= offer.time {
            part.connections = caller.connections;
            return part;
        }
    }
}
