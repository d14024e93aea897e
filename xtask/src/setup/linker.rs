//! `bpf-linker`, built once against Debian's LLVM.

use std::process::Command;

use anyhow::{Context, Result};

use crate::{cargo, process};

const VERSION: &str = "0.13.0";
/// What a person would type on another distribution.
pub const COMMAND: &str = "cargo install bpf-linker --version 0.13.0 --locked";

/// Whether a linker is there that starts. Any version serves that the person chose; ours is installed when there is none.
pub fn is_installed() -> bool {
    process::find("bpf-linker").is_some_and(|linker| process::succeeds(Command::new(linker).arg("--version")))
}

/// Builds and installs it into cargo's own folder of programs, where every checkout finds it.
pub fn install() -> Result<()> {
    eprintln!("setup: building bpf-linker {VERSION} (1 to 3 minutes, once)");
    let mut install = cargo::cargo();
    install
        .args(["install", "bpf-linker", "--version", VERSION, "--locked", "--force"])
        .args(["--no-default-features", "--features", "llvm-22"])
        .env("LLVM_PREFIX", "/usr/lib/llvm-22");
    process::run(&mut install).context("bpf-linker could not be built")
}
