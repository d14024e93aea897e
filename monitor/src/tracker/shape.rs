//! What requests on a connection have in common. Most requests of a connection differ only in number, time and size;
//! everything else about them is one shared, immutable [`Shape`], so that the steady state clones a pointer.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

use monitor_common::cap::ServerKey;
use monitor_common::event::CREDS;

use crate::address::Peer;
use crate::identity::{Carrier, Id, Kind, Label};
use crate::route::{Method, RouteRef};
use crate::view::Direction;
use crate::workload::ProcRef;

/// What a header block means.
#[derive(Debug, Default)]
pub struct Context {
    /// The block was seen in full.
    pub known: bool,
    /// `Host`, escaped.
    pub host: Box<str>,
    /// `User-Agent`, escaped.
    pub user_agent: Box<str>,
    /// Client as trusted proxies reported it.
    pub client: Option<IpAddr>,
    /// Fingerprint and kind of the `Authorization` values.
    pub authorizations: Vec<(u64, Kind)>,
    /// Configured cookies.
    pub cookies: Vec<(Carrier, u64)>,
}

/// What a request is, apart from its number, time and size.
#[derive(Debug)]
pub struct Shape {
    /// Direction.
    pub direction: Direction,
    /// Who is charged.
    pub id: Id,
    /// Name of a named identity.
    pub label: Option<Arc<Label>>,
    /// What carried the credential.
    pub carrier: Carrier,
    /// Its fingerprint, 0 without one.
    pub fingerprint: u64,
    /// Other credentials, with their names.
    pub also: Vec<(Id, Option<Arc<Label>>)>,
    /// Method as a label.
    pub method: Method,
    /// Method as sent, escaped and bounded.
    pub method_text: Cow<'static, str>,
    /// Path without query, escaped and bounded.
    pub path: Box<str>,
    /// Host of an absolute-form target, which comes before the header.
    pub authority: Option<Box<str>>,
    /// Meaning of the header block.
    pub context: Arc<Context>,
    /// Route.
    pub route: RouteRef,
    /// Client or destination.
    pub peer: Peer,
    /// Process id.
    pub pid: u32,
    /// Process.
    pub process: Option<ProcRef>,
    /// Workload.
    pub workload: Arc<str>,
    /// One of `event::transport`.
    pub transport: u8,
    /// HTTP/1.0.
    pub v10: bool,
    /// The credential has got a name since: requests to come need a new shape.
    pub superseded: AtomicBool,
    /// Where the identity's row was last (`identity::Table::charge`).
    pub row: AtomicU64,
    /// Where the kernel key's count was last.
    pub kernel: AtomicU32,
    /// Where the history keeps it: generation and slot.
    pub kept: AtomicU64,
    /// Fingerprint and kind of each credential that the kernel side found, kind 0 for none.
    pub presented: [(u64, u8); CREDS],
    /// Local end of the connection.
    pub end: ServerKey,
    /// The kernel's key of the network that the other end of the connection is in, 0 when it is not known.
    pub network: u64,
    /// What the server last said about it: 0 nothing, 1 rejected, 2 accepted; above that `Verdicts::generation`.
    pub server_said: AtomicU32,
}

impl Shape {
    /// Host as named by the request.
    pub fn host(&self) -> &str {
        self.authority.as_deref().unwrap_or(&self.context.host)
    }
}
