//! The one logger: lines on standard error, or held back while a live table has the terminal.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::LogLevel;
use crate::threads::lock;

/// Most lines that are held back; older ones are dropped.
const HELD: usize = 500;

/// Lines that wait for the terminal, and whether lines wait at all.
struct Held {
    on: bool,
    lines: VecDeque<String>,
}

/// The logger is process-wide by nature, so what it holds back is too.
static HOLD: Mutex<Held> = Mutex::new(Held { on: false, lines: VecDeque::new() });

fn hold() -> MutexGuard<'static, Held> {
    lock(&HOLD)
}

/// Starts logging. Under systemd the journal adds time stamps, so none are written.
///
/// # Errors
/// When logging was started before.
pub fn init(level: &LogLevel) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&level.0)?;
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Stderr)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    let started = if journal { builder.without_time().try_init() } else { builder.try_init() };
    started.map_err(|error| anyhow::anyhow!("logging cannot start: {error}"))
}

/// While it lives, lines that would go to a terminal are held back; they are written when it is dropped.
#[must_use]
pub struct Pause(());

impl Pause {
    /// Begins to hold lines back, if standard error is a terminal.
    pub fn begin() -> Self {
        hold().on = io::stderr().is_terminal();
        Self(())
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        let mut held = hold();
        held.on = false;
        let mut out = io::stderr().lock();
        for line in held.lines.drain(..) {
            let _ = out.write_all(line.as_bytes());
        }
    }
}

/// The latest line that is held back, without terminal escapes.
pub fn latest() -> Option<String> {
    let line = hold().lines.back()?.clone();
    let mut plain = String::new();
    let mut rest = line.trim_end();
    while let Some((before, after)) = rest.split_once("\x1b[") {
        plain.push_str(before);
        rest = after.split_once('m').map_or("", |(_, after)| after);
    }
    plain.push_str(rest);
    Some(plain)
}

struct Stderr;

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        Self
    }
}

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut held = hold();
        if held.on {
            if held.lines.len() >= HELD {
                held.lines.pop_front();
            }
            held.lines.push_back(String::from_utf8_lossy(line).into_owned());
        } else {
            io::stderr().write_all(line)?;
        }
        Ok(line.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
