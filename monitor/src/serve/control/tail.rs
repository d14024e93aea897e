//! `GET /v1/tail`: finished requests as JSON lines, for as long as the client reads them.
//!
//! The client never slows the daemon: what it does not fetch in time is skipped and counted in a line of its own.

use std::sync::Arc;
use std::time::Duration;

use hyper::Response;
use hyper::body::Bytes;
use serde::Serialize;
use tokio::sync::{mpsc, watch};

use super::Filter;
use crate::serve::http::{self, Body, Peer};
use crate::source::Source;
use crate::view::Skipped;

/// Time between two looks at the finished requests.
const PERIOD: Duration = Duration::from_millis(50);
/// Requests looked at under one lock.
pub(super) const BATCH: usize = 512;
/// Batches per look: with [`PERIOD`] and [`BATCH`] the most a client can follow is about 320,000 requests/s.
const BATCHES: usize = 32;
/// A client that takes nothing for so long is cut off.
pub(super) const STALL: Duration = Duration::from_secs(30);
/// Batches that may wait for the client.
pub(super) const WAITING: usize = 8;

pub fn start(
    source: Arc<dyn Source>,
    filter: Filter,
    peer: Peer,
    shutdown: watch::Receiver<bool>,
) -> Response<Body> {
    let (sender, response) = http::streamed("application/x-ndjson", WAITING);
    peer.stream();
    tokio::spawn(follow(source, filter, peer, sender, shutdown));
    response
}

/// Ends when the client goes (the channel closes), stalls, or the daemon stops.
async fn follow(
    source: Arc<dyn Source>,
    filter: Filter,
    peer: Peer,
    sender: mpsc::Sender<Bytes>,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut position = source.tail_end();
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = sender.closed() => return,
            _ = shutdown.wait_for(|down| *down) => return,
        }
        for _ in 0..BATCHES {
            let (from, source, filter) = (position, Arc::clone(&source), filter.clone());
            let Ok((next, lines)) = tokio::task::spawn_blocking(move || lines(&*source, &filter, from)).await
            else {
                return;
            };
            let more = next > position;
            position = next;
            if !lines.is_empty() {
                match tokio::time::timeout(STALL, sender.send(lines.into())).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return,
                    Err(_) => return peer.cut(),
                }
            }
            if !more {
                break;
            }
        }
    }
}

fn lines(source: &dyn Source, filter: &Filter, from: u64) -> (u64, Vec<u8>) {
    let tail = source.tail(from, BATCH);
    let mut lines = Vec::new();
    if tail.skipped > 0 {
        push_line(&mut lines, &Skipped { skipped: tail.skipped });
    }
    for record in tail.records.iter().filter(|record| filter.wants(record)) {
        push_line(&mut lines, record);
    }
    (tail.next, lines)
}

/// Adds a line of JSON.
pub(super) fn push_line(lines: &mut Vec<u8>, value: &impl Serialize) {
    if let Ok(line) = serde_json::to_vec(value) {
        lines.extend(line);
        lines.push(b'\n');
    }
}
