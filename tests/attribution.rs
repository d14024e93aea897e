//! Which process, user and unit: twenty clients in cgroups of their own, as users of their own, call five servers.

use std::process::Command;

use monitor::view::Direction::{Inbound, Outbound};
use monitor::view::ProcessRow;

use crate::harness::cgroup::{self, Tree};
use crate::harness::clients;
use crate::harness::process::Guard;
use crate::harness::servers::{self, Home, Server};
use crate::harness::weir::Weir;
use crate::harness::{Findings, LIMIT, need, open_dir, skipped, tool, turn};

const CLIENTS: u32 = 20;

#[test]
fn twenty_units_and_users_call_five_servers() {
    need!("python3", "curl", "setpriv");
    let _turn = turn();
    let Some(mut tree) = Tree::new("weirtest") else {
        skipped("cgroup v2 is not mounted or not writable");
        return;
    };
    let homes: Vec<_> = (0..5).map(|n| tree.add(&format!("weirtest-server{n}.service"))).collect();
    let home = |n: usize| Home { cgroup: Some((homes[n].as_path(), 10_000 + n as u32)) };
    let fallback = |n: usize| servers::python("threading", None, &home(n));
    let servers: Vec<Server> = vec![
        servers::python("threading", None, &home(0)),
        servers::python("asyncio", None, &home(1)),
        if tool("node").is_some() { servers::node(None, &home(2)) } else { fallback(2) },
        if tool("go").is_some() { servers::go(&home(3)) } else { fallback(3) },
        servers::python("asyncio", None, &home(4)),
    ];
    let weir = Weir::start();

    // Client i makes i + 3 requests to server i % 5 and 2 to the next one, all at the same time.
    let dir = open_dir();
    let mut expected = [0; 5];
    let mut running: Vec<(Guard, u32, u64)> = (0..CLIENTS)
        .map(|n| {
            let (first, second) = (n as usize % 5, (n as usize + 1) % 5);
            let (many, few) = (u64::from(n) + 3, 2);
            expected[first] += many;
            expected[second] += few;
            let mut command = clients::curl_command(&servers[first].url, many);
            command.args(["-o", "/dev/null"]).arg(format!("{}/second?[1-{few}]", servers[second].url));
            let unit = tree.add(&format!("weirtest-client{n}.service"));
            let out = dir.path().join(n.to_string());
            let guard = Guard::spawn(&mut cgroup::inside(&unit, 20_000 + n, &command), &out, &out);
            (guard, n, many + few)
        })
        .collect();
    for (guard, n, _) in &mut running {
        let status = guard.wait(LIMIT);
        assert!(
            status.success(),
            "client {n}: {}",
            std::fs::read_to_string(dir.path().join(n.to_string())).unwrap()
        );
    }
    for (server, expected) in servers.iter().zip(expected) {
        server.expect(&server.url, expected);
    }
    weir.settle();
    let rows = weir.processes();
    let mut findings = Findings::default();
    let mut check = |what: String, pid: u32, direction, requests: u64, uid: u32, unit: String| {
        let of_pid: Vec<&ProcessRow> =
            rows.iter().filter(|row| row.pid == pid && row.direction == direction).collect();
        let [row] = of_pid.as_slice() else {
            findings.add(format!("{what}: {} rows", of_pid.len()));
            return;
        };
        findings.equal(&format!("{what}: requests"), row.totals.requests, requests);
        findings.equal(&format!("{what}: user"), row.user.clone(), uid.to_string());
        findings.equal(&format!("{what}: workload"), row.workload.clone(), unit);
    };
    for (n, (server, expected)) in servers.iter().zip(expected).enumerate() {
        let unit = format!("unit:weirtest-server{n}.service");
        check(format!("server {n}"), server.pids[0], Inbound, expected, 10_000 + n as u32, unit);
    }
    for (guard, n, made) in &running {
        let unit = format!("unit:weirtest-client{n}.service");
        check(format!("client {n}"), guard.pid(), Outbound, *made, 20_000 + n, unit);
    }
    for direction in [Inbound, Outbound] {
        let wrong: Vec<u32> = match direction {
            Inbound => running.iter().map(|(guard, ..)| guard.pid()).collect(),
            Outbound => servers.iter().map(|server| server.pids[0]).collect(),
        };
        findings.equal(
            &format!("processes that have no {direction:?} requests"),
            weir.count(&wrong, direction),
            0,
        );
    }
    findings.equal("losses", weir.losses(1000), Vec::new());
    findings.none();
    drop(servers);
    drop(running);
}

/// A proxy on the same host is a server and a client: each hop is one inbound and one outbound request.
#[test]
fn a_proxy_has_both_directions() {
    need!("python3", "nginx", "curl");
    let _turn = turn();
    let upstream = servers::python("threading", None, &Home::default());
    let proxy = servers::nginx_with(
        &format!("proxy_pass {}; proxy_http_version 1.1; proxy_set_header Connection \"\";", upstream.url),
        None,
    );
    let weir = Weir::start();
    let client = clients::curl(&proxy.url, 100, &[]);
    proxy.expect("proxy", 100);
    upstream.expect("upstream", 100);
    let mut findings = Findings::default();
    findings.equal("client, outbound", weir.settled(&[client.pid], Outbound), 100);
    findings.equal("client, inbound", weir.count(&[client.pid], Inbound), 0);
    findings.equal("proxy, inbound", weir.count(&proxy.pids, Inbound), 100);
    findings.equal("proxy, outbound", weir.count(&proxy.pids, Outbound), 100);
    findings.equal("upstream, inbound", weir.count(&upstream.pids, Inbound), 100);
    findings.equal("upstream, outbound", weir.count(&upstream.pids, Outbound), 0);
    findings.none();
}

/// Many processes that live for one request only: each has its count and its executable.
#[test]
fn short_lived_clients() {
    need!("nginx", "curl");
    let _turn = turn();
    let server = servers::nginx(None);
    let weir = Weir::start();
    let mut pids = Vec::new();
    for _ in 0..60 {
        pids.push(clients::curl(&server.url, 1, &[]).pid);
    }
    server.expect("curl", 60);
    let mut findings = Findings::default();
    findings.equal("all clients", weir.settled(&pids, Outbound), 60);
    findings.equal("server", weir.count(&server.pids, Inbound), 60);
    let curl = std::fs::canonicalize(tool("curl").unwrap()).unwrap();
    for row in weir.processes().iter().filter(|row| pids.contains(&row.pid)) {
        findings.equal("executable", row.exe.as_str(), curl.to_str().unwrap());
        findings.equal("requests", row.totals.requests, 1);
    }
    findings.none();
}

/// A process that was forked serves on the connection that its parent accepted.
#[test]
fn the_process_that_serves_is_charged() {
    need!("python3", "curl");
    let _turn = turn();
    let weir = Weir::start();
    let dir = open_dir();
    let (out, err) = (dir.path().join("out"), dir.path().join("err"));
    let mut command = Command::new(tool("python3").unwrap());
    command.args(["-u", "-c", FORKING]);
    let mut parent = Guard::spawn(&mut command, &out, &err);
    let text = || std::fs::read_to_string(&out).unwrap();
    let port = crate::harness::until("a port", LIMIT, || text().lines().next()?.parse::<u16>().ok());
    clients::curl(&format!("http://127.0.0.1:{port}"), 5, &["-H", "Connection: close"]);
    assert!(parent.wait(LIMIT).success());
    let children: Vec<u32> = text().lines().skip(1).map(|line| line.parse().unwrap()).collect();
    assert_eq!(children.len(), 5);
    let mut findings = Findings::default();
    findings.equal("the parent", weir.settled(&[parent.pid()], Inbound), 0);
    for child in children {
        findings.equal("each child", weir.count(&[child], Inbound), 1);
    }
    findings.none();
}

/// Accepts five connections and lets a child of its own serve each.
const FORKING: &str = r#"
import os, socket
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1])
for _ in range(5):
    connection, _ = listener.accept()
    child = os.fork()
    if child == 0:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        os._exit(0)
    connection.close()
    os.waitpid(child, 0)
    print(child)
"#;
