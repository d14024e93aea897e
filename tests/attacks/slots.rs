//! Whoever holds connections to the daemon, however many, keeps nobody else out.

use std::time::{Duration, Instant};

use super::Attack;
use crate::harness::weir::{Place, Weir, get};
use crate::harness::{Findings, need, note, turn};

/// Time for an answer while others hold what they can.
const SOON: Duration = Duration::from_secs(2);

/// More connections to the metrics endpoint than it serves at a time: it answers all the same.
#[test]
fn connections_that_are_held_keep_no_scrape_out() {
    need!("python3");
    let _turn = turn();
    let mut findings = Findings::default();
    let weir = Weir::start();
    let _held = [
        Attack::start(&["hold", &weir.place.port.to_string(), "32"]),
        Attack::begin(&["hold", &weir.place.port.to_string(), "200"]),
    ];
    for round in 1..=5 {
        for path in ["/healthz", "/readyz", "/metrics"] {
            let asked = Instant::now();
            let status = get(weir.place.port, path).map(|answer| answer.0);
            let took = asked.elapsed();
            findings.equal(
                &format!("{path}, round {round}, after {took:.0?}"),
                (status, took < SOON),
                (Some(200), true),
            );
        }
    }
    findings.none();
}

/// A member of the group of the control socket holds more connections than it serves: root's commands work.
#[test]
fn tails_that_are_held_keep_root_not_out() {
    need!("python3");
    let _turn = turn();
    let mut findings = Findings::default();
    let place = Place::new("");
    let text = std::fs::read_to_string(place.config()).unwrap();
    std::fs::write(place.config(), text.replace("[control]", "[control]\ngroup = \"nogroup\"")).unwrap();
    let weir = place.start();
    let _held = Attack::start(&["tails", weir.place.socket().to_str().unwrap(), "64"]);
    for round in 1..=5 {
        let asked = Instant::now();
        weir.run(&["identities"]).ok();
        let took = asked.elapsed();
        note(&format!("round {round}: answered after {took:.0?}"));
        findings.equal(&format!("round {round}, after {took:.0?}"), took < SOON, true);
    }
    // a tail of root is not cut for them either
    let _more = Attack::start(&["tails", weir.place.socket().to_str().unwrap(), "64"]);
    weir.run(&["identities"]).ok();
    findings.none();
}
