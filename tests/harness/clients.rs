//! Real clients. Each says how many requests it made, and ends with an error if one of them failed.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::process::{Finished, Guard, run};
use super::servers::{Server, go_program};
use super::{open_dir, script, tool};

/// A client that has ended.
pub struct Client {
    pub pid: u32,
    /// Requests that it made, by its own count.
    pub made: u64,
}

/// `ApacheBench`: `count` requests over `connections` connections.
pub fn ab(url: &str, count: u64, connections: u32, args: &[&str]) -> Client {
    let mut command = Command::new(tool("ab").unwrap());
    command.args(["-q", "-n", &count.to_string(), "-c", &connections.to_string()]).args(args);
    let done = run(command.arg(format!("{url}/ab"))).ok();
    assert_eq!(number(&done.out, "Failed requests:"), 0, "{}", done.out);
    Client { pid: done.pid, made: number(&done.out, "Complete requests:") }
}

/// wrk with 64 connections that is stopped once `server` has logged `count` requests; `made` is the number of answers
/// that it got, to which come the requests that were on their way at its end.
pub fn wrk(server: &Server, count: u64) -> Client {
    let dir = open_dir();
    let (out, err) = (dir.path().join("out"), dir.path().join("err"));
    let mut command = Command::new(tool("wrk").unwrap());
    // its own limit, two seconds, is passed under emulation
    command
        .args(["-t", "2", "-c", "64", "-d", "600s", "--timeout", "60s"])
        .arg(format!("{}/wrk", server.url));
    let mut guard = Guard::spawn(&mut command, &out, &err);
    server.at_least(count, Duration::from_mins(1));
    let status = guard.stop(libc::SIGINT);
    let report = std::fs::read_to_string(&out).unwrap();
    assert!(status.success() && !report.contains("Socket errors") && !report.contains("Non-2xx"), "{report}");
    let made = report.lines().find_map(|line| line.trim().split_once(" requests in ")?.0.parse().ok());
    Client { pid: guard.pid(), made: made.unwrap() }
}

/// curl, `count` requests with one process and one connection.
pub fn curl(url: &str, count: u64, args: &[&str]) -> Client {
    let done = run(curl_command(url, count).args(args)).ok();
    let made = done.out.matches("<200>").count() as u64;
    assert_eq!(made, count, "{}\n{}", done.out, done.err);
    Client { pid: done.pid, made }
}

/// The command line of [`curl`].
pub fn curl_command(url: &str, count: u64) -> Command {
    let mut command = Command::new(tool("curl").unwrap());
    command
        .args(["-sS", "--insecure", "--max-time", "50", "-o", "/dev/null", "-w", "<%{http_code}>"])
        .arg(format!("{url}/curl?n=[1-{count}]"));
    command
}

/// Python: `http.client`, `urllib` or `asyncio`; gets, heads, posts with a body that holds a request line, and
/// chunked posts in turn.
pub fn python(kind: &str, url: &str, count: u64) -> Client {
    let mut command = Command::new(tool("python3").unwrap());
    scripted(command.arg(script("client.py")).args([kind, url]).arg(count.to_string()))
}

/// Node: `http` or `fetch`.
pub fn node(kind: &str, url: &str, count: u64) -> Client {
    let mut command = Command::new(tool("node").unwrap());
    command.env("NODE_TLS_REJECT_UNAUTHORIZED", "0").env("NODE_NO_WARNINGS", "1");
    scripted(command.arg(script("client.js")).args([kind, url]).arg(count.to_string()))
}

/// Go's `net/http` client.
pub fn go(url: &str, count: u64) -> Client {
    scripted(Command::new(go_program()).args(["call", url]).arg(count.to_string()))
}

/// Over a Unix socket, with curl.
pub fn curl_unix(socket: &Path, count: u64) -> Client {
    let socket = socket.to_str().unwrap();
    curl("http://localhost", count, &["--unix-socket", socket])
}

fn scripted(command: &mut Command) -> Client {
    let done: Finished = run(command).ok();
    let made = done.out.lines().find_map(|line| line.strip_prefix("DONE ")?.parse().ok());
    Client { pid: done.pid, made: made.unwrap_or_else(|| panic!("{}\n{}", done.out, done.err)) }
}

/// The number behind `label`.
pub fn number(text: &str, label: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(label));
    line.and_then(|rest| rest.trim().split(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("no {label} in {text}"))
}
