//! Development tasks: `cargo xtask TASK`.
//!
//! Owns everything around the product: its environment, builds, checks, fuzzing, virtual machines, benchmarks and
//! packages.
//! It must not contain product logic: it talks to `weir` only through its command line, metrics and socket.

mod bench;
mod cargo;
mod fuzz;
mod modules;
mod package;
mod process;
mod setup;
mod test;
mod vm;
mod workspace;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Tasks for working on Weir.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what building and testing need; quick when nothing is missing.
    Setup(setup::Args),
    /// Build `target/release/weir`.
    Build,
    /// Set up, build, and start the daemon with the given arguments (as root).
    Run {
        /// Arguments of `weir run`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Check formatting and lints; warnings are errors.
    Lint,
    /// Unit tests, integration tests on this kernel, integration tests on the supported kernels.
    Test(test::Args),
    /// Search for bytes that break what reads bytes of others.
    Fuzz(fuzz::Args),
    /// Boot the supported kernels and run the integration tests, or a command, inside.
    Vm(vm::Args),
    /// Measure what observing costs the observed program.
    Bench(bench::Args),
    /// Build the Debian package.
    Package(package::Args),
}

fn main() -> ExitCode {
    if std::process::id() == 1 {
        return vm::guest::main();
    }
    let result = match Cli::parse().task {
        Task::Setup(args) => setup::run(&args),
        Task::Build => build(),
        Task::Run { args } => build().and_then(|()| cargo::exec_weir(args)),
        Task::Lint => cargo::lint(),
        Task::Test(args) => test::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Package(args) => package::run(&args),
        Task::Vm(args) => vm::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<()> {
    setup::ensure(setup::Tier::Build)?;
    cargo::build()
}
