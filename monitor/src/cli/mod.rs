//! The command line: what was typed, and which function does it.
//!
//! Parsing never acts; exit codes are decided in `main` only. Everything but `run` is a client of the control socket or
//! looks at files.

mod bench_hooks;
mod bench_programs;
mod caps;
mod caps_test;
mod client;
mod config;
mod detach;
mod doctor;
mod explain;
mod identity;
mod query;
mod status;
mod tail;
mod top;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};

pub use client::Client;

use crate::config::{LogLevel, Overrides, Source};
use crate::output::{Format, Style};
use crate::view::{ConnectionRow, IdentityRow, ProcessRow, RoleRow, RouteRow};

/// Who calls which API on this host, how fast, and how to limit it
#[derive(Debug, Parser)]
#[command(name = "weir", version, about, max_term_width = 110, after_help = AFTER)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER: &str = "Exit codes: 0 fine, 1 failure, 2 wrong usage, 3 degraded (status, doctor).";

#[derive(Debug, Subcommand)]
enum Command {
    /// Observe this host until stopped; on a terminal, show a live table
    Run(RunArgs),
    /// Is the daemon up, is everything attached, is anything lost
    Status(ClientArgs),
    /// Check by trying whether this host can be observed, and requests denied
    Doctor(DoctorArgs),
    /// Live table of identities, processes, routes, connections and caps
    Top(TopArgs),
    /// Print finished requests as they happen
    Tail(tail::TailArgs),
    /// Who makes requests
    Identities(ListArgs),
    /// Which local processes serve or make requests
    Processes(ListArgs),
    /// Which routes are requested
    Routes(ListArgs),
    /// Which connections carry requests now
    Connections(ListArgs),
    /// Limit identities, roles and workloads
    #[command(subcommand)]
    Caps(caps::CapsCommand),
    /// Who belongs to which role, and what that may do
    Roles(ListArgs),
    /// Name identities, and fingerprint a credential
    #[command(subcommand)]
    Identity(identity::IdentityCommand),
    /// Check or show the configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// What is seen of one process, and why not more
    Explain(explain::ExplainArgs),
    /// Remove what outlived the daemon (`[enforce] on_exit = "keep"`)
    Detach(detach::DetachArgs),
    /// Attach bare hooks, for benchmarks
    #[command(hide = true)]
    BenchHooks(bench_hooks::BenchHooksArgs),
    /// Say what the kernel's verifier makes of each program, for the budget
    #[command(hide = true)]
    BenchPrograms(bench_programs::BenchProgramsArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// `weir run`
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Log lines only, no table, also on a terminal
    #[arg(long)]
    pub plain: bool,
}

/// Where configuration comes from.
#[derive(Clone, Debug, Default, Args)]
pub struct ConfigArgs {
    /// Configuration file, instead of /etc/weir/weir.toml and /etc/weir/conf.d/*.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address of the metrics endpoint
    #[arg(long, value_name = "ADDRESS:PORT", env = "WEIR_METRICS_LISTEN")]
    metrics_listen: Option<SocketAddr>,
    /// Path of the control socket
    #[arg(long, value_name = "PATH", env = "WEIR_CONTROL_SOCKET")]
    socket: Option<PathBuf>,
    /// Directory of the installation key and of names
    #[arg(long, value_name = "DIR", env = "WEIR_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// What to log: error, warn, info, debug, trace, or directives
    #[arg(long, value_name = "LEVEL", env = "WEIR_LOG")]
    log: Option<LogLevel>,
}

impl ConfigArgs {
    /// In the form in which the configuration takes it.
    pub fn parts(&self) -> (Source, Overrides) {
        let overrides = Overrides {
            metrics_listen: self.metrics_listen,
            control_socket: self.socket.clone(),
            state_dir: self.state_dir.clone(),
            log_level: self.log.clone(),
        };
        (Source { file: self.config.clone() }, overrides)
    }
}

/// Which daemon a client command asks.
#[derive(Clone, Debug, Default, Args)]
pub struct SocketArgs {
    /// Control socket of the daemon [default: as configured in /etc/weir, else /run/weir/weir.sock]
    #[arg(long, value_name = "PATH", env = "WEIR_CONTROL_SOCKET")]
    pub socket: Option<PathBuf>,
}

/// How rows are printed.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct OutputArgs {
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// No header line in tables and CSV
    #[arg(long)]
    no_headers: bool,
}

impl OutputArgs {
    /// In the form in which the output takes it.
    pub fn style(self) -> Style {
        Style { format: self.output, no_headers: self.no_headers }
    }
}

/// Again and again.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct WatchArgs {
    /// Print again every so often
    #[arg(short, long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "2s", require_equals = true,
          value_parser = interval)]
    watch: Option<Duration>,
}

fn interval(text: &str) -> Result<Duration, String> {
    let found: crate::config::Interval = text.parse()?;
    if found.0 < Duration::from_millis(100) { Err("at least 100ms".into()) } else { Ok(found.0) }
}

#[derive(Clone, Debug, Args)]
struct ClientArgs {
    #[command(flatten)]
    socket: SocketArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    watch: WatchArgs,
}

#[derive(Clone, Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Column to sort by (as in CSV); -COLUMN reverses
    #[arg(long, value_name = "COLUMN", allow_hyphen_values = true)]
    sort: Option<String>,
    /// Only rows with this text in one of their columns
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// At most so many rows
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

#[derive(Clone, Debug, Args)]
struct TopArgs {
    #[command(flatten)]
    socket: SocketArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// What is shown first; keys 1 to 5 switch
    #[arg(long, value_enum, default_value_t)]
    view: crate::tui::View,
    /// Print it once instead of a live table, as without a terminal
    #[arg(long)]
    once: bool,
    /// At most so many rows
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
}

#[derive(Clone, Debug, Args)]
struct DoctorArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// How a command ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything is in order.
    Fine,
    /// The question was answered, and the answer is that something is wrong.
    Degraded,
}

/// The command line was understood but asks for something that does not exist.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

impl Cli {
    /// Does what was asked for.
    ///
    /// # Errors
    /// Why it could not be done; [`Usage`] when it cannot be.
    pub fn run(self) -> anyhow::Result<Outcome> {
        match self.command {
            Command::Run(args) => {
                let (source, overrides) = args.config.parts();
                crate::app::main(&source, &overrides, args.plain)?;
                Ok(Outcome::Fine)
            }
            Command::Status(args) => status::run(&args),
            Command::Doctor(args) => doctor::run(&args),
            Command::Top(args) => top::run(&args),
            Command::Tail(args) => tail::run(&args),
            Command::Identities(args) => query::list::<IdentityRow>("/v1/identities", &args),
            Command::Processes(args) => query::list::<ProcessRow>("/v1/processes", &args),
            Command::Routes(args) => query::list::<RouteRow>("/v1/routes", &args),
            Command::Connections(args) => query::list::<ConnectionRow>("/v1/connections", &args),
            Command::Caps(command) => caps::run(command),
            Command::Roles(args) => query::list::<RoleRow>("/v1/roles", &args),
            Command::Identity(command) => identity::run(command),
            Command::Config(command) => config::run(command),
            Command::Explain(args) => explain::run(&args),
            Command::Detach(args) => detach::run(&args),
            Command::BenchHooks(args) => bench_hooks::run(&args),
            Command::BenchPrograms(args) => bench_programs::run(&args),
            Command::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Self::command(), "weir", &mut script);
                crate::output::line(String::from_utf8_lossy(&script).trim_end())?;
                Ok(Outcome::Fine)
            }
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
