//! `weir bench-hooks`, hidden: what `cargo xtask bench` compares Weir with.

use anyhow::Result;
use clap::Args;

use super::Outcome;
use crate::bpf::bench::{BareHooks, Mode};
use crate::output;

/// `weir bench-hooks`
#[derive(Clone, Debug, Args)]
pub struct BenchHooksArgs {
    /// What to attach
    #[arg(long)]
    mode: Mode,
    /// Only say whether this build has it
    #[arg(long)]
    check: bool,
}

/// Attaches, says `ready`, and reads until killed.
pub fn run(args: &BenchHooksArgs) -> Result<Outcome> {
    if args.check {
        return Ok(Outcome::Fine);
    }
    let mut hooks = BareHooks::start(args.mode)?;
    output::line("ready")?;
    hooks.read()?;
    Ok(Outcome::Fine)
}
