//! Connections that were open before Weir was.

use monitor::view::Direction::{Inbound, Outbound};

use crate::harness::raw::Wire;
use crate::harness::weir::Weir;
use crate::harness::{Findings, need, turn};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: example\r\nAuthorization: Bearer open\r\n\r\n")
}

/// Idle when Weir came: everything after that is counted.
#[test]
fn idle_connections_are_picked_up() {
    need!();
    let _turn = turn();
    let wire = Wire::new("127.0.0.1:0");
    let mut pairs: Vec<_> = (0..20)
        .map(|_| {
            let mut pair = wire.open();
            pair.up(get("/before"));
            pair.down(OK);
            pair
        })
        .collect();
    let weir = Weir::start();
    let before = (weir.own(Inbound), weir.own(Outbound));
    for pair in &mut pairs {
        for _ in 0..3 {
            pair.up(get("/after-start"));
            pair.down(OK);
        }
        pair.up(get("/after-start").repeat(5));
        pair.down(OK.repeat(5));
    }
    let mut findings = Findings::default();
    findings.equal("inbound", weir.own(Inbound) - before.0, 160);
    findings.equal("outbound", weir.own(Outbound) - before.1, 160);
    let routes = weir.routes();
    findings.equal("requests from before", routes.iter().any(|row| row.route == "/before"), false);
    findings.equal("losses", weir.losses(1000), Vec::new());
    findings.none();
}

/// In the middle of something when Weir came: what had begun is not counted, what a body holds neither, and from the
/// next message on the count is exact.
#[test]
fn busy_connections_are_joined() {
    need!();
    let _turn = turn();
    let wire = Wire::new("127.0.0.1:0");
    let decoy = "GET /decoy HTTP/1.1\r\nHost: decoy\r\n\r\n";
    let rest = format!("the rest of a body\r\n{decoy}{}", "b".repeat(1000));
    let head = format!("POST /begun HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\nbegin", 5 + rest.len());

    let mut in_request_body = wire.open();
    in_request_body.up(&head);
    let mut awaiting_answer = wire.open();
    awaiting_answer.up(get("/begun"));
    let mut in_answer_body = wire.open();
    in_answer_body.up(get("/begun"));
    in_answer_body.down(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\nbegin", 5 + rest.len()));
    let mut in_head = wire.open();
    in_head.up("GET /begun HTTP/1.1\r\nHost: a\r\nX-Long: begin");

    let weir = Weir::start();
    let before = (weir.own(Inbound), weir.own(Outbound));
    in_request_body.up(&rest);
    in_request_body.down(OK);
    awaiting_answer.down(OK);
    in_answer_body.down(&rest);
    in_head.up("ning of a line\r\n\r\n");
    in_head.down(OK);
    let joined = [
        ("request-body", &mut in_request_body),
        ("awaiting-answer", &mut awaiting_answer),
        ("answer-body", &mut in_answer_body),
        ("head", &mut in_head),
    ];
    let names = joined.each_ref().map(|(name, _)| format!("/next/{name}"));
    for ((_, pair), path) in joined.into_iter().zip(&names) {
        for _ in 0..2 {
            pair.up(get(path));
            pair.down(OK);
        }
    }
    let mut findings = Findings::default();
    findings.equal("inbound", weir.own(Inbound) - before.0, 8);
    findings.equal("outbound", weir.own(Outbound) - before.1, 8);
    let routes = weir.routes();
    for direction in [Inbound, Outbound] {
        for name in &names {
            let row = routes.iter().find(|row| row.direction == direction && row.route == *name);
            let counts = row.map(|row| (row.totals.requests, row.totals.status[2]));
            findings.equal(&format!("{name}, {direction:?}: requests and answers"), counts, Some((2, 2)));
        }
    }
    for decoy in ["/decoy", "/begun"] {
        findings.equal(&format!("{decoy} is a request"), routes.iter().any(|row| row.route == decoy), false);
    }
    findings.none();
}
