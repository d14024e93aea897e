//! Real servers. Each writes one line per request that it served, and that count is the truth of a test.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use super::cgroup;
use super::process::{Guard, children, run, run_with};
use super::weir::free_port;
use super::{LIMIT, open_dir, script, tool, until};

/// A running server.
pub struct Server {
    guard: Guard,
    dir: tempfile::TempDir,
    /// Base address, `http://127.0.0.1:1234`.
    pub url: String,
    /// Processes that handle requests.
    pub pids: Vec<u32>,
}

/// Where a server runs and as whom; the default is: here, as this user.
#[derive(Default)]
pub struct Home<'a> {
    pub cgroup: Option<(&'a Path, u32)>,
}

impl Server {
    /// Requests that it has logged so far.
    pub fn served(&self) -> u64 {
        lines(&self.dir.path().join("requests.log"))
    }

    /// Waits until it has logged `expected` requests: a client may have its answer before the line is written.
    pub fn expect(&self, what: &str, expected: u64) {
        let mut seen = 0;
        until(&format!("{what}: {expected} requests in the server's log"), LIMIT, || {
            seen = self.served();
            (seen >= expected).then_some(())
        });
        assert_eq!(seen, expected, "{what}: requests in the server's log");
    }

    /// Waits until its log has `count` lines or more; cheap, for the middle of a load.
    pub fn at_least(&self, count: u64, limit: Duration) {
        let path = self.dir.path().join("requests.log");
        until(&format!("{count} requests in the server's log"), limit, || {
            // No line is shorter than "200 GET\n".
            let len = std::fs::metadata(&path).map_or(0, |file| file.len());
            (len >= 8 * count && self.served() >= count).then_some(())
        });
    }

    /// Ends it in good order, so that its log is whole, and returns the count of the log.
    pub fn finish(mut self) -> u64 {
        self.guard.stop(libc::SIGQUIT);
        self.served()
    }

    /// A file in the server's directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn script(command: Command, scheme: &str, home: &Home<'_>) -> Self {
        let dir = open_dir();
        let (log, err) = (dir.path().join("requests.log"), dir.path().join("stderr"));
        let mut command = match home.cgroup {
            Some((cgroup, uid)) => cgroup::inside(cgroup, uid, &command),
            None => command,
        };
        // The port goes to standard error, so that standard output holds requests only.
        let mut guard = Guard::spawn(&mut command, &log, &err);
        let port = until("a port from the server", LIMIT, || {
            let text = std::fs::read_to_string(&err).unwrap_or_default();
            assert!(guard.ended().is_none(), "the server ended: {text}");
            text.lines().find_map(|line| line.strip_prefix("LISTEN ")?.parse::<u16>().ok())
        });
        let pids = vec![guard.pid()];
        Self { guard, dir, url: format!("{scheme}://127.0.0.1:{port}"), pids }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A master that is killed leaves its workers behind; one that is asked takes them with it.
        self.guard.end_soon();
    }
}

/// `http.server` of Python, one thread per connection (`threading`), or a server written on asyncio (`asyncio`).
pub fn python(kind: &str, tls: Option<&Certificate>, home: &Home<'_>) -> Server {
    let mut command = Command::new(tool("python3").unwrap());
    command.arg("-u").arg(script("server.py")).arg(kind);
    if let Some(tls) = tls {
        command.arg(tls.cert()).arg(tls.key());
    }
    Server::script(command, scheme(tls), home)
}

/// Node's `http` or `https`.
pub fn node(tls: Option<&Certificate>, home: &Home<'_>) -> Server {
    let mut command = Command::new(tool("node").unwrap());
    command.arg(script("server.js"));
    if let Some(tls) = tls {
        command.arg(tls.cert()).arg(tls.key());
    }
    Server::script(command, scheme(tls), home)
}

/// Go's `net/http`, plaintext.
pub fn go(home: &Home<'_>) -> Server {
    let mut command = Command::new(go_program());
    command.arg("serve");
    Server::script(command, "http", home)
}

fn scheme(tls: Option<&Certificate>) -> &'static str {
    if tls.is_some() { "https" } else { "http" }
}

/// The Go server and client, built once. Build it before the test's turn: the first time takes a minute.
pub fn go_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go");
        std::fs::create_dir_all(&dir).unwrap();
        let program = dir.join("weir-go-peer");
        let mut build = Command::new(tool("go").unwrap());
        build.args(["build", "-o"]).arg(&program).arg(script("peer.go"));
        // The standard library is compiled on the first build of a host; later ones find it in Go's cache.
        run_with(build.env("GO111MODULE", "off").env("CGO_ENABLED", "0"), b"", Duration::from_mins(5)).ok();
        program
    })
}

/// nginx with two workers.
pub fn nginx(tls: Option<&Certificate>) -> Server {
    nginx_with("return 200 \"ok\\n\";", tls)
}

/// nginx with `location / { ... }`. It listens on 127.0.0.1, `[::1]` and on the Unix socket `socket` in its directory.
pub fn nginx_with(location: &str, tls: Option<&Certificate>) -> Server {
    nginx_on(location, tls, &format!("127.0.0.1:{}", free_port()))
}

/// nginx at an address of its own.
pub fn nginx_at(place: &str) -> Server {
    nginx_on("return 200 \"ok\\n\";", None, place)
}

fn nginx_on(location: &str, tls: Option<&Certificate>, place: &str) -> Server {
    let dir = open_dir();
    let port = place.rsplit_once(':').unwrap().1;
    let path = dir.path().display();
    let mut conf = format!(
        "user root;\ndaemon off;\nworker_processes 2;\npid {path}/pid;\nerror_log {path}/error.log warn;\n\
         worker_rlimit_nofile 8192;\nevents {{ worker_connections 4096; }}\nhttp {{\n\
         log_format short '$status $request_method $uri';\naccess_log {path}/requests.log short;\n\
         keepalive_requests 100000000;\nclient_body_temp_path {path}/body;\nproxy_temp_path {path}/proxy;\n\
         fastcgi_temp_path {path}/fastcgi;\nuwsgi_temp_path {path}/uwsgi;\nscgi_temp_path {path}/scgi;\nserver {{\n"
    );
    let ssl = if tls.is_some() { " ssl" } else { "" };
    for listen in [format!("{place}{ssl}"), format!("[::1]:{port}{ssl}"), format!("unix:{path}/socket")] {
        let _ = writeln!(conf, "listen {listen};");
    }
    if let Some(tls) = tls {
        let _ = writeln!(
            conf,
            "ssl_certificate {};\nssl_certificate_key {};",
            tls.cert().display(),
            tls.key().display()
        );
    }
    let _ = writeln!(conf, "location / {{ {location} }}\n}} }}");
    let conf_path = dir.path().join("nginx.conf");
    std::fs::write(&conf_path, conf).unwrap();
    let mut command = Command::new(tool("nginx").unwrap());
    command.arg("-c").arg(&conf_path).arg("-p").arg(dir.path());
    let (out, err) = (dir.path().join("stdout"), dir.path().join("stderr"));
    let mut guard = Guard::spawn(&mut command, &out, &err);
    let pids = until("two nginx workers", LIMIT, || {
        assert!(guard.ended().is_none(), "nginx: {}", std::fs::read_to_string(&err).unwrap_or_default());
        let workers = children(guard.pid());
        // A worker has the master's title until it has set its own.
        let ready = workers.iter().filter(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|title| title.contains("worker process"))
        });
        (ready.count() == 2).then_some(workers)
    });
    Server { guard, dir, url: format!("{}://{place}", scheme(tls)), pids }
}

/// A self-signed certificate for `localhost` and 127.0.0.1.
pub struct Certificate {
    dir: tempfile::TempDir,
}

impl Certificate {
    pub fn new() -> Self {
        let certificate = Self { dir: open_dir() };
        run(Command::new(tool("openssl").unwrap())
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-days",
                "2",
            ])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-out"])
            .arg(certificate.cert())
            .arg("-keyout")
            .arg(certificate.key()))
        .ok();
        certificate
    }

    pub fn cert(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }

    pub fn key(&self) -> PathBuf {
        self.dir.path().join("key.pem")
    }
}

fn lines(path: &Path) -> u64 {
    std::fs::read_to_string(path).map_or(0, |text| text.matches('\n').count() as u64)
}
