//! The fingerprint of the destination host, at every split, against its definition.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use monitor_common::http1::*;
use monitor_common::siphash::host;
use support::{KEY, run};

/// The host of each request of `d`, which must not depend on the split.
fn hosts(d: &[u8]) -> Vec<u64> {
    let names = Names::request_with(&["authorization", "x-api-key"], &["key"], &["sid"], true, KEY).unwrap();
    let mut whole = Conn::NEW;
    let (messages, lost) = run(false, &mut whole, &names, d, &[]);
    assert_eq!(lost, 0);
    let mut patterns: Vec<Vec<usize>> = (1..d.len()).map(|cut| vec![cut]).collect();
    patterns.push((1..d.len()).collect());
    for cuts in patterns {
        let mut conn = Conn::NEW;
        let split = run(false, &mut conn, &names, d, &cuts);
        assert_eq!(split.0, messages, "cuts {cuts:?} of {:?}", String::from_utf8_lossy(d));
    }
    messages.iter().map(|message| message.host).collect()
}

#[test]
fn spelling_and_port_do_not_matter() {
    let long = "a-name.of-more-than-sixteen.characters.example.org";
    for (value, same) in [
        ("api.provider.com", "api.provider.com"),
        ("  API.Provider.COM \t", "api.provider.com"),
        ("api.provider.com:8443", "api.provider.com"),
        ("a", "A:1"),
        ("12345678", "12345678"),
        ("1234567:8", "1234567"),
        (long, long),
    ] {
        let d = format!("GET / HTTP/1.1\r\nhOST:{value}\r\nX-Api-Key: k\r\n\r\n");
        assert_eq!(hosts(d.as_bytes()), [host(KEY, same.as_bytes())], "{value}");
    }
    assert_ne!(host(KEY, b"a.example"), host(KEY, b"b.example"));
}

#[test]
fn the_first_host_counts_and_none_is_zero() {
    let d =
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\nGET / HTTP/1.0\r\n\r\nGET / HTTP/1.1\r\nHost:\r\n\r\n";
    assert_eq!(hosts(d.as_bytes()), [host(KEY, b"a"), 0, 0]);
    assert_eq!(host(KEY, b" :80"), 0);
}

#[test]
fn a_repeated_block_keeps_its_host_and_one_learned_without_is_not_believed() {
    let one = "GET / HTTP/1.1\r\nHost: api.provider.com\r\nUser-Agent: something\r\n\r\n";
    let want = host(KEY, b"api.provider.com");
    assert_eq!(hosts(one.repeat(3).as_bytes()), [want; 3]);
    let mut conn = Conn::NEW;
    let plain = support::request_names();
    let (messages, _) = run(false, &mut conn, &plain, one.as_bytes(), &[]);
    assert_eq!(messages[0].host, 0);
    let names = Names::request_with(&[], &[], &[], true, KEY).unwrap();
    let (messages, _) = run(false, &mut conn, &names, one.repeat(2).as_bytes(), &[]);
    assert_eq!([messages[0].host, messages[1].host], [want; 2]);
}
