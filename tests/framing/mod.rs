//! Framing through real sockets: what was written, in which pieces, is known to the byte, and so is the count.

mod cases;

use monitor::view::Direction::{Inbound, Outbound};

use crate::harness::process::{allow_files, resident_bytes};
use crate::harness::raw::{Pair, Wire};
use crate::harness::weir::Weir;
use crate::harness::{Findings, need, note, turn};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Every case on a connection of its own, over IPv4 and IPv6; each case has a path of its own, so that its requests and
/// the classes of its answers are found in the routes.
#[test]
fn every_case() {
    need!();
    let _turn = turn();
    let weir = Weir::start();
    let before = (weir.own(Inbound), weir.own(Outbound));
    let mut findings = Findings::default();
    let mut total = 0;
    for (wire, family) in [(Wire::new("127.0.0.1:0"), "v-four"), (Wire::new("[::1]:0"), "v-six")] {
        for case in cases::ALL {
            (case.run)(wire.open(), &format!("/{family}/{}", case.name));
            total += case.requests();
        }
    }
    findings.equal("inbound", weir.own(Inbound) - before.0, total);
    findings.equal("outbound", weir.own(Outbound) - before.1, total);
    let routes = weir.routes();
    for family in ["v-four", "v-six"] {
        for case in cases::ALL.iter().filter(|case| case.has_path) {
            for direction in [Inbound, Outbound] {
                let path = format!("/{family}/{}", case.name);
                let mut status = [0; 6];
                for row in routes.iter().filter(|row| row.direction == direction && row.route == path) {
                    row.totals.status.iter().zip(&mut status).for_each(|(count, sum)| *sum += count);
                }
                findings.equal(&format!("{path}, {direction:?}: answers by class"), status, case.status);
            }
        }
    }
    findings.equal("losses", weir.losses(total), Vec::new());
    findings.none();
}

/// Messages cut in two at every byte, requests and answers, with one credential in all of them: the count of its
/// identity shows that it was read right at every cut.
#[test]
fn every_split() {
    need!();
    let _turn = turn();
    let requests = [
        "GET /split HTTP/1.1\r\nHost: split.example\r\nAuthorization: Bearer split-credential\r\n\r\n",
        "GET /split HTTP/1.1\nhost: split.example\nauthorization:Bearer split-credential\n\n",
        "POST /split HTTP/1.1\r\nAUTHORIZATION:  bearer split-credential \r\nHost: x\r\nContent-Length: 21\r\n\r\n\
         GET /in HTTP/1.1\r\n\r\n.",
        "PUT /split HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nAuthorization: Bearer split-credential\r\n\r\n\
         0A;x=y\r\nGET /in HT\r\n2\r\n\r\n\r\n0\r\nTrailer: GET / HTTP/1.1\r\n\r\n",
        "DELETE /split HTTP/1.1\r\nHost: x\r\nX-Authorization: Bearer other\r\nAuthorization2: Bearer other\r\n\
         Authorization: Bearer split-credential\r\nX-After: 1\r\n\r\n",
    ];
    let answers = [
        OK,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nHTT\r\n0a\r\nP/1.1 200 \r\n0\r\nT: HTTP/1.1 200\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 404 Not Found\ncontent-length: 0\n\n",
    ];
    let weir = Weir::start();
    let wire = Wire::new("127.0.0.1:0");
    let before = (weir.own(Inbound), weir.own(Outbound));
    let mut total = 0;
    for request in requests {
        let mut pair = wire.open();
        for at in 1..request.len() {
            pair.up(&request[..at]);
            pair.up(&request[at..]);
            pair.down(OK);
            total += 1;
            // A connection of its own for some, where nothing is remembered from the request before.
            if at % 5 == 0 {
                pair.server_closes();
                pair = wire.open();
            }
        }
    }
    let mut pair = wire.open();
    for answer in answers {
        for at in 1..answer.len() {
            pair.up(requests[0]);
            pair.down(&answer[..at]);
            pair.down(&answer[at..]);
            total += 1;
        }
    }
    let mut findings = Findings::default();
    findings.equal("inbound", weir.own(Inbound) - before.0, total);
    findings.equal("outbound", weir.own(Outbound) - before.1, total);
    for direction in [Inbound, Outbound] {
        let rows = weir.own_identities().into_iter();
        let rows = rows.filter(|row| row.direction == direction && row.kind == "bearer");
        let counts: Vec<u64> = rows.map(|row| row.totals.requests).collect();
        findings.equal(&format!("requests of the one credential, {direction:?}"), counts, vec![total]);
    }
    findings.equal("losses", weir.losses(total), Vec::new());
    findings.none();
}

/// Ten thousand heads that never end: memory stays bounded, and what is completed after all is counted.
#[test]
fn half_open_heads() {
    need!();
    let _turn = turn();
    // Both ends are here, and both have a head that does not end: at least 19,000 of them on any host.
    let count = 10_000.min((allow_files(21_000) - 500) / 2);
    let weir = Weir::start();
    let before = weir.own(Inbound);
    let resident = resident_bytes(weir.pid());
    let wire = Wire::new("127.0.0.1:0");
    let mut pairs: Vec<Pair> = (0..count)
        .map(|n| {
            let mut pair = wire.open();
            pair.up(format!(
                "GET /half-open HTTP/1.1\r\nHost: example\r\nX-Number: {n}\r\nX-Long: {}",
                "x".repeat(500)
            ));
            pair
        })
        .collect();
    weir.settle();
    let grown = resident_bytes(weir.pid()).saturating_sub(resident);
    note(&format!("{count} half-open heads: {:.1} MiB more resident", grown as f64 / 1_048_576.0));
    assert!(grown < 64 << 20, "{grown} bytes more resident with half-open heads");
    assert_eq!(weir.own(Inbound), before, "a head that has not ended was counted");
    let completed = count.div_ceil(100);
    for pair in pairs.iter_mut().step_by(100) {
        pair.up("\r\n\r\n");
        pair.down(OK);
    }
    assert_eq!(weir.own(Inbound) - before, completed);
    drop(pairs);
    assert_eq!(weir.own(Inbound) - before, completed, "closing counted something");
}
