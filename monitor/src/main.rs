//! The `weir` program: the only place that decides exit codes.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use monitor::cli::{Cli, Outcome, Usage};
use monitor::output::is_closed_pipe;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(Outcome::Fine) => ExitCode::SUCCESS,
        Ok(Outcome::Degraded) => ExitCode::from(3),
        // whoever read our output has seen enough
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // standard error may be closed too; there is nobody left to tell
            let _ = writeln!(std::io::stderr(), "weir: {error:#}");
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}
