//! The servers of the differential test. Each writes a line with the client's address for each call of its handler.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::grammar::ALLOWED;
use crate::caps::address;
use crate::harness::process::Guard;
use crate::harness::servers::{Server, go_program, nginx_with};
use crate::harness::{LIMIT, open_dir, script, tool, until};

/// Their names; what is not the first three is one of `tests/scripts/handled.py`.
pub const ALL: &[&str] = &[
    "nginx",
    "node",
    "go",
    "http.server",
    "aiohttp",
    "uvicorn-h11",
    "uvicorn-httptools",
    "gunicorn",
    "tornado",
    "cheroot",
    "waitress",
];

/// Python with the servers that `cargo xtask setup` installs, if it did.
pub fn python() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?;
    Some(target.join("python/bin/python")).filter(|path| path.is_file())
}

/// Calls of a handler for one client.
#[derive(Clone, Copy, Debug, Default)]
pub struct Calls {
    pub all: u64,
    /// Those for something else than `GET` [`ALLOWED`].
    pub outside: u64,
}

/// A running server.
pub struct Running {
    process: Process,
    pub address: SocketAddr,
    dir: tempfile::TempDir,
}

enum Process {
    Nginx(Server),
    Script(Guard),
}

impl Running {
    /// Starts a server and waits until it listens.
    pub fn start(name: &str) -> Self {
        let dir = open_dir();
        let log = dir.path().join("handled.log");
        if name == "nginx" {
            // Requests that it refuses as malformed never come to a location.
            let location = format!("access_log {} combined; return 200 \"handled\\n\";", log.display());
            let nginx = nginx_with(&location, None);
            return Self { address: address(&nginx), process: Process::Nginx(nginx), dir };
        }
        let mut command = match name {
            "go" => Command::new(go_program()),
            "node" => Command::new(tool("node").unwrap()),
            _ => Command::new(python().unwrap()),
        };
        match name {
            "go" => command.arg("handled"),
            "node" => command.arg(script("handled.js")),
            _ => command.arg("-u").arg(script("handled.py")).arg(name),
        };
        let err = dir.path().join("stderr");
        let mut guard = Guard::spawn(&mut command, &log, &err);
        let port = until("a port from the server", LIMIT, || {
            let text = std::fs::read_to_string(&err).unwrap_or_default();
            assert!(guard.ended().is_none(), "{name} ended: {text}");
            text.lines().find_map(|line| line.strip_prefix("LISTEN ")?.parse::<u16>().ok())
        });
        Self { process: Process::Script(guard), address: (Ipv4Addr::LOCALHOST, port).into(), dir }
    }

    /// Ends it, so that its log is whole, and returns the calls of its handler by client address.
    pub fn finish(self) -> HashMap<Ipv4Addr, Calls> {
        match self.process {
            Process::Nginx(nginx) => _ = nginx.finish(),
            Process::Script(mut guard) => _ = guard.stop(libc::SIGQUIT),
        }
        let log = std::fs::read(self.dir.path().join("handled.log")).unwrap_or_default();
        let allowed =
            [format!("'GET {ALLOWED}'"), format!("\"GET {ALLOWED}\""), format!("\"GET {ALLOWED} HTTP/1.1\"")];
        let mut counts = HashMap::new();
        for line in String::from_utf8_lossy(&log).lines() {
            let client = line.split(' ').next().and_then(|word| word.parse().ok());
            if let Some(client) = client {
                let calls: &mut Calls = counts.entry(client).or_default();
                calls.all += 1;
                calls.outside += u64::from(!allowed.iter().any(|allowed| line.contains(allowed)));
            }
        }
        counts
    }
}
