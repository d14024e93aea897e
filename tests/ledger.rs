//! What is lost is known: a daemon that does not keep up loses records, never counts.

use monitor::view::ConnectionRow;
use monitor::view::Direction::{Inbound, Outbound};

use crate::harness::process::send_signal;
use crate::harness::weir::Weir;
use crate::harness::{Findings, LIMIT, clients, need, note, servers, turn, until};

const REQUESTS: u64 = 20_000;

/// A stopped daemon and the smallest ring: most records are lost, each is in the ledger, and the count of the identity
/// is exact on both sides.
#[test]
fn a_stopped_daemon_loses_no_count() {
    need!("nginx", "ab");
    let _turn = turn();
    let server = servers::nginx(None);
    let weir = Weir::start_with("[observe]\nring_bytes = \"64KiB\"\n");
    weir.settle();
    let identity = weir.fingerprint("Bearer ledger");
    send_signal(weir.pid(), libc::SIGSTOP);
    clients::ab(&server.url, REQUESTS, 16, &["-k", "-H", "Authorization: Bearer ledger"]);
    server.expect("ab", REQUESTS);
    send_signal(weir.pid(), libc::SIGCONT);
    // What comes while the ring is still full is lost as well, a mark too.
    until("an empty ring", LIMIT, || {
        let status = weir.status();
        (status.records_produced == status.records_delivered).then_some(())
    });
    weir.settle();
    let mut findings = Findings::default();
    for direction in [Inbound, Outbound] {
        // What was lost is added from the kernel's own counters from time to time. A request stays outstanding when
        // its answer was lost and the end of its connection too.
        let count = || {
            let rows = weir.identities().into_iter();
            let rows = rows.filter(|row| row.identity == identity && row.direction == direction);
            let connections: Vec<ConnectionRow> = weir.json(&["connections"]);
            let open =
                connections.iter().filter(|row| row.identity == identity && row.direction == direction);
            rows.map(|row| row.totals.requests).sum::<u64>() + open.map(|row| row.outstanding).sum::<u64>()
        };
        let seen =
            until("the count of the identity", LIMIT, || Some(count()).filter(|&seen| seen >= REQUESTS));
        findings.equal(&format!("requests of the identity, {direction:?}"), seen, REQUESTS);
    }
    weir.settle();
    let status = weir.status();
    let lost: u64 = status.losses.iter().filter(|row| row.stage == "ring").map(|row| row.count).sum();
    note(&format!("{lost} of {} records lost in a ring of 64 KiB", status.records_produced + lost));
    findings.equal("records were lost", lost > REQUESTS, true);
    findings.equal(
        "totals",
        status.requests_inbound >= REQUESTS && status.requests_outbound >= REQUESTS,
        true,
    );
    let metrics = weir.metrics();
    let metric =
        crate::harness::weir::sum_series(&metrics, "weir_http_requests_total", &[("direction", "inbound")]);
    findings.equal("the total of the metric", metric as u64 >= REQUESTS, true);
    findings.none();
}

/// Every record that the kernel produced is delivered or lost with a reason.
#[test]
fn the_ledger_closes() {
    need!("nginx", "ab");
    let _turn = turn();
    let server = servers::nginx(None);
    let weir = Weir::start();
    clients::ab(&server.url, REQUESTS, 16, &["-k"]);
    server.expect("ab", REQUESTS);
    weir.settle();
    // Between two reads of the two numbers other traffic may come.
    until("as many records delivered as produced", LIMIT, || {
        let status = weir.status();
        (status.records_produced == status.records_delivered).then_some(())
    });
    assert_eq!(weir.losses(2 * REQUESTS), Vec::new());
    assert_eq!(weir.count(&server.pids, Inbound), REQUESTS);
}
