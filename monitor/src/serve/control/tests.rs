//! The control socket with a fake daemon behind it, asked by the CLI's own client.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use super::*;
use crate::cli::{Client, SocketArgs, Usage};
use crate::source::fake::{self, Fake};
use crate::view::{Carrier, Skipped};
use crate::view::{Covered, IdentityRow, RecentRecord, RequestRecord, Status};

/// A server in a thread of its own; ends when it is dropped.
struct Server {
    path: PathBuf,
    _dir: tempfile::TempDir,
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    fn start(source: Arc<dyn Source>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/weir.sock");
        let (stop, shutdown) = watch::channel(false);
        let (bound, ready) = std::sync::mpsc::channel();
        let at = path.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let socket = ControlSocket::bind(&at, "no-such-group").unwrap();
                bound.send(()).unwrap();
                serve(socket, source, shutdown).await;
            });
        });
        ready.recv().unwrap();
        Self { path, _dir: dir, stop, thread: Some(thread) }
    }

    fn client(&self) -> Client {
        Client::new(&SocketArgs { socket: Some(self.path.clone()) }).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.thread.take().unwrap().join().unwrap();
        assert!(!self.path.exists(), "the socket file stays behind");
    }
}

#[test]
fn rows_come_sorted_filtered_and_limited() {
    let identities = vec![fake::identity("a", 1), fake::identity("b", 3), fake::identity("cx", 2)];
    let server = Server::start(Arc::new(Fake { identities, ..Fake::default() }));
    let client = server.client();
    let names = |query: &[(&str, &str)]| {
        let rows: Vec<IdentityRow> = client.get("/v1/identities", query).unwrap();
        rows.into_iter().map(|row| row.identity).collect::<String>()
    };
    assert_eq!(names(&[]), "bcxa");
    assert_eq!(names(&[("sort", "identity"), ("limit", "2")]), "ab");
    assert_eq!(names(&[("filter", "CX")]), "cx");
    assert_eq!(client.get::<Status>("/v1/status", &[]).unwrap().pid, 42);
    let wrong = client.get::<Vec<IdentityRow>>("/v1/identities", &[("sort", "x")]).unwrap_err();
    assert!(wrong.is::<Usage>() && wrong.to_string().contains("requests"), "{wrong}");
    assert!(client.get::<Status>("/v1/nothing", &[]).unwrap_err().to_string().contains("GET /v1/status"));
    assert!(
        client.get::<Status>("/v1/identity/name", &[]).unwrap_err().to_string().contains("another method")
    );
}

#[test]
fn the_file_is_for_owner_and_group_only() {
    let server = Server::start(Arc::new(Fake::default()));
    assert_eq!(fs::metadata(&server.path).unwrap().mode() & 0o777, 0o660);
}

#[test]
fn names_and_fingerprints_go_through() {
    let source = Arc::new(Fake::default());
    let server = Server::start(Arc::clone(&source) as Arc<dyn Source>);
    let client = server.client();
    let name = |identity: &str, name: Option<&str>| {
        let request = NameRequest { identity: identity.into(), name: name.map(Into::into) };
        client.post::<serde_json::Value>("/v1/identity/name", &request)
    };
    name("bearer:1", Some("acme")).unwrap();
    name("acme", None).unwrap();
    assert_eq!(source.named.lock().unwrap().len(), 2);
    assert_eq!(name("refused", None).unwrap_err().to_string(), "no such identity");
    let request = HashRequest { carrier: Carrier::Header, name: "x-api-key".into(), secret: "s3cret".into() };
    let answer: serde_json::Value = client.post("/v1/identity/hash", &request).unwrap();
    assert!(answer["identity"].as_str().unwrap().starts_with("api_key:"));
}

#[test]
fn a_bad_body_is_refused_without_being_quoted() {
    let server = Server::start(Arc::new(Fake::default()));
    let body = serde_json::json!({ "carrier": "s3cret-in-the-wrong-place", "secret": "s3cret" });
    let error =
        server.client().post::<serde_json::Value>("/v1/identity/hash", &body).unwrap_err().to_string();
    assert!(error.contains("bad JSON") && !error.contains("s3cret"), "{error}");
    let long = serde_json::json!({ "identity": "x".repeat(20_000), "name": null });
    let error =
        server.client().post::<serde_json::Value>("/v1/identity/name", &long).unwrap_err().to_string();
    assert!(error.contains("limited"), "{error}");
}

#[test]
fn tail_streams_what_is_wanted_and_counts_what_was_missed() {
    let source = Fake { forgotten: 5, ..Fake::default() };
    *source.finished.lock().unwrap() =
        (0..2_000).map(|at| fake::record(&format!("/{at}"), if at % 2 == 0 { 200 } else { 404 })).collect();
    let server = Server::start(Arc::new(source));
    let (mut skipped, mut paths) = (0, Vec::new());
    let followed = server.client().follow("/v1/tail", &[("status", "4xx")], |line| {
        if let Ok(missed) = serde_json::from_slice::<Skipped>(line) {
            skipped += missed.skipped;
            return Ok(());
        }
        paths.push(serde_json::from_slice::<RequestRecord>(line).unwrap().path);
        anyhow::ensure!(paths.len() < 1_000, "enough");
        Ok(())
    });
    assert_eq!(followed.unwrap_err().to_string(), "enough");
    assert_eq!(skipped, 5);
    assert_eq!(paths.first().map(String::as_str), Some("/1"));
    assert_eq!(paths.last().map(String::as_str), Some("/1999"));
    let wrong = server.client().follow("/v1/tail", &[("status", "x")], |_| Ok(())).unwrap_err();
    assert!(wrong.is::<Usage>(), "{wrong}");
}

#[test]
fn what_is_remembered_comes_behind_what_it_covers_and_ends() {
    let kept: Vec<_> = (0..1_300).map(|at| fake::recent(at % 60, &format!("bearer:{at}"))).collect();
    let source = Fake { recent: Some(kept.clone()), kept_seconds: 3_600.0, ..Fake::default() };
    let server = Server::start(Arc::new(source));
    let mut lines = Vec::new();
    let followed = server.client().follow("/v1/recent", &[("since", "24h")], |line| {
        lines.push(line.to_vec());
        Ok(())
    });
    followed.unwrap();
    let covered: Covered = serde_json::from_slice(&lines.remove(0)).unwrap();
    assert_eq!((covered.covers_seconds as u64, covered.requests), (3_600, 1_300));
    let seen: Vec<RecentRecord> = lines.iter().map(|line| serde_json::from_slice(line).unwrap()).collect();
    assert_eq!(seen, kept);
    let wrong = server.client().follow("/v1/recent", &[("since", "soon")], |_| Ok(())).unwrap_err();
    assert!(wrong.is::<Usage>(), "{wrong}");
    let server = Server::start(Arc::new(Fake::default()));
    let none = server.client().follow("/v1/recent", &[], |_| Ok(())).unwrap_err();
    assert!(none.to_string().contains("[history] requests"), "{none}");
}

#[test]
fn an_open_tail_ends_with_the_daemon() {
    let source = Fake::default();
    source.finished.lock().unwrap().push(fake::record("/", 200));
    let server = Server::start(Arc::new(source));
    let client = server.client();
    let (seen, first) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        client.follow("/v1/tail", &[], |_| {
            let _ = seen.send(());
            Ok(())
        })
    });
    first.recv().unwrap();
    drop(server);
    let _ = reader.join().unwrap();
}

fn check(path: &Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { ControlSocket::bind(path, "").map(|_| ()) })
}

#[test]
fn a_live_daemon_keeps_its_socket_and_a_dead_one_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("weir.sock");
    let live = UnixListener::bind(&path).unwrap();
    let error = check(&path).unwrap_err();
    assert!(error.root_cause().is::<InUse>(), "{error:#}");
    assert!(
        format!("{error:#}").contains(&format!("already running (pid {})", std::process::id())),
        "{error:#}"
    );
    drop(live);
    assert!(path.exists());
    check(&path).unwrap();
    assert!(!path.exists());
    fs::write(&path, "precious").unwrap();
    assert!(format!("{:#}", check(&path).unwrap_err()).contains("not a socket"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "temporary files stay behind");
}

#[test]
fn an_absent_daemon_is_told_with_a_way_out() {
    let client = Client::new(&SocketArgs { socket: Some("/nonexistent/weir.sock".into()) }).unwrap();
    let error = client.get::<Status>("/v1/status", &[]).unwrap_err().to_string();
    assert!(error.contains("not running") && error.contains("systemctl start weir"), "{error}");
}

#[test]
fn filters_match_what_they_say() {
    let record = fake::record("/v1/users/{id}", 404);
    for (query, wanted) in [
        ("", true),
        ("identity=bearer%3A1", true),
        ("identity=cookie%3A2", true),
        ("identity=bearer", false),
        ("route=%2Fv1%2F*", true),
        ("route=%2Fv1%2F", false),
        ("host=API.example.com&method=get", true),
        ("status=4xx", true),
        ("status=404&pid=7", true),
        ("status=none", false),
        ("direction=outbound", false),
        ("pid=8", false),
        ("workload=unit:a.service", true),
    ] {
        assert_eq!(Filter::from_query(query).unwrap().wants(&record), wanted, "{query}");
    }
    for query in ["status=6xx", "status=99", "pid=x", "direction=up", "colour=red"] {
        assert!(Filter::from_query(query).is_err(), "{query}");
    }
}
