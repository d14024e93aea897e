//! What the command line says about caps that are at work.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use monitor::view::{CapUse, ReplayRow};

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

/// Proposed caps are tried on what the daemon remembers, which has neither credentials nor queries in it.
#[test]
fn caps_are_tried_on_what_was_seen() {
    need!("nginx");
    let _turn = turn();
    let weir = Weir::start();
    let server = servers::nginx(None);
    let identity = weir.fingerprint(ACME);
    weir.run(&["identity", "name", &identity, "acme"]).ok();
    let mut caller = Caller::new(address(&server));
    for n in 0..12 {
        assert_eq!(caller.call(&acme(&format!("/tried/{n}?q=hidden"))), Met::Answer(200));
    }
    weir.settle();
    let proposed = weir.place.dir().join("proposed.toml");
    let text = format!(
        "[[cap]]\nname = \"try\"\nidentity = {identity:?}\nroute = \"/tried/\"\nrate = \"5/h\"\nburst = 5\n"
    );
    std::fs::write(&proposed, text).unwrap();
    let done = weir.run(&["caps", "test", proposed.to_str().unwrap(), "--since", "24h", "-o", "json"]).ok();
    let rows: Vec<ReplayRow> = serde_json::from_str(&done.out).unwrap();
    let row = &rows[0];
    assert_eq!((row.applied, row.admitted, row.denied), (12, 5, 7), "{rows:?}");
    assert_eq!(row.top, [("acme".to_owned(), 7)]);
    assert!(
        done.err.contains("history covers ") && done.err.contains(" of the 24h asked for: "),
        "{}",
        done.err
    );
    let mut socket = UnixStream::connect(weir.place.socket()).unwrap();
    socket.write_all(b"GET /v1/recent?since=1h HTTP/1.0\r\nHost: weir\r\n\r\n").unwrap();
    let mut kept = String::new();
    socket.read_to_string(&mut kept).unwrap();
    assert_eq!(kept.matches("\"path\":\"/tried/").count(), 24, "both ends of each: {kept}");
    assert!(!kept.contains("hidden") && !kept.contains("acme-secret"), "{kept}");
    let place = weir.stop();
    place.configure("[history]\nrequests = 0\n");
    let weir = place.start();
    let refused = weir.run(&["caps", "test", proposed.to_str().unwrap()]);
    assert!(!refused.status.success() && refused.err.contains("[history] requests"), "{}", refused.err);
}
