//! One run of QEMU, bounded in time.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::guest;
use crate::process;

/// A machine to be started.
pub struct Machine<'a> {
    /// Name in front of its lines.
    pub name: &'a str,
    /// Kernel image.
    pub kernel: &'a Path,
    /// Root file system.
    pub initramfs: &'a Path,
    /// Where all that it prints is kept.
    pub console: PathBuf,
    /// Longest time from the start to power-off.
    pub limit: Duration,
}

/// How often a machine is booted before it is given up.
const BOOTS: u32 = 3;

impl Machine<'_> {
    /// Boots it, shows what its command prints, gives `each` every line of it, and returns when the machine has powered
    /// off: an error unless it reported success.
    ///
    /// Emulated, a kernel that patches its own code at boot now and then finds it half patched on its other CPU, and panics. A
    /// machine that ends before its first program has said anything is booted again.
    pub fn run(&self, each: &mut dyn FnMut(&str)) -> Result<()> {
        for _ in 1..BOOTS {
            if self.boot(each)? {
                return Ok(());
            }
            eprintln!("[{}] it did not boot: once more", self.name);
        }
        if self.boot(each)? {
            return Ok(());
        }
        bail!("it does not boot; its console is in {}", self.console.display())
    }

    /// As [`Self::run`]; false when it did not boot.
    fn boot(&self, each: &mut dyn FnMut(&str)) -> Result<bool> {
        let program = process::find("qemu-system-x86_64").context("qemu-system-x86_64 is missing")?;
        let mut console = File::create(&self.console)
            .with_context(|| format!("cannot write {}", self.console.display()))?;
        let mut qemu = Command::new(program);
        // Software emulation: it works everywhere, also where this machine is a virtual one itself.
        qemu.args(["-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "2048", "-no-reboot", "-nodefaults"])
            .args(["-display", "none", "-serial", "stdio", "-kernel"])
            .arg(self.kernel)
            .arg("-initrd")
            .arg(self.initramfs)
            .args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off nowatchdog"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = Killed(qemu.spawn().context("cannot start qemu")?);
        let output = child.0.stdout.take().context("qemu has no output")?;
        let (send, lines) = mpsc::channel();
        let reader = thread::spawn(move || {
            // The console may carry any bytes.
            for line in BufReader::new(output).split(b'\n') {
                let Ok(line) = line else { break };
                if send.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                    break;
                }
            }
        });
        let end = Instant::now() + self.limit;
        let (mut result, mut booted) = (None, false);
        loop {
            match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    writeln!(console, "{line}")?;
                    if let Some((_, verdict)) = line.split_once(guest::RESULT) {
                        result = Some(verdict.trim().to_owned());
                    } else if !line.is_empty() {
                        // the kernel's own lines have their time in front
                        booted |= !line.starts_with('[');
                        eprintln!("[{}] {line}", self.name);
                        each(&line);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    bail!("no end after {:?}; its console is in {}", self.limit, self.console.display())
                }
            }
        }
        reader.join().ok();
        match result.as_deref() {
            Some("ok") => Ok(true),
            Some(verdict) => bail!("{verdict}; its console is in {}", self.console.display()),
            None if !booted => Ok(false),
            None => bail!("it ended without a result; its console is in {}", self.console.display()),
        }
    }
}

/// A child that does not outlive this run.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
