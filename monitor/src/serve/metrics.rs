//! The HTTP endpoint of the metrics.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};

use super::http::{self, Body, Limits, Peer};
use crate::metrics::render;
use crate::source::Source;

/// Bounds of the endpoint.
const LIMITS: Limits =
    Limits { connections: 32, answers: 4, head: Duration::from_secs(10), lifetime: Duration::from_mins(5) };
/// The text is made anew for whoever asks after so long.
const FRESH: Duration = Duration::from_secs(1);

/// The text that was made last, and when. Whoever asks while it is made waits for it.
type Last = Arc<Mutex<Option<(Instant, Bytes)>>>;

/// Binds the endpoint.
///
/// # Errors
/// What is wrong with the address, and what to do.
pub async fn bind(listen: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(listen).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "metrics cannot listen on {listen}, the port is in use: stop the other program or choose another \
             `[metrics] listen`"
        ),
        _ => anyhow::anyhow!("metrics cannot listen on {listen}: {error}; correct `[metrics] listen`"),
    })
}

/// Serves until `shutdown` becomes true.
pub async fn serve(listener: TcpListener, source: Arc<dyn Source>, shutdown: watch::Receiver<bool>) {
    let last = Last::default();
    http::serve(listener, LIMITS, shutdown, move |peer, request| {
        handle(Arc::clone(&source), Arc::clone(&last), peer, request)
    })
    .await;
}

async fn handle(
    source: Arc<dyn Source>,
    last: Last,
    peer: Peer,
    request: Request<Incoming>,
) -> Response<Body> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = http::text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match request.uri().path() {
        "/metrics" => match scrape(source, &last, &peer).await {
            Ok(text) => http::answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text),
            Err(error) => {
                tracing::error!("{error:#}");
                http::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n"))
            }
        },
        "/healthz" => http::text(StatusCode::OK, "ok\n"),
        "/readyz" => match peer.work(move || source.missing()).await {
            Some(missing) if missing.is_empty() => http::text(StatusCode::OK, "ready\n"),
            Some(missing) => http::text(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("not ready: {}\n", missing.join("\nnot ready: ")),
            ),
            None => http::text(StatusCode::INTERNAL_SERVER_ERROR, "cannot tell\n"),
        },
        "/" => http::answer(StatusCode::OK, "text/html; charset=utf-8", PAGE),
        _ => http::text(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n"),
    }
}

async fn scrape(source: Arc<dyn Source>, last: &Last, peer: &Peer) -> anyhow::Result<Bytes> {
    let mut last = last.lock().await;
    if let Some((made, text)) = &*last
        && made.elapsed() < FRESH
    {
        return Ok(text.clone());
    }
    let text = Bytes::from(peer.work(move || render(&source.metrics())).await.context("scrape")??);
    *last = Some((Instant::now(), text.clone()));
    Ok(text)
}

const PAGE: &str = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Weir</title></head><body>\
<h1>Weir</h1><p>Who calls which API on this host, and how fast.</p><ul>\
<li><a href=\"/metrics\">/metrics</a>: Prometheus</li>\
<li><a href=\"/healthz\">/healthz</a>: the daemon runs</li>\
<li><a href=\"/readyz\">/readyz</a>: everything is attached and records are read</li></ul></body></html>\n";
