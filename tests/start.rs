//! Start and end: one clear error each, nothing left behind, and observation within a second.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Command;
use std::time::{Duration, Instant};

use monitor::view::Direction::{Inbound, Outbound};

use crate::harness::process::{Finished, run};
use crate::harness::servers;
use crate::harness::weir::{Place, Weir, binary, get};
use crate::harness::{LIMIT, clients, need, note, open_dir, skipped, tool, turn, until};

/// Checks that a start failed with one error that has all of `words`, and that it left nothing.
fn refused(place: &Place, done: &Finished, words: &[&str]) {
    let all = format!("{}{}", done.out, done.err);
    assert!(!done.status.success(), "it started: {all}");
    assert!(matches!(done.status.code(), Some(1 | 2)), "{}: {all}", done.status);
    let errors: Vec<&str> = all.lines().filter(|line| !line.trim().is_empty()).collect();
    assert!(!errors.is_empty() && errors.len() <= 3, "not one clear error:\n{all}");
    for word in words {
        assert!(all.to_lowercase().contains(word), "{word:?} is not in: {all}");
    }
    assert!(!all.contains("panicked"), "{all}");
    assert!(!place.socket().exists(), "a socket stayed behind");
    assert!(done.took < Duration::from_secs(10), "it took {:?} to fail", done.took);
}

#[test]
fn without_root() {
    need!("setpriv");
    let _turn = turn();
    let place = Place::new("");
    // Where any user can reach it.
    let dir = open_dir();
    let program = dir.path().join("weir");
    std::fs::copy(binary(), &program).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(place.state(), std::fs::Permissions::from_mode(0o777)).unwrap();
    std::fs::set_permissions(place.dir(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let done = run(Command::new(tool("setpriv").unwrap())
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(&program)
        .args(["run", "--config"])
        .arg(place.config()));
    refused(&place, &done, &["root"]);
}

#[test]
fn without_btf() {
    need!("unshare");
    let _turn = turn();
    let place = Place::new("");
    // A mount namespace of its own, where an empty directory lies over the type information.
    let hide = "mount -t tmpfs none /sys/kernel/btf || exit 77; exec \"$@\"";
    let mut command = Command::new(tool("unshare").unwrap());
    command.args(["--mount", "--propagation", "private", "sh", "-c", hide, "sh"]);
    let done = run(command.arg(binary()).args(["run", "--config"]).arg(place.config()));
    if done.status.code() == Some(77) {
        skipped("cannot hide the kernel's type information");
        return;
    }
    refused(&place, &done, &["btf"]);
}

#[test]
fn port_in_use() {
    need!();
    let _turn = turn();
    let place = Place::new("");
    let _taken = std::net::TcpListener::bind(("127.0.0.1", place.port)).unwrap();
    let done = run(&mut place.command());
    refused(&place, &done, &[&place.port.to_string(), "in use"]);
}

#[test]
fn socket_in_use() {
    need!();
    let _turn = turn();
    let weir = Weir::start();
    let second = Place::new("");
    let text = std::fs::read_to_string(second.config()).unwrap();
    let shared = text.replace(second.socket().to_str().unwrap(), weir.place.socket().to_str().unwrap());
    std::fs::write(second.config(), shared).unwrap();
    let done = run(&mut second.command());
    refused(&second, &done, &["already running", &weir.pid().to_string()]);
    assert!(get(second.port, "/healthz").is_none());
    // The first one is unharmed.
    assert!(weir.status().ready);
}

#[test]
fn a_dead_socket_is_replaced() {
    need!();
    let _turn = turn();
    let place = Place::new("");
    drop(std::os::unix::net::UnixListener::bind(place.socket()).unwrap());
    let weir = place.start();
    let mode = std::fs::metadata(place.socket()).unwrap().mode() & 0o777;
    assert_eq!(mode, 0o660, "mode of the control socket: {mode:o}");
    weir.settle();
}

#[test]
fn broken_configurations() {
    need!();
    let _turn = turn();
    for (text, words) in [
        ("[observe]\ndrain_intervall = \"5ms\"\n", &["drain_intervall", "drain_interval", "weir.toml:"][..]),
        ("[metrcs]\nlisten = \"127.0.0.1:1\"\n", &["metrcs", "metrics"]),
        ("[observe]\ntls = \"perhaps\"\n", &["tls", "weir.toml:"]),
        ("[identity\n", &["weir.toml:"]),
    ] {
        let place = Place::new(text);
        let done = run(&mut place.command());
        refused(&place, &done, words);
        let checked = run(Command::new(binary()).args(["config", "check", "--config"]).arg(place.config()));
        assert!(!checked.status.success(), "config check accepts {text:?}");
    }
    let place = Place::new("");
    run(Command::new(binary()).args(["config", "check", "--config"]).arg(place.config())).ok();
    std::fs::remove_file(place.config()).unwrap();
    refused(&place, &run(&mut place.command()), &["weir.toml"]);
}

#[test]
fn a_request_is_seen_within_a_second_of_it() {
    need!("nginx", "curl");
    let _turn = turn();
    let server = servers::nginx(None);
    let start = Instant::now();
    let weir = Weir::start();
    let ready = start.elapsed();
    let client = clients::curl(&server.url, 1, &[]);
    let asked = Instant::now();
    until("the request in the list of processes", LIMIT, || {
        let both = [(client.pid, Outbound), (server.pids[0], Inbound), (server.pids[1], Inbound)];
        let seen: u64 = both.iter().map(|&(pid, direction)| weir.count(&[pid], direction)).sum();
        (seen == 2).then_some(())
    });
    let took = asked.elapsed();
    note(&format!("ready after {ready:?}, a request seen after {took:?}"));
    assert!(took < Duration::from_secs(1), "{took:?}");
}

/// Ends when asked, within a second, and leaves the installation key only, which nobody else may read. [`Weir::stop_by`]
/// checks the socket and the kernel's objects.
#[test]
fn a_clean_end() {
    need!("nginx", "curl");
    let _turn = turn();
    let server = servers::nginx(None);
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let place = Place::new("");
        let weir = place.start();
        clients::curl(&server.url, 10, &[]);
        weir.settle();
        let start = Instant::now();
        weir.stop_by(signal);
        assert!(start.elapsed() < Duration::from_secs(3), "{:?} to end", start.elapsed());
        assert!(get(place.port, "/healthz").is_none(), "the port is still open");
        for entry in std::fs::read_dir(place.state()).unwrap().flatten() {
            let mode = entry.metadata().unwrap().mode() & 0o777;
            assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", entry.path().display());
        }
    }
}

/// `doctor` says that this host can do it, and the status shows every mandatory hook.
#[test]
fn doctor_and_status() {
    need!();
    let _turn = turn();
    let weir = Weir::start();
    let doctor = weir.run(&["doctor"]);
    assert!(matches!(doctor.status.code(), Some(0)), "{}\n{}{}", doctor.status, doctor.out, doctor.err);
    // fences and sockets that can be destroyed are everywhere; gate and sends are told one way or the other
    let found = |check: &str| doctor.out.lines().find(|line| line.contains(check)).unwrap_or_default();
    for check in ["fences ", "ending connections "] {
        assert!(found(check).starts_with("PASS"), "{check}: {}", doctor.out);
    }
    for check in ["gate ", "outbound denial "] {
        assert!(!found(check).is_empty(), "{check}: {}", doctor.out);
    }
    let status = weir.status();
    assert!(status.ready && status.pid == weir.pid());
    assert!(matches!(status.socket_hook.as_str(), "tp_btf" | "fexit"), "{}", status.socket_hook);
    assert!(status.hooks.iter().any(|hook| hook.mandatory));
    assert!(status.hooks.iter().all(|hook| hook.attached || !hook.mandatory), "{:?}", status.hooks);
    assert!(status.records_produced >= status.records_delivered);
    // A client without a daemon: one error, and what to do.
    let place = Place::new("");
    let done = run(Command::new(binary()).arg("status").arg("--socket").arg(place.socket()));
    assert_eq!(done.status.code(), Some(1), "{}", done.err);
    assert!(done.err.contains(place.socket().to_str().unwrap()), "{}", done.err);
}
