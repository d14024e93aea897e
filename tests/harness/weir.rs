//! The daemon under test: starts it, asks it, stops it.
//!
//! Counts are asked per process through the command line, as an operator would ask. A test may use this very process as
//! server and client: [`Weir::own`] takes out the requests that the harness makes by itself.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use monitor::view::{Direction, IdentityRow, LossRow, ProcessRow, RouteRow, Status};
use serde::de::DeserializeOwned;

use super::process::{Finished, Guard, run, run_with};
use super::raw::Wire;
use super::{LIMIT, bpf, note, open_dir, until};

/// The program under test: the one built with the tests, or what `WEIR_TEST_BINARY` names.
pub fn binary() -> PathBuf {
    std::env::var_os("WEIR_TEST_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_weir").into(), PathBuf::from)
}

/// Path of the requests that mark a moment, see [`Weir::settle`].
pub const MARK: &str = "/weir-integration-mark";

/// Directories, socket and port of one installation; outlives the daemons that run in it.
#[derive(Clone)]
pub struct Place {
    dir: Arc<tempfile::TempDir>,
    pub port: u16,
}

impl Place {
    /// A new installation; `extra` is added to its configuration.
    pub fn new(extra: &str) -> Self {
        let dir = open_dir();
        let port = free_port();
        let place = Self { dir: Arc::new(dir), port };
        std::fs::create_dir(place.state()).unwrap();
        place.configure(extra);
        place
    }

    /// Writes the configuration.
    pub fn configure(&self, extra: &str) {
        let text = format!(
            "[metrics]\nlisten = \"127.0.0.1:{}\"\n[control]\nsocket = \"{}\"\n[state]\ndir = \"{}\"\n{extra}\n",
            self.port,
            self.socket().display(),
            self.state().display(),
        );
        std::fs::write(self.config(), text).unwrap();
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn config(&self) -> PathBuf {
        self.dir().join("weir.toml")
    }

    pub fn socket(&self) -> PathBuf {
        self.dir().join("weir.sock")
    }

    pub fn state(&self) -> PathBuf {
        self.dir().join("state")
    }

    /// What the daemon has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir().join("weir.log")).unwrap_or_default()
    }

    /// `weir run` in this place.
    pub fn command(&self) -> Command {
        let mut command = Command::new(binary());
        command.args(["run", "--config"]).arg(self.config());
        command
    }

    /// Starts the daemon and waits until it is ready.
    pub fn start(&self) -> Weir {
        self.start_by(&mut self.command())
    }

    /// Starts the daemon by `command` and waits until it is ready.
    pub fn start_by(&self, command: &mut Command) -> Weir {
        let log = self.dir().join("weir.log");
        let mut daemon = Guard::spawn(command, &log, &log);
        until("a ready daemon", LIMIT, || {
            assert!(daemon.ended().is_none(), "the daemon ended at its start:\n{}", self.log());
            (get(self.port, "/readyz")?.0 == 200).then_some(())
        });
        Weir { place: self.clone(), daemon, marks: AtomicU64::new(0), stopped: false }
    }
}

/// A running daemon. When it is dropped it must end in good order.
pub struct Weir {
    pub place: Place,
    daemon: Guard,
    marks: AtomicU64,
    stopped: bool,
}

impl Weir {
    /// A daemon with the default configuration.
    pub fn start() -> Self {
        Place::new("").start()
    }

    /// A daemon with `extra` in its configuration.
    pub fn start_with(extra: &str) -> Self {
        Place::new(extra).start()
    }

    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// Runs a client command against this daemon.
    pub fn run(&self, args: &[&str]) -> Finished {
        run(Command::new(binary()).args(args).arg("--socket").arg(self.place.socket()))
    }

    /// Runs a client command with `input` on its standard input.
    pub fn run_with(&self, args: &[&str], input: &str) -> Finished {
        let mut command = Command::new(binary());
        command.args(args).arg("--socket").arg(self.place.socket());
        run_with(&mut command, input.as_bytes(), LIMIT)
    }

    /// What a client command says with `-o json`.
    pub fn json<T: DeserializeOwned>(&self, args: &[&str]) -> T {
        let done = self.run(&[args, &["-o", "json"]].concat());
        // `status` ends with 3 when something is degraded; its answer is good all the same.
        assert!(matches!(done.status.code(), Some(0 | 3)), "weir {args:?}: {}\n{}", done.status, done.err);
        serde_json::from_str(&done.out)
            .unwrap_or_else(|why| panic!("weir {args:?}: {why}\n{}", &done.out[..done.out.len().min(2000)]))
    }

    pub fn processes(&self) -> Vec<ProcessRow> {
        self.json(&["processes"])
    }

    pub fn identities(&self) -> Vec<IdentityRow> {
        self.json(&["identities"])
    }

    /// Identities that this very process has used, as a server or as a client.
    pub fn own_identities(&self) -> Vec<IdentityRow> {
        let me = std::process::id();
        let workload = self.processes().into_iter().find(|row| row.pid == me).map(|row| row.workload);
        let mut rows = self.identities();
        rows.retain(|row| row.workloads.iter().any(|used| Some(used) == workload.as_ref()));
        rows
    }

    /// The identity of a credential in `Authorization`, as the daemon calls it.
    pub fn fingerprint(&self, credential: &str) -> String {
        self.run_with(&["identity", "hash"], credential).ok().out.trim().to_owned()
    }

    pub fn routes(&self) -> Vec<RouteRow> {
        self.json(&["routes"])
    }

    pub fn status(&self) -> Status {
        self.json(&["status"])
    }

    /// Requests of the processes `pids` in one direction.
    pub fn count(&self, pids: &[u32], direction: Direction) -> u64 {
        self.rows(pids, direction).iter().map(|row| row.totals.requests).sum()
    }

    /// Requests of the processes `pids` in one direction that were answered.
    pub fn answered(&self, pids: &[u32], direction: Direction) -> u64 {
        self.rows(pids, direction).iter().map(|row| row.totals.status[1..].iter().sum::<u64>()).sum()
    }

    fn rows(&self, pids: &[u32], direction: Direction) -> Vec<ProcessRow> {
        let mut rows = self.processes();
        rows.retain(|row| row.direction == direction && pids.contains(&row.pid));
        rows
    }

    /// Requests of this very process in one direction, without marks; take the difference of two. Everything done before
    /// is in it, outbound its scrapes, too ([`get`]).
    pub fn own(&self, direction: Direction) -> u64 {
        self.settle();
        let count = self.count(&[std::process::id()], direction);
        count
            .checked_sub(self.marks.load(Ordering::Relaxed))
            .expect("marks are missing from this process's count")
    }

    /// Requests of `pids` after everything done before has been counted.
    pub fn settled(&self, pids: &[u32], direction: Direction) -> u64 {
        self.settle();
        self.count(pids, direction)
    }

    /// Returns when everything that was done before has been delivered and counted: a request is made and must be
    /// counted, twice, because one drain goes over the rings in some order.
    pub fn settle(&self) {
        for _ in 0..2 {
            let mut pair = Wire::new("127.0.0.1:0").open();
            pair.up(format!("GET {MARK} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
            pair.down("HTTP/1.1 204 No Content\r\n\r\n");
            pair.server_closes();
            let sent = self.marks.fetch_add(1, Ordering::Relaxed) + 1;
            until("a request of the harness itself to be counted", LIMIT, || {
                let marked = self.routes().into_iter().filter(|row| row.route == MARK);
                let seen: u64 = marked
                    .filter(|row| row.direction == Direction::Inbound)
                    .map(|row| row.totals.requests)
                    .sum();
                (seen >= sent).then_some(())
            });
        }
    }

    /// The text of `/metrics`.
    pub fn metrics(&self) -> String {
        let (status, body) = get(self.place.port, "/metrics").expect("no answer from /metrics");
        assert_eq!(status, 200);
        body
    }

    /// Sum of the series of `name` whose labels include all of `labels`.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        sum_series(&self.metrics(), name, labels)
    }

    /// Losses that must not occur when the host keeps up: a full ring, a full table, a decode error. The ledger is the
    /// host's, so it is not judged when the host had much more traffic than the test's, which is about `ours`.
    pub fn losses(&self, ours: u64) -> Vec<LossRow> {
        let status = self.status();
        let all = status.requests_inbound + status.requests_outbound;
        if all > 2 * ours + 200 {
            note(&format!(
                "{all} requests on the host, about {ours} of the test: losses are not judged: {:?}",
                status.losses
            ));
            return Vec::new();
        }
        let mut rows = status.losses;
        rows.retain(|row| matches!(row.stage.as_str(), "ring" | "tracker" | "decode"));
        rows
    }

    /// Ends the daemon as an operator would and checks that it went in good order and left nothing.
    pub fn stop(self) -> Place {
        self.stop_by(libc::SIGTERM)
    }

    /// The same with another signal.
    pub fn stop_by(mut self, signal: i32) -> Place {
        self.end(signal);
        self.place.clone()
    }

    /// Ends the daemon without a chance to clean up; returns the kernel objects that it had.
    pub fn kill(self) -> (Place, Vec<bpf::Object>) {
        self.leave(libc::SIGKILL)
    }

    /// Ends the daemon by a signal; returns the kernel objects that it had, some of which may be pinned.
    pub fn leave(mut self, signal: i32) -> (Place, Vec<bpf::Object>) {
        let held = bpf::held_by(self.pid());
        self.stopped = true;
        // The kernel removes probe after probe, and waits for all CPUs each time: seconds, and many more under load.
        self.daemon.signal(signal);
        self.daemon.wait(LIMIT * 5);
        (self.place.clone(), held)
    }

    fn end(&mut self, signal: i32) {
        let held = bpf::held_by(self.pid());
        self.stopped = true;
        let status: ExitStatus = self.daemon.stop(signal);
        assert!(status.success(), "the daemon ended with {status}:\n{}", self.place.log());
        assert!(!self.place.socket().exists(), "the control socket is still there");
        gone(&held);
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        if self.stopped {
            return;
        }
        if std::thread::panicking() {
            let log = self.place.log();
            let tail: Vec<&str> = log.lines().rev().take(20).collect();
            note(&format!("last lines of the daemon's log, the latest first:\n{}", tail.join("\n")));
        } else {
            self.end(libc::SIGTERM);
        }
    }
}

/// Waits until none of `objects` exists: the kernel frees them a grace period after their last user.
pub fn gone(objects: &[bpf::Object]) {
    assert!(!objects.is_empty(), "the daemon held no kernel objects: nothing to check");
    let mut left = objects.to_vec();
    until("removal of the daemon's kernel objects", LIMIT, || {
        left = bpf::still_there(&left);
        left.is_empty().then_some(())
    });
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Status and body of a GET on loopback, or `None` when nobody listens or the answer breaks off.
pub fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())
        .ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Some((status, if chunked { joined_chunks(body) } else { body.to_owned() }))
}

fn joined_chunks(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 || rest.len() < size {
            break;
        }
        whole.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    whole
}

/// Sum of the series of `name` in an exposition whose labels include all of `labels`.
pub fn sum_series(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let wanted: Vec<String> = labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
    text.lines()
        .filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let (found, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.rsplit_once("} ")?,
                None => ("", rest.strip_prefix(' ')?),
            };
            wanted.iter().all(|label| found.contains(label.as_str())).then(|| value.parse::<f64>().ok())?
        })
        .sum()
}

#[test]
fn series_are_summed_by_label() {
    let text = "# HELP a b\na_total{x=\"1\",y=\"2\"} 3\na_total{x=\"1\",y=\"} 3\"} 4\na_total_more 9\nb 7\n";
    assert_eq!(sum_series(text, "a_total", &[("x", "1")]) as u64, 7);
    assert_eq!(sum_series(text, "a_total", &[("y", "2")]) as u64, 3);
    assert_eq!(sum_series(text, "b", &[]) as u64, 7);
    assert_eq!(joined_chunks("3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n"), "abcd");
}
