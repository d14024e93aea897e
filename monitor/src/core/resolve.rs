//! From a request record to its [`Shape`]: who is charged, on which route, for which process. Only run when something
//! about a request differs from the one before it on the same connection.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

use ipnet::IpNet;
use monitor_common::event::{CREDS, Request, request_flag};

use crate::address::Peer;
use crate::identity::{Carrier, Claims, Id, Kind, Label, Names, Prints};
use crate::parser::authorization;
use crate::parser::escape::escape;
use crate::parser::forwarded;
use crate::parser::head::{self, Head, Target};
use crate::route::{self, Asked, Method, Path, Routes};
use crate::tracker::{Budget, Connection, Context, Shape};
use crate::view::Direction;
use crate::workload::Processes;

/// Longest host, user agent, path and method that are kept.
const HOST_CHARS: usize = 128;
const AGENT_CHARS: usize = 256;
const PATH_CHARS: usize = 512;
const METHOD_CHARS: usize = 24;
/// Most credentials of one request.
const CREDENTIALS: usize = 12;

/// A credential of a request: what carried it, who it is, what that one is called.
struct Credential {
    carrier: Carrier,
    fingerprint: u64,
    id: Id,
    label: Option<Arc<Label>>,
}

/// What is needed to resolve a request.
pub(super) struct Resolver<'a> {
    pub prints: &'a Prints,
    pub names: &'a Names,
    pub trusted: &'a [IpNet],
    pub claims: &'a mut Claims,
    pub routes: &'a mut Routes,
    pub processes: &'a Processes,
    pub budget: &'a mut Budget,
    pub no_context: &'a Arc<Context>,
    pub headless: &'a mut u64,
}

impl Resolver<'_> {
    /// The shape of a request, and the connection's new context if the record brings a header block.
    pub fn shape(
        &mut self,
        connection: &mut Connection,
        record: &Request,
        bytes: &[u8],
        direction: Direction,
    ) -> Shape {
        if record.flags & request_flag::UNFRAMED != 0 {
            // it has no head
            return self.assemble(connection, record, direction, Arc::clone(self.no_context), b"", None);
        }
        let same = record.flags & request_flag::SAME_HEADERS != 0;
        let mut parts = connection.parts.take();
        if let Some(parts) = parts.as_mut() {
            parts.add(record.seq, record.from, bytes, self.budget);
        }
        // a head whose beginning is missing yields nothing; one whose end is missing yields what is there
        let (bytes, whole) = match parts.as_deref() {
            Some(parts) if record.flags & request_flag::PARTS != 0 => parts.head(record.seq),
            _ if record.from == 0 => (bytes, true),
            _ => (&[][..], false),
        };
        let whole = whole && record.flags & request_flag::CUT == 0;
        if bytes.is_empty() {
            *self.headless += 1;
        }
        let head;
        let line = if same {
            let follows = record.seq == connection.next;
            connection.context = connection.context.take().filter(|_| follows);
            head::request_line(head::first_line(bytes).0)
        } else {
            head = head::head(bytes);
            connection.context = Some(Arc::new(self.context(&head, whole)));
            head.line
        };
        let context = connection.context.as_ref().unwrap_or(self.no_context);
        let context = Arc::clone(context);
        let target = line.map(|line| head::target(line.method, line.target));
        let method_bytes = line.map_or(&[][..], |line| line.method);
        let mut shape = self.assemble(connection, record, direction, context, method_bytes, target);
        if let Some(parts) = parts.as_mut() {
            parts.clear(self.budget);
        }
        shape.v10 = record.flags & request_flag::V10 != 0;
        shape
    }

    fn context(&mut self, head: &Head<'_>, whole: bool) -> Context {
        let mut authorizations = Vec::new();
        for value in &head.authorization {
            let Some(print) = self.prints.authorization(value) else { continue };
            let kind = Kind::from(authorization::scheme(value));
            authorizations.push((print, kind));
            if kind.claims() {
                self.claims.learn(print, value, self.prints);
            }
        }
        let mut cookies = Vec::new();
        for line in &head.cookies {
            self.prints.cookies(line, &mut |carrier, print| {
                if cookies.len() < CREDENTIALS {
                    cookies.push((carrier, print));
                }
            });
        }
        let client = if self.trusted.is_empty() {
            None
        } else {
            forwarded::client(&head.forwarded_for, &head.forwarded, self.trusted)
        };
        Context {
            known: whole,
            host: escape(head.host.unwrap_or_default(), HOST_CHARS).into(),
            user_agent: escape(head.user_agent.unwrap_or_default(), AGENT_CHARS).into(),
            client,
            authorizations,
            cookies,
        }
    }

    fn assemble(
        &mut self,
        connection: &Connection,
        record: &Request,
        direction: Direction,
        context: Arc<Context>,
        method_bytes: &[u8],
        target: Option<Target<'_>>,
    ) -> Shape {
        let process = connection.process.and_then(|process| self.processes.get(process));
        let workload = Arc::clone(process.map_or(self.processes.unknown(), |process| &process.workload));
        let method =
            if target.is_some() { Method::new(method_bytes) } else { Method::from_number(record.method) };
        let target_or_none = target.unwrap_or_default();
        let authority = (!target_or_none.authority.is_empty())
            .then(|| escape(target_or_none.authority, HOST_CHARS).into_boxed_str());
        let host = authority.as_deref().unwrap_or(&context.host);
        let path = match target {
            // CONNECT has no path: its route is the method
            Some(_) if method.label() == "CONNECT" => Path::Seen(b"*"),
            Some(target) => Path::Seen(target.path),
            None if record.flags & request_flag::UNFRAMED != 0 => Path::No(route::UNFRAMED),
            None => Path::No(route::UNKNOWN),
        };
        let route = self.routes.find(&Asked {
            direction,
            method,
            host: if direction == Direction::Outbound { host.as_bytes() } else { b"" },
            path,
        });
        let mut credentials = self.credentials(record, &context, direction, target_or_none.query).into_iter();
        let (peer, anonymous) = self.anonymous(connection, direction, &context, &workload);
        let first = credentials.next().unwrap_or(anonymous);
        Shape {
            direction,
            id: first.id,
            label: first.label,
            carrier: first.carrier,
            fingerprint: first.fingerprint,
            also: credentials.map(|other| (other.id, other.label)).collect(),
            method,
            method_text: if method.is_known() {
                Cow::Borrowed(method.label())
            } else {
                Cow::Owned(escape(method_bytes, METHOD_CHARS))
            },
            path: escape(target_or_none.path, PATH_CHARS).into(),
            authority,
            context,
            route,
            peer,
            pid: connection.pid,
            process: connection.process,
            workload,
            transport: connection.transport,
            v10: false,
            superseded: AtomicBool::new(false),
            row: AtomicU64::new(0),
            kernel: AtomicU32::new(u32::MAX),
            kept: AtomicU64::new(0),
            presented: presented(record),
            end: connection.end(),
            network: connection.remote.network_key().unwrap_or_default(),
            server_said: AtomicU32::new(0),
        }
    }

    /// The credentials of a request: those the kernel found, in configured order, then query keys, then cookies.
    fn credentials(
        &mut self,
        record: &Request,
        context: &Context,
        direction: Direction,
        query: &[u8],
    ) -> Vec<Credential> {
        let mut found: Vec<(Carrier, u64)> = Vec::new();
        let mut add = |carrier: Carrier, print: u64| {
            if found.len() < CREDENTIALS && !found.iter().any(|(_, known)| *known == print) {
                found.push((carrier, print));
            }
        };
        for (number, print) in record.cred.iter().zip(record.fp).take(CREDS) {
            if let Some(carrier) = self.prints.carrier(*number) {
                add(carrier, print);
            }
        }
        self.prints.query(query, &mut add);
        for (carrier, print) in &context.cookies {
            add(*carrier, *print);
        }
        found
            .into_iter()
            .map(|(carrier, print)| self.credential(carrier, print, context, direction))
            .collect()
    }

    fn credential(
        &mut self,
        carrier: Carrier,
        print: u64,
        context: &Context,
        direction: Direction,
    ) -> Credential {
        let stated = context.authorizations.iter().find(|(known, _)| *known == print).map(|(_, kind)| *kind);
        let kind = if carrier == Carrier::AUTHORIZATION { stated } else { None };
        let kind = kind.unwrap_or_else(|| self.prints.kind(carrier));
        let named = kind.claims() && !self.names.has_credential(kind, print);
        let (id, label) = match if named { self.claims.accepted(print) } else { None } {
            Some(claim) => (claim.id(direction), Some(Arc::clone(&claim.label))),
            None => (Id::credential(direction, kind, print), None),
        };
        Credential { carrier, fingerprint: print, id, label }
    }

    /// The peer that is shown, and who is charged for a request without credentials.
    fn anonymous(
        &self,
        connection: &Connection,
        direction: Direction,
        context: &Context,
        workload: &Arc<str>,
    ) -> (Peer, Credential) {
        let plain = |id, label| Credential { carrier: Carrier::NONE, fingerprint: 0, id, label };
        if direction == Direction::Outbound {
            let id = Id::named(direction, Kind::Workload, self.prints.name(Kind::Workload, workload));
            let label = Label { text: (&**workload).into(), issuer: Box::default(), subject: Box::default() };
            return (connection.remote, plain(id, Some(Arc::new(label))));
        }
        let (peer, id) = match (connection.remote.ip(), connection.remote.uid()) {
            (Some(address), _) => match self.client(address, context) {
                Some(client) => (Peer::from_ip(client), Id::client(direction, client)),
                None => (connection.remote.without_port(), Id::unknown(direction)),
            },
            (None, Some(uid)) => (connection.remote, Id::local_user(direction, uid)),
            (None, None) => (Peer::UNKNOWN, Id::unknown(direction)),
        };
        (peer, plain(id, None))
    }

    /// The client behind the peer; `None` when a trusted proxy's report was not seen.
    fn client(&self, peer: IpAddr, context: &Context) -> Option<IpAddr> {
        if !forwarded::is_trusted(peer, self.trusted) {
            return Some(peer);
        }
        context.client.or(context.known.then_some(peer))
    }
}

/// Fingerprint and kind of each credential that the kernel side found.
fn presented(record: &Request) -> [(u64, u8); CREDS] {
    let mut presented = [(0, 0); CREDS];
    for ((to, value), kind) in presented.iter_mut().zip(record.fp).zip(record.cred) {
        *to = (value, kind);
    }
    presented
}
