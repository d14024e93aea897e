//! A daemon that is killed without warning: those it observes do not notice, and the kernel forgets it.

use monitor::view::Direction::Inbound;

use crate::harness::process::Guard;
use crate::harness::servers::{self, Certificate};
use crate::harness::weir::{Place, gone};
use crate::harness::{LIMIT, bpf, clients, need, note, open_dir, tool, turn, until};

/// How often it is killed, from `WEIR_TEST_KILLS`: a kernel under load takes seconds for each of a killed daemon's probes.
fn kills() -> usize {
    std::env::var("WEIR_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(5)
}

#[test]
fn kills_under_load() {
    need!("nginx", "wrk", "openssl");
    let _turn = turn();
    let certificate = Certificate::new();
    let servers = [servers::nginx(None), servers::nginx(Some(&certificate))];
    let dir = open_dir();
    let mut loads: Vec<(Guard, std::path::PathBuf)> = servers
        .iter()
        .enumerate()
        .map(|(n, server)| {
            let out = dir.path().join(n.to_string());
            let mut wrk = std::process::Command::new(tool("wrk").unwrap());
            wrk.args(["-t", "1", "-c", "8", "-d", "600s"]).arg(&server.url);
            (Guard::spawn(&mut wrk, &out, &out), out)
        })
        .collect();
    let place = Place::new("");
    for round in 0..kills() {
        let weir = place.start();
        // It observes the load, plaintext and TLS, when it dies.
        for server in &servers {
            until("observed load", LIMIT, || (weir.count(&server.pids, Inbound) > 50).then_some(()));
        }
        let (_, held) = weir.kill();
        gone(&held);
        let from = servers.each_ref().map(servers::Server::served);
        for (server, from) in servers.iter().zip(from) {
            server.at_least(from + 50, LIMIT);
        }
        for (load, out) in &mut loads {
            assert!(load.ended().is_none(), "round {round}: {}", std::fs::read_to_string(out).unwrap());
        }
    }
    for (load, out) in &mut loads {
        assert!(load.stop(libc::SIGINT).success());
        let report = std::fs::read_to_string(out).unwrap();
        assert!(!report.contains("Socket errors") && !report.contains("Non-2xx"), "{report}");
    }
    for server in servers {
        let errors = std::fs::read_to_string(server.file("error.log")).unwrap_or_default();
        assert!(!errors.contains("crit") && !errors.contains("exited on signal"), "nginx: {errors}");
        note(&format!("{} requests served over {} kills", server.finish(), kills()));
    }
    // Nothing pinned, and the next start works and counts.
    let pins = std::fs::read_dir("/sys/fs/bpf").map_or(0, |dir| {
        dir.flatten().filter(|entry| entry.file_name().to_string_lossy().contains("weir")).count()
    });
    assert_eq!(pins, 0, "pins stayed behind");
    let weir = place.start();
    let server = servers::nginx(None);
    let client = clients::curl(&server.url, 20, &[]);
    assert_eq!(weir.settled(&server.pids, Inbound), client.made);
    assert!(!bpf::held_by(weir.pid()).is_empty());
}
