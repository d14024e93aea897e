//! The whole daemon with a sensor that replays records, asked through its real sockets.

use std::sync::mpsc;
use std::sync::{Mutex, PoisonError};

use monitor_common::event::{Conn, Head, Request, Response, role, transport};
use monitor_common::ledger::Counter;

use super::*;
use crate::cli::{Client, SocketArgs};
use crate::core::KernelIdentity;
use crate::sensor::{Drained, ProgramStats};
use crate::serve::control::NameRequest;
use crate::view::{HookRow, IdentityRow, Status};

/// Records to come, and whether the next look at the ledger fails.
#[derive(Clone, Default)]
struct Script(Arc<Mutex<(Vec<Vec<u8>>, bool)>>);

impl Script {
    fn push(&self, record: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.push(record.to_vec());
    }
}

struct Replay {
    script: Script,
    delivered: u64,
    inbound: u64,
}

impl Sensor for Replay {
    fn drain(&mut self, _: u64, each: &mut dyn FnMut(&[u8])) -> Drained {
        let records = std::mem::take(&mut self.script.0.lock().unwrap().0);
        for record in &records {
            self.delivered += 1;
            self.inbound += u64::from(record[0] == Request::KIND);
            each(record);
        }
        Drained { records: records.len(), all: true }
    }
    fn ledger(&self) -> anyhow::Result<Vec<u64>> {
        anyhow::ensure!(!self.script.0.lock().unwrap().1, "the map is gone");
        let mut ledger = vec![0; Counter::COUNT as usize];
        ledger[Counter::Records as usize] = self.delivered;
        ledger[Counter::RequestsInbound as usize] = self.inbound;
        Ok(ledger)
    }
    fn identity_counts(&self) -> Vec<KernelIdentity> {
        Vec::new()
    }
    fn hooks(&self) -> Vec<HookRow> {
        vec![HookRow { name: "recv".into(), target: "sock".into(), mandatory: true, attached: true }]
    }
    fn ready(&self) -> bool {
        true
    }
    fn socket_hook(&self) -> &'static str {
        "replay"
    }
    fn program_stats(&self) -> Vec<ProgramStats> {
        Vec::new()
    }
    fn trouble(&self) -> Vec<String> {
        Vec::new()
    }
    fn fenced(&self) -> std::collections::BTreeSet<u64> {
        std::collections::BTreeSet::new()
    }
    fn pulse(&mut self) -> Option<Box<dyn crate::sensor::Pulse>> {
        None
    }
    fn enforcer(&self) -> Option<Arc<dyn crate::sensor::Enforcer>> {
        None
    }
}

/// A running daemon in a thread of its own.
struct Running {
    script: Script,
    config: std::path::PathBuf,
    dir: tempfile::TempDir,
    listen: std::net::SocketAddr,
    stop: tokio::sync::oneshot::Sender<()>,
    daemon: Arc<Daemon>,
    thread: std::thread::JoinHandle<anyhow::Result<()>>,
}

fn start() -> Running {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("weir.toml");
    let at = dir.path().display();
    let text = format!(
        "[metrics]\nlisten=\"127.0.0.1:0\"\n[control]\nsocket=\"{at}/s\"\n[state]\ndir=\"{at}/state\"\n"
    );
    std::fs::write(&file, text).unwrap();
    let origin = Origin { source: Source { file: Some(file.clone()) }, overrides: Overrides::default() };
    let config = crate::config::load(&origin.source, &origin.overrides).unwrap();
    let script = Script::default();
    let (stop, told) = tokio::sync::oneshot::channel();
    let (built, ready) = mpsc::channel();
    let replay = script.clone();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(async {
            let sensor = |_: &Config, _: BorrowedFd<'_>, _| {
                Ok(Box::new(Replay { script: replay, delivered: 0, inbound: 0 }) as Box<dyn Sensor>)
            };
            let app = App::build(config, origin, sensor).await?;
            built.send((app.metrics.local_addr()?, Arc::clone(&app.daemon))).unwrap();
            app.run(false, async {
                let _ = told.await;
            })
            .await
        })
    });
    let (listen, daemon) = ready.recv().unwrap();
    Running { script, config: file, dir, listen, stop, daemon, thread }
}

impl Running {
    fn client(&self) -> Client {
        Client::new(&SocketArgs { socket: Some(self.dir.path().join("s")) }).unwrap()
    }

    fn get(&self, path: &str) -> String {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(self.listen).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Asks until `wanted` is there.
    fn until<T>(&self, wanted: impl Fn(&Self) -> Option<T>) -> T {
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(found) = wanted(self) {
                return found;
            }
            assert!(std::time::Instant::now() < deadline, "in vain");
            std::thread::yield_now();
        }
    }

    fn end(self) -> anyhow::Result<()> {
        let _ = self.stop.send(());
        let ended = self.thread.join().unwrap();
        assert!(!self.dir.path().join("s").exists(), "the socket stays behind");
        assert!(std::net::TcpStream::connect(self.listen).is_err(), "the port stays open");
        ended
    }
}

fn head(kind: u8, len: usize) -> Head {
    Head { kind, pad: [0; 3], len: len as u32 }
}

/// One request with an API key, and its response.
fn exchange(script: &Script, conn: u64) {
    let text = b"GET /v1/users/7 HTTP/1.1\r\nHost: a\r\nX-Api-Key: s3cret\r\n\r\n";
    let record = Conn {
        head: head(Conn::KIND, Conn::SIZE),
        conn,
        ts_ns: 1,
        cookie: conn,
        cgroup: 0,
        start_ns: 0,
        local: [0; 16],
        remote: [0; 16],
        comm: *b"server\0\0\0\0\0\0\0\0\0\0",
        netns: 1,
        tgid: u32::MAX,
        uid: 0,
        local_port: 80,
        remote_port: 1234,
        family: 2,
        role: role::INBOUND,
        transport: transport::TCP,
        peer_known: 1,
        joined: 0,
        pad: [0; 18],
    };
    script.push(record.as_bytes());
    let request = Request {
        head: head(Request::KIND, Request::SIZE + text.len()),
        conn,
        ts_ns: 1_000,
        content_length: 0,
        fp: [0x1234, 0, 0, 0],
        cred: [monitor_common::event::cred::HEADER + 1, 0, 0, 0],
        seq: 0,
        tgid: u32::MAX,
        head_len: text.len() as u32,
        from: 0,
        flags: 0,
        method: 0,
        role: role::INBOUND,
        client: 1,
    };
    script.push(&[request.as_bytes(), text].concat());
    let response = Response {
        head: head(Response::KIND, Response::SIZE),
        conn,
        ts_head_ns: 2_000,
        ts_end_ns: 3_000,
        seq: 0,
        status: 200,
        ..Response::from_bytes(&[0; Response::SIZE]).unwrap().0
    };
    script.push(response.as_bytes());
}

#[test]
fn requests_reach_metrics_and_the_control_socket() {
    let daemon = start();
    daemon.until(|daemon| daemon.get("/readyz").contains("200 OK").then_some(()));
    exchange(&daemon.script, 1);
    exchange(&daemon.script, 2);
    let series = daemon.until(|daemon| {
        let text = daemon.get("/metrics");
        let line =
            text.lines().find(|line| line.starts_with("weir_http_requests_total{") && line.ends_with(" 2"));
        line.map(str::to_owned)
    });
    for part in ["direction=\"inbound\"", "http_request_method=\"GET\"", "http_response_status_code=\"200\""]
    {
        assert!(series.contains(part), "{series}");
    }
    let client = daemon.client();
    let rows: Vec<IdentityRow> = client.get("/v1/identities", &[]).unwrap();
    assert_eq!(rows[0].identity, "api_key:0000000000001234");
    assert_eq!(rows[0].totals.requests, 2);
    let name = NameRequest { identity: rows[0].identity.clone(), name: Some("acme".into()) };
    let _: serde_json::Value = client.post("/v1/identity/name", &name).unwrap();
    let rows: Vec<IdentityRow> = client.get("/v1/identities", &[]).unwrap();
    assert_eq!(rows[0].identity, "acme");
    let status = daemon.until(|_| {
        let status: Status = client.get("/v1/status", &[]).unwrap();
        (status.records_produced == 6).then_some(status)
    });
    assert_eq!((status.records_delivered, status.requests_inbound, status.ready), (6, 2, true));
    assert!(status.losses.is_empty(), "{:?}", status.losses);
    assert!(!daemon.get("/metrics").contains("s3cret"));
    daemon.end().unwrap();
}

#[test]
fn a_reload_takes_names_and_keeps_the_old_configuration_on_error() {
    let daemon = start();
    exchange(&daemon.script, 1);
    let client = daemon.client();
    let identity = |client: &Client| -> Option<String> {
        let rows: Vec<IdentityRow> = client.get("/v1/identities", &[]).unwrap();
        rows.into_iter().next().map(|row| row.identity)
    };
    daemon.until(|_| identity(&client));
    let origin =
        Origin { source: Source { file: Some(daemon.config.clone()) }, overrides: Overrides::default() };
    let before = std::fs::read_to_string(&daemon.config).unwrap();
    let named = "[[identity.name]]\nname=\"acme\"\nidentity=\"api_key:0000000000001234\"\n";
    std::fs::write(&daemon.config, format!("{before}{named}")).unwrap();
    reload(&daemon.daemon, &origin);
    assert_eq!(identity(&client).as_deref(), Some("acme"));
    std::fs::write(&daemon.config, "nonsense").unwrap();
    reload(&daemon.daemon, &origin);
    assert_eq!(identity(&client).as_deref(), Some("acme"));
    assert!(daemon.get("/metrics").contains("weir_config_last_reload_successful 0"));
    daemon.end().unwrap();
}

#[test]
fn a_task_that_ends_early_is_fatal_and_leaves_nothing() {
    let daemon = start();
    daemon.script.0.lock().unwrap().1 = true;
    daemon.until(|daemon| daemon.thread.is_finished().then_some(()));
    let error = format!("{:#}", daemon.end().unwrap_err());
    assert!(error.contains("drain") && error.contains("the map is gone"), "{error}");
}

/// One request of the client with this number, without a response.
fn request(number: u64) -> Vec<u8> {
    let text = b"GET /v1/things HTTP/1.1\r\nHost: a\r\n\r\n";
    let request = Request {
        head: head(Request::KIND, Request::SIZE + text.len()),
        conn: number % 1_000,
        ts_ns: number,
        fp: [number + 1, 0, 0, 0],
        cred: [monitor_common::event::cred::HEADER + 1, 0, 0, 0],
        seq: (number / 1_000) as u32,
        head_len: text.len() as u32,
        role: role::INBOUND,
        ..Request::from_bytes(&[0; Request::SIZE]).unwrap().0
    };
    [request.as_bytes(), text].concat()
}

#[test]
fn a_scrape_of_many_identities_shows_the_largest_and_stays_small() {
    const IDENTITIES: u64 = 60_000;
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.state.dir = dir.path().to_owned();
    let daemon = Daemon::new(config).unwrap();
    let mut facts = crate::workload::NoSource;
    for number in 0..IDENTITIES {
        let mut core = daemon.core();
        core.event(&request(number), &mut facts);
        let response = Response {
            head: head(Response::KIND, Response::SIZE),
            conn: number % 1_000,
            ts_head_ns: number,
            ts_end_ns: number + 1,
            seq: (number / 1_000) as u32,
            status: 200,
            ..Response::from_bytes(&[0; Response::SIZE]).unwrap().0
        };
        core.event(response.as_bytes(), &mut facts);
    }
    let source: &dyn crate::source::Source = &daemon;
    let began = std::time::Instant::now();
    let text = crate::metrics::render(&source.metrics()).unwrap();
    println!("{IDENTITIES} identities: {:?}, {} bytes", began.elapsed(), text.len());
    let count = |name: &str| -> Vec<u64> {
        let lines = text.lines().filter(|line| line.starts_with(name));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect()
    };
    let identities = count("weir_identity_requests_total{");
    assert_eq!(identities.len(), 1_001);
    assert_eq!(identities.iter().sum::<u64>(), IDENTITIES);
    assert_eq!(count("weir_http_requests_total{").iter().sum::<u64>(), IDENTITIES);
    assert!(text.len() < 1 << 20, "{} bytes", text.len());
    assert_eq!(source.identities(50).len(), 50);
}
