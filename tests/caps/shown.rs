//! What the command line says about caps that are at work.

use monitor::view::CapUse;

use super::load::{Caller, Met};
use super::{ACME, acme, address};
use crate::harness::servers;
use crate::harness::weir::Weir;
use crate::harness::{LIMIT, need, turn, until};

/// The lines of `weir top`'s caps, in their order.
fn lines(weir: &Weir) -> Vec<CapUse> {
    weir.json(&["top", "--view", "caps", "--once"])
}

fn line<'a>(lines: &'a [CapUse], who: &str) -> &'a CapUse {
    lines.iter().find(|line| line.who == who).unwrap_or_else(|| panic!("no {who} in {lines:?}"))
}

/// Buckets are named after who they are, the fullest come first, and the latest denial is told.
#[test]
fn the_usage_of_caps_is_shown() {
    need!("nginx");
    let _turn = turn();
    let weir = Weir::start();
    let server = servers::nginx(None);
    let identity = weir.fingerprint(ACME);
    weir.run(&["identity", "name", &identity, "acme"]).ok();
    weir.run(&["caps", "set", "everybody", "--each", "credential", "--rate", "5/h", "--burst", "5"]).ok();
    weir.run(&["caps", "set", "idle", "--identity", &identity, "--rate", "9/s", "--burst", "900"]).ok();
    let mut caller = Caller::new(address(&server));
    let mut met = Vec::new();
    let lines = until("a rate", LIMIT, || {
        met.push(caller.call(&acme("/top")));
        let lines = lines(&weir);
        line(&lines, "each credential").rate.is_some_and(|rate| rate > 0.0).then_some(lines)
    });
    let cut = met.iter().filter(|met| **met == Met::Cut).count() as u64;
    let (whole, own) = (line(&lines, "each credential"), line(&lines, "acme"));
    assert_eq!(
        (whole.admitted, whole.denied, own.admitted, own.denied),
        (5, cut, 5, cut),
        "{met:?} {lines:?}"
    );
    assert!(own.used > 0.99 && whole.used > 0.99, "{lines:?}");
    assert_eq!(line(&lines, "identity acme").cap, "idle");
    // an emptied bucket has room for a burst, whatever the cap has counted
    weir.run(&["caps", "reset", "everybody", "acme"]).ok();
    let after: Vec<_> = (0..6).map(|_| caller.call(&acme("/top"))).collect();
    assert_eq!(after, [[Met::Answer(200); 5].as_slice(), &[Met::Cut]].concat());
    let refused = weir.run(&["caps", "reset", "everybody", "client:192.0.2.1"]);
    assert!(!refused.status.success() && refused.err.contains("has no bucket"), "{}", refused.err);
    assert_eq!(lines.last().map(|line| line.cap.as_str()), Some("idle"), "{lines:?}");
    let last = || line(&self::lines(&weir), "each credential").last_denied;
    until("the denials to be told", LIMIT, || {
        (last().is_some() && weir.status().denied.cap == cut + 1).then_some(())
    });
}
