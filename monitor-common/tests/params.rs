//! Credentials in query keys and cookies, at every split, against the definition of a fingerprint.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::sync::LazyLock;

use monitor_common::event::cred;
use monitor_common::http1::*;
use monitor_common::siphash::{Carrier, fingerprint};
use support::{KEY, Rng, run};

const QUERY: [&str; 3] = ["api_key", "k", "an-access-token-of-31-characters"];
const COOKIES: [&str; 2] = ["sid", "__Host-session"];

static NAMES: LazyLock<Names> = LazyLock::new(|| {
    Names::request_with(
        &["authorization", "x-api-key"],
        &[QUERY[0], QUERY[1], &QUERY[2][..31]],
        &COOKIES,
        false,
        KEY,
    )
    .unwrap()
});

/// Kinds and fingerprints of the first request, which must not depend on the split, and the number of requests.
fn credentials(d: &[u8]) -> (Vec<(u8, u64)>, usize, u32) {
    let names = &NAMES;
    let mut whole = Conn::NEW;
    let (messages, lost) = run(false, &mut whole, names, d, &[]);
    let mut patterns: Vec<Vec<usize>> = (1..d.len()).map(|cut| vec![cut]).collect();
    patterns.push((1..d.len()).collect());
    for cuts in patterns {
        let mut conn = Conn::NEW;
        let split = run(false, &mut conn, names, d, &cuts);
        assert_eq!(split, (messages.clone(), lost), "cuts {cuts:?} of {:?}", String::from_utf8_lossy(d));
    }
    let found = messages.first().map_or(vec![], |m| {
        assert!(d.starts_with(&m.head), "the parts of the head are the head");
        m.cred.iter().zip(m.fp).filter(|(kind, _)| **kind != 0).map(|(kind, fp)| (*kind, fp)).collect()
    });
    (found, messages.len(), lost)
}

fn query(n: usize, value: &str) -> (u8, u64) {
    let name = &QUERY[n][..QUERY[n].len().min(31)];
    (cred::QUERY + n as u8, fingerprint(KEY, Carrier::Query(name.as_bytes()), value.as_bytes()).unwrap())
}

fn cookie(n: usize, value: &str) -> (u8, u64) {
    let carrier = Carrier::Cookie(COOKIES[n].as_bytes());
    (cred::COOKIE + n as u8, fingerprint(KEY, carrier, value.as_bytes()).unwrap())
}

fn target(target: &str) -> Vec<(u8, u64)> {
    let d = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n\r\n");
    let (found, requests, lost) = credentials(d.as_bytes());
    assert_eq!((requests, lost), (2, 0), "{target}");
    found
}

fn jar(value: &str) -> Vec<(u8, u64)> {
    let d = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie:{value}\r\nX: y\r\n\r\nGET / HTTP/1.1\r\n\r\n");
    let (found, requests, lost) = credentials(d.as_bytes());
    assert_eq!((requests, lost), (2, 0), "{value}");
    found
}

#[test]
fn query_keys() {
    let long = "0123456789abcdef".repeat(40);
    assert_eq!(target("/a?api_key=secret"), [query(0, "secret")]);
    assert_eq!(target("/a?x=1&api_key=secret&y=2"), [query(0, "secret")]);
    assert_eq!(target("/a?k=1&api_key=secret#k=2"), [query(0, "secret"), query(1, "1")]);
    assert_eq!(target("/a?api_key=one&api_key=two"), [query(0, "one"), query(0, "two")]);
    assert_eq!(target(&format!("/a?{}=v", &QUERY[2][..31])), [query(2, "v")]);
    assert_eq!(target(&format!("/a?x={long}&k={long}")), [query(1, &long)]);
    assert_eq!(target(&format!("/{long}?k={long}#f")), [query(1, &long)]);
    for none in [
        "/",
        "*",
        "/a?",
        "/a?api_key",
        "/a?api_key=",
        "/a?api_key=&x=1",
        "/a?API_KEY=x",
        "/a?kk=1",
        "/a?k%3d1",
        "/api_key=x",
        "/a&k=1",
        "/a#?k=1",
        "/a?x=k=1",
    ] {
        assert_eq!(target(none), [], "{none}");
    }
}

#[test]
fn a_query_key_does_not_end_the_request_line() {
    for d in
        ["GET /?api_key=\r\n\r\n", "GET /?api_key=x\r\n\r\n", "GET /?k=1 HTTP/2.0\r\n\r\n", "GET /?k\n\n"]
    {
        // without a version it is a request all the same, but nobody knows where it ends
        let (_, requests, lost) = credentials(d.as_bytes());
        assert_eq!((requests, lost), (1, u32::from(!d.contains("HTTP/"))), "{d}");
    }
}

#[test]
fn cookies() {
    let long = "0123456789abcdef".repeat(40);
    assert_eq!(jar(" sid=abc"), [cookie(0, "abc")]);
    assert_eq!(jar("sid=abc"), [cookie(0, "abc")]);
    assert_eq!(jar(" a=b; sid=abc; c=d"), [cookie(0, "abc")]);
    assert_eq!(jar(" a=b;sid=abc  ;  __Host-session=\"x y\"   "), [cookie(0, "abc"), cookie(1, "\"x y\"")]);
    assert_eq!(jar(&format!(" a={long}; __Host-session={long}; z={long}")), [cookie(1, &long)]);
    assert_eq!(jar(&format!("{}sid=  v  ; b", " ".repeat(30))), [cookie(0, "v")]);
    for none in ["", " ", " sid", " sid=", " sid=; a=b", " SID=a", " a=sid=b", " xsid=1", " ;;;"] {
        assert_eq!(jar(none), [], "{none}");
    }
}

#[test]
fn headers_come_before_query_keys_and_cookies() {
    let d = b"GET /?api_key=q HTTP/1.1\r\nCookie: sid=c\r\nX-Api-Key: h\r\nAuthorization: Bearer b\r\nCookie: sid=d\r\n\r\n";
    let (found, requests, lost) = credentials(d);
    assert_eq!((requests, lost), (1, 0));
    assert_eq!(found.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [1, 9, 16, 24]);
    assert_eq!((found[2], found[3]), (query(0, "q"), cookie(0, "c")));
}

#[test]
fn repeated_requests_keep_their_own_query() {
    let one = |q: &str| {
        format!("GET /?k={q} HTTP/1.1\r\nHost: example.com\r\nCookie: sid=abcdef\r\nAccept: */*\r\n\r\n")
    };
    let plain = "GET / HTTP/1.1\r\nHost: example.com\r\nCookie: sid=abcdef\r\nAccept: */*\r\n\r\n";
    let d = [plain, plain, &one("1"), plain, &one("2"), plain].concat();
    let mut conn = Conn::NEW;
    let (messages, lost) = run(false, &mut conn, &NAMES, d.as_bytes(), &[]);
    let kinds: Vec<_> = messages.iter().map(|m| m.cred).collect();
    let (without, with) = ([24, 0, 0, 0], [17, 24, 0, 0]);
    assert_eq!((lost, kinds), (0, vec![without, without, with, without, with, without]));
    assert_ne!(messages[2].fp[0], messages[4].fp[0]);
}

#[test]
fn random_targets_and_jars_do_not_depend_on_the_split() {
    let mut r = Rng(99);
    let pieces = [
        "api_key",
        "=",
        "&",
        "k",
        "?",
        "#",
        "sid=",
        ";",
        " ",
        "a",
        "/",
        "0123456789abcdef",
        "        ",
        "\t",
    ];
    for _ in 0..400 {
        let text = |r: &mut Rng| (0..r.n(30)).map(|_| r.pick(&pieces)).collect::<String>();
        let d = format!(
            "GET /{} HTTP/1.1\r\nCookie:{}\r\n\r\n",
            text(&mut r).replace([' ', '\t'], "+"),
            text(&mut r)
        );
        let (_, requests, lost) = credentials(d.as_bytes());
        assert_eq!((requests, lost), (1, 0), "{d:?}");
    }
}

#[test]
fn names_are_checked() {
    let build = |query: &[&str]| Names::request_with(&[], query, &[], false, KEY).map(|_| ());
    assert_eq!(build(&["a"; 9]), Err(NamesError::TooMany));
    assert_eq!(build(&[""]), Err(NamesError::Length));
    assert_eq!(build(&["a=b"]), Err(NamesError::Byte));
    assert_eq!(Names::request(&["x-key", "X-KEY"], KEY).map(|_| ()), Err(NamesError::Twice));
    assert_eq!(Names::request(&["content-length"], KEY).map(|_| ()), Err(NamesError::Twice));
}
