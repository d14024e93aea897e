//! From the bytes of a request head to everything that the daemon says about the request.

use std::time::{Duration, SystemTime};

use httparse::Status;
use monitor::core::{ClockBase, Core, Settings};
use monitor::identity::{CredentialSettings, Prints, SipKey};
use monitor::parser::authorization::{Scheme, scheme};
use monitor::parser::head::{RequestLine, first_line, head, request_line};
use monitor::view::RequestRecord;
use monitor::workload::NoSource;
use monitor_common::event::{Head, HeadPart, Request, Response, cred, request_flag, role};
use serde::Serialize;
use serde_json::Value;

use super::connection;

const SECOND: u64 = 1_000_000_000;
/// Most characters of any text that is kept: a path, and the mark of what was cut.
const TEXT_CHARS: usize = 512 + 1;
/// Lines that are kept of a header that may be repeated.
const REPEATS: usize = 8;

/// Part of every planted credential.
const SECRET: &str = "s3cr3tC4n4ry";
/// `alice:` and the secret.
const BASIC: &str = "YWxpY2U6czNjcjN0QzRuNHJ5";
/// `{"sub":"bob","key":"` and the secret.
const PAYLOAD: &str = "eyJzdWIiOiJib2IiLCJrZXkiOiJzM2NyM3RDNG40cnkifQ";

/// What is read is what a strict parser reads; what is said does not depend on how the head arrived, is bounded and
/// printable, adds up, and holds no credential.
pub fn check(bytes: &[u8]) {
    agrees_with_httparse(bytes);
    let authorization = head(bytes).authorization;
    said(bytes, authorization.first().copied());
    if !contains(bytes, SECRET) && !contains(bytes, BASIC) && !contains(bytes, PAYLOAD) {
        for userinfo in ["http", "ftp"] {
            keeps_no_secret(bytes, userinfo);
        }
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Whatever a strict parser accepts means the same here.
fn agrees_with_httparse(bytes: &[u8]) {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut strict = httparse::Request::new(&mut headers);
    let Ok(Status::Complete(_)) = strict.parse(bytes) else { return };
    let (method, target) = (strict.method.unwrap().as_bytes(), strict.path.unwrap().as_bytes());
    let lenient = head(bytes);
    assert_eq!(lenient.line, Some(RequestLine { method, target }));
    let all = |name: &str| -> Vec<&[u8]> {
        let named = strict.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        named.map(|header| header.value).collect()
    };
    assert_eq!(lenient.host, all("host").first().copied());
    assert_eq!(lenient.user_agent, all("user-agent").first().copied());
    for (found, name) in [(lenient.authorization, "authorization"), (lenient.cookies, "cookie")] {
        assert_eq!(found, all(name).into_iter().take(REPEATS).collect::<Vec<_>>());
    }
    for (found, name) in [(lenient.forwarded_for, "x-forwarded-for"), (lenient.forwarded, "forwarded")] {
        let want = all(name);
        assert_eq!(found, want[want.len().saturating_sub(REPEATS)..]);
    }
}

/// With credentials planted in every place that may hold one, the first of them Basic.
fn keeps_no_secret(bytes: &[u8], scheme: &str) {
    let (line, rest) = first_line(bytes);
    let line = request_line(line).unwrap_or_default();
    let method = if line.method.is_empty() { b"GET" } else { line.method };
    let scheme = if method == b"CONNECT" { String::new() } else { format!("{scheme}://") };
    let slash = if line.target.starts_with(b"/") { "" } else { "/" };
    let mark = if line.target.contains(&b'?') { '&' } else { '?' };
    let basic = format!("Basic {BASIC}");
    let planted = [
        method,
        format!(" {scheme}user:{SECRET}@host{slash}").as_bytes(),
        line.target,
        format!("{mark}token={SECRET}&access_token={SECRET} HTTP/1.1\r\n").as_bytes(),
        format!("Authorization: {basic}\r\nAuthorization: Bearer {SECRET}\r\n").as_bytes(),
        format!("Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.{PAYLOAD}.{SECRET}\r\n").as_bytes(),
        format!("Authorization: AWS4-HMAC-SHA256 Credential={SECRET}/2026, Signature={SECRET}\r\n")
            .as_bytes(),
        format!("Proxy-Authorization: {basic}\r\nX-Api-Key: {SECRET}\r\n").as_bytes(),
        format!("Cookie: sid={SECRET}; other={SECRET}\r\n").as_bytes(),
        rest,
    ]
    .concat();
    let (record, texts) = said(&planted, Some(basic.as_bytes()));
    assert_eq!(record.identity, "basic:alice");
    for secret in [SECRET, BASIC, PAYLOAD] {
        let kept = texts.iter().find(|text| text.contains(secret));
        assert_eq!(kept, None, "{}", String::from_utf8_lossy(&planted));
    }
}

/// The record of a request with this head, and every text that is kept of it. The kernel side found `credential`.
fn said(head: &[u8], credential: Option<&[u8]>) -> (RequestRecord, Vec<String>) {
    let settings = Settings {
        credentials: CredentialSettings {
            query_keys: vec!["token".to_owned()],
            cookies: vec!["sid".to_owned()],
            key: SipKey::from_bytes(*b"0123456789abcdef"),
            ..CredentialSettings::default()
        },
        trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
        routes: vec!["/v1/users/{id}".to_owned(), "/static/{*rest}".to_owned()],
        ..Settings::default()
    };
    let prints = Prints::new(&settings.credentials);
    let found = credential.and_then(|value| {
        let aws = scheme(value) == Scheme::Aws;
        Some((if aws { cred::AWS } else { cred::AUTHORIZATION }, prints.authorization(value)?))
    });
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let mut core = Core::new(settings, ClockBase { monotonic_ns: SECOND, boot_ns: SECOND, wall });
    let line = head.len() - first_line(head).1.len();
    let half = head.len() / 2;
    for (conn, flags, from) in [(1, 0, 0), (2, request_flag::PARTS, half)] {
        feed(&mut core, &[connection(conn).as_bytes()]);
        if flags == request_flag::PARTS {
            let part = record_head(HeadPart::KIND, HeadPart::SIZE + from);
            feed(
                &mut core,
                &[HeadPart { head: part, conn, ts_ns: 0, seq: 0, from: 0 }.as_bytes(), &head[..from]],
            );
        }
        request(&mut core, conn, 0, flags, from, &head[from..], found);
        request(&mut core, conn, 1, request_flag::SAME_HEADERS, 0, &head[..line], found);
    }
    let records = core.tail(0, usize::MAX).records;
    let [first, others @ ..] = &records[..] else { panic!("nothing finished") };
    for other in others {
        assert_eq!(meaning(other), meaning(first));
    }
    (first.clone(), texts(&core, records.len() as u64))
}

fn record_head(kind: u8, len: usize) -> Head {
    Head { kind, pad: [0; 3], len: len as u32 }
}

fn feed(core: &mut Core, pieces: &[&[u8]]) {
    core.event(&pieces.concat(), &mut NoSource);
}

/// A request and its answer, a success: what a credential claims is believed from then on.
fn request(
    core: &mut Core,
    conn: u64,
    seq: u32,
    flags: u16,
    from: usize,
    bytes: &[u8],
    found: Option<(u8, u64)>,
) {
    let mut record = Request::from_bytes(&[0; Request::SIZE]).unwrap().0;
    record.head = record_head(Request::KIND, Request::SIZE + bytes.len());
    (record.conn, record.seq, record.tgid, record.role) = (conn, seq, 100, role::INBOUND);
    (record.flags, record.from, record.head_len) = (flags, from as u32, (from + bytes.len()) as u32);
    (record.cred[0], record.fp[0]) = found.unwrap_or_default();
    record.ts_ns = 2 * SECOND;
    feed(core, &[record.as_bytes(), bytes]);
    let mut answer = Response::from_bytes(&[0; Response::SIZE]).unwrap().0;
    answer.head = record_head(Response::KIND, Response::SIZE);
    (answer.conn, answer.seq, answer.status) = (conn, seq, 200);
    answer.ts_end_ns = 2 * SECOND + 1_000_000;
    feed(core, &[answer.as_bytes()]);
}

/// What a record says about the head.
fn meaning(record: &RequestRecord) -> [&str; 8] {
    [
        &record.identity,
        &record.kind,
        &record.peer,
        &record.method,
        &record.host,
        &record.path,
        &record.route,
        &record.user_agent,
    ]
}

/// Every text that the core holds, after its counts were added up.
fn texts(core: &Core, requests: u64) -> Vec<String> {
    let summary = core.summary();
    assert_eq!((summary.delivered.inbound, summary.finished.inbound), (requests, requests));
    assert_eq!(core.identities(usize::MAX).iter().map(|row| row.totals.requests).sum::<u64>(), requests);
    assert_eq!(core.routes().iter().map(|row| row.totals.requests).sum::<u64>(), requests);
    assert_eq!(core.processes().iter().map(|row| row.totals.requests).sum::<u64>(), requests);
    let mut texts: Vec<String> = core.request_series().into_iter().map(|series| series.route).collect();
    texts.extend(core.identity_series(usize::MAX).into_iter().map(|series| series.identity));
    collect(core.tail(0, usize::MAX).records, &mut texts);
    collect(core.identities(usize::MAX), &mut texts);
    collect(core.routes(), &mut texts);
    collect(core.processes(), &mut texts);
    collect(core.connections(usize::MAX), &mut texts);
    for text in &texts {
        assert!(text.chars().count() <= TEXT_CHARS && !text.contains(char::is_control), "{text:?}");
    }
    texts
}

fn collect(rows: impl Serialize, texts: &mut Vec<String>) {
    let mut open = vec![serde_json::to_value(rows).unwrap()];
    while let Some(value) = open.pop() {
        match value {
            Value::String(text) => texts.push(text),
            Value::Array(values) => open.extend(values),
            Value::Object(fields) => open.extend(fields.into_iter().map(|(_, value)| value)),
            _ => {}
        }
    }
}
