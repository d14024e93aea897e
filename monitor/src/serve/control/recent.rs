//! `GET /v1/recent`: the finished requests that are kept for replays, as JSON lines behind one that says what they cover.

use std::sync::Arc;
use std::time::Duration;

use hyper::Response;
use hyper::body::Bytes;
use tokio::sync::{mpsc, watch};

use super::tail::{BATCH, STALL, WAITING, push_line};
use crate::config::Interval;
use crate::core::Span;
use crate::serve::http::{self, Body, Peer};
use crate::source::Source;
use crate::view::Skipped;

/// How far back a query string asks; as far as possible when it does not say.
///
/// # Errors
/// What is wrong with it.
pub fn since(query: &str) -> Result<Duration, String> {
    let mut since = Duration::MAX;
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            "since" => since = value.parse::<Interval>()?.0,
            _ => return Err(format!("unknown parameter {key:?}; there is `since`")),
        }
    }
    Ok(since)
}

/// Sends a span.
pub fn start(
    source: Arc<dyn Source>,
    span: Span,
    peer: Peer,
    shutdown: watch::Receiver<bool>,
) -> Response<Body> {
    let (sender, response) = http::streamed("application/x-ndjson", WAITING);
    peer.stream();
    tokio::spawn(send(source, span, peer, sender, shutdown));
    response
}

/// Ends when all is sent, when the client goes (the channel closes) or stalls, or the daemon stops.
async fn send(
    source: Arc<dyn Source>,
    span: Span,
    peer: Peer,
    sender: mpsc::Sender<Bytes>,
    shutdown: watch::Receiver<bool>,
) {
    let span = Arc::new(span);
    let mut first = Vec::new();
    push_line(&mut first, &span.covered);
    let (mut position, mut next) = (span.first, first);
    loop {
        if !next.is_empty() {
            match tokio::time::timeout(STALL, sender.send(next.into())).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_) => return peer.cut(),
            }
        }
        if position >= span.end || *shutdown.borrow() {
            return;
        }
        let (source, asked) = (Arc::clone(&source), Arc::clone(&span));
        let Ok((after, lines)) = tokio::task::spawn_blocking(move || lines(&*source, &asked, position)).await
        else {
            return;
        };
        if after <= position {
            return;
        }
        (position, next) = (after, lines);
    }
}

fn lines(source: &dyn Source, span: &Span, from: u64) -> (u64, Vec<u8>) {
    let recent = source.remembered(span, from, BATCH);
    let mut lines = Vec::new();
    if recent.skipped > 0 {
        push_line(&mut lines, &Skipped { skipped: recent.skipped });
    }
    for record in &recent.records {
        push_line(&mut lines, record);
    }
    (recent.next, lines)
}
