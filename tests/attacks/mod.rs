//! Attacks of local users without rights on the daemon itself: none of them may stop it, stall it or blind it.
//!
//! Each runs as user nobody, beside a real server under a cap that must hold all the same.

mod files;
mod own;
mod readers;
mod slots;
mod state;

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::caps::load::{Load, Offer, load};
use crate::caps::{ACME, acme, address};
use crate::harness::process::Guard;
use crate::harness::servers::Server;
use crate::harness::weir::Weir;
use crate::harness::{Findings, LIMIT, open_dir, script, tool, until};

/// `nobody` and `nogroup` of Debian.
const NOBODY: u32 = 65_534;

/// A running attack: `tests/scripts/attack.py`.
struct Attack {
    guard: Guard,
    dir: tempfile::TempDir,
}

impl Attack {
    /// Starts an attack and waits until it is under way.
    fn start(args: &[&str]) -> Self {
        let attack = Self::begin(args);
        attack.says("ready");
        attack
    }

    /// Starts an attack.
    fn begin(args: &[&str]) -> Self {
        let dir = open_dir();
        let mut command = Command::new(tool("python3").unwrap());
        command.arg(script("attack.py")).args(args).uid(NOBODY).gid(NOBODY).current_dir("/");
        let (out, err) = (dir.path().join("out"), dir.path().join("err"));
        Self { guard: Guard::spawn(&mut command, &out, &err), dir }
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    /// Waits until the attack has printed a line.
    fn says(&self, line: &str) {
        until(&format!("an attack that says {line:?}"), LIMIT, || {
            let text = std::fs::read_to_string(self.out()).unwrap();
            let err = std::fs::read_to_string(self.dir.path().join("err")).unwrap();
            assert!(err.is_empty(), "the attack failed: {err}");
            text.lines().any(|said| said == line).then_some(())
        });
    }

    /// What stands behind `word` in the only line with it, once there is one.
    fn told(&self, word: &str) -> u64 {
        until(&format!("an attack that tells {word:?}"), LIMIT, || {
            let text = std::fs::read_to_string(self.out()).unwrap();
            text.lines().find_map(|line| line.strip_prefix(word)?.trim().parse().ok())
        })
    }

    fn pid(&self) -> u32 {
        self.guard.pid()
    }

    /// Waits until the attack has ended by itself.
    fn finish(mut self) {
        let status = self.guard.wait(LIMIT);
        let err = std::fs::read_to_string(self.dir.path().join("err")).unwrap();
        assert!(status.success() && err.is_empty(), "the attack failed: {status} {err}");
    }
}

/// Requests a second of the cap that must hold.
const RATE: f64 = 5.0;

/// Puts a caller under a cap.
fn cap_acme(weir: &Weir) {
    let identity = weir.fingerprint(ACME);
    weir.run(&["caps", "set", "acme", "--identity", &identity, "--rate", "5/s", "--burst", "5"]).ok();
}

/// The cap holds while its caller sends much more than it may for some time.
fn holds(findings: &mut Findings, what: &str, server: &Server, time: Duration) -> Load {
    let offer = Offer { callers: 2, rate: Some(100.0), time, ..Offer::default() };
    let seen = load(address(server), &acme("/attacked"), offer);
    let most = 5 + (RATE * seen.seconds).ceil() as u64 + 1;
    findings.equal(&format!("{what}: at most {most} answers: {seen:?}"), seen.answered <= most, true);
    findings.equal(&format!("{what}: at least the burst: {seen:?}"), seen.answered >= 5, true);
    seen
}
