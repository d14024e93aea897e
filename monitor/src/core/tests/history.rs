//! What is remembered for replays, within which bounds, and at what cost.

use std::time::Duration;

use super::speed::on_cpu_ns;
use super::*;
use crate::view::RecentRecord;

/// A request for `path` on a connection at a second, answered with 200.
fn request(core: &mut Core, conn: u64, seq: u32, second: u64, path: &str) {
    let mut record = request_record(conn, seq);
    record.ts_ns = second * SECOND;
    (record.cred[0], record.fp[0]) = (cred::HEADER + 1, 0xa1);
    let head = format!("GET {path}?key=s3cret HTTP/1.1\r\nHost: Api.Test\r\nX-Api-Key: s3cret\r\n\r\n");
    feed(core, &with_head(record, head.as_bytes()));
    feed(core, response_record(conn, seq, 200).as_bytes());
    core.tick(second * SECOND);
}

fn open(most: usize, bytes: usize) -> Core {
    let mut core = core(Settings { max_history: most, max_history_bytes: bytes, ..Settings::default() });
    for conn in 1..4 {
        feed(&mut core, conn_record(conn, role::INBOUND).as_bytes());
    }
    core
}

fn all(core: &Core, since: u64) -> Vec<RecentRecord> {
    let span = core.span(Duration::from_secs(since)).unwrap();
    let (mut at, mut records) = (span.first, Vec::new());
    while at < span.end {
        let some = core.remembered(&span, at, 2);
        assert!(some.next > at && some.records.len() <= 2);
        at = some.next;
        records.extend(some.records);
    }
    assert_eq!(records.len() as u64, span.covered.requests);
    records
}

#[test]
fn what_a_replay_needs_is_remembered_without_the_query() {
    let mut core = open(100, 1 << 20);
    for (seq, second) in (0..3).zip([10, 20, 30]) {
        request(&mut core, 1 + u64::from(seq % 2), seq / 2, second, "/v1/users/7");
    }
    request(&mut core, 3, 0, 40, &format!("/{}", "é".repeat(100)));
    let kept = all(&core, 1_000);
    assert_eq!(kept.len(), 4);
    let RecentRecord { identity, kind, peer, method, host, path, status, time, .. } = &kept[0];
    let seen = [identity, kind, peer, method, host, path, time].map(String::as_str);
    let wanted = [
        "api_key:00000000000000a1",
        "api_key",
        "10.0.0.7",
        "GET",
        "Api.Test",
        "/v1/users/7",
        "2023-11-14T22:13:29.000000Z",
    ];
    assert_eq!((seen, *status), (wanted, 200));
    assert!(kept[3].path.len() <= 128 && kept[3].path.len() > 100, "{}", kept[3].path);
    assert!(!serde_json::to_string(&kept).unwrap().contains("s3cret"));
    assert_eq!(core.history.kinds(), 2, "requests that are alike are kept once, whatever their connection");
    // a span asked for is a span given, and one that reaches back too far says so
    assert_eq!(all(&core, 15).len(), 2);
    let covered = |since| core.span(Duration::from_secs(since)).unwrap().covered;
    assert_eq!(covered(15).covers_seconds as u64, 15);
    assert_eq!(covered(1_000).covers_seconds as u64, 39, "nothing is older than the daemon");
    // a name that is given later holds for what was before
    let names = [("api_key:00000000000000a1".to_owned(), "acme".to_owned())].into();
    core.reconfigure(Settings { names, ..core.settings().clone() });
    assert_eq!(all(&core, 1_000)[0].identity, "acme");
}

#[test]
fn the_oldest_go_first_and_what_is_covered_says_so() {
    let mut core = open(3, 1 << 20);
    for second in 2..12 {
        request(&mut core, 1, second as u32 - 2, second, &format!("/{second}"));
    }
    let paths: Vec<_> = all(&core, 1_000).into_iter().map(|record| record.path).collect();
    assert_eq!(paths, ["/9", "/10", "/11"]);
    let span = core.span(Duration::from_secs(1_000)).unwrap();
    assert_eq!((span.covered.covers_seconds as u64, span.first, span.end), (3, 7, 10));
    assert_eq!(core.remembered(&span, 2, 100).skipped, 5);
    assert_eq!(core.history.kinds(), 3);
    // no entry, no bytes
    let none = Settings { max_history: 0, ..core.settings().clone() };
    core.reconfigure(none.clone());
    assert_eq!(core.span(Duration::MAX), None);
    request(&mut core, 1, 10, 12, "/12");
    core.reconfigure(Settings { max_history: 3, ..none });
    request(&mut core, 1, 11, 13, "/13");
    let paths: Vec<_> = all(&core, 1_000).into_iter().map(|record| record.path).collect();
    assert_eq!(paths, ["/13"]);
}

#[test]
fn memory_is_bounded_whatever_comes() {
    let mut core = open(1 << 20, 200_000);
    for seq in 0..5_000u32 {
        request(&mut core, 1, seq, 2 + u64::from(seq), &format!("/{seq}/{}", "x".repeat(seq as usize % 150)));
        assert!(core.history.bytes() <= 200_000);
    }
    let kept = all(&core, u64::MAX / SECOND).len();
    assert!((300..1_000).contains(&kept), "{kept} requests");
    core.reconfigure(Settings { max_history: 1, ..core.settings().clone() });
    assert_eq!((all(&core, 10_000).len(), core.history.kinds()), (1, 1));
    assert!(core.history.bytes() < 1_000, "{}", core.history.bytes());
}

/// Nanoseconds a request, and bytes a request and a kind of request, of requests of `kinds` kinds.
fn cost(history: usize, kinds: u64) -> (u64, u64) {
    const CONNECTIONS: u64 = 64;
    let requests = 1u64 << 17;
    let mut core = core(Settings { max_history: history, max_history_bytes: 1 << 30, ..Settings::default() });
    let mut records = Vec::new();
    for conn in 0..CONNECTIONS {
        feed(&mut core, conn_record(conn, role::INBOUND).as_bytes());
    }
    for number in 0..requests {
        let (conn, seq) = (number % CONNECTIONS, (number / CONNECTIONS) as u32);
        let mut record = request_record(conn, seq);
        record.ts_ns = 2 * SECOND + number * 1_000;
        (record.cred[0], record.fp[0]) = (cred::HEADER + 1, conn);
        let head = format!("GET /v1/users/{}/orders HTTP/1.1\r\nHost: api.test\r\n\r\n", number % kinds);
        records.push(with_head(record, head.as_bytes()));
        records.push(response_record(conn, seq, 200).as_bytes().to_vec());
    }
    let mut best = u64::MAX;
    for chunk in records.chunks(records.len() / 8) {
        let start = on_cpu_ns();
        for record in chunk {
            feed(&mut core, record);
        }
        best = best.min((on_cpu_ns() - start) * 2 / chunk.len() as u64);
    }
    (best, core.history.bytes() as u64)
}

#[test]
fn the_cost_is_printed() {
    for kinds in [1, 1 << 17] {
        // one connection's requests are alike, or all of them differ
        let ((without, _), (with, bytes)) = (cost(0, kinds), cost(1 << 17, kinds));
        println!(
            "history of {kinds} paths: {without} ns a request without, {with} ns with, {} bytes a request",
            bytes >> 17
        );
    }
}
