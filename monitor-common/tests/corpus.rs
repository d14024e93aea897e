//! Replays the fuzzer's corpus, so that what was once found stays mended without a fuzzer.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support/replay.rs"]
mod replay;
mod support;

use replay::replay;
use support::checks;

#[test]
fn framing() {
    replay("framing", checks::framing);
}

#[test]
fn event() {
    replay("event", checks::event);
}

#[test]
fn siphash() {
    replay("siphash", checks::siphash);
}

#[test]
fn path() {
    replay("path", support::path::check);
}

#[test]
fn random_paths_are_read_as_servers_could() {
    let mut r = support::Rng(11);
    let pieces: [&[u8]; 22] = [
        b"/", b"//", b".", b"..", b"/../", b"/./", b"\\", b"%2e", b"%2F", b"%5C", b"%5c..", b";", b";a",
        b"%3b", b"%25", b"%", b"v1", b"V1", b"/v1/", b"%761", b"admin", b"?",
    ];
    for _ in 0..if cfg!(debug_assertions) { 20_000 } else { 400_000 } {
        let target: Vec<u8> = (0..r.n(10)).flat_map(|_| r.pick(&pieces).to_vec()).collect();
        let start: &[u8] = r.pick(&[&b"/v1/"[..], b"/"]);
        support::path::check(&[b"GET ", start, &target, b" HTTP/1.1\r\n"].concat());
    }
}

#[test]
fn reference() {
    for seed in 0..200u32 {
        checks::reference(&seed.to_le_bytes());
    }
}

#[test]
fn random_values_have_the_fingerprint_of_the_definition() {
    let mut r = support::Rng(5);
    let pieces: [&[u8]; 15] = [
        b" ",
        b"\t",
        b"        ",
        b"a",
        b"Bearer",
        b"AWS",
        b"AWS4-HMAC-SHA256",
        b"Credential=",
        b"/",
        b":",
        b"\0",
        b"\xff!",
        b"0123456789abcdef",
        b"xyz",
        b"               ",
    ];
    for _ in 0..if cfg!(debug_assertions) { 4_000 } else { 100_000 } {
        let value: Vec<u8> = (0..r.n(14)).flat_map(|_| r.pick(&pieces).to_vec()).collect();
        checks::siphash(&value);
    }
}
