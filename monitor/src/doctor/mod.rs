//! Checks, by trying, whether this host can be observed and requests can be denied, and says what to do where it cannot.
//!
//! Each check is a function that returns one row. Must not change anything on the host: what it creates it removes.

mod enforce;
mod host;
mod install;
mod kernel;

use crate::config::Config;
use crate::view::{CheckRow, Status};

/// Everything in order.
pub(crate) fn pass(check: &str, detail: impl Into<String>) -> CheckRow {
    row("PASS", check, detail.into(), "")
}

/// Works, with a drawback.
pub(crate) fn warn(check: &str, detail: impl Into<String>, remedy: &str) -> CheckRow {
    row("WARN", check, detail.into(), remedy)
}

/// Does not work.
pub(crate) fn fail(check: &str, detail: impl Into<String>, remedy: &str) -> CheckRow {
    row("FAIL", check, detail.into(), remedy)
}

fn row(result: &str, check: &str, detail: String, remedy: &str) -> CheckRow {
    CheckRow { result: result.into(), check: check.into(), detail, remedy: remedy.into() }
}

/// Whether this host can be observed. `daemon` is the state of the running daemon, if one answers.
pub fn all(config: &Config, daemon: Option<&Status>) -> Vec<CheckRow> {
    let mut rows = vec![
        kernel::capabilities(),
        kernel::release(),
        kernel::btf(),
        kernel::lockdown(),
        kernel::socket_hook(),
        kernel::jit(),
        kernel::uprobes(),
        kernel::return_probes(),
        host::cgroups(),
        host::bpffs(),
        host::tracefs(),
        host::clock(),
        install::state_dir(config),
        install::disk(config),
        install::daemon(config, daemon),
        install::metrics_port(config, daemon),
    ];
    if let Some(status) = daemon {
        rows.extend(install::running(status));
    } else {
        rows.extend(install::kept());
        rows.push(install::load(config));
    }
    rows
}

/// Whether requests can be denied here. Loads programs: takes seconds.
pub fn enforcement(config: &Config) -> Vec<CheckRow> {
    enforce::checks(config)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
