//! Caps from one a second to 20,000 a second, over many connections and over a new one for each request.

use super::*;

/// Loads a server of its own for each rate (with its burst), as fast as the callers are answered.
fn at_every_rate(what: &str, rates: &[(u32, u64)], offer: Offer) {
    let mut findings = Findings::default();
    let weir = Weir::start();
    for (rate, burst) in rates {
        let what = format!("{rate}/s, {what}");
        let server = servers::nginx(None);
        let (limit, at_once) = (format!("{rate}/s"), burst.to_string());
        cap(&weir, "acme", ACME, &["--rate", &limit, "--burst", &at_once]);
        weir.run(&["caps", "reset", "acme"]).ok();
        let seen = load(address(&server), &acme("/rate"), offer);
        let cut = seen.cut;
        findings.equal(&format!("{what}: more was offered than the cap admits"), cut > 0, true);
        // what comes in while another CPU still completes the handshake is decided when the server has it
        judge(&mut findings, &what, &seen, server.finish(), (*burst, f64::from(*rate)), 1 + cut / 200);
        findings.equal(&format!("{what}: denied"), row(&weir, "acme").denied, cut);
    }
    findings.none();
}

fn time() -> Duration {
    Duration::from_secs(if long() { 30 } else { 3 })
}

#[test]
fn exact_over_256_connections() {
    need!("nginx");
    let _turn = turn();
    let offer = Offer { callers: 256, time: time(), ..Offer::default() };
    at_every_rate("256 connections", &[(1, 1), (1_000, 100), (20_000, 2_000)], offer);
}

#[test]
fn exact_with_a_connection_for_each_request() {
    need!("nginx");
    let _turn = turn();
    let offer = Offer { callers: 32, fresh: true, time: time(), ..Offer::default() };
    at_every_rate("a connection for each request", &[(1, 1), (1_000, 100), (5_000, 500)], offer);
}
