//! A client of the control socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

use super::{SocketArgs, Usage};

/// Time for the daemon to answer a question.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time for it to do something: the first cap that denies loads programs, which takes a slow machine a minute.
const PATIENCE_TO_ACT: Duration = Duration::from_mins(5);
/// Most bytes of an answer: 100,000 identities with long names fit.
const ANSWER_BYTES: usize = 256 << 20;

/// Asks one daemon; one connection per question.
pub struct Client {
    socket: PathBuf,
    runtime: Runtime,
}

impl Client {
    /// A client of the daemon that `args` name. Does not connect yet.
    ///
    /// # Errors
    /// When the host has no file descriptor left.
    pub fn new(args: &SocketArgs) -> anyhow::Result<Self> {
        let socket = args.socket.clone().unwrap_or_else(crate::config::control_socket);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { socket, runtime })
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// What is at `path`.
    ///
    /// # Errors
    /// When the daemon cannot be asked or refuses, with what to do.
    pub fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<T> {
        let path = with_query(path, query);
        let body = self.runtime.block_on(self.exchange(Method::GET, &path, Bytes::new(), PATIENCE))?;
        serde_json::from_slice(&body)
            .with_context(|| format!("the daemon's answer to {path} is not understood"))
    }

    /// Has the daemon do something.
    ///
    /// # Errors
    /// When the daemon cannot be asked or refuses, with what to do.
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> anyhow::Result<T> {
        let body = serde_json::to_vec(body)?;
        let body = self.runtime.block_on(self.exchange(Method::POST, path, body.into(), PATIENCE_TO_ACT))?;
        serde_json::from_slice(&body)
            .with_context(|| format!("the daemon's answer to {path} is not understood"))
    }

    /// Hands each line of an endless answer to `each` until it ends or `each` fails.
    ///
    /// # Errors
    /// When the daemon cannot be asked or refuses, or what `each` says.
    pub fn follow(
        &self,
        path: &str,
        query: &[(&str, &str)],
        mut each: impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.runtime.block_on(async {
            let mut response = self.send(Method::GET, &with_query(path, query), Bytes::new()).await?;
            if response.status() != StatusCode::OK {
                return Err(refusal(response).await);
            }
            let mut rest = Vec::new();
            while let Some(frame) = response.body_mut().frame().await {
                let Ok(data) = frame.context("the daemon went away")?.into_data() else { continue };
                rest.extend_from_slice(&data);
                let end = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                for line in rest.drain(..end).collect::<Vec<_>>().split(|byte| *byte == b'\n') {
                    if !line.is_empty() {
                        each(line)?;
                    }
                }
            }
            Ok(())
        })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        patience: Duration,
    ) -> anyhow::Result<Bytes> {
        let exchange = async {
            let response = self.send(method, path, body).await?;
            if response.status() != StatusCode::OK {
                return Err(refusal(response).await);
            }
            let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
            Ok(body.map_err(|error| anyhow::anyhow!("the daemon's answer broke off: {error}"))?.to_bytes())
        };
        tokio::time::timeout(patience, exchange)
            .await
            .with_context(|| format!("the daemon at {} does not answer", self.socket.display()))?
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Response<Incoming>> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // lives as long as the answer is read; the runtime ends it with the command
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "weir")
            .header("content-type", "application/json")
            .body(Full::new(body))?;
        sender.send_request(request).await.context("the daemon does not answer")
    }

    fn unreachable(&self, error: &std::io::Error) -> anyhow::Error {
        use std::io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied};
        let socket = self.socket.display();
        match error.kind() {
            NotFound => anyhow::anyhow!(
                "weir is not running: there is no socket at {socket}; start it with `systemctl start weir` or \
                 `weir run`, or name its socket with --socket"
            ),
            ConnectionRefused => anyhow::anyhow!(
                "weir is not running: nobody answers at {socket}; start it with `systemctl start weir` or `weir run`"
            ),
            PermissionDenied => {
                anyhow::anyhow!(
                    "no permission for {socket}: use sudo, or become a member of the group `weir`"
                )
            }
            _ => anyhow::anyhow!("{socket}: {error}"),
        }
    }
}

async fn refusal(response: Response<Incoming>) -> anyhow::Error {
    let status = response.status();
    let body =
        Limited::new(response.into_body(), 16 << 10).collect().await.map(http_body_util::Collected::to_bytes);
    let why = crate::output::escape(String::from_utf8_lossy(&body.unwrap_or_default()).trim());
    if status == StatusCode::BAD_REQUEST {
        return Usage(why).into();
    }
    if why.is_empty() { anyhow::anyhow!("the daemon refuses: {status}") } else { anyhow::anyhow!(why) }
}

fn with_query(path: &str, query: &[(&str, &str)]) -> String {
    if query.is_empty() {
        return path.to_owned();
    }
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    format!("{path}?{query}")
}

/// Reads standard input to its end, at most `most` bytes.
///
/// # Errors
/// When it cannot be read or is longer.
pub fn stdin(most: usize) -> anyhow::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(most as u64 + 1).read_to_end(&mut bytes).context("standard input")?;
    if bytes.len() > most {
        bail!("standard input has more than {most} bytes");
    }
    Ok(bytes)
}
