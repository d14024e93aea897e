//! Requests of real servers and clients: Weir's counts on both sides equal the server's own log.

use monitor::view::Direction::{Inbound, Outbound};

use crate::harness::clients::{self, Client};
use crate::harness::servers::{self, Certificate, Home, Server};
use crate::harness::weir::Weir;
use crate::harness::{Findings, need, note, tool, turn};

/// Requests that each client makes.
const EACH: u64 = 400;

/// A client by name; it is given the server's address.
type Named = (&'static str, fn(&str) -> Client);

/// Runs every client against `server` and compares the counts of all three sides.
fn compare(server: &Server, clients: &[Named]) {
    let weir = Weir::start();
    let mut findings = Findings::default();
    let before = server.served();
    let mut made = 0;
    for (name, client) in clients {
        let client = client(&server.url);
        made += client.made;
        server.expect(name, before + made);
        findings.equal(&format!("{name}, outbound"), weir.settled(&[client.pid], Outbound), client.made);
        findings.equal(&format!("after {name}, inbound"), weir.count(&server.pids, Inbound), made);
    }
    findings.equal("losses", weir.losses(2 * made), Vec::new());
    findings.equal("inbound at the end", weir.settled(&server.pids, Inbound), made);
    findings.none();
}

/// Clients that need nothing but what every test host has.
const PYTHON_AND_CURL: &[Named] = &[
    ("curl", |url| clients::curl(url, EACH, &[])),
    ("python http.client", |url| clients::python("http.client", url, EACH)),
    ("python urllib", |url| clients::python("urllib", url, EACH / 4)),
    ("python asyncio", |url| clients::python("asyncio", url, EACH)),
];

/// All clients that are installed.
fn all_clients() -> Vec<Named> {
    let mut found = PYTHON_AND_CURL.to_vec();
    if tool("node").is_some() {
        found.push(("node http", |url| clients::node("http", url, EACH)));
        found.push(("node fetch", |url| clients::node("fetch", url, EACH)));
    }
    if tool("go").is_some() {
        found.push(("go", |url| clients::go(url, EACH)));
    }
    if tool("ab").is_some() {
        found.push(("ab", |url| clients::ab(url, EACH, 4, &[])));
    }
    found
}

#[test]
fn python_threading() {
    need!("python3", "curl");
    let _turn = turn();
    compare(&servers::python("threading", None, &Home::default()), &all_clients());
}

#[test]
fn python_asyncio() {
    need!("python3", "curl");
    let _turn = turn();
    compare(&servers::python("asyncio", None, &Home::default()), &all_clients());
}

#[test]
fn node() {
    need!("node", "python3", "curl");
    let _turn = turn();
    compare(&servers::node(None, &Home::default()), &all_clients());
}

#[test]
fn go() {
    need!("go", "python3", "curl");
    let _turn = turn();
    compare(&servers::go(&Home::default()), &all_clients());
}

#[test]
fn python_tls() {
    need!("python3", "curl", "openssl");
    let _turn = turn();
    let certificate = Certificate::new();
    for kind in ["threading", "asyncio"] {
        compare(&servers::python(kind, Some(&certificate), &Home::default()), PYTHON_AND_CURL);
    }
}

/// A client that brings its own TLS library may be invisible, but the server's side is exact, and the client is either
/// counted exactly or not at all.
#[test]
fn node_tls() {
    need!("node", "python3", "curl", "openssl");
    let _turn = turn();
    let certificate = Certificate::new();
    let python = servers::python("threading", Some(&certificate), &Home::default());
    let node = servers::node(Some(&certificate), &Home::default());
    let weir = Weir::start();
    let mut findings = Findings::default();

    let client = clients::node("http", &python.url, EACH);
    python.expect("node to python", client.made);
    findings.equal("python, inbound", weir.settled(&python.pids, Inbound), client.made);
    let seen = weir.count(&[client.pid], Outbound);
    findings.equal("node, outbound: all or nothing", seen == 0 || seen == client.made, true);

    let client = clients::curl(&node.url, EACH, &[]);
    node.expect("curl to node", client.made);
    findings.equal("curl, outbound", weir.settled(&[client.pid], Outbound), client.made);
    let served = weir.count(&node.pids, Inbound);
    findings.equal("node, inbound: all or nothing", served == 0 || served == client.made, true);
    note(&format!("node's own TLS library: client {}, server {}", covered(seen), covered(served)));
    findings.none();
}

fn covered(count: u64) -> &'static str {
    if count > 0 { "counted" } else { "not covered" }
}
