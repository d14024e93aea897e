//! The load: nginx with one worker, and wrk.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{cpu, daemon::Child};
use crate::process;

/// What is sent, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Plaintext; every request has the same header block.
    Plain,
    /// Plaintext; no two header blocks are equal.
    Unique,
    /// TLS through a shared OpenSSL on both ends.
    Tls,
}

impl Workload {
    /// Every workload, in the order of the report.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Unique, Self::Tls];

    /// Name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plaintext",
            Self::Unique => "plaintext, headers never repeat",
            Self::Tls => "tls",
        }
    }
}

/// Keep-alive connections of wrk.
const CONNECTIONS: &str = "32";

/// A running nginx.
pub struct Server {
    // Dropped before its folder is removed.
    process: Child,
    workers: Vec<u32>,
    port: u16,
    script: PathBuf,
    tls: bool,
}

/// What one run of wrk did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Run {
    /// Requests that were answered.
    pub requests: u64,
    /// Of these, per second.
    pub per_second: f64,
    /// 99th percentile of the latency in microseconds.
    pub p99_us: f64,
    /// Time that the server's worker ran, in nanoseconds.
    pub server_ns: u64,
    /// Time that wrk ran, in nanoseconds. On loopback a packet comes in on the sender's time.
    pub client_ns: u64,
}

impl Server {
    /// Starts it with its files in `folder`.
    pub fn start(workload: Workload, folder: &Path) -> Result<Self> {
        let tls = workload == Workload::Tls;
        let port = free_port()?;
        let path = folder.display();
        let (mut ssl, mut certificate) = ("", String::new());
        if tls {
            make_certificate(folder)?;
            ssl = " ssl";
            write!(certificate, "ssl_certificate {path}/cert.pem; ssl_certificate_key {path}/key.pem;")?;
        }
        let configuration = format!(
            "daemon off; worker_processes 1; user root; pid {path}/pid; error_log {path}/error.log;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; keepalive_requests 1000000000;\n\
             client_body_temp_path {path}/b; proxy_temp_path {path}/p; fastcgi_temp_path {path}/f;\n\
             uwsgi_temp_path {path}/u; scgi_temp_path {path}/s;\n\
             server {{ listen 127.0.0.1:{port}{ssl}; {certificate} location / {{ return 200 \"ok\\n\"; }} }} }}\n"
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, configuration)?;
        let script = folder.join("load.lua");
        fs::write(&script, script_of(workload))?;
        let mut nginx = Command::new(process::find("nginx").context("nginx is missing")?);
        nginx.arg("-c").arg(&file).arg("-p").arg(folder);
        let mut process = Child::spawn(&mut nginx, &folder.join("nginx.log"))?;
        process.wait_until("nginx to listen", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())?;
        let pid = process.pid();
        process
            .wait_until("nginx's worker", || cpu::children(pid).is_ok_and(|workers| workers.len() == 1))?;
        Ok(Self { workers: cpu::children(pid)?, process, port, script, tls })
    }

    /// Loads it for so many seconds.
    pub fn load(&mut self, seconds: u32) -> Result<Run> {
        let scheme = if self.tls { "https" } else { "http" };
        let before = (self.on_cpu_ns()?, cpu::ended_children_ns());
        let mut wrk = Command::new(process::find("wrk").context("wrk is missing")?);
        wrk.args(["--threads", "1", "--connections", CONNECTIONS, "--latency", "--duration"])
            .arg(format!("{seconds}s"))
            .arg("--script")
            .arg(&self.script)
            .arg(format!("{scheme}://127.0.0.1:{}/v1/orders", self.port));
        let said = process::output(&mut wrk)?;
        let (server_ns, client_ns) = (self.on_cpu_ns()? - before.0, cpu::ended_children_ns() - before.1);
        let run = parse(&said).with_context(|| format!("wrk said: {said}"))?;
        if said.contains("Socket errors") || said.contains("Non-2xx") || run.0 == 0 {
            bail!("requests failed: {said}");
        }
        Ok(Run { requests: run.0, per_second: run.1, p99_us: run.2, server_ns, client_ns })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends it.
    pub fn stop(self) -> Result<()> {
        self.process.stop().map(drop)
    }

    fn on_cpu_ns(&self) -> Result<u64> {
        self.workers.iter().map(|worker| cpu::on_cpu_ns(*worker)).sum()
    }
}

/// A port that is free now.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// What every request has in `Authorization`.
pub fn credential() -> String {
    format!("Bearer {}", "bench-".repeat(12))
}

/// About 311 bytes of head with a bearer token, like the measurements that the goals come from.
fn script_of(workload: Workload) -> String {
    let mut script = format!(
        "wrk.headers['Authorization'] = '{}'\n\
         wrk.headers['User-Agent'] = 'weir-bench/1.0 (closed loop)'\n\
         wrk.headers['Accept'] = 'application/json'\n\
         wrk.headers['Accept-Encoding'] = 'gzip, deflate'\n\
         wrk.headers['X-Request-Kind'] = 'benchmark'\n",
        credential()
    );
    if workload == Workload::Unique {
        // Only the number is new in each request: building a head from a table would slow wrk down.
        script.push_str(
            "local head, tail\nlocal count = 0\n\
             init = function()\n\
             wrk.headers['X-Request-Id'] = 'NUMBER'\n\
             local text = wrk.format()\n\
             local at = string.find(text, 'NUMBER', 1, true)\n\
             head, tail = string.sub(text, 1, at - 1), string.sub(text, at + 6)\nend\n\
             request = function()\ncount = count + 1\nreturn head .. count .. tail\nend\n",
        );
    }
    script
}

fn make_certificate(folder: &Path) -> Result<()> {
    let mut openssl = Command::new(process::find("openssl").context("openssl is missing")?);
    openssl
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=localhost", "-keyout"])
        .arg(folder.join("key.pem"))
        .arg("-out")
        .arg(folder.join("cert.pem"));
    process::output(&mut openssl).map(drop)
}

/// Requests, requests per second, 99th percentile in microseconds.
fn parse(said: &str) -> Option<(u64, f64, f64)> {
    let lines = || said.lines().map(str::trim);
    let requests = lines().find_map(|line| line.split_once(" requests in ")?.0.parse().ok())?;
    let per_second = lines().find_map(|line| line.strip_prefix("Requests/sec:")?.trim().parse().ok())?;
    let p99 = lines().find_map(|line| line.strip_prefix("99%"))?.trim();
    let number = p99.trim_end_matches(char::is_alphabetic);
    let unit = match p99.get(number.len()..)? {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        _ => return None,
    };
    Some((requests, per_second, number.parse::<f64>().ok()? * unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_of_wrk_is_read() {
        let said = "Running 1s test @ http://127.0.0.1:1/\n  Latency Distribution\n     50%  301.00us\n     99%    1.50ms\n  \
                    65432 requests in 1.00s, 9.12MB read\nRequests/sec:  65400.25\nTransfer/sec:      9.12MB\n";
        assert_eq!(parse(said), Some((65_432, 65_400.25, 1500.0)));
        assert_eq!(parse("nothing"), None);
    }
}
