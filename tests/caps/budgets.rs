//! Whose budget a request spends: nobody spends another's, or multiplies his own.

use super::load::{Caller, Met};
use super::{address, get, row};
use crate::harness::weir::Place;
use crate::harness::{Findings, LIMIT, need, note, servers, turn, until};

/// A cap for each client counts every request of it, whatever header is made up, also when the server has taken it for good.
#[test]
fn made_up_headers_lift_no_client_cap() {
    need!("nginx");
    let _turn = turn();
    let mut findings = Findings::default();
    let place = Place::new(
        "[[role]]\nname = \"known\"\nidentities = [\"client:127.0.0.3\"]\n\n[[cap]]\nname = \"seen\"\neach = \"credential\"\n\
         rate = \"1/h\"\nburst = 1000\naction = \"shadow\"\n",
    );
    let weir = place.start();
    let server = servers::nginx(None);
    let made_up = get("/public", "X-Api-Key: made-up\r\n");
    // a public page has answered it with 200, and that is known: it has a bucket of its own
    until("the credential to be accepted", LIMIT, || {
        findings.equal("uncapped", Caller::new(address(&server)).call(&made_up), Met::Answer(200));
        row(&weir, "seen").buckets.iter().any(|one| one.identity.starts_with("api_key:")).then_some(())
    });
    weir.run(&["caps", "set", "clients", "--each", "client", "--rate", "5/h", "--burst", "5"]).ok();
    let met: Vec<_> = (0..12).map(|_| Caller::new(address(&server)).call(&made_up)).collect();
    let answered = met.iter().filter(|met| **met == Met::Answer(200)).count();
    findings.equal(&format!("a made-up header: {met:?}"), answered, 5);
    findings.equal("the rest", met.iter().filter(|met| **met == Met::Cut).count(), 7);
    // an exception is for its role only
    weir.run(&["caps", "set", "clients", "--except", "role:known"]).ok();
    let refused = Caller::new(address(&server)).call(&made_up);
    findings.equal("others stay capped", refused, Met::Cut);
    note(&format!("{answered} of {} with a made-up header", met.len()));
    drop(weir);
    findings.none();
}
