//! Caps that outlive the daemon: `[enforce] on_exit = "keep"`.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::load::{Caller, Load, Met, Offer, load};
use super::{ACME, acme, address, cap, get, row};
use crate::harness::bpf::Object;
use crate::harness::process::{Finished, Guard, run, send_signal};
use crate::harness::servers::{self, Certificate, Server};
use crate::harness::weir::{Place, Weir, binary, gone};
use crate::harness::{Findings, LIMIT, need, note, open_dir, tool, turn, until};

const ROOT: &str = "/sys/fs/bpf/weir";
/// Nobody resets a connection that is denied while the daemon is away: a caller that has no answer by now has none.
const PATIENCE: Duration = Duration::from_millis(250);

/// An installation that keeps its programs, which are gone at the end of the test.
struct Kept(Place);

impl Kept {
    fn new(lease: &str) -> Self {
        let kept = Self(Place::new(""));
        kept.configure("keep", lease);
        kept
    }

    fn configure(&self, on_exit: &str, lease: &str) {
        self.0.configure(&format!("[enforce]\non_exit = {on_exit:?}\nlease = {lease:?}\n"));
    }

    fn detach(&self, more: &[&str]) -> Finished {
        let mut command = Command::new(binary());
        run(command.args(["detach", "--all", "--socket"]).arg(self.0.socket()).args(more))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.detach(&["--force"]);
    }
}

fn call(to: SocketAddr, request: &[u8]) -> Met {
    Caller::patient(to, PATIENCE).call(request)
}

/// A cap of the second credential: `burst` requests, then none for an hour.
fn few(weir: &Weir, burst: &str) -> Vec<u8> {
    cap(weir, "few", "Bearer few", &["--rate", "1/h", "--burst", burst, "--persist"]);
    get("/few", "Authorization: Bearer few\r\n")
}

/// Programs and links among kernel objects: maps of buckets go on.
fn code(objects: Vec<Object>) -> Vec<Object> {
    objects.into_iter().filter(|object| !matches!(object, Object::Map(_))).collect()
}

/// What a load met and the server's log say of a cap of 50 a second, 10 at once. `more`: requests that the server may have had
/// beyond it.
fn held(findings: &mut Findings, what: &str, seen: &Load, served: u64, more: u64) {
    let most = 10 + (50.0 * seen.seconds).ceil() as u64 + 1;
    findings.equal(
        &format!("{what}: {served} served, at most {most} + {more}, {seen:?}"),
        served <= most + more,
        true,
    );
    findings.equal(
        &format!("{what}: answered {} of at most {most}", seen.answered),
        seen.answered <= most,
        true,
    );
    findings.equal(&format!("{what}: half of the cap is used"), seen.answered > most / 2, true);
    findings.equal(&format!("{what}: some denied"), seen.cut + seen.silent > 0, true);
    findings.equal(&format!("{what}: odd ones"), seen.odd, 0);
    note(&format!("{what}: {served} served, at most {most} admitted, {seen:?}"));
}

/// Stopped or killed under load, the caps hold until the lease ends.
#[test]
fn caps_hold_for_the_lease() {
    need!("nginx");
    let _turn = turn();
    let mut findings = Findings::default();
    let kept = Kept::new("4s");
    let weir = kept.0.start();
    let server = servers::nginx(None);
    let to = address(&server);
    cap(&weir, "acme", ACME, &["--rate", "50/s", "--burst", "10", "--persist"]);
    let few = few(&weir, "1");
    assert_eq!([call(to, &few), call(to, &few)], [Met::Answer(200), Met::Cut]);
    let passes = |since: Instant| {
        until("requests to pass once the lease has ended", LIMIT, || {
            (call(to, &few) == Met::Answer(200)).then_some(())
        });
        since.elapsed()
    };
    let in_time = |lease: Duration| (3_500..6_000).contains(&lease.as_millis());

    send_signal(weir.pid(), libc::SIGSTOP);
    let hung = passes(Instant::now());
    findings.equal(&format!("a daemon that hangs: {hung:?}"), in_time(hung), true);
    send_signal(weir.pid(), libc::SIGCONT);
    until("a daemon that goes on to deny again", LIMIT, || (call(to, &few) == Met::Cut).then_some(()));

    let before = server.served();
    let (seen, died) = std::thread::scope(|scope| {
        let time = Duration::from_secs(3);
        let offer = Offer { callers: 8, time, patience: PATIENCE, ..Offer::default() };
        let load = scope.spawn(move || load(to, &acme("/kept"), offer));
        until("a load over its cap", LIMIT, || (row(&weir, "acme").denied > 10).then_some(()));
        let died = Instant::now();
        weir.kill();
        (load.join().unwrap(), died)
    });
    held(&mut findings, "killed under load", &seen, server.served() - before, 0);
    let after = passes(died);
    findings.equal(&format!("a daemon that was killed: {after:?}"), in_time(after), true);
    note(&format!("a lease of 4 s ended {hung:.1?} after SIGSTOP, {after:.1?} after SIGKILL"));
    findings.none();
}

/// The next daemon goes on with the budgets of the one before, under load, and its programs replace the old ones.
#[test]
fn the_next_daemon_takes_over() {
    need!("nginx");
    let _turn = turn();
    let mut findings = Findings::default();
    let kept = Kept::new("1m");
    let weir = kept.0.start();
    let server = servers::nginx(None);
    let to = address(&server);
    cap(&weir, "acme", ACME, &["--rate", "50/s", "--burst", "10", "--persist"]);
    let few = few(&weir, "3");
    assert_eq!([call(to, &few), call(to, &few)], [Met::Answer(200); 2]);
    let before = server.served();
    let callers = 8;
    let (seen, weir, old, took) = std::thread::scope(|scope| {
        let time = Duration::from_secs(12);
        let offer = Offer { callers, time, patience: PATIENCE, ..Offer::default() };
        let load = scope.spawn(move || load(to, &acme("/next"), offer));
        until("a load over its cap", LIMIT, || (row(&weir, "acme").denied > 10).then_some(()));
        let (place, old) = weir.kill();
        let started = Instant::now();
        let weir = place.start();
        let took = started.elapsed();
        until("a load over its cap again", LIMIT, || (row(&weir, "acme").denied > 10).then_some(()));
        (load.join().unwrap(), weir, old, took)
    });
    // a request that the old gate let pass just before may be denied by the new programs when the server has it
    held(&mut findings, "killed and started under load", &seen, server.served() - before, callers as u64);
    gone(&code(old));
    findings.equal("one set of pins", std::fs::read_dir(ROOT).unwrap().count(), 1);
    let met = [call(to, &few), call(to, &few)];
    findings.equal("the rest of the budget", met, [Met::Answer(200), Met::Cut]);
    findings.equal("counted since the cap was set", row(&weir, "few").allowed, 3);

    // a clean stop switches nothing off, and another is taken over from
    let (place, old) = weir.leave(libc::SIGTERM);
    findings.equal("after a clean stop", call(to, &few), Met::Silence);
    let weir = place.start();
    gone(&code(old));
    findings.equal("after a clean restart", call(to, &few), Met::Cut);
    weir.run(&["caps", "reset", "few"]).ok();
    findings.equal("after a reset", call(to, &few), Met::Answer(200));
    weir.kill();
    note(&format!("ready {took:.1?} after the start, under load"));
    findings.none();
}

/// Denied without the daemon, a caller is silent; with the next one it learns at once, and no byte of an answer was there.
#[test]
fn no_denied_answer_escapes() {
    need!("nginx", "curl", "openssl");
    let _turn = turn();
    let mut findings = Findings::default();
    let certificate = Certificate::new();
    let kept = Kept::new("1m");
    let weir = kept.0.start();
    let servers = [servers::nginx(None), servers::nginx(Some(&certificate))];
    few(&weir, "2");
    let dir = open_dir();
    let curl = |server: &Server, seconds: &str| {
        let mut command = Command::new(tool("curl").unwrap());
        let wanted = "%{http_code} %{size_header} %{size_download}";
        command.args(["-sk", "-o", "/dev/null", "-w", wanted, "-m", seconds]);
        command.args(["-H", "Authorization: Bearer few"]).arg(&server.url);
        command
    };
    for server in &servers {
        findings.equal("admitted", run(&mut curl(server, "10")).out.starts_with("200 "), true);
    }
    let (place, _) = weir.kill();
    let callers: Vec<_> = (0..3)
        .flat_map(|n| servers.iter().enumerate().map(move |(at, server)| (n, at, server)))
        .map(|(n, at, server)| {
            let out = dir.path().join(format!("{n}-{at}"));
            (Guard::spawn(&mut curl(server, "50"), &out, &out), out)
        })
        .collect();
    // each of them has sent its request when the server of the last has read it, or its packets are held up
    findings.equal("silence", run(&mut curl(&servers[1], "1")).out, "000 0 0".into());
    let weir = place.start();
    for (mut caller, out) in callers {
        let code = caller.wait(Duration::from_secs(20)).code();
        findings.equal("reset, not timed out", code == Some(28), false);
        let said = std::fs::read_to_string(out).unwrap();
        findings.equal("what a caller had", &*said, "000 0 0");
    }
    findings.equal("still denied", run(&mut curl(&servers[1], "10")).out, "000 0 0".into());
    weir.kill();
    // silent again, then detached: what was denied is not answered
    let out = dir.path().join("detached");
    let mut caller = Guard::spawn(&mut curl(&servers[1], "50"), &out, &out);
    findings.equal("silence again", run(&mut curl(&servers[1], "1")).out, "000 0 0".into());
    kept.detach(&[]).ok();
    caller.wait(Duration::from_secs(20));
    findings.equal("after detaching", &*std::fs::read_to_string(out).unwrap(), "000 0 0");
    findings.none();
}

/// `weir detach --all` leaves nothing, and what cannot be taken over is removed.
#[test]
fn what_outlived_the_daemon_can_be_removed() {
    need!("nginx");
    let _turn = turn();
    let mut findings = Findings::default();
    let kept = Kept::new("1m");
    findings.equal("nothing yet", kept.detach(&[]).ok().out.trim(), "nothing attached");
    let weir = kept.0.start();
    let server = servers::nginx(None);
    let to = address(&server);
    let few = few(&weir, "1");
    assert_eq!([call(to, &few), call(to, &few)], [Met::Answer(200), Met::Cut]);
    let refused = kept.detach(&[]);
    findings.equal("while it runs", refused.status.code(), Some(1));
    findings.equal(&refused.err, refused.err.contains("already running"), true);
    let (place, old) = weir.leave(libc::SIGTERM);
    findings.equal("kept", call(to, &few), Met::Silence);
    let mut status = Command::new(binary());
    let status = run(status.args(["status", "--socket"]).arg(place.socket()));
    findings.equal(&status.err, status.err.contains("programs outlived the daemon"), true);
    let said = kept.detach(&[]).ok().out;
    findings.equal(&said, said.contains("removed") && said.contains("nothing is left"), true);
    findings.equal("the directory", Path::new(ROOT).exists(), false);
    findings.equal("detached", call(to, &few), Met::Answer(200));
    gone(&old);
    findings.equal("nothing any more", kept.detach(&[]).ok().out.trim(), "nothing attached");

    // damaged and foreign pins
    let weir = place.start();
    assert_eq!([call(to, &few), call(to, &few)], [Met::Answer(200), Met::Cut]);
    weir.kill();
    std::fs::remove_file(Path::new(ROOT).join("1/BUCKETS")).unwrap();
    std::fs::create_dir(Path::new(ROOT).join("foreign")).unwrap();
    let weir = place.start();
    findings.equal("a fresh bucket", [call(to, &few), call(to, &few)], [Met::Answer(200), Met::Cut]);
    findings.equal("one set of pins", std::fs::read_dir(ROOT).unwrap().count(), 1);
    let log = place.log();
    for why in ["BUCKETS is missing", "it is not complete", "its caps begin anew"] {
        findings.equal(why, log.contains(why), true);
    }

    // pins of a daemon whose configuration is another now
    weir.leave(libc::SIGTERM);
    kept.configure("open", "1m");
    let weir = place.start();
    findings.equal("no pins", Path::new(ROOT).exists(), false);
    findings.equal("the log", place.log().contains("on_exit is \"open\" now"), true);
    findings.equal("still denied", call(to, &few), Met::Cut);
    weir.stop();
    findings.equal("open", call(to, &few), Met::Answer(200));
    findings.none();
}
