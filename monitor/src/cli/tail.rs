//! `weir tail`

use anyhow::Context;
use clap::{Args, ValueEnum};

use super::{Client, Outcome, OutputArgs, SocketArgs, Usage};
use crate::output::{self, Format, Style};
use crate::serve::control::Filter;
use crate::view::{RequestRecord, Skipped};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Side {
    /// Served by a local process
    Inbound,
    /// Made by a local process
    Outbound,
}

/// `weir tail`
#[derive(Clone, Debug, Args)]
pub struct TailArgs {
    #[command(flatten)]
    socket: SocketArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Only this identity, also when it is not the first credential of the request
    #[arg(long)]
    identity: Option<String>,
    /// Only this route; a `*` at the end stands for anything
    #[arg(long)]
    route: Option<String>,
    /// Only this status: 404, 4xx, or none
    #[arg(long)]
    status: Option<String>,
    /// Only this method
    #[arg(long)]
    method: Option<String>,
    /// Only this direction
    #[arg(long, value_enum)]
    direction: Option<Side>,
    /// Only this process
    #[arg(long)]
    pid: Option<u32>,
    /// Only this host
    #[arg(long)]
    host: Option<String>,
    /// Only this workload
    #[arg(long)]
    workload: Option<String>,
    /// Stop after so many requests
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

/// The wanted number of requests has been printed.
#[derive(Debug, thiserror::Error)]
#[error("enough")]
struct Enough;

pub fn run(args: &TailArgs) -> anyhow::Result<Outcome> {
    let pid = args.pid.map(|pid| pid.to_string());
    let direction = args.direction.and_then(|side| Some(side.to_possible_value()?.get_name().to_owned()));
    let mut query = Vec::new();
    for (key, value) in [
        ("identity", &args.identity),
        ("route", &args.route),
        ("status", &args.status),
        ("method", &args.method),
        ("direction", &direction),
        ("pid", &pid),
        ("host", &args.host),
        ("workload", &args.workload),
    ] {
        if let Some(value) = value {
            query.push((key, value.as_str()));
        }
    }
    // a wrong filter is told before anybody is asked
    let text = form_urlencoded::Serializer::new(String::new()).extend_pairs(&query).finish();
    Filter::from_query(&text).map_err(Usage)?;
    let mut style = args.output.style();
    let mut left = args.limit.unwrap_or(u64::MAX);
    let client = Client::new(&args.socket)?;
    let followed = client.follow("/v1/tail", &query, |line| {
        if let Ok(Skipped { skipped }) = serde_json::from_slice(line) {
            output::message(&format!("{skipped} requests skipped: this terminal is too slow"));
            return Ok(());
        }
        let record: RequestRecord =
            serde_json::from_slice(line).context("the daemon's answer is not understood")?;
        print(&record, &mut style)?;
        left = left.saturating_sub(1);
        if left == 0 { Err(Enough.into()) } else { Ok(()) }
    });
    match followed {
        Err(error) if error.is::<Enough>() => Ok(Outcome::Fine),
        other => other.map(|()| Outcome::Fine),
    }
}

fn print(record: &RequestRecord, style: &mut Style) -> anyhow::Result<()> {
    match style.format {
        Format::Json | Format::Jsonl => {
            output::print(std::slice::from_ref(record), Style { format: Format::Jsonl, ..*style })
        }
        Format::Csv => {
            output::print(std::slice::from_ref(record), *style)?;
            style.no_headers = true;
            Ok(())
        }
        // columns cannot be aligned with what is yet to come
        Format::Table | Format::Wide => output::line(&output::escape(&one_line(record, style.format))),
    }
}

fn one_line(record: &RequestRecord, format: Format) -> String {
    use std::fmt::Write;
    let arrow = match record.direction {
        crate::view::Direction::Inbound => "<-",
        crate::view::Direction::Outbound => "->",
    };
    let status = if record.status == 0 { "---".into() } else { record.status.to_string() };
    let duration = if record.status == 0 { "-".into() } else { format!("{:.1}ms", record.duration * 1e3) };
    let mut line = format!(
        "{} {status} {duration:>9} {arrow} {} {}{} {} {} pid={}",
        record.time, record.method, record.host, record.path, record.identity, record.peer, record.pid
    );
    if format == Format::Wide {
        let _ = write!(
            line,
            " workload={} route={} in={} out={} {} {:?}",
            record.workload,
            record.route,
            record.request_bytes,
            record.response_bytes,
            record.transport,
            record.user_agent
        );
    }
    if !record.notes.is_empty() {
        let _ = write!(line, " [{}]", record.notes.join(","));
    }
    line
}
