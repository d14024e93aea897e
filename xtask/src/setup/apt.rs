//! Debian's package manager.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;

/// Keeps packages from starting their services while they are being installed.
const POLICY: &str = "/usr/sbin/policy-rc.d";
const POLICY_TEXT: &str =
    "#!/bin/sh\n# `cargo xtask setup` is installing packages: start no service.\nexit 101\n";

/// Whether this is the distribution whose packages are known.
pub fn is_debian_12() -> bool {
    let Ok(release) = fs::read_to_string("/etc/os-release") else { return false };
    let has = |line: &str| release.lines().any(|own| own.replace('"', "") == line);
    has("ID=debian") && has("VERSION_ID=12")
}

/// Installs packages from the distribution's own repositories.
pub fn install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if !process::is_root() {
        bail!("root is needed for: apt-get install --no-install-recommends {list}");
    }
    eprintln!("setup: installing {list}");
    update()?;
    let serves = Path::new("/run/systemd/system").exists();
    let nginx_is_new = packages.contains(&"nginx-light");
    let policy = Policy::hold()?;
    process::run(apt("install").args(["--yes", "--no-install-recommends"]).args(packages))
        .context("`apt-get install` failed; `cargo xtask setup --check` lists what is needed")?;
    drop(policy);
    if nginx_is_new && serves {
        // The tests start their own; the packaged service must not take port 80 at the next boot.
        process::run(Command::new("systemctl").args(["disable", "--quiet", "nginx.service"]))?;
    }
    Ok(())
}

/// Refreshes the package lists.
pub fn update() -> Result<()> {
    process::run(apt("update").arg("--quiet")).context("are the Debian 12 repositories reachable?")
}

/// Downloads one package into `dir` without installing it.
pub fn download(package: &str, dir: &Path) -> Result<()> {
    process::run(apt("download").arg(package).current_dir(dir))
}

/// First package that `meta` depends on and whose name begins with `prefix`.
pub fn dependency(meta: &str, prefix: &str) -> Result<String> {
    let listed = process::output(Command::new("apt-cache").args(["depends", "--important", meta]))?;
    let depends = listed.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    let found = depends.map(str::trim).find(|package| package.starts_with(prefix));
    found.map(Into::into).with_context(|| format!("package {meta} depends on no {prefix}*"))
}

fn apt(verb: &str) -> Command {
    let mut command = Command::new("apt-get");
    // Everything here runs as root anyway; the sandbox user cannot write into the target folder.
    command.args(["-o", "APT::Sandbox::User=root", "-o", "Dpkg::Use-Pty=0", "--quiet", verb]);
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// The service policy, for as long as it is held, unless the machine has one of its own.
struct Policy {
    ours: bool,
}

impl Policy {
    fn hold() -> Result<Self> {
        // A file with our text is what an interrupted run left behind.
        let own = fs::read_to_string(POLICY).is_ok_and(|text| text != POLICY_TEXT);
        if !own {
            fs::write(POLICY, POLICY_TEXT).with_context(|| format!("cannot write {POLICY}"))?;
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(POLICY, mode)?;
        }
        Ok(Self { ours: !own })
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        if self.ours {
            let _ = fs::remove_file(POLICY);
        }
    }
}
