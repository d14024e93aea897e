//! nginx with two workers under load: Weir's counts equal the access log and the client's report exactly.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use monitor::view::Direction::{Inbound, Outbound};

use crate::harness::clients;
use crate::harness::process::{resident_bytes, send_signal};
use crate::harness::servers::{self, Certificate, Server};
use crate::harness::weir::Weir;
use crate::harness::{Findings, heavy, need, note, turn};

/// Five runs of wrk with 64 kept-alive connections: three with nginx started after Weir, two with nginx started before.
fn runs(certificate: Option<&Certificate>, findings: &mut Findings) {
    let weir = Weir::start();
    for name in ["first", "second", "third"] {
        run(name, &weir, servers::nginx(certificate), findings);
    }
    drop(weir);
    let running = [("fourth", servers::nginx(certificate)), ("fifth", servers::nginx(certificate))];
    let weir = Weir::start();
    for (name, server) in running {
        run(name, &weir, server, findings);
    }
}

fn run(name: &str, weir: &Weir, server: Server, findings: &mut Findings) {
    let what = format!("{name} run against {}", server.url);
    let inbound = [("direction", "inbound"), ("http_route", "/wrk")];
    let before = weir.metric("weir_http_requests_total", &inbound) as u64;
    let client = clients::wrk(&server, heavy());
    let workers = server.pids.clone();
    let logged = server.finish();
    findings.equal(&format!("{what}: inbound and the access log"), weir.settled(&workers, Inbound), logged);
    let answered = weir.answered(&[client.pid], Outbound);
    findings.equal(&format!("{what}: answered outbound and wrk's report"), answered, client.made);
    let made = weir.count(&[client.pid], Outbound);
    findings.equal(
        &format!("{what}: {made} made, {answered} answered"),
        (0..=64).contains(&(made - answered)),
        true,
    );
    let metric = weir.metric("weir_http_requests_total", &inbound) as u64 - before;
    findings.equal(&format!("{what}: metric and the access log"), metric, logged);
    findings.equal(&format!("{what}: losses"), weir.losses(5 * (logged + made)), Vec::new());
    let resident = resident_bytes(weir.pid()) as f64 / 1_048_576.0;
    note(&format!("{what}: {logged} in the log, {} answered, {resident:.0} MiB resident", client.made));
}

#[test]
fn plaintext_five_runs() {
    need!("nginx", "wrk");
    let _turn = turn();
    let mut findings = Findings::default();
    runs(None, &mut findings);
    findings.none();
}

#[test]
fn tls_five_runs() {
    need!("nginx", "wrk", "openssl");
    let _turn = turn();
    let certificate = Certificate::new();
    let mut findings = Findings::default();
    runs(Some(&certificate), &mut findings);
    findings.none();
}

/// ab counts what it asks for, so that both directions have one truth; with and without kept-alive connections.
#[test]
fn every_connection_a_request() {
    need!("nginx", "ab", "openssl");
    let _turn = turn();
    let certificate = Certificate::new();
    let weir = Weir::start();
    let mut findings = Findings::default();
    for tls in [None, Some(&certificate)] {
        let server = servers::nginx(tls);
        let mut total = 0;
        for (args, count) in [(&["-k"][..], heavy() / 5), (&[], heavy() / 50)] {
            let client = clients::ab(&server.url, count, 32, args);
            total += count;
            server.expect("ab", total);
            let what = format!("{}, ab {args:?}", server.url);
            findings.equal(&format!("{what}: outbound"), weir.settled(&[client.pid], Outbound), count);
            findings.equal(&format!("{what}: inbound"), weir.count(&server.pids, Inbound), total);
        }
    }
    findings.equal("losses", weir.losses(heavy()), Vec::new());
    findings.none();
}

/// Bodies that the kernel sends by itself, IPv6 and Unix sockets.
#[test]
fn sendfile_ipv6_and_unix_sockets() {
    need!("nginx", "curl", "ab");
    let _turn = turn();
    let root = crate::harness::open_dir();
    std::fs::write(root.path().join("ab"), vec![b'x'; 100_000]).unwrap();
    std::fs::write(root.path().join("curl"), vec![b'y'; 300]).unwrap();
    let server: Server = servers::nginx_with(
        &format!("root {}; sendfile on; tcp_nopush on; default_type text/plain;", root.path().display()),
        None,
    );
    let weir = Weir::start();
    let mut findings = Findings::default();
    let mut total = 0;
    let mut check = |what: &str, client: &clients::Client| {
        total += client.made;
        server.expect(what, total);
        findings.equal(&format!("{what}: outbound"), weir.settled(&[client.pid], Outbound), client.made);
        findings.equal(&format!("{what}: inbound"), weir.count(&server.pids, Inbound), total);
    };
    check("sendfile", &clients::ab(&server.url, 2000, 8, &["-k"]));
    check("IPv6", &clients::curl(&server.url.replace("127.0.0.1", "[::1]"), 200, &[]));
    check("Unix socket", &clients::curl_unix(&server.file("socket"), 200));
    findings.none();
}

/// The views agree: the total of the metric is the sum of the processes and the sum of the identities.
#[test]
fn views_agree() {
    need!("nginx", "ab");
    let _turn = turn();
    let server = servers::nginx(None);
    let weir = Weir::start();
    clients::ab(&server.url, 1000, 8, &["-k"]);
    weir.settle();
    // Other traffic on the host may come between two reads, so ask until a moment was quiet.
    crate::harness::until(
        "agreement of metric, processes, identities and routes",
        crate::harness::LIMIT,
        || {
            let metric = weir.metric("weir_http_requests_total", &[("direction", "inbound")]) as u64;
            let processes: u64 = weir
                .processes()
                .iter()
                .filter(|row| row.direction == Inbound)
                .map(|row| row.totals.requests)
                .sum();
            let identities: u64 = weir
                .identities()
                .iter()
                .filter(|row| row.direction == Inbound)
                .map(|row| row.totals.requests)
                .sum();
            let routes: u64 = weir
                .routes()
                .iter()
                .filter(|row| row.direction == Inbound)
                .map(|row| row.totals.requests)
                .sum();
            (metric >= 1000 && metric == processes && metric == identities && metric == routes).then_some(())
        },
    );
}

/// A caller that ends its side right behind its requests, before the server has read them, or closes at once: a FIN has a
/// sequence number and is no byte.
#[test]
fn callers_that_end_at_once() {
    need!("nginx");
    let _turn = turn();
    let weir = Weir::start();
    let server = servers::nginx(None);
    let to = server.url.strip_prefix("http://").unwrap().to_owned();
    let request = "GET /ends HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let behind = |requests: &str, end: &dyn Fn(TcpStream)| {
        server.pids.iter().for_each(|pid| send_signal(*pid, libc::SIGSTOP));
        let mut caller = TcpStream::connect(&to).unwrap();
        caller.write_all(requests.as_bytes()).unwrap();
        caller.shutdown(Shutdown::Write).unwrap();
        let rest = caller.try_clone().unwrap();
        drop(caller);
        server.pids.iter().for_each(|pid| send_signal(*pid, libc::SIGCONT));
        end(rest);
    };
    for _ in 0..5 {
        behind(&request.repeat(20), &|mut caller| {
            let mut answers = String::new();
            caller.read_to_string(&mut answers).unwrap();
            assert_eq!(answers.matches("HTTP/1.1 200").count(), 20);
        });
    }
    server.expect("callers that end their side", 100);
    assert_eq!(weir.settled(&server.pids, Inbound), 100, "callers that end their side");
    for _ in 0..5 {
        behind(request, &drop);
    }
    server.expect("callers that close", 105);
    assert_eq!(weir.settled(&server.pids, Inbound), 105, "callers that close");
}
