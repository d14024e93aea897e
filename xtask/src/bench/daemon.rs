//! Child processes that end with the benchmark, and the daemon under test.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{cpu, load};
use crate::workspace;

/// Longest wait for something that a child does.
const LIMIT: Duration = Duration::from_secs(30);
/// Time between two looks at it.
const STEP: Duration = Duration::from_millis(5);

/// A child that is killed when it is dropped.
pub struct Child {
    child: process::Child,
    log: PathBuf,
}

impl Child {
    /// Starts `command`; everything it prints goes to `log`.
    pub fn spawn(command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub fn printed(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until `ready` says so; an error when the child ends before, or takes too long.
    pub fn wait_until(&mut self, what: &str, mut ready: impl FnMut() -> bool) -> Result<()> {
        let start = Instant::now();
        while !ready() {
            if let Some(status) = self.child.try_wait()? {
                bail!("waited for {what}, but it ended with {status}: {}", self.printed().trim());
            }
            if start.elapsed() > LIMIT {
                bail!("waited {LIMIT:?} for {what}: {}", self.printed().trim());
            }
            thread::sleep(STEP);
        }
        Ok(())
    }

    /// Ends it in good order.
    pub fn stop(mut self) -> Result<ExitStatus> {
        // SAFETY: `kill` takes no pointer; the child has not been waited for, so the id is still its own.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if start.elapsed() > LIMIT {
                bail!("did not end within {LIMIT:?}: {}", self.printed().trim());
            }
            thread::sleep(STEP);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running daemon.
pub struct Daemon {
    child: Child,
    port: u16,
}

impl Daemon {
    /// Starts it with `configuration` beside its own places in `folder`, and waits until it observes.
    pub fn start(folder: &Path, configuration: &str) -> Result<Self> {
        let port = load::free_port()?;
        let path = folder.display();
        let file = folder.join("weir.toml");
        let places = format!(
            "[metrics]\nlisten = \"127.0.0.1:{port}\"\n[control]\nsocket = \"{path}/weir.sock\"\n[state]\ndir = \"{path}/state\"\n"
        );
        fs::create_dir_all(folder.join("state"))?;
        fs::write(&file, places + configuration)?;
        let mut weir = Command::new(workspace::weir());
        weir.args(["run", "--config"]).arg(&file);
        let mut child = Child::spawn(&mut weir, &folder.join("weir.log"))?;
        child.wait_until("weir to be ready", || {
            get(port, "/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
        })?;
        Ok(Self { child, port })
    }

    /// Nanoseconds that it has run so far.
    pub fn on_cpu_ns(&self) -> Result<u64> {
        cpu::on_cpu_ns(self.child.pid())
    }

    /// Sum of a counter over its series that have `label`.
    pub fn counter(&self, name: &str, label: &str) -> Result<f64> {
        let text = get(self.port, "/metrics").context("weir answers no scrape")?;
        Ok(sum(&text, name, label))
    }

    /// Ends it; an error unless it says that all was well.
    pub fn stop(self) -> Result<()> {
        let log = self.child.log.clone();
        let status = self.child.stop()?;
        if !status.success() {
            bail!("weir ended with {status}: {}", fs::read_to_string(log).unwrap_or_default().trim());
        }
        Ok(())
    }
}

/// The whole answer to a request, or `None` where nobody answers.
fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// Adds up the series `name{..label..}` of a scrape.
fn sum(text: &str, name: &str, label: &str) -> f64 {
    let series = text.lines().filter_map(|line| line.strip_prefix(name));
    let wanted = series.filter(|rest| rest.starts_with(['{', ' ']) && rest.contains(label));
    wanted.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_added_up() {
        let text = "# HELP a_total x\na_total{d=\"in\",r=\"/x y\"} 3\na_total{d=\"out\"} 4\na_total{d=\"in\"} 5\na_total_created 9\nb_total 7\n";
        assert!((sum(text, "a_total", "d=\"in\"") - 8.0).abs() < 1e-9);
        assert!((sum(text, "a_total", "") - 12.0).abs() < 1e-9);
        assert!((sum(text, "b_total", "") - 7.0).abs() < 1e-9);
    }
}
