//! The installation: state directory, port, socket, and the running daemon.

use std::ffi::CString;
use std::fs;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{fail, pass, warn};
use crate::bpf::pins;
use crate::config::Config;
use crate::output::human_bytes;
use crate::serve::control::ControlSocket;
use crate::view::{CheckRow, Status};

/// Below this the state directory is as good as full.
const FREE_BYTES: u64 = 64 << 20;

/// The nearest directory on the way to `path` that exists.
fn existing(path: &Path) -> &Path {
    path.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"))
}

pub fn state_dir(config: &Config) -> CheckRow {
    let dir = existing(&config.state.dir);
    let probe = dir.join(format!(".weir-doctor-{}", std::process::id()));
    match fs::write(&probe, b"weir").and_then(|()| fs::remove_file(&probe)) {
        Ok(()) if dir == config.state.dir => {
            pass("state directory", format!("{} is writable", dir.display()))
        }
        Ok(()) => pass("state directory", format!("{} will be made", config.state.dir.display())),
        Err(error) => fail(
            "state directory",
            format!("{}: {error}", dir.display()),
            "correct its owner, or set `[state] dir`",
        ),
    }
}

pub fn disk(config: &Config) -> CheckRow {
    let dir = existing(&config.state.dir);
    match free_bytes(dir) {
        Some(free) if free < FREE_BYTES => {
            warn("disk", format!("{} free at {}", human_bytes(free), dir.display()), "make room")
        }
        Some(free) => pass("disk", format!("{} free at {}", human_bytes(free), dir.display())),
        None => warn("disk", format!("{}: cannot tell", dir.display()), "check the file system"),
    }
}

fn free_bytes(dir: &Path) -> Option<u64> {
    let path = CString::new(dir.as_os_str().as_bytes()).ok()?;
    let mut found = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `path` is NUL-terminated and lives through the call; `found` has room for the struct that is written.
    let done = unsafe { libc::statvfs(path.as_ptr(), found.as_mut_ptr()) };
    if done != 0 {
        return None;
    }
    // SAFETY: statvfs returned 0, so it filled the struct.
    let found = unsafe { found.assume_init() };
    Some(found.f_bavail * found.f_frsize)
}

pub fn daemon(config: &Config, daemon: Option<&Status>) -> CheckRow {
    match daemon {
        Some(status) => pass("daemon", format!("{} runs (pid {})", status.version, status.pid)),
        None => match ControlSocket::check(&config.control.socket) {
            Ok(()) => pass("daemon", "not running"),
            Err(error) => {
                fail("daemon", format!("{error:#}"), "restart it, or choose another `[control] socket`")
            }
        },
    }
}

/// What outlived a daemon that does not run; `None` when there is nothing.
pub fn kept() -> Option<CheckRow> {
    let kept = pins::kept();
    let detail = || format!("{kept} programs outlived the daemon, until its lease ends they enforce caps");
    (kept > 0).then(|| warn("kept programs", detail(), pins::REMEDY))
}

pub fn metrics_port(config: &Config, daemon: Option<&Status>) -> CheckRow {
    let listen = config.metrics.listen;
    match TcpListener::bind(listen) {
        Ok(_) if daemon.is_some() => warn(
            "metrics",
            format!("{listen} is free while the daemon runs"),
            "it was started with another address",
        ),
        Ok(_) => pass("metrics", format!("{listen} is free")),
        Err(_) if daemon.is_some() => pass("metrics", format!("{listen} is in use by the daemon")),
        Err(error) => {
            fail("metrics", format!("{listen}: {error}"), "stop the other program or set `[metrics] listen`")
        }
    }
}

/// What the running daemon says.
pub fn running(status: &Status) -> Vec<CheckRow> {
    let mut rows = vec![if status.ready {
        pass("ready", format!("socket hook {}", status.socket_hook))
    } else {
        fail("ready", "the daemon is not ready", "see `weir status -o wide` and its log")
    }];
    let (attached, missing): (Vec<_>, Vec<_>) = status.hooks.iter().partition(|hook| hook.attached);
    rows.push(if let Some(hook) = missing.iter().find(|hook| hook.mandatory) {
        fail("hooks", format!("{} ({}) is not attached", hook.name, hook.target), "see the daemon's log")
    } else if missing.is_empty() {
        pass("hooks", format!("{} attached", attached.len()))
    } else {
        warn(
            "hooks",
            format!("{} optional ones are not attached", missing.len()),
            "see `weir status -o wide`",
        )
    });
    let lost: u64 = status.losses.iter().filter(|row| row.stage == "ring").map(|row| row.count).sum();
    rows.push(if lost == 0 {
        pass("losses", "no record lost")
    } else {
        fail("losses", format!("{lost} records lost in the ring"), "raise `[observe] ring_bytes`")
    });
    rows
}

/// Loads and attaches the kernel side and lets it go again.
pub fn load(config: &Config) -> CheckRow {
    if crate::host::missing_capabilities().is_some() {
        return warn("load", "not tried without capabilities", "run `weir doctor` as root");
    }
    match crate::app::try_sensor(config) {
        Ok(hook) => pass("load", format!("the kernel side loads and attaches, socket hook {hook}")),
        Err(error) => fail("load", format!("{error:#}"), "report this with the kernel's release"),
    }
}
