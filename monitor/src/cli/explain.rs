//! `weir explain PID`

use std::collections::BTreeMap;

use anyhow::Context;
use clap::Args;
use procfs::process::{MMapPath, Process};
use serde::Serialize;

use super::{Client, Outcome, SocketArgs, Usage};
use crate::output::{self, Format, LibraryRow, Style};
use crate::view::{ConnectionRow, ProcessRow, Status};

/// `weir explain`
#[derive(Clone, Debug, Args)]
pub struct ExplainArgs {
    /// The process
    pid: u32,
    /// Output format
    #[arg(short, long, value_parser = ["table", "json"], default_value = "table")]
    output: String,
    #[command(flatten)]
    socket: SocketArgs,
}

/// Everything about one process.
#[derive(Serialize)]
struct Explanation {
    pid: u32,
    exe: String,
    processes: Vec<ProcessRow>,
    connections: Vec<ConnectionRow>,
    libraries: Vec<LibraryRow>,
    remarks: Vec<String>,
}

/// Parts of file names that tell a TLS library, and how it is treated.
const LIBRARIES: &[(&str, bool)] = &[
    ("libssl.so", true),
    ("libssl-", true),
    ("libnode.so", false),
    ("libgnutls", false),
    ("libnss3", false),
    ("libboringssl", false),
    ("libwolfssl", false),
    ("libmbedtls", false),
];

pub fn run(args: &ExplainArgs) -> anyhow::Result<Outcome> {
    let found = explain(args)?;
    if args.output == "json" {
        output::line(&serde_json::to_string_pretty(&found)?)?;
        return Ok(Outcome::Fine);
    }
    let style = Style { format: Format::Table, no_headers: false };
    output::line(&format!("process {} {}", found.pid, output::escape(&found.exe)))?;
    if !found.processes.is_empty() {
        output::line("")?;
        output::print(&found.processes, style)?;
    }
    if !found.connections.is_empty() {
        output::line("")?;
        output::print(&found.connections, style)?;
    }
    if !found.libraries.is_empty() {
        output::line("")?;
        output::print(&found.libraries, style)?;
    }
    output::line("")?;
    for remark in &found.remarks {
        output::line(&format!("- {}", output::escape(remark)))?;
    }
    Ok(Outcome::Fine)
}

fn explain(args: &ExplainArgs) -> anyhow::Result<Explanation> {
    let pid = i32::try_from(args.pid).map_err(|_| Usage(format!("{} is no process id", args.pid)))?;
    let process = Process::new(pid).with_context(|| format!("there is no process {pid}"))?;
    let client = Client::new(&args.socket)?;
    let status: Status = client.get("/v1/status", &[])?;
    let mut processes: Vec<ProcessRow> = client.get("/v1/processes", &[])?;
    processes.retain(|row| row.pid == args.pid);
    let mut connections: Vec<ConnectionRow> = client.get("/v1/connections", &[])?;
    connections.retain(|row| row.pid == args.pid);
    let exe = process.exe().map(|path| path.display().to_string()).unwrap_or_default();
    let mut remarks = Vec::new();
    let libraries = match libraries(&process, &status) {
        Ok(libraries) => libraries,
        Err(error) => {
            remarks.push(format!("its libraries cannot be read: {error}; use sudo"));
            Vec::new()
        }
    };
    if processes.is_empty() {
        remarks.push(
            "no HTTP/1.1 request of this process was seen since weir started or took notice of it".into(),
        );
    }
    if args.pid == status.pid {
        remarks.push("this is weir itself: its own traffic is not observed".into());
    }
    if libraries.is_empty() {
        remarks.push(
            "no TLS library is mapped: only plaintext is seen; Go and Rust programs link their own TLS"
                .into(),
        );
    }
    for library in libraries.iter().filter(|library| library.state != "probed") {
        remarks.push(format!("TLS through {} is not seen: {}", library.path, library.state));
    }
    if remarks.is_empty() {
        remarks.push("everything known about it is seen".into());
    }
    Ok(Explanation { pid: args.pid, exe, processes, connections, libraries, remarks })
}

fn libraries(process: &Process, status: &Status) -> anyhow::Result<Vec<LibraryRow>> {
    let mut found = BTreeMap::new();
    for map in process.maps()? {
        let MMapPath::Path(path) = &map.pathname else { continue };
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some((_, supported)) = LIBRARIES.iter().find(|(part, _)| name.contains(part)) else { continue };
        let path = path.display().to_string();
        let probed = status.hooks.iter().any(|hook| hook.attached && hook.target.contains(&path));
        let state = match (probed, supported) {
            (true, _) => "probed",
            (false, true) => "known kind, not probed: see `weir status -o wide`",
            (false, false) => "this kind is not supported by this version",
        };
        let inode = format!("{}:{}:{}", map.dev.0, map.dev.1, map.inode);
        found.insert(inode.clone(), LibraryRow { path, inode, state: state.into() });
    }
    Ok(found.into_values().collect())
}
