//! `weir bench-programs`, hidden: what the verifier makes of each program on this kernel.

use anyhow::Result;
use clap::Args;

use super::Outcome;
use crate::app;
use crate::config::Config;
use crate::output;

/// `weir bench-programs`
#[derive(Clone, Debug, Args)]
pub struct BenchProgramsArgs {
    /// JSON lines
    #[arg(long)]
    json: bool,
}

/// Loads every program and prints a line for each.
pub fn run(args: &BenchProgramsArgs) -> Result<Outcome> {
    let programs = app::verified_programs(&Config::default())?;
    let mut refused = false;
    for program in &programs {
        refused |= program.refused.is_some();
        if args.json {
            output::line(&serde_json::to_string(program)?)?;
            continue;
        }
        output::line(&format!(
            "{:16} {:8} {:>8} instructions {:>7} bytes {:>9.3} ms {}",
            program.program,
            format!("{:?}", program.r#use).to_lowercase(),
            program.instructions,
            program.machine_bytes,
            program.load_us as f64 / 1e3,
            program.refused.as_deref().unwrap_or("")
        ))?;
    }
    Ok(if refused { Outcome::Degraded } else { Outcome::Fine })
}
