//! Tasks that are little more than one cargo command.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{process, workspace};

/// The cargo that runs this task, in the workspace.
pub fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace::root());
    // Set for this task by `cargo run`; inherited, they would make build scripts run again.
    for (name, _) in env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
        {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Builds the released binary.
pub fn build() -> Result<()> {
    process::run(cargo().args(["build", "--release", "--locked", "--package", "monitor"]))
}

/// Replaces this process with `weir run ARGS`, so that signals and the terminal are the daemon's own.
pub fn exec_weir(args: Vec<OsString>) -> Result<()> {
    let weir = workspace::weir();
    if !process::is_root() {
        bail!("`weir run` needs root: run `sudo {} run`", weir.display());
    }
    let error = Command::new(&weir).arg("run").args(args).exec();
    Err(error).with_context(|| format!("cannot start {}", weir.display()))
}

/// Direction of dependencies, formatting and lints.
pub fn lint() -> Result<()> {
    crate::modules::check()?;
    crate::setup::ensure(crate::setup::Tier::Build)?;
    for (part, package) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if !process::succeeds(cargo().args([part, "--version"])) {
            bail!("`cargo {part}` is missing: install it with `rustup component add {package}`");
        }
    }
    process::run(cargo().args(["fmt", "--all", "--check"])).context("run `cargo fmt --all`")?;
    process::run(cargo().args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))
}

/// Builds the integration tests as released and returns their program.
pub fn integration_tests() -> Result<PathBuf> {
    let mut build = cargo();
    build.args([
        "test",
        "--release",
        "--locked",
        "--package",
        "monitor",
        "--test",
        "integration",
        "--no-run",
    ]);
    build.args(["--message-format", "json-render-diagnostics"]).stderr(Stdio::inherit());
    let messages = process::output(&mut build)?;
    let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut tests = artifacts.filter(|message| message["target"]["name"] == "integration");
    let program = tests.find_map(|message| message["executable"].as_str().map(PathBuf::from));
    program.context("cargo named no program of the integration tests")
}
