//! The small HTTP/1.1 server that the control socket and the metrics endpoint share: bounded connections, bounded heads,
//! time limits. Knows nothing about what is served.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited, combinators::BoxBody};
use hyper::body::{Body as HttpBody, Bytes, Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::owner;
use super::slots::{Holder, Slots};

/// Body of every answer.
pub type Body = BoxBody<Bytes, Infallible>;

/// Bounds of a server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time: for one more, whoever holds most gives up the oldest ([`Slots`]).
    pub connections: usize,
    /// Answers that are being made at a time, whose connections may be gone by now; more wait.
    pub answers: usize,
    /// Time for a request head to arrive, which also bounds idle keep-alive.
    pub head: Duration,
    /// Time a connection may last, unless it streams.
    pub lifetime: Duration,
}

/// User, group and process at the other end of a Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Effective user.
    pub uid: u32,
    /// Process, when the kernel tells.
    pub pid: Option<i32>,
}

/// What a handler knows about its connection.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// Credentials, Unix sockets only.
    pub credentials: Option<Credentials>,
    streaming: Arc<AtomicBool>,
    stop: Arc<Notify>,
    turns: Option<Arc<Semaphore>>,
}

impl Peer {
    /// Exempts the connection from its lifetime: the handler takes care of the end.
    pub fn stream(&self) {
        self.streaming.store(true, Ordering::Relaxed);
    }

    /// Cuts the connection, whatever state it is in.
    pub fn cut(&self) {
        self.stop.notify_one();
    }

    /// Runs what may take milliseconds off the async workers, once it is its turn. `None` when it panics.
    pub async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let turn = match &self.turns {
            Some(turns) => Some(Arc::clone(turns).acquire_owned().await.ok()?),
            None => None,
        };
        let work = move || {
            let done = work();
            drop(turn); // not when the connection goes
            done
        };
        tokio::task::spawn_blocking(work).await.ok()
    }
}

/// A connection that was accepted.
pub struct Accepted<T> {
    /// The connection.
    pub io: T,
    /// Who is at the other end, Unix sockets only.
    pub credentials: Option<Credentials>,
    /// Whose it is.
    pub holder: Holder,
}

/// Something that accepts connections.
pub trait Listen: Send + 'static {
    /// The connection.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// The next connection.
    fn next(&self) -> impl Future<Output = io::Result<Accepted<Self::Io>>> + Send;
}

impl Listen for TcpListener {
    type Io = tokio::net::TcpStream;
    async fn next(&self) -> io::Result<Accepted<Self::Io>> {
        let (io, peer) = self.accept().await?;
        let user = io.local_addr().ok().and_then(|local| owner::of(local, peer));
        let holder = user.map_or_else(|| Holder::of(peer.ip()), Holder::User);
        Ok(Accepted { io, credentials: None, holder })
    }
}

impl Listen for UnixListener {
    type Io = tokio::net::UnixStream;
    async fn next(&self) -> io::Result<Accepted<Self::Io>> {
        let (io, _) = self.accept().await?;
        let found = io.peer_cred()?;
        let credentials = Some(Credentials { uid: found.uid(), pid: found.pid() });
        Ok(Accepted { io, credentials, holder: Holder::User(found.uid()) })
    }
}

/// Serves until `shutdown` becomes true, then gives running requests `Limits::head` to end.
pub async fn serve<L, H, F>(listener: L, limits: Limits, mut shutdown: watch::Receiver<bool>, handler: H)
where
    L: Listen,
    H: Fn(Peer, Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let mut slots = Slots::new(limits.connections);
    let turns = Arc::new(Semaphore::new(limits.answers));
    let mut running = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            _ = shutdown.wait_for(|down| *down) => break,
            Some(ended) = running.join_next() => {
                if let Ok(number) = ended {
                    slots.give_back(number);
                }
                continue;
            }
            accepted = listener.next() => accepted,
        };
        match accepted {
            Ok(Accepted { io, credentials, holder }) => {
                let peer = Peer { credentials, turns: Some(Arc::clone(&turns)), ..Peer::default() };
                let number = slots.take(holder, Arc::clone(&peer.stop));
                let (handler, shutdown) = (handler.clone(), shutdown.clone());
                running.spawn(async move {
                    connection(io, peer, limits, shutdown, handler).await;
                    number
                });
            }
            Err(error) => {
                tracing::debug!(%error, "accept failed");
                // out of file descriptors, for instance: do not spin
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    let drained = async { while running.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(limits.head.min(Duration::from_secs(1)), drained).await;
}

async fn connection<I, H, F>(
    io: I,
    peer: Peer,
    limits: Limits,
    mut shutdown: watch::Receiver<bool>,
    handler: H,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Peer, Request<Incoming>) -> F,
    F: Future<Output = Response<Body>>,
{
    let (streaming, stop) = (Arc::clone(&peer.streaming), Arc::clone(&peer.stop));
    let service = service_fn(move |request| {
        let answer = handler(peer.clone(), request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(16 << 10).max_headers(32);
    let mut served = std::pin::pin!(http.serve_connection(TokioIo::new(io), service));
    let mut lifetime = std::pin::pin!(tokio::time::sleep(limits.lifetime));
    let mut closing = false;
    let mut expired = false;
    loop {
        tokio::select! {
            ended = served.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "connection ended early");
                }
                return;
            }
            _ = shutdown.wait_for(|down| *down), if !closing => {
                closing = true;
                served.as_mut().graceful_shutdown();
            }
            () = lifetime.as_mut(), if !expired => {
                expired = true;
                if !streaming.load(Ordering::Relaxed) {
                    return;
                }
            }
            () = stop.notified() => return,
        }
    }
}

/// An answer that is complete in memory.
pub fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A plain-text answer.
pub fn text(status: StatusCode, body: impl Into<String>) -> Response<Body> {
    answer(status, "text/plain; charset=utf-8", body.into())
}

/// An answer whose parts are sent as they come through the channel; at most `parts` of them wait.
pub fn streamed(content_type: &'static str, parts: usize) -> (mpsc::Sender<Bytes>, Response<Body>) {
    let (sender, receiver) = mpsc::channel(parts);
    let mut response = Response::new(Parts(receiver).boxed());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    (sender, response)
}

/// The body of a request, `None` when it is longer than `most` bytes or does not arrive.
pub async fn body(request: Request<Incoming>, most: usize) -> Option<Bytes> {
    Limited::new(request.into_body(), most).collect().await.ok().map(http_body_util::Collected::to_bytes)
}

struct Parts(mpsc::Receiver<Bytes>);

impl HttpBody for Parts {
    type Data = Bytes;
    type Error = Infallible;
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|part| part.map(|part| Ok(Frame::data(part))))
    }
}
