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
