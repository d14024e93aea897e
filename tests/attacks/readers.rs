//! Whoever reads what the daemon shows, as often as he likes, switches nothing off and keeps nobody waiting.

use std::time::{Duration, Instant};

use super::{Attack, cap_acme, holds};
use crate::caps::address;
use crate::harness::weir::{Weir, get};
use crate::harness::{Findings, LIMIT, need, note, servers, turn, until};

/// Scrapes without a pause, while there are ten thousand buckets to read.
#[test]
fn reading_the_metrics_switches_no_cap_off() {
    need!("nginx", "python3");
    let _turn = turn();
    let mut findings = Findings::default();
    let weir = Weir::start();
    let server = servers::nginx(None);
    weir.run(&[
        "caps", "set", "each", "--each", "client", "--rate", "1/h", "--burst", "9", "--action", "shadow",
    ])
    .ok();
    Attack::begin(&["clients", &address(&server).port().to_string(), "10000"]).finish();
    cap_acme(&weir);
    let attack = Attack::start(&["scrape", &weir.place.port.to_string(), "4"]);
    for round in 1..=3 {
        // longer than the lease
        let seen = holds(&mut findings, &format!("round {round}"), &server, Duration::from_secs(5));
        let asked = Instant::now();
        weir.run(&["caps", "list"]).ok();
        note(&format!(
            "{} of {} answered, `caps list` took {:.0?}",
            seen.answered,
            seen.answered + seen.cut,
            asked.elapsed()
        ));
    }
    drop(attack);
    until("a turn to scrape", LIMIT, || (get(weir.place.port, "/metrics")?.0 == 200).then_some(()));
    findings.equal("not in force", weir.metric("weir_events_lost_total", &[("stage", "caps")]) as u64, 0);
    findings.none();
}
