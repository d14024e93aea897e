//! The client: many connections at a time, each from an address of its own, in one thread.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::grammar::{End, Payload, Split};

/// Connections at a time.
const AT_ONCE: usize = 128;
/// Pause between two writes, so that they arrive one by one.
const PAUSE: Duration = Duration::from_millis(1);
/// How long nothing comes before the client takes it that nothing more will. It decides only when the client closes its
/// side: after that the server's own end is waited for.
const QUIET: Duration = Duration::from_millis(400);
/// How long the server may take to end.
const PATIENCE: Duration = Duration::from_secs(3);
/// What every handler answers.
const HANDLED: &[u8] = b"handled\n";

/// What came back on a connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Back {
    /// Answers of the handler.
    pub answers: u64,
    /// Responses that refuse: status 400 and more.
    pub refusals: u64,
    /// The server ended the connection; otherwise it was given up.
    pub ended: bool,
    /// How long all of it took.
    pub seconds: f64,
}

impl Back {
    fn responses(&self) -> u64 {
        self.answers + self.refusals
    }
}

/// Sends each payload from its address and waits until the server has ended the connection.
///
/// None of them has the port `avoid` at its own end.
pub fn send_all(
    server: SocketAddr,
    avoid: u16,
    target: &str,
    payloads: &[(Ipv4Addr, &Payload)],
) -> Vec<Back> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut backs = vec![Back::default(); payloads.len()];
        let mut running = tokio::task::JoinSet::new();
        for (at, (address, payload)) in payloads.iter().enumerate() {
            if running.len() >= AT_ONCE {
                let (at, back) = running.join_next().await.unwrap().unwrap();
                backs[at] = back;
            }
            let (address, writes) = (*address, payload.writes(target));
            let (wait, end) = (payload.split == Split::Answered, payload.end);
            let socket = bound(address, avoid);
            running.spawn(async move {
                let stream = socket.connect(server).await.unwrap();
                (at, send(stream, writes, wait, end).await)
            });
        }
        while let Some(done) = running.join_next().await {
            let (at, back) = done.unwrap();
            backs[at] = back;
        }
        backs
    })
}

/// A socket at `address`, with any port but `avoid`.
fn bound(address: Ipv4Addr, avoid: u16) -> TcpSocket {
    // Closed only after the other one has its port.
    let mut refused = None;
    loop {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((address, 0).into()).unwrap();
        socket.set_nodelay(true).unwrap();
        if socket.local_addr().unwrap().port() != avoid {
            drop(refused);
            return socket;
        }
        refused = Some(socket);
    }
}

async fn send(mut stream: TcpStream, writes: Vec<Vec<u8>>, mut wait: bool, end: End) -> Back {
    let begin = Instant::now();
    let mut got = Vec::new();
    let mut open = true;
    let last = writes.len().saturating_sub(1);
    for (at, bytes) in writes.iter().enumerate() {
        // A server may have closed, or may not read on: what it has taken by then is what counts.
        if !matches!(timeout(PATIENCE, stream.write_all(bytes)).await, Ok(Ok(()))) {
            break;
        }
        if wait {
            open = listen(&mut stream, &mut got, at as u64 + 1).await;
            // What was waited for in vain once is not waited for again.
            wait = read(&got).responses() > at as u64;
        } else if at < last {
            tokio::time::sleep(PAUSE).await;
        }
    }
    if open && end == End::Quiet {
        open = listen(&mut stream, &mut got, u64::MAX).await;
    }
    let mut ended = !open;
    if open {
        let _ = stream.shutdown().await;
        let rest = async { while take(&mut stream, &mut got).await {} };
        ended = timeout(PATIENCE, rest).await.is_ok();
    }
    Back { ended, seconds: begin.elapsed().as_secs_f64(), ..read(&got) }
}

/// Reads until `answers` responses are there, until the server has ended (`false`), or until nothing comes for a while.
async fn listen(stream: &mut TcpStream, got: &mut Vec<u8>, answers: u64) -> bool {
    loop {
        if read(got).responses() >= answers {
            return true;
        }
        match timeout(QUIET, take(stream, got)).await {
            Ok(true) => {}
            Ok(false) => return false,
            Err(_) => return true,
        }
    }
}

/// Reads once; `false` at the end.
async fn take(stream: &mut TcpStream, got: &mut Vec<u8>) -> bool {
    matches!(stream.read_buf(got).await, Ok(count) if count > 0)
}

fn read(got: &[u8]) -> Back {
    let count = |len, test: &dyn Fn(&[u8]) -> bool| got.windows(len).filter(|part| test(part)).count() as u64;
    let status = |part: &[u8], classes: &[u8]| {
        part.starts_with(b"HTTP/1.") && part[8] == b' ' && classes.contains(&part[9])
    };
    // An answer to HTTP/0.9 has no head, one to HEAD no body.
    let answers = count(HANDLED.len(), &|part| part == HANDLED).max(count(10, &|part| status(part, b"2")));
    Back { answers, refusals: count(10, &|part| status(part, b"45")), ..Back::default() }
}
