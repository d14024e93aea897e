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

/// Body of every answer.
pub type Body = BoxBody<Bytes, Infallible>;

/// Bounds of a server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time; more wait in the listen queue.
    pub connections: usize,
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
    life: Arc<Life>,
}

#[derive(Debug, Default)]
struct Life {
    streaming: AtomicBool,
    stop: Notify,
}

impl Peer {
    /// Exempts the connection from its lifetime: the handler takes care of the end.
    pub fn stream(&self) {
        self.life.streaming.store(true, Ordering::Relaxed);
    }

    /// Cuts the connection, whatever state it is in.
    pub fn cut(&self) {
        self.life.stop.notify_one();
    }
}

/// Something that accepts connections.
pub trait Listen: Send + 'static {
    /// The connection.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// The next connection and who is at the other end.
    fn next(&self) -> impl Future<Output = io::Result<(Self::Io, Option<Credentials>)>> + Send;
}

impl Listen for TcpListener {
    type Io = tokio::net::TcpStream;
    async fn next(&self) -> io::Result<(Self::Io, Option<Credentials>)> {
        self.accept().await.map(|(stream, _)| (stream, None))
    }
}

impl Listen for UnixListener {
    type Io = tokio::net::UnixStream;
    async fn next(&self) -> io::Result<(Self::Io, Option<Credentials>)> {
        let (stream, _) = self.accept().await?;
        let found = stream.peer_cred()?;
        Ok((stream, Some(Credentials { uid: found.uid(), pid: found.pid() })))
    }
}

/// Serves until `shutdown` becomes true, then gives running requests `Limits::head` to end.
pub async fn serve<L, H, F>(listener: L, limits: Limits, mut shutdown: watch::Receiver<bool>, handler: H)
where
    L: Listen,
    H: Fn(Peer, Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(limits.connections));
    let mut running = JoinSet::new();
    loop {
        while running.try_join_next().is_some() {}
        let accepted = async {
            // a slot first: without one the connection stays in the listen queue
            let slot = Arc::clone(&slots).acquire_owned().await.ok()?;
            Some((slot, listener.next().await))
        };
        let (slot, accepted) = tokio::select! {
            _ = shutdown.wait_for(|down| *down) => break,
            Some(accepted) = accepted => accepted,
            else => break,
        };
        match accepted {
            Ok((io, credentials)) => {
                let peer = Peer { credentials, life: Arc::default() };
                let (handler, shutdown) = (handler.clone(), shutdown.clone());
                running.spawn(async move {
                    connection(io, peer, limits, shutdown, handler).await;
                    drop(slot);
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
    let life = Arc::clone(&peer.life);
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
                if !life.streaming.load(Ordering::Relaxed) {
                    return;
                }
            }
            () = life.stop.notified() => return,
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
