//! Replays the fuzzer's corpus, so that what was once found stays mended without a fuzzer.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../../monitor-common/tests/support/replay.rs"]
mod replay;
mod support;

use replay::replay;

#[test]
fn head() {
    replay("head", support::head::check);
}

#[test]
fn cgroup() {
    replay("cgroup", support::cgroup::check);
}

#[test]
fn elf() {
    replay("elf", support::elf::check);
}
