//! Who a request is charged to: every kind of credential, and that none of them is ever kept.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use monitor::view::Direction::{Inbound, Outbound};
use monitor::view::IdentityRow;

use crate::harness::process::run;
use crate::harness::raw::Wire;
use crate::harness::weir::{MARK, Place, Weir};
use crate::harness::{Findings, need, note, tool, turn, until};

const CONFIG: &str = "[identity]\nquery_keys = [\"token\"]\ncookies = [\"session\"]\n";
const ACCEPTED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const REJECTED: &str = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";

/// `{"alg":"HS256"}` . `{"iss":"https://issuer.example","sub":"alice"}` . a signature
const JWT: &str =
    "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwic3ViIjoiYWxpY2UifQ.c2lnbmF0dXJl";

/// Targets and header lines.
type Requests = Vec<(String, String)>;

/// One request of this process to itself.
fn request(wire: &Wire, target: &str, headers: &str, answer: &str) {
    let mut pair = wire.open();
    pair.up(format!("GET {target} HTTP/1.1\r\nHost: example\r\n{headers}\r\n"));
    pair.down(answer);
    pair.server_closes();
}

fn one<'a>(rows: &'a [IdentityRow], kind: &str) -> Option<&'a IdentityRow> {
    let mut found = rows.iter().filter(|row| row.direction == Inbound && row.kind == kind);
    let first = found.next();
    if found.next().is_some() { None } else { first }
}

/// One identity per kind, in both directions, with what identifies it, its fingerprint and its count.
#[test]
fn every_kind_appears() {
    need!();
    let _turn = turn();
    let weir = Weir::start_with(CONFIG);
    let wire = Wire::new("127.0.0.1:0");
    let aws = |signature: &str| {
        format!(
            "Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/eu-west-1/s3/aws4_request, \
             SignedHeaders=host;x-amz-date, Signature={signature}\r\n"
        )
    };
    let kinds: Vec<(&str, &str, Requests)> = vec![
        (
            "bearer",
            "authorization",
            (0..2).map(|_| ("/k".into(), "Authorization: Bearer opaque-1\r\n".into())).collect(),
        ),
        (
            "jwt",
            "authorization",
            (0..3).map(|_| ("/k".into(), format!("authorization: bearer {JWT}\r\n"))).collect(),
        ),
        // alice:wonderland
        (
            "basic",
            "authorization",
            vec![("/k".into(), "Authorization: Basic YWxpY2U6d29uZGVybGFuZA==\r\n".into()); 4],
        ),
        ("aws", "authorization", (0..5).map(|n| ("/k".into(), aws(&format!("{n:064x}")))).collect()),
        ("api_key", "x-api-key", vec![("/k".into(), "X-API-Key: key-1\r\n".into()); 6]),
        ("query_key", "token", (0..7).map(|n| (format!("/k?n={n}&token=query-1"), String::new())).collect()),
        ("cookie", "session", vec![("/k".into(), "Cookie: a=b; session=cookie-1; c=d\r\n".into()); 8]),
    ];
    for (_, _, requests) in &kinds {
        for (target, headers) in requests {
            request(&wire, target, headers, ACCEPTED);
        }
    }
    weir.settle();
    let rows = weir.own_identities();
    let mut findings = Findings::default();
    for (kind, carrier, requests) in &kinds {
        for direction in [Inbound, Outbound] {
            let of_kind: Vec<_> =
                rows.iter().filter(|row| row.direction == direction && row.kind == *kind).collect();
            let [row] = of_kind.as_slice() else {
                findings.add(format!("{kind}, {direction:?}: {} rows: {of_kind:?}", of_kind.len()));
                continue;
            };
            findings.equal(
                &format!("{kind}, {direction:?}: requests"),
                row.totals.requests,
                requests.len() as u64,
            );
            findings.equal(&format!("{kind}: carrier"), row.carrier.to_lowercase().as_str(), *carrier);
            let hexadecimal =
                row.fingerprint.len() == 16 && row.fingerprint.bytes().all(|b| b.is_ascii_hexdigit());
            findings.equal(&format!("{kind}: fingerprint {:?}", row.fingerprint), hexadecimal, true);
            findings.equal(
                &format!("{kind}: {:?} begins with its kind", row.identity),
                row.identity.starts_with(kind),
                true,
            );
        }
    }
    if let Some(jwt) = one(&rows, "jwt") {
        let claims = (jwt.issuer.as_str(), jwt.subject.as_str());
        findings.equal("claims of the token", claims, ("https://issuer.example", "alice"));
    }
    if let Some(basic) = one(&rows, "basic") {
        findings.equal("user", (basic.identity.as_str(), basic.subject.as_str()), ("basic:alice", "alice"));
    }
    // The harness's own requests carry no credential.
    findings.equal(
        "client",
        rows.iter().any(|row| row.identity == "client:127.0.0.1" && row.direction == Inbound),
        true,
    );
    findings.equal(
        "workload",
        rows.iter().any(|row| row.kind == "workload" && row.direction == Outbound),
        true,
    );
    findings.none();
}

/// A rejected token names no subject; the first of several credentials names the request; addresses are taken from
/// headers only where a proxy is trusted.
#[test]
fn precedence_rejection_and_proxies() {
    need!();
    let _turn = turn();
    let place = Place::new("[identity]\ntrusted_proxies = [\"127.0.0.1/32\"]\n");
    let weir = place.start();
    let wire = Wire::new("127.0.0.1:0");
    request(&wire, "/k", &format!("Authorization: Bearer {JWT}\r\n"), REJECTED);
    request(&wire, "/both", "X-Api-Key: second\r\nAuthorization: Bearer first\r\n", ACCEPTED);
    request(&wire, "/both", "Authorization: Bearer first\r\n", ACCEPTED);
    request(&wire, "/k", "X-Forwarded-For: 198.51.100.9, 203.0.113.7\r\n", ACCEPTED);
    let six = Wire::new("[::1]:0");
    request(&six, "/k", "X-Forwarded-For: 203.0.113.8\r\n", ACCEPTED);
    weir.settle();
    let rows = weir.own_identities();
    let mut findings = Findings::default();
    findings.equal(
        "a rejected token names nobody",
        rows.iter().any(|row| row.identity.contains("alice")),
        false,
    );
    findings.equal("the rejected token is a jwt", one(&rows, "jwt").is_some(), true);
    findings.equal(
        "the first credential names both",
        one(&rows, "bearer").map(|row| row.totals.requests),
        Some(2),
    );
    findings.equal("the second names none", rows.iter().any(|row| row.kind == "api_key"), false);
    let has = |name: &str| rows.iter().any(|row| row.identity == name);
    findings.equal("the rightmost address that is not a proxy", has("client:203.0.113.7"), true);
    findings.equal("not what the client claims", has("client:198.51.100.9"), false);
    findings.equal("nothing from a stranger", has("client:203.0.113.8"), false);
    findings.equal("the stranger's address", has("client:::1"), true);
    findings.none();
}

/// A fingerprint means the same on the command line, in the kernel and after a restart; a name stands for it at once.
#[test]
fn names_and_restarts() {
    need!();
    let _turn = turn();
    let place = Place::new("");
    let weir = place.start();
    let wire = Wire::new("127.0.0.1:0");
    let identity = weir.fingerprint("Bearer acme-secret\n");
    assert!(!identity.contains("acme-secret"));
    request(&wire, "/k", "Authorization: Bearer acme-secret\r\n", ACCEPTED);
    weir.settle();
    let names = |weir: &Weir| weir.identities().into_iter().map(|row| row.identity).collect::<BTreeSet<_>>();
    assert!(names(&weir).contains(&identity), "{identity} is not in {:?}", names(&weir));
    weir.run(&["identity", "name", &identity, "acme"]).ok();
    assert!(names(&weir).contains("acme"), "{:?}", names(&weir));
    weir.stop();

    let weir = place.start();
    request(&wire, "/k", "Authorization: Bearer acme-secret\r\n", ACCEPTED);
    weir.settle();
    assert!(names(&weir).contains("acme"), "after a restart: {:?}", names(&weir));
    weir.stop();

    place.configure(&format!("[[identity.name]]\nname = \"from-config\"\nidentity = \"{identity}\"\n"));
    std::fs::remove_file(place.state().join("names.toml")).unwrap();
    let weir = place.start();
    request(&wire, "/k", "Authorization: Bearer acme-secret\r\n", ACCEPTED);
    weir.settle();
    assert!(names(&weir).contains("from-config"), "by configuration: {:?}", names(&weir));
}

/// A secret in every place that can carry one: 200 of them. Each is searched for, in full and in part, in everything
/// that Weir says or writes.
#[test]
fn planted_secrets_are_nowhere() {
    need!();
    let _turn = turn();
    let place = Place::new(CONFIG);
    let weir = place.start_by(place.command().env("WEIR_LOG", "trace"));
    let tail = Tail::start(&place, &weir);
    let wire = Wire::new("127.0.0.1:0");
    let mut planted = Vec::new();
    for n in 0..200 {
        // Random enough to be found nowhere by chance, long ones too.
        let secret = secret(n);
        let (target, headers) = carried(n, &secret);
        request(&wire, &target, &headers, if n % 3 == 0 { REJECTED } else { ACCEPTED });
        planted.push(secret);
    }
    // The same, cut in the middle of the credential, and at the end of a very long head.
    for secret in planted.iter().take(20) {
        let mut pair = wire.open();
        let head = format!("GET /cut HTTP/1.1\r\nHost: example\r\nAuthorization: Bearer {secret}\r\n\r\n");
        let at = head.find(secret.as_str()).unwrap() + 5;
        pair.up(&head[..at]);
        pair.up(&head[at..]);
        pair.down(ACCEPTED);
        let filler = format!("X-Filler: {}\r\n", "f".repeat(990)).repeat(20);
        pair.up(format!("GET /long HTTP/1.1\r\n{filler}Authorization: Bearer {secret}\r\n\r\n"));
        pair.down(ACCEPTED);
    }
    assert_eq!(weir.own(Inbound), 240, "{:?}", weir.status().losses);

    let mut said = vec![("the log".to_owned(), weir.place.log()), ("/metrics".to_owned(), weir.metrics())];
    said.push(("tail".to_owned(), tail.stop(&wire)));
    for view in ["status", "doctor", "identities", "processes", "routes", "connections"] {
        for format in ["json", "table", "csv"] {
            said.push((format!("weir {view} -o {format}"), weir.run(&[view, "-o", format]).out));
        }
        said.push((format!("the socket, {view}"), over_socket(&place.socket(), &format!("/v1/{view}"))));
    }
    let kinds: BTreeSet<String> = weir.own_identities().into_iter().map(|row| row.kind).collect();
    for kind in ["bearer", "jwt", "basic", "aws", "api_key", "query_key", "cookie"] {
        assert!(kinds.contains(kind), "no {kind} among {kinds:?}: nothing would be proven");
    }
    // Held open until here, so that what is written at the end is searched as well.
    let place = weir.stop();
    said.push(("the log at the end".to_owned(), place.log()));
    files(&place.state(), &mut said);
    let mut findings = Findings::default();
    let bytes: usize = said.iter().map(|(_, text)| text.len()).sum();
    for (n, secret) in planted.iter().enumerate() {
        for (what, text) in &said {
            // A part of a secret is a leak too: 12 characters of its middle; and so is its transport form.
            let encoded = BASE64.encode(format!("user{n}:{secret}"));
            if text.contains(&secret[8..20]) || text.contains(&encoded[12..28]) {
                findings.add(format!("secret {n} ({}) is in {what}", carried(n, "SECRET").1.trim()));
            }
        }
    }
    note(&format!("searched {} places, {bytes} bytes, for {} secrets", said.len(), planted.len()));
    findings.none();
}

fn secret(n: usize) -> String {
    // Not random on purpose: a failure can be repeated. The multiplier is Knuth's (2^64 divided by the golden ratio).
    let mut text = String::new();
    let mut state = (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for _ in 0..if n.is_multiple_of(10) { 40 } else { 4 } {
        state ^= state >> 29;
        state = state.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let _ = write!(text, "{state:016x}");
    }
    text
}

/// Target and headers with `secret` in the `n`th kind of place.
fn carried(n: usize, secret: &str) -> (String, String) {
    let header = |name: &str, value: String| ("/secret".to_owned(), format!("{name}: {value}\r\n"));
    match n % 15 {
        0 => header("Authorization", format!("Bearer {secret}")),
        // The secret of a JWT is its signature; its claims are shown.
        1 => header("Authorization", format!("Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJib2IifQ.{secret}")),
        // The user is shown, the password is not.
        2 => header("Authorization", format!("Basic {}", BASE64.encode(format!("user{n}:{secret}")))),
        3 => header(
            "Authorization",
            format!("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/x, SignedHeaders=host, Signature={secret}"),
        ),
        4 => header("X-Api-Key", secret.to_owned()),
        5 => header("Api-Key", format!("  {secret}\t")),
        6 => header("X-Auth-Token", secret.to_owned()),
        7 => header("Cookie", format!("other=1; session={secret}")),
        // A cookie that nobody configured, and a header that nobody knows.
        8 => header("Cookie", format!("unknown={secret}")),
        9 => header("X-Unknown-Secret", secret.to_owned()),
        10 => (format!("/secret?a=b&token={secret}&c=d"), String::new()),
        11 => (format!("/secret?api_key={secret}"), String::new()),
        12 => (format!("/secret?unknown={secret}"), "X-Api-Key: a\r\n".to_owned()),
        // A key in the place of the user.
        13 => header("Authorization", format!("Basic {}", BASE64.encode(format!("{secret}:")))),
        _ => header("authorization", format!("Negotiate {secret}")),
    }
}

/// `weir tail` while the requests are made.
struct Tail {
    child: crate::harness::process::Guard,
    dir: tempfile::TempDir,
}

impl Tail {
    /// Returns when the tail shows what happens.
    fn start(place: &Place, weir: &Weir) -> Self {
        let dir = crate::harness::open_dir();
        let out = dir.path().join("out");
        let mut command = Command::new(crate::harness::weir::binary());
        command.args(["tail", "-o", "jsonl", "--socket"]).arg(place.socket());
        let child = crate::harness::process::Guard::spawn(&mut command, &out, &out);
        let tail = Self { child, dir };
        until("the tail to begin", Duration::from_secs(10), || {
            weir.settle();
            tail.text().contains(MARK).then_some(())
        });
        tail
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("out")).unwrap_or_default()
    }

    fn stop(mut self, wire: &Wire) -> String {
        // Everything is in it once both ends of a last request are.
        request(wire, "/last-of-all", "", ACCEPTED);
        until("the last request in the tail", Duration::from_secs(10), || {
            let text = self.text();
            (text.lines().filter(|line| line.contains("/last-of-all")).count() == 2).then_some(())
        });
        let all = self.text();
        self.child.stop(libc::SIGTERM);
        assert!(all.lines().count() > 200, "the tail has {} lines", all.lines().count());
        all
    }
}

/// The raw answer of the control socket.
fn over_socket(socket: &Path, path: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n").as_bytes())
        .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// Every file below `dir`, with its content.
fn files(dir: &Path, into: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, into);
        } else {
            let bytes = std::fs::read(&path).unwrap();
            into.push((path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
}

/// The label of a metric never breaks the exposition, whatever a client puts into a user name.
#[test]
fn hostile_names_stay_harmless() {
    need!("python3");
    let _turn = turn();
    let weir = Weir::start();
    let wire = Wire::new("127.0.0.1:0");
    // "a\"b\nc\\d{}\u{1b}[31m:x" and the same after an escape that a terminal would obey
    request(&wire, "/k", "Authorization: Basic YSJiCmNcZHt9G1szMW06eA==\r\n", ACCEPTED);
    request(&wire, "/\x1b]0;title\x07", "User-Agent: \x1b[2J\r\n", ACCEPTED);
    weir.settle();
    for view in ["identities", "routes", "processes", "connections"] {
        let table = weir.run(&[view]).ok().out;
        assert!(!table.contains('\x1b') && !table.contains('\x07'), "{view} lets escapes through: {table:?}");
    }
    for line in weir.metrics().lines().filter(|line| !line.starts_with('#')) {
        let well_formed = line.rsplit_once(' ').is_some_and(|(_, value)| value.parse::<f64>().is_ok());
        assert!(well_formed && !line.contains('\x1b'), "{line:?}");
    }
    if let Some(promtool) = tool("promtool") {
        let metrics = weir.metrics();
        let checked = crate::harness::process::run_with(
            Command::new(promtool).args(["check", "metrics"]),
            metrics.as_bytes(),
            Duration::from_secs(20),
        );
        assert!(checked.status.success(), "{}", checked.err);
    }
    // Python's reader of JSON is another than the one that wrote it.
    let json = weir.run(&["identities", "-o", "json"]).ok().out;
    let dir = crate::harness::open_dir();
    let file = dir.path().join("identities.json");
    std::fs::write(&file, json).unwrap();
    run(Command::new(tool("python3").unwrap()).args(["-m", "json.tool"]).arg(&file)).ok();
}
