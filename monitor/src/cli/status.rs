//! `weir status`

use super::{Client, ClientArgs, Outcome, query};
use crate::bpf::pins;
use crate::output::{self, Format};
use crate::view::{DenialCounts, Status};

pub fn run(args: &ClientArgs) -> anyhow::Result<Outcome> {
    let client = Client::new(&args.socket)?;
    query::repeat(args.watch, || {
        let status: Status = client.get("/v1/status", &[]).map_err(with_kept)?;
        if args.watch.watch.is_some() {
            output::clear()?;
        }
        let style = args.output.style();
        match style.format {
            Format::Json => output::line(&serde_json::to_string_pretty(&status)?)?,
            Format::Jsonl => output::line(&serde_json::to_string(&status)?)?,
            Format::Csv => output::print(&status.hooks, style)?,
            Format::Table | Format::Wide => {
                output::line(&summary(&status))?;
                if style.format == Format::Wide || status.hooks.iter().any(|hook| !hook.attached) {
                    output::line("\nhooks")?;
                    output::print(&status.hooks, style)?;
                }
                if !status.losses.is_empty() {
                    output::line("\nlosses")?;
                    output::print(&status.losses, style)?;
                }
            }
        }
        Ok(if healthy(&status) { Outcome::Fine } else { Outcome::Degraded })
    })
}

/// An error that also says what a daemon that is not there has left in the kernel.
fn with_kept(error: anyhow::Error) -> anyhow::Error {
    match pins::kept() {
        0 => error,
        kept => anyhow::anyhow!("{error:#}\n{kept} programs outlived the daemon: {}", pins::REMEDY),
    }
}

/// Ready, everything works as it should, and no record of a request was lost. What cannot be covered is told, but is no fault of
/// the running daemon.
fn healthy(status: &Status) -> bool {
    status.ready
        && status.degraded.is_empty()
        && !status.losses.iter().any(|row| row.stage == "ring" && row.count > 0)
}

/// Empty when nothing was.
fn denied(denied: &DenialCounts) -> String {
    let DenialCounts { cap, access, credentials, framing } = *denied;
    let parts = [
        (cap, "over a cap"),
        (access, "outside an access level"),
        (credentials, "too many credentials"),
        (framing, "not framed"),
    ];
    let parts = parts.iter().filter(|(count, _)| *count > 0).map(|(count, why)| format!("{count} {why}"));
    parts.collect::<Vec<_>>().join(", ")
}

fn summary(status: &Status) -> String {
    let attached = status.hooks.iter().filter(|hook| hook.attached).count();
    let excluded = if status.excluded.is_empty() { "nothing".into() } else { status.excluded.join("; ") };
    let rows = [
        ("weir", format!("{} (pid {}), since {}", status.version, status.pid, status.started)),
        ("kernel", format!("{}, socket hook {}", status.kernel, status.socket_hook)),
        ("ready", (if status.ready { "yes" } else { "no" }).into()),
        ("degraded", status.degraded.join("; ")),
        ("hooks", format!("{attached} of {} attached", status.hooks.len())),
        ("requests", format!("{} inbound, {} outbound", status.requests_inbound, status.requests_outbound)),
        ("denied", denied(&status.denied)),
        ("records", format!("{} produced, {} delivered", status.records_produced, status.records_delivered)),
        ("tracked", format!("{} identities, {} connections", status.identities, status.connections)),
        ("memory", output::human_bytes(status.resident_bytes)),
        ("excluded", excluded),
        ("lost", if status.losses.is_empty() { "nothing".into() } else { "see below".into() }),
    ];
    let told = rows.iter().filter(|(_, value)| !value.is_empty());
    let lines = told.map(|(name, value)| format!("{name:<10}{}", output::escape(value)));
    lines.collect::<Vec<_>>().join("\n")
}
