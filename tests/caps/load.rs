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
}

impl Caller {
    pub fn new(to: SocketAddr) -> Self {
        Self::patient(to, PATIENCE)
    }

    /// One that waits `patience` for an answer.
    pub fn patient(to: SocketAddr, patience: Duration) -> Self {
        Self { to, patience, stream: None }
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
                    .find_map(|line| line.strip_prefix("Content-Length: ")?.parse::<usize>().ok());
                if body.len() >= length.unwrap_or(0) {
                    let status = head.get(9..12).and_then(|status| status.parse().ok());
                    return Ok(status.map_or(Met::Odd, Met::Answer));
                }
            }
        }
    }
}

/// What a load met.
#[derive(Debug, Default)]
pub struct Load {
    pub answered: u64,
    pub cut: u64,
    pub silent: u64,
    pub odd: u64,
    /// From the first request to the last answer.
    pub seconds: f64,
}

/// `callers` that call as fast as they are answered, or together `rate` times a second, for `time`.
pub fn load(to: SocketAddr, request: &[u8], callers: usize, rate: Option<f64>, time: Duration) -> Load {
    patient_load(to, request, callers, rate, time, PATIENCE)
}

/// The same with callers that wait `patience` for an answer.
pub fn patient_load(
    to: SocketAddr,
    request: &[u8],
    callers: usize,
    rate: Option<f64>,
    time: Duration,
    patience: Duration,
) -> Load {
    let sum = Mutex::new(Load::default());
    let start = Instant::now();
    std::thread::scope(|scope| {
        for number in 0..callers {
            let sum = &sum;
            scope.spawn(move || {
                let mut caller = Caller::patient(to, patience);
                let (mut answered, mut cut, mut silent, mut odd) = (0, 0, 0, 0);
                let gap = rate.map(|rate| Duration::from_secs_f64(callers as f64 / rate));
                let mut due = gap.map(|gap| start + gap.mul_f64(number as f64 / callers as f64));
                while start.elapsed() < time {
                    if let (Some(at), Some(gap)) = (&mut due, gap) {
                        // the cap's clock is what is measured here: requests come at their times
                        std::thread::sleep(at.saturating_duration_since(Instant::now()));
                        *at += gap;
                    }
                    match caller.call(request) {
                        Met::Answer(200) => answered += 1,
                        Met::Cut => cut += 1,
                        Met::Silence => silent += 1,
                        _ => odd += 1,
                    }
                }
                let mut sum = sum.lock().unwrap();
                sum.answered += answered;
                sum.cut += cut;
                sum.silent += silent;
                sum.odd += odd;
            });
        }
    });
    let mut sum = sum.into_inner().unwrap();
    sum.seconds = start.elapsed().as_secs_f64();
    sum
}
