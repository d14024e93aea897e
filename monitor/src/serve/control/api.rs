//! The resources of the control socket.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Filter, recent, tail};
use crate::caps::Change;
use crate::output::{self, Row};
use crate::serve::http::{self, Body, Peer};
use crate::source::Source;
use crate::view::Carrier;

/// Most bytes of a request's body.
const BODY_BYTES: usize = 16 << 10;

/// Body of `POST /v1/identity/name`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NameRequest {
    /// The identity, as `weir identities` shows it.
    pub identity: String,
    /// Its name from now on; `None` takes the name away.
    pub name: Option<String>,
}

/// Body of `POST /v1/identity/hash`. Has no `Debug`: it holds a secret.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HashRequest {
    /// Where the credential stands.
    pub carrier: Carrier,
    /// Name of the header, query key or cookie; empty for `Authorization`.
    pub name: String,
    /// The credential.
    pub secret: String,
}

/// A refusal: status and one line that says what to do.
struct Refused(StatusCode, String);

type Answer = Result<Response<Body>, Refused>;

pub async fn handle(
    source: Arc<dyn Source>,
    shutdown: watch::Receiver<bool>,
    peer: Peer,
    request: Request<Incoming>,
) -> Response<Body> {
    route(source, shutdown, peer, request)
        .await
        .unwrap_or_else(|Refused(status, why)| http::text(status, format!("{why}\n")))
}

async fn route(
    source: Arc<dyn Source>,
    shutdown: watch::Receiver<bool>,
    peer: Peer,
    request: Request<Incoming>,
) -> Answer {
    let query = request.uri().query().unwrap_or_default().to_owned();
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/v1/status") => blocking(&peer, move || json(&source.status())).await,
        (&Method::GET, "/v1/identities") => {
            blocking(&peer, move || rows(&query, |most| source.identities(most))).await
        }
        (&Method::GET, "/v1/processes") => {
            blocking(&peer, move || rows(&query, |_| source.processes())).await
        }
        (&Method::GET, "/v1/routes") => blocking(&peer, move || rows(&query, |_| source.routes())).await,
        (&Method::GET, "/v1/connections") => {
            blocking(&peer, move || rows(&query, |_| source.connections())).await
        }
        (&Method::GET, "/v1/caps") => blocking(&peer, move || rows(&query, |_| source.caps())).await,
        (&Method::GET, "/v1/roles") => blocking(&peer, move || rows(&query, |_| source.roles())).await,
        (&Method::GET, "/v1/caps/explain") => {
            let asked = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "identity");
            let Some((_, identity)) = asked else {
                return Err(Refused(StatusCode::BAD_REQUEST, "name an `identity`".into()));
            };
            let identity = identity.into_owned();
            blocking(&peer, move || json(&source.explain_caps(&identity))).await
        }
        (&Method::POST, "/v1/caps") => {
            let who = may_change(&peer)?;
            let change: Change = parse(request).await?;
            let uid = peer.credentials.map(|who| who.uid);
            blocking(&peer, move || {
                let rows = source.change_cap(&change).map_err(|why| Refused(StatusCode::CONFLICT, why))?;
                let exe = who.and_then(|pid| std::fs::read_link(format!("/proc/{pid}/exe")).ok());
                tracing::info!(target: "audit", ?change, pid = who, uid, ?exe, "cap changed through the control socket");
                json(&rows)
            })
            .await
        }
        (&Method::GET, "/v1/names") => blocking(&peer, move || rows(&query, |_| source.names())).await,
        (&Method::GET, "/v1/tail") => {
            let filter = Filter::from_query(&query).map_err(|why| Refused(StatusCode::BAD_REQUEST, why))?;
            Ok(tail::start(source, filter, peer, shutdown))
        }
        (&Method::GET, "/v1/recent") => {
            let since = recent::since(&query).map_err(|why| Refused(StatusCode::BAD_REQUEST, why))?;
            let asked = Arc::clone(&source);
            let span = peer.work(move || asked.span(since)).await.flatten();
            let none =
                "no history is kept: set `[history] requests`, or record requests with `weir tail -o jsonl`";
            let span = span.ok_or_else(|| Refused(StatusCode::CONFLICT, none.into()))?;
            Ok(recent::start(source, span, peer, shutdown))
        }
        (&Method::POST, "/v1/identity/name") => {
            let who = may_change(&peer)?;
            let NameRequest { identity, name } = parse(request).await?;
            blocking(&peer, move || {
                source
                    .set_name(&identity, name.as_deref())
                    .map_err(|why| Refused(StatusCode::CONFLICT, why))?;
                tracing::info!(identity, name, pid = who, "identity named through the control socket");
                json(&serde_json::json!({ "identity": identity, "name": name }))
            })
            .await
        }
        (&Method::POST, "/v1/identity/hash") => {
            may_change(&peer)?;
            let HashRequest { carrier, name, secret } = parse(request).await?;
            blocking(&peer, move || {
                let identity = source
                    .fingerprint(carrier, &name, secret.as_bytes())
                    .ok_or_else(|| Refused(StatusCode::BAD_REQUEST, "that is no credential".into()))?;
                json(&serde_json::json!({ "identity": identity }))
            })
            .await
        }
        (_, path) if RESOURCES.iter().any(|(_, known)| *known == path) => {
            Err(Refused(StatusCode::METHOD_NOT_ALLOWED, "this resource has another method".into()))
        }
        _ => {
            let list: Vec<_> = RESOURCES.iter().map(|(method, path)| format!("{method} {path}")).collect();
            Err(Refused(StatusCode::NOT_FOUND, format!("no such resource; there are\n{}", list.join("\n"))))
        }
    }
}

/// Everything there is, for the answer to a wrong path.
const RESOURCES: &[(&str, &str)] = &[
    ("GET", "/v1/status"),
    ("GET", "/v1/identities"),
    ("GET", "/v1/processes"),
    ("GET", "/v1/routes"),
    ("GET", "/v1/connections"),
    ("GET", "/v1/caps"),
    ("GET", "/v1/roles"),
    ("GET", "/v1/caps/explain"),
    ("POST", "/v1/caps"),
    ("GET", "/v1/names"),
    ("GET", "/v1/tail"),
    ("GET", "/v1/recent"),
    ("POST", "/v1/identity/name"),
    ("POST", "/v1/identity/hash"),
];

/// Only root, or the user the daemon itself runs as, changes anything. Returns the caller's process id.
fn may_change(peer: &Peer) -> Result<Option<i32>, Refused> {
    // /proc/self belongs to the effective user of the process
    let own = std::fs::metadata("/proc/self").map(|found| std::os::unix::fs::MetadataExt::uid(&found));
    match peer.credentials {
        Some(who) if who.uid == 0 || own.is_ok_and(|own| own == who.uid) => Ok(who.pid),
        _ => Err(Refused(StatusCode::FORBIDDEN, "only root may do that; use sudo".into())),
    }
}

/// Answers with what may take milliseconds.
async fn blocking(peer: &Peer, work: impl FnOnce() -> Answer + Send + 'static) -> Answer {
    peer.work(work).await.unwrap_or_else(|| {
        Err(Refused(StatusCode::INTERNAL_SERVER_ERROR, "the daemon failed to answer".into()))
    })
}

fn json(value: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(value).map_err(|error| {
        Refused(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot be written as JSON: {error}"))
    })?;
    Ok(http::answer(StatusCode::OK, "application/json", body))
}

/// Rows, with `sort`, `filter` and `limit` from the query applied. `make` is told how many of the first rows in the usual
/// order are enough.
fn rows<R: Row>(query: &str, make: impl FnOnce(usize) -> Vec<R>) -> Answer {
    let bad = |why: String| Refused(StatusCode::BAD_REQUEST, why);
    let (mut sort, mut filter, mut limit) = (None, None, usize::MAX);
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            "sort" => sort = Some(value.into_owned()),
            "filter" => filter = Some(value.into_owned()),
            "limit" => {
                limit = value.parse().map_err(|_| bad(format!("{value:?} is not a number of rows")))?;
            }
            _ => return Err(bad(format!("unknown parameter {key:?}"))),
        }
    }
    let usual = filter.is_none() && sort.as_deref().is_none_or(|sort| sort == R::SORT);
    let mut rows = make(if usual { limit } else { usize::MAX });
    if let Some(filter) = filter {
        output::filter(&mut rows, &filter);
    }
    output::sort(&mut rows, sort.as_deref()).map_err(bad)?;
    rows.truncate(limit);
    json(&rows)
}

async fn parse<T: for<'de> Deserialize<'de>>(request: Request<Incoming>) -> Result<T, Refused> {
    let body = http::body(request, BODY_BYTES).await.ok_or_else(|| {
        Refused(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is limited to {BODY_BYTES} bytes"))
    })?;
    // the error must not quote the body: it may hold a secret
    serde_json::from_slice(&body)
        .map_err(|error| Refused(StatusCode::BAD_REQUEST, format!("bad JSON at column {}", error.column())))
}
