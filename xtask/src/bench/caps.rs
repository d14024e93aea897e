//! The caps of the variants that have some, and a caller who is over one.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::daemon::Daemon;
use super::load;
use crate::workspace;

/// Credentials that each have a bucket, the load's own among them.
const IDENTITIES: u64 = 10_000;
/// What the caller sends who is over a cap.
const NEIGHBOUR: &str = "Bearer neighbour";
/// Time between two requests of it: five times what it is allowed.
const PAUSE: Duration = Duration::from_millis(20);
/// Longest wait for its first denial, and for any answer.
const LIMIT: Duration = Duration::from_secs(10);

/// A role of 10,000 credentials, each with a bucket that nobody empties, and a cap that only the neighbour meets. The
/// installation's key is made in `folder` if it is not there.
pub fn configuration(folder: &Path, action: &str) -> Result<String> {
    let state = folder.join("state");
    make_key(&state)?;
    let mut members = fingerprint(&state, &load::credential())?;
    for number in 1..IDENTITIES {
        // Fingerprints are 64 bits without a pattern: an odd factor makes such bits, all of them different.
        write!(members, "\",\n\"bearer:{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15))?;
    }
    let neighbour = fingerprint(&state, NEIGHBOUR)?;
    Ok(format!(
        "[[role]]\nname = \"partners\"\nidentities = [\"{members}\"]\n\
         [[cap]]\nname = \"partners\"\nrole = \"partners\"\neach = \"credential\"\n\
         rate = \"1000000/s\"\nburst = 100000\naction = \"{action}\"\n\
         [[cap]]\nname = \"neighbour\"\nidentity = \"{neighbour}\"\nrate = \"10/s\"\nburst = 5\naction = \"{action}\"\n"
    ))
}

/// An error unless each of `requests` was charged to the cap, and admitted.
pub fn check(daemon: &Daemon, requests: u64) -> Result<()> {
    let verdict = |label| daemon.counter("weir_cap_requests_total", label);
    let allowed = verdict("cap=\"partners\",verdict=\"allow\"")?;
    let others = verdict("cap=\"partners\"")? - allowed;
    if allowed < requests as f64 || others > 0.0 {
        bail!("of {requests} requests the cap allowed {allowed} and met {others} otherwise");
    }
    Ok(())
}

fn make_key(state: &Path) -> Result<()> {
    let file = state.join("key");
    if file.exists() {
        return Ok(());
    }
    fs::create_dir_all(state)?;
    let mut key = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file)?;
    write!(key, "{:032x}", 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c834_u128)
        .with_context(|| format!("cannot write {}", file.display()))
}

/// The identity of what stands in `Authorization`.
fn fingerprint(state: &Path, credential: &str) -> Result<String> {
    let mut command = Command::new(workspace::weir());
    command.args(["identity", "hash", "--state-dir"]).arg(state).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start weir")?;
    child.stdin.take().context("no input")?.write_all(credential.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("`weir identity hash` ended with {}", output.status);
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// A caller who is over its cap until it is dropped, so that packets are judged as they come in.
pub struct Neighbour {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Neighbour {
    /// Starts it and waits until it has been denied.
    pub fn start(port: u16) -> Result<Self> {
        let (stop, told) = channel();
        let (denied, first) = channel();
        let thread = thread::spawn(move || call(port, &told, &denied));
        let neighbour = Self { stop: Some(stop), thread: Some(thread) };
        first.recv_timeout(LIMIT).context("the neighbour was not denied")?;
        Ok(neighbour)
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Calls until `told` has no other end any more; says `denied` when a connection was cut.
fn call(port: u16, told: &Receiver<()>, denied: &Sender<()>) {
    let mut connection = None;
    while told.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
        if ask(port, &mut connection).is_err() {
            connection = None;
            // Nobody listens any more after the first.
            let _ = denied.send(());
        }
    }
}

/// One request, on the connection that is there.
fn ask(port: u16, connection: &mut Option<TcpStream>) -> Result<()> {
    let stream = match connection {
        Some(stream) => stream,
        None => connection.insert(TcpStream::connect((Ipv4Addr::LOCALHOST, port))?),
    };
    stream.set_read_timeout(Some(LIMIT))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: {NEIGHBOUR}\r\n\r\n")?;
    if stream.read(&mut [0; 4096])? == 0 {
        bail!("cut");
    }
    Ok(())
}
