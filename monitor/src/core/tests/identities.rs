//! Who is charged.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::*;
use crate::identity::CredentialSettings;

fn jwt(subject: &str, salt: &str) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let payload = format!(r#"{{"sub":"{subject}","iss":"https://idp.test","jti":"{salt}"}}"#);
    format!("Bearer {}.{}.c2ln", part(r#"{"alg":"RS256"}"#), part(&payload))
}

fn open(settings: Settings) -> Core {
    let mut core = core(settings);
    for conn in 1..5 {
        feed(&mut core, conn_record(conn, role::INBOUND).as_bytes());
    }
    core
}

#[test]
fn a_claimed_name_counts_from_the_first_accepted_request_on() {
    let mut core = open(Settings::default());
    let (token, rotated) = (jwt("alice", "1"), jwt("alice", "2"));
    exchange(&mut core, 1, 0, &token, 401);
    let rejected = format!("jwt:{:016x}", authorization(&core, &token));
    assert_eq!(requests(&core, &rejected), 1);
    exchange(&mut core, 1, 1, &token, 200);
    exchange(&mut core, 1, 2, &token, 401);
    exchange(&mut core, 2, 0, &token, 200);
    exchange(&mut core, 3, 0, &rotated, 204);
    let row = row(&core, "jwt:alice@https://idp.test").unwrap();
    assert_eq!((row.totals.requests, requests(&core, &rejected)), (4, 1));
    assert_eq!((row.subject.as_str(), row.issuer.as_str()), ("alice", "https://idp.test"));
    assert_eq!(row.fingerprint, format!("{:016x}", authorization(&core, &rotated)));
    assert_eq!(core.tail(1, 1).records[0].identity, "jwt:alice@https://idp.test");
}

#[test]
fn each_kind_of_credential_has_its_identity() {
    let mut core = open(Settings {
        credentials: CredentialSettings { cookies: vec!["sid".to_owned()], ..CredentialSettings::default() },
        ..Settings::default()
    });
    let basic = format!("Basic {}", STANDARD.encode("bob:secret"));
    exchange(&mut core, 1, 0, &basic, 200);
    exchange(&mut core, 1, 1, "Bearer opaque-token", 200);
    let mut plain = |seq, cred_kind, print, head: &[u8]| {
        let mut record = request_record(2, seq);
        (record.cred[0], record.fp[0]) = (cred_kind, print);
        feed(&mut core, &with_head(record, head));
        feed(&mut core, response_record(2, seq, 200).as_bytes());
    };
    plain(0, cred::HEADER + 1, 0xa1, b"GET / HTTP/1.1\r\nX-Api-Key: k\r\n\r\n");
    plain(1, cred::AWS, 0xa2, b"GET / HTTP/1.1\r\nAuthorization: AWS AKIA:sig\r\n\r\n");
    plain(2, 0, 0, b"GET /?api_key=sekrit HTTP/1.1\r\n\r\n");
    plain(3, 0, 0, b"GET / HTTP/1.1\r\nCookie: a=b; sid=sekrit\r\n\r\n");
    plain(4, 0, 0, b"GET / HTTP/1.1\r\n\r\n");
    let bearer = format!("bearer:{:016x}", authorization(&core, "Bearer opaque-token"));
    for (identity, carrier) in [
        ("basic:bob", "authorization"),
        (bearer.as_str(), "authorization"),
        ("api_key:00000000000000a1", "x-api-key"),
        ("aws:00000000000000a2", "authorization"),
        ("client:10.0.0.7", ""),
    ] {
        let row = row(&core, identity).unwrap_or_else(|| panic!("{identity}"));
        assert_eq!((row.totals.requests, row.carrier.as_str()), (1, carrier), "{identity}");
    }
    for (kind, carrier) in [("query_key", "api_key"), ("cookie", "sid")] {
        let rows = core.identities(usize::MAX);
        assert_eq!(rows.iter().find(|row| row.kind == kind).unwrap().carrier, carrier);
    }
    let all = serde_json::to_string(&(core.identities(99), core.tail(0, 99).records)).unwrap();
    for secret in ["sekrit", "secret", "opaque-token", "Ym9iOnNlY3JldA"] {
        assert!(!all.contains(secret), "{secret}");
    }
}

#[test]
fn the_first_credential_names_the_request_and_the_others_are_recorded() {
    let mut core = open(Settings::default());
    let mut record = request_record(1, 0);
    (record.fp, record.cred) = ([1, 2, 0, 0], [cred::HEADER + 1, cred::HEADER + 2, 0, 0]);
    feed(&mut core, &with_head(record, b"GET /?access_token=abc HTTP/1.1\r\n\r\n"));
    feed(&mut core, response_record(1, 0, 200).as_bytes());
    let record = core.tail(0, 1).records.remove(0);
    assert_eq!(record.identity, "api_key:0000000000000001");
    assert_eq!(record.also[0], "api_key:0000000000000002");
    assert!(record.also[1].starts_with("query_key:"));
}

#[test]
fn names_join_rows_and_come_before_claims() {
    let names: HashMap<_, _> = [("api_key:0000000000000001", "acme"), ("api_key:0000000000000002", "acme")]
        .map(|(identity, name)| (identity.to_owned(), name.to_owned()))
        .into();
    let mut core = open(Settings { names, ..Settings::default() });
    for (seq, print) in [1, 2, 1].into_iter().enumerate() {
        let mut record = request_record(1, seq as u32);
        (record.cred[0], record.fp[0]) = (cred::HEADER + 1, print);
        feed(&mut core, &with_head(record, b"GET / HTTP/1.1\r\n\r\n"));
        feed(&mut core, response_record(1, seq as u32, 200).as_bytes());
    }
    let rows = core.identities(usize::MAX);
    assert_eq!((rows.len(), rows[0].identity.as_str(), rows[0].totals.requests), (1, "acme", 3));
    assert_eq!(core.identity_series(10)[0].requests, 3);

    let token = jwt("alice", "1");
    let named = format!("jwt:{:016x}", authorization(&core, &token));
    let mut settings = core.settings().clone();
    settings.names.insert(named, "ci".to_owned());
    core.reconfigure(settings);
    exchange(&mut core, 1, 3, &token, 200);
    assert_eq!(requests(&core, "ci"), 1);
}

#[test]
fn only_trusted_proxies_name_the_client() {
    let settings = Settings { trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()], ..Settings::default() };
    let send = |core: &mut Core, conn, head: &[u8]| {
        feed(core, &with_head(request_record(conn, 0), head));
        feed(core, response_record(conn, 0, 200).as_bytes());
    };
    let head = b"GET / HTTP/1.1\r\nX-Forwarded-For: 6.6.6.6, 203.0.113.9\r\n\r\n";
    let mut trusting = open(settings);
    send(&mut trusting, 1, head);
    send(&mut trusting, 2, b"GET / HTTP/1.1\r\n\r\n");
    // the block was never seen: the proxy must not be charged for its clients
    let same = Request { flags: request_flag::SAME_HEADERS, ..request_record(3, 9) };
    feed(&mut trusting, &with_head(same, b"GET / HTTP/1.1\r\n"));
    feed(&mut trusting, response_record(3, 9, 200).as_bytes());
    for identity in ["client:203.0.113.9", "client:10.0.0.7", "client:unknown"] {
        assert_eq!(requests(&trusting, identity), 1, "{identity}");
    }
    let mut wary = open(Settings::default());
    send(&mut wary, 1, head);
    assert_eq!(requests(&wary, "client:10.0.0.7"), 1);
}

#[test]
fn unix_peers_are_known_by_their_user() {
    let mut core = core(Settings::default());
    let mut conn = conn_record(1, role::INBOUND);
    (conn.transport, conn.family) = (transport::UNIX, 1);
    conn.remote = [0; 16];
    conn.remote[..8].copy_from_slice(&[0xe8, 3, 0, 0, 42, 0, 0, 0]);
    feed(&mut core, conn.as_bytes());
    feed(&mut core, &with_head(request_record(1, 0), b"GET / HTTP/1.1\r\n\r\n"));
    feed(&mut core, response_record(1, 0, 200).as_bytes());
    assert_eq!(row(&core, "client:uid=1000").unwrap().peers, ["uid=1000 pid=42"]);
}
