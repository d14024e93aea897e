//! Nothing is exempt but the daemon itself: no port is.

use std::time::Instant;

use monitor::view::Direction::{Inbound, Outbound};

use super::{Attack, RATE, cap_acme};
use crate::caps::address;
use crate::caps::load::{Caller, Met};
use crate::harness::servers;
use crate::harness::weir::{Weir, get};
use crate::harness::{Findings, LIMIT, need, turn, until};

/// A caller whose port is that of the metrics endpoint is under its cap all the same, and is seen.
#[test]
fn the_port_of_the_metrics_exempts_no_caller() {
    need!("nginx", "python3");
    let _turn = turn();
    let mut findings = Findings::default();
    let weir = Weir::start();
    let server = servers::nginx(None);
    cap_acme(&weir);
    let began = Instant::now();
    let attack = Attack::begin(&[
        "from_port",
        &address(&server).port().to_string(),
        &weir.place.port.to_string(),
        "300",
    ]);
    let served = attack.told("served ");
    let most = 5 + (RATE * began.elapsed().as_secs_f64()).ceil() as u64 + 1;
    findings.equal(&format!("{served} of 300 served, at most {most}"), served <= most, true);
    findings.equal("at least the burst", served >= 5, true);
    let seen = weir.settled(&server.pids, Inbound);
    findings.equal(&format!("{seen} seen of {served}"), seen >= served, true);
    findings.none();
}

/// A server on the port of the metrics endpoint, at another address, is seen at both ends; so are scrapes, at the end of who makes
/// them. A cap that concerns everybody keeps nobody from them.
#[test]
fn other_servers_on_the_port_of_the_metrics_are_seen() {
    need!("nginx", "python3");
    let _turn = turn();
    let mut findings = Findings::default();
    let weir = Weir::start();
    let port = weir.place.port;
    let other = servers::nginx_at(&format!("127.0.0.2:{port}"));
    let visitor = Attack::start(&["visit", "127.0.0.2", &port.to_string(), "40"]);
    let scraper = Attack::start(&["visit", "127.0.0.1", &port.to_string(), "25"]);
    findings.equal("served", weir.settled(&other.pids, Inbound), 40);
    findings.equal("visited", weir.settled(&[visitor.pid()], Outbound), 40);
    findings.equal("scraped", weir.settled(&[scraper.pid()], Outbound), 25);
    findings.equal("the daemon's own", weir.settled(&[weir.pid()], Inbound), 0);

    // this client is over a cap: the gate looks at every connection
    weir.run(&["caps", "set", "each", "--each", "client", "--rate", "1/h", "--burst", "3"]).ok();
    let server = servers::nginx(None);
    let mut caller = Caller::new(address(&server));
    let request = b"GET /each HTTP/1.1\r\nHost: x\r\n\r\n";
    until("a client over its cap", LIMIT, || (caller.call(request) == Met::Cut).then_some(()));
    let scraped = (0..20).filter(|_| get(port, "/healthz").is_some_and(|answer| answer.0 == 200)).count();
    findings.equal("scrapes under a cap", scraped, 20);
    findings.none();
}
