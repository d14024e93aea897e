//! Request lines of heads that arrive in pieces: each is judged by its own, whatever came before it on the connection.

use super::*;
use crate::harness::weir::Place;

/// A daemon with an access level `GET /v1/` for [`ACME`], and `extra` in its configuration.
pub fn reader(extra: &str) -> Weir {
    let weir = Place::new("").start();
    let identity = weir.fingerprint(ACME);
    let place = weir.stop();
    place.configure(&format!(
        "{extra}\n[[role]]\nname = \"reader\"\nidentities = [{identity:?}]\naccess = [\"GET /v1/\"]\n"
    ));
    place.start()
}

/// Requests that the server answered with 200. What was cut within its head may be in its log, too, as another status.
fn granted(server: &Server) -> usize {
    let log = std::fs::read_to_string(server.file("requests.log")).unwrap();
    log.lines().filter(|line| line.starts_with("200 ")).count()
}

#[test]
fn a_long_head_is_judged_by_its_own_line() {
    need!("nginx");
    let _turn = turn();
    let mut findings = Findings::default();
    for respond in [false, true] {
        let server = servers::nginx(None);
        let to = address(&server);
        let weir = reader(&listener(to, respond));
        let credential = format!("Authorization: {ACME}\r\n");
        let mut wanted = 0;
        for pad in [600, 4_200, 7_000, 12_000, 20_000] {
            let what = format!("respond {respond}, {pad} bytes more");
            let lines = (0..pad / 600).map(|_| format!("X-Filler: {}\r\n", "f".repeat(588)));
            let long: String = lines.collect();
            let with = format!("{long}{credential}");
            let mut caller = Caller::new(to);
            findings.equal(&format!("{what}: nobody's"), caller.call(&get("/v1/z", &long)), Met::Answer(200));
            let met = caller.call(&get("/admin", &with));
            findings.equal(&format!("{what}: outside, {met:?}"), met == Met::Answer(200), false);
            let mut caller = Caller::new(to);
            let met = caller.call(&get("/admin", &long));
            findings.equal(&format!("{what}: nobody's, outside"), met, Met::Answer(200));
            for _ in 0..2 {
                let met = caller.call(&get("/v1/z", &with));
                findings.equal(&format!("{what}: within, behind it"), met, Met::Answer(200));
            }
            let met = Caller::new(to).call(&get("/v1/z", &with));
            findings.equal(&format!("{what}: within"), met, Met::Answer(200));
            wanted += 5;
        }
        let cookie = get("/v1/c", &format!("Cookie: c={}\r\n{credential}", "c".repeat(6_000)));
        findings.equal("a long cookie", Caller::new(to).call(&cookie), Met::Answer(200));
        until("the server's log", LIMIT, || (granted(&server) > wanted).then_some(()));
        findings.equal(&format!("respond {respond}: granted"), granted(&server), wanted + 1);
        drop(weir);
    }
    findings.none();
}
