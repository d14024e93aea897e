//! The first process inside a virtual machine: prepares the system, runs one command, reports, powers off.
//!
//! This program copies itself into the machine as `/init`; it starts here when it finds itself to be process 1.

use std::ffi::CString;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

/// File with the words of the command, one a line.
pub const COMMAND: &str = "/command";
/// File with the environment of the command, `NAME=value` a line.
pub const ENVIRONMENT: &str = "/environment";
/// Folder with kernel modules, loaded in the order of their names.
pub const MODULES: &str = "/modules";
/// Begins the line with the result: `ok`, or `fail` and why.
pub const RESULT: &str = "WEIR-VM RESULT";

/// Runs as process 1. Returns only when even powering off fails.
pub fn main() -> ExitCode {
    let result = prepare().and_then(|()| command());
    match result {
        Ok(()) => println(&format!("{RESULT} ok")),
        Err(error) => println(&format!("{RESULT} fail {error:#}")),
    }
    // SAFETY: `sync` takes nothing; `reboot` with this constant takes no pointer. Both act on this machine only, which
    // exists for this one command.
    unsafe {
        libc::sync();
        libc::reboot(libc::RB_POWER_OFF);
    }
    ExitCode::FAILURE
}

fn prepare() -> Result<()> {
    let mounts = [
        ("/proc", "proc"),
        ("/sys", "sysfs"),
        ("/dev", "devtmpfs"),
        ("/dev/shm", "tmpfs"),
        ("/sys/fs/cgroup", "cgroup2"),
        ("/sys/fs/bpf", "bpf"),
    ];
    for (at, kind) in mounts {
        fs::create_dir_all(at).ok();
        mount(at, kind).with_context(|| format!("cannot mount {kind} at {at}"))?;
    }
    let mut modules =
        fs::read_dir(MODULES)?.filter_map(Result::ok).map(|entry| entry.path()).collect::<Vec<_>>();
    modules.sort();
    for module in modules {
        load(&module).with_context(|| format!("cannot load {}", module.display()))?;
    }
    loopback_up().context("cannot start the loopback interface")
}

fn command() -> Result<()> {
    let words = fs::read_to_string(COMMAND)?;
    let mut words = words.lines();
    let program = words.next().context("no command")?;
    let mut command = Command::new(program);
    command.args(words).env_clear().current_dir("/root");
    for line in fs::read_to_string(ENVIRONMENT)?.lines() {
        let (name, value) = line.split_once('=').context("not NAME=value")?;
        command.env(name, value);
    }
    let status = command.status().with_context(|| format!("cannot start {program}"))?;
    if !status.success() {
        bail!("{program} ended with {status}");
    }
    Ok(())
}

fn mount(at: &str, kind: &str) -> Result<()> {
    let (at, kind) = (CString::new(at)?, CString::new(kind)?);
    // SAFETY: both strings end with NUL and live over the call; the file systems take no data.
    check(unsafe { libc::mount(kind.as_ptr(), at.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) })
}

fn load(module: &Path) -> Result<()> {
    let image = fs::read(module)?;
    // SAFETY: the kernel reads `image.len()` bytes of a live buffer and an empty string of parameters.
    let result = unsafe { libc::syscall(libc::SYS_init_module, image.as_ptr(), image.len(), c"".as_ptr()) };
    check(result as i32)
}

fn loopback_up() -> Result<()> {
    // SAFETY: `ifreq` is plain data for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: `socket` takes no pointer; its result is checked.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0) };
    check(socket)?;
    // SAFETY: the request is a live `ifreq` with a name that ends with NUL, as SIOCSIFFLAGS expects.
    let result = unsafe { libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw const request) };
    let failure = check(result);
    // SAFETY: the descriptor is ours and not used after this.
    unsafe { libc::close(socket) };
    failure
}

fn check(result: i32) -> Result<()> {
    if result < 0 { Err(io::Error::last_os_error().into()) } else { Ok(()) }
}

fn println(line: &str) {
    let _ = writeln!(io::stdout().lock(), "\n{line}");
}
