//! Files of others keep nobody waiting: whatever they are, and whoever holds them.

use std::time::{Duration, Instant};

use super::{Attack, cap_acme, holds};
use crate::caps::address;
use crate::caps::load::{Caller, Met};
use crate::harness::weir::Weir;
use crate::harness::{Findings, LIMIT, need, note, servers, turn, until};

/// A JWT that nobody has signed, of a user with this number.
fn token(number: u32) -> String {
    use base64::Engine as _;
    let part = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    format!(
        "{}.{}.x",
        part(r#"{"alg":"none"}"#),
        part(&format!(r#"{{"iss":"https://idp","sub":"user{number}"}}"#))
    )
}

/// Libraries that cannot be opened because of a lease, or that are pipes by now: the cap holds, newly accepted credentials are
/// taken up, changes are made, the daemon ends when it is told to and starts again.
#[test]
fn files_of_others_hang_nothing() {
    need!("nginx", "python3");
    let _turn = turn();
    let mut findings = Findings::default();
    let server = servers::nginx(None);
    let place = crate::harness::weir::Place::new(&format!(
        "[[listener]]\nport = {}\nguarded = \"all\"\n\n\
         [[role]]\nname = \"users\"\nkind = \"jwt\"\n\n[[cap]]\nname = \"users\"\nrole = \"users\"\nrate = \"1/h\"\nburst = 1\n\
         action = \"shadow\"\n",
        address(&server).port()
    ));
    let weir = place.start();
    cap_acme(&weir);
    let held = Attack::start(&["leases", "32"]);
    let _pipes = Attack::start(&["pipes", "32"]);
    // the files of both have been looked at once a library that was mapped later is probed
    let accepted = |weir: &Weir, number: u32| {
        let head =
            format!("GET /user HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", token(number));
        let mut caller = Caller::new(address(&server));
        // once to be accepted, then until the role has its member
        until(&format!("user {number} to be limited"), LIMIT, || {
            assert_eq!(caller.call(head.as_bytes()), Met::Answer(200));
            (crate::caps::row(weir, "users").shadowed > u64::from(number)).then_some(())
        });
    };
    accepted(&weir, 0);
    for round in 1..=2 {
        holds(&mut findings, &format!("round {round}"), &server, Duration::from_secs(5));
        accepted(&weir, round);
        let asked = Instant::now();
        weir.run(&[
            "caps",
            "set",
            "second",
            "--identity",
            "client:192.0.2.1",
            "--rate",
            "9/s",
            "--burst",
            "9",
        ])
        .ok();
        let took = asked.elapsed();
        findings.equal(&format!("a change took {took:.0?}"), took < Duration::from_secs(2), true);
    }
    findings.equal("degraded", weir.status().degraded, Vec::new());
    let told = Instant::now();
    let place = weir.stop();
    note(&format!("told to end, it took {:.0?}", told.elapsed()));
    let began = Instant::now();
    let weir = place.start();
    let took = began.elapsed();
    findings.equal(&format!("the start took {took:.0?}"), took < Duration::from_secs(20), true);
    drop(held);
    drop(weir);
    findings.none();
}

/// Signals that mean nothing change nothing.
#[test]
fn other_signals_do_not_end_the_daemon() {
    need!();
    let _turn = turn();
    let weir = Weir::start();
    for signal in [libc::SIGUSR1, libc::SIGUSR2, libc::SIGPIPE] {
        crate::harness::process::send_signal(weir.pid(), signal);
        // an answer that it gives after the signal
        assert_eq!(weir.status().pid, weir.pid(), "signal {signal}");
    }
}

/// Told to end, the daemon ends within two seconds, also in the middle of its start.
#[test]
fn the_daemon_ends_when_it_is_told_to() {
    need!("python3");
    let _turn = turn();
    let mut findings = Findings::default();
    let place = crate::harness::weir::Place::new("");
    let _held = Attack::start(&["leases", "32"]);
    for number in 0..5u64 {
        let log = place.dir().join("weir.log");
        let mut daemon = crate::harness::process::Guard::spawn(&mut place.command(), &log, &log);
        // its signals are taken from here on
        until("a daemon that starts", LIMIT, || {
            let status =
                std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap_or_default();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or_default();
            let caught = u64::from_str_radix(caught.trim(), 16).unwrap_or(0);
            (caught & 1 << (libc::SIGTERM - 1) != 0).then_some(())
        });
        if number > 0 {
            // somewhere in its start: when it has so many threads
            until("threads", LIMIT, || {
                let threads =
                    std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap().count() as u64;
                (threads > 2 * number || crate::harness::weir::get(place.port, "/readyz").is_some())
                    .then_some(())
            });
        }
        let told = Instant::now();
        let status = daemon.stop(libc::SIGTERM);
        let took = told.elapsed();
        // the kernel lets go of what was attached within the end of the process
        findings.equal(
            &format!("end {number}: {status}, {took:.0?}"),
            status.success() && took < Duration::from_secs(4),
            true,
        );
    }
    findings.none();
}
