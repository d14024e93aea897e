//! The control socket: HTTP/1.1 and JSON over a Unix socket, for the CLI and for scripts.
//!
//! Owns the socket file and who may use it. Reads are for root and the configured group, by the mode of the file;
//! changes are for root, by the peer's credentials. Must not touch the core except through [`Source`].

mod api;
mod filter;
mod recent;
mod socket;
mod tail;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

pub use api::{HashRequest, NameRequest};
pub use filter::Filter;
pub use socket::{ControlSocket, InUse};

use crate::serve::http::{self, Limits};
use crate::source::Source;

/// Bounds of the control socket.
const LIMITS: Limits =
    Limits { connections: 64, answers: 8, head: Duration::from_secs(10), lifetime: Duration::from_mins(1) };

/// Serves until `shutdown` becomes true; the socket file is removed at the end.
pub async fn serve(socket: ControlSocket, source: Arc<dyn Source>, shutdown: watch::Receiver<bool>) {
    let (listener, _file) = socket.into_parts();
    let stop = shutdown.clone();
    http::serve(listener, LIMITS, shutdown, move |peer, request| {
        api::handle(Arc::clone(&source), stop.clone(), peer, request)
    })
    .await;
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
