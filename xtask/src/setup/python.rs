//! The servers of the differential tests: a Python environment of their own under the target folder.
//!
//! Versions and hashes are in `tests/differential/requirements.txt`; where the packages come from is pip's configuration.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{process, workspace};

/// The interpreter that the requirements are for.
const PYTHON: &str = "/usr/bin/python3";

fn requirements() -> PathBuf {
    workspace::root().join("tests/differential/requirements.txt")
}

/// The environment.
pub fn environment() -> PathBuf {
    workspace::target().join("python")
}

/// What was installed: the requirements' text, written last.
fn stamp() -> PathBuf {
    environment().join("requirements.txt")
}

/// Whether the environment holds what the requirements ask for.
pub fn is_installed() -> bool {
    let wanted = fs::read(requirements()).ok();
    wanted.is_some() && wanted == fs::read(stamp()).ok() && environment().join("bin/python").exists()
}

/// Makes the environment, anew when there is one with other requirements.
pub fn install() -> Result<()> {
    eprintln!("setup: Python servers for the tests (half a minute, once)");
    let environment = environment();
    process::run(Command::new(PYTHON).args(["-m", "venv", "--clear"]).arg(&environment))?;
    process::run(
        Command::new(environment.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(["--only-binary", ":all:", "--require-hashes", "--requirement"])
            .arg(requirements()),
    )
    .context("is a package index reachable that pip is configured for?")?;
    fs::copy(requirements(), stamp()).context("cannot note what is installed")?;
    Ok(())
}
