//! Caps and access levels: what the server sees, what the caller sees, and what nobody can get around.

mod answers;
mod budgets;
mod fences;
mod keep;
mod lines;
pub mod load;
mod packets;
mod rates;
mod shown;
mod unframed;

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::process::Command;
use std::time::{Duration, Instant};

use monitor::view::CapRow;

use crate::harness::process::{resident_bytes, run, send_signal};
use crate::harness::servers::{self, Certificate, Home, Server};
use crate::harness::weir::Weir;
use crate::harness::{Findings, LIMIT, need, note, tool, turn, until};
use load::{Caller, Load, Met, Offer, load};

pub const ACME: &str = "Bearer acme-secret";

pub fn address(server: &Server) -> SocketAddr {
    let place = server.url.split_once("://").unwrap().1;
    place.to_socket_addrs().unwrap().next().unwrap()
}

fn get(path: &str, headers: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").into_bytes()
}

pub fn acme(path: &str) -> Vec<u8> {
    get(path, &format!("Authorization: {ACME}\r\n"))
}

/// Configuration of a listener whose denied callers are answered, empty where they are not.
fn listener(to: SocketAddr, respond: bool) -> String {
    if respond { format!("[[listener]]\nport = {}\nrespond = 429\n", to.port()) } else { String::new() }
}

/// Whether the tests take the time that a release takes: `WEIR_TEST_LONG=1`.
fn long() -> bool {
    std::env::var("WEIR_TEST_LONG").is_ok_and(|value| value == "1")
}

/// Sets a cap for a credential through the command line.
fn cap(weir: &Weir, name: &str, credential: &str, rest: &[&str]) {
    let identity = weir.fingerprint(credential);
    weir.run(&[&["caps", "set", name, "--identity", &identity], rest].concat()).ok();
}

pub fn row(weir: &Weir, name: &str) -> CapRow {
    let rows: Vec<CapRow> = weir.json(&["caps", "list"]);
    rows.into_iter().find(|row| row.name == name).unwrap()
}

/// The callers got answers to the burst and what the rate brings, give or take one (1% from 10,000/s on), and every other
/// request was cut before a byte of an answer came. The server's log holds those that were answered, and at most `slips` whose
/// answer was cut.
fn judge(
    findings: &mut Findings,
    what: &str,
    seen: &Load,
    served: u64,
    (burst, rate): (u64, f64),
    slips: u64,
) {
    let (low, high) = ((rate * seen.sure).floor() as u64, (rate * seen.seconds).ceil() as u64);
    // what the interval's rounding costs, and the time between two requests of a host that is busy
    let slack = if rate < 10_000.0 { 1 } else { high / 100 };
    let fits = (burst + low - slack..=burst + high + slack).contains(&seen.answered);
    findings.equal(&format!("{what}: {burst} + {low}..{high} answers wanted, {seen:?}"), fits, true);
    let slipped = served.saturating_sub(seen.answered);
    findings.equal(
        &format!("{what}: {served} served, {} answered, {slips} more allowed", seen.answered),
        seen.answered <= served && slipped <= slips,
        true,
    );
    findings.equal(&format!("{what}: neither answered nor cut"), (seen.silent, seen.odd), (0, 0));
    note(&format!(
        "{what}: {served} served of {}, {burst} + {low}..{high} wanted, {slipped} of them answered in vain, {:.2} s",
        seen.answered + seen.cut,
        seen.seconds
    ));
}

#[test]
fn exact_whatever_is_offered() {
    need!("nginx");
    let _turn = turn();
    let mut findings = Findings::default();
    let weir = Weir::start();
    for (callers, offered) in [(1, Some(110.0)), (16, Some(200.0)), (16, None), (64, Some(1000.0))] {
        let server = servers::nginx(None);
        cap(&weir, "acme", ACME, &["--rate", "100/s", "--burst", "20"]);
        weir.run(&["caps", "reset", "acme"]).ok();
        let offer = Offer { callers, rate: offered, ..Offer::default() };
        let seen = load(address(&server), &acme("/cap"), offer);
        let what = format!("{callers} connections, {offered:?} offered a second");
        let cut = seen.cut;
        judge(&mut findings, &what, &seen, server.finish(), (20, 100.0), 0);
        findings.equal(&format!("{what}: denied"), row(&weir, "acme").denied, cut);
    }
    findings.none();
}

/// Callers that share a server with one that floods it meet nobody's cap but their own.
#[test]
fn partners_do_not_feel_each_other() {
    need!("nginx");
    let _turn = turn();
    let mut findings = Findings::default();
    let weir = Weir::start();
    let server = servers::nginx(None);
    let to = address(&server);
    cap(&weir, "calm", "Bearer other-secret", &["--rate", "1000/s", "--burst", "100"]);
    let other = get("/other", "Authorization: Bearer other-secret\r\n");
    let calm = || load(to, &other, Offer { callers: 2, rate: Some(200.0), ..Offer::default() });
    let flood = || {
        // a denied caller comes again after the drain's interval of 5 ms: so many are needed for 20,000/s
        let offer = Offer { callers: 128, rate: Some(20_000.0), ..Offer::default() };
        std::thread::scope(|scope| {
            let flood = scope.spawn(|| load(to, &acme("/flood"), offer));
            let calm = calm();
            (flood.join().unwrap(), calm)
        })
    };
    let alone = calm();
    let (free, beside_free) = flood();
    cap(&weir, "acme", ACME, &["--rate", "50/s", "--burst", "10"]);
    let (capped, beside_capped) = flood();
    for (what, calm) in
        [("alone", &alone), ("beside a flood", &beside_free), ("beside a capped one", &beside_capped)]
    {
        findings.equal(
            &format!("{what}: the calm caller's requests that were cut"),
            (calm.cut, calm.silent + calm.odd),
            (0, 0),
        );
        note(&format!("calm {what}: {} answered, {:?}", calm.answered, calm.latencies));
    }
    let admitted = 10 + (50.0 * capped.seconds) as u64 + 1;
    findings.equal(&format!("the flood was held to its cap: {capped:?}"), capped.answered <= admitted, true);
    findings.equal("the flood", capped.cut > 100, true);
    // the callers share two CPUs with the server: what the cap itself must not do is make it worse
    let bound = beside_free.latencies.at(0.99) * 3 + Duration::from_millis(20);
    findings.equal(
        &format!(
            "beside a flood {:?}, beside a capped one {:?}",
            beside_free.latencies, beside_capped.latencies
        ),
        beside_capped.latencies.at(0.99) < bound,
        true,
    );
    let offered = |load: &Load| (load.answered + load.cut) as f64 / load.seconds;
    note(&format!("floods of {:.0}/s and, capped, {:.0}/s", offered(&free), offered(&capped)));
    findings.none();
}

/// Nothing in how a request is sent gets more through than the cap admits.
#[test]
fn nobody_gets_around_a_cap() {
    need!("nginx");
    let _turn = turn();
    let mut findings = Findings::default();
    let weir = Weir::start();
    let server = servers::nginx(None);
    let to = address(&server);
    // five an hour: what is admitted is the burst
    cap(&weir, "acme", ACME, &["--rate", "5/h", "--burst", "5"]);
    let whole = acme("/evade");
    let bytes: Vec<&[u8]> = whole.chunks(1).collect();
    let case = get("/evade", &format!("aUTHORIZATION:   {}\r\n", ACME.replace("Bearer", "bEARER")));
    let junk = get("/evade", &format!("X-Api-Key: junk\r\nAuthorization: {ACME}\r\nApi-Key: more\r\n"));
    let twice = get("/evade", &format!("Authorization: Bearer junk\r\nAuthorization: {ACME}\r\n"));
    let many =
        get("/evade", &format!("{}Authorization: {ACME}\r\n", "Authorization: Bearer j\r\n".repeat(6)));
    let old = String::from_utf8(acme("/evade")).unwrap().replace("HTTP/1.1", "HTTP/1.0").into_bytes();
    let long = get("/evade", &format!("X-Filler: {}\r\nAuthorization: {ACME}\r\n", "f".repeat(6000)));
    let ways: Vec<(&str, Vec<&[u8]>)> = vec![
        ("whole", vec![&whole]),
        ("byte by byte", bytes),
        ("in another case", vec![&case]),
        ("behind junk headers", vec![&junk]),
        ("behind a junk credential", vec![&twice]),
        ("among many credentials", vec![&many]),
        ("HTTP/1.0", vec![&old]),
        ("at the end of a long head", vec![&long]),
    ];
    for (way, parts) in &ways {
        weir.run(&["caps", "reset", "acme"]).ok();
        let before = server.served();
        let mut met = Vec::new();
        for _ in 0..9 {
            // a new connection each: another source port
            met.push(Caller::new(to).call_in(parts));
        }
        // nginx answers 400 to a second Authorization, as it may: the cap is what counts
        let admitted = met.iter().filter(|met| matches!(met, Met::Answer(_))).count();
        let wanted = if *way == "among many credentials" { 0 } else { 5 };
        findings.equal(&format!("{way}: {met:?}"), admitted, wanted);
        let odd = met.iter().any(|met| matches!(met, Met::Odd | Met::Silence));
        findings.equal(&format!("{way}: odd ones"), odd, false);
        until("the server's log", LIMIT, || (server.served() >= before + wanted as u64).then_some(()));
    }
    // a hundred in one write: the connection is cut, and no answer beyond the burst is there
    weir.run(&["caps", "reset", "acme"]).ok();
    let met = Caller::new(to).call(&whole.repeat(100));
    findings.equal("pipelined", matches!(met, Met::Cut | Met::Answer(200)), true);
    let allowed = row(&weir, "acme").allowed;
    findings.equal("pipelined: admitted", allowed <= 5, true);
    findings.none();
}

/// A request with more credentials than are told apart is refused only where something denies.
#[test]
fn many_credentials_pass_where_nothing_denies() {
    need!("node");
    let _turn = turn();
    let weir = Weir::start();
    let server = servers::node(None, &Home::default());
    let many = get("/many", &"Authorization: Bearer j\r\n".repeat(6));
    for (action, met) in [("observe", true), ("shadow", true), ("deny", false)] {
        cap(&weir, "acme", ACME, &["--rate", "1/h", "--burst", "1", "--action", action]);
        let got = Caller::new(address(&server)).call(&many);
        assert_eq!(matches!(got, Met::Answer(_)), met, "{action}: {got:?}");
    }
}

/// Of the tricks none reaches the server, of the ordinary requests every one does.
#[test]
fn tricks_do_not_widen_access() {
    need!("nginx", "node");
    let _turn = turn();
    let mut findings = Findings::default();
    let place = crate::harness::weir::Place::new("");
    let weir = place.start();
    let identity = weir.fingerprint(ACME);
    let place = weir.stop();
    place.configure(&format!(
        "[[role]]\nname = \"reader\"\nidentities = [{identity:?}]\naccess = [\"GET /v1/\"]\n"
    ));
    let weir = place.start();
    for server in [servers::nginx(None), servers::node(None, &Home::default())] {
        let to = address(&server);
        let request = |method: &str, target: &str| {
            format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {ACME}\r\nContent-Length: 0\r\n\r\n")
                .into_bytes()
        };
        let ordinary = ["/v1/", "/v1/x", "/v1/a/b?c=/../d", "/v1/projects/a%2Fb", "/v1/a%20b"];
        for target in ordinary {
            let met = Caller::new(to).call(&request("GET", target));
            findings.equal(&format!("{} GET {target}", server.url), met, Met::Answer(200));
        }
        server.expect("ordinary requests", ordinary.len() as u64);
        for target in [
            "/",
            "/v1",
            "/v1x/",
            "/V1/",
            "/v2/",
            "//v1/",
            "/./v1/",
            "/x/../v1/",
            "/%76%31/",
            "/v1/../admin",
            "/v1/..%2fadmin",
            "/v1/..%2Fadmin",
            "/v1/%2e%2e/admin",
            "/v1/%2E%2E/admin",
            "/v1/.%2e/admin",
            "/v1/%2e./admin",
            "/v1/..\\admin",
            "/v1/..%5cadmin",
            "/v1%2f..%2fadmin",
            "/v1/..;/admin",
            "/v1/%2e%2e;/admin",
            "/v1/%252e%252e/admin",
            "/v1/..%252fadmin",
            "/v1/%c0%ae%c0%ae/admin",
            "/v1/x/../../admin",
            "/v1//../admin",
            "/v1/%00",
            "/v1/..",
            "/v1/%2e%2e",
            "http://h/admin",
            "http://h/v1/../admin",
            "/admin?/v1/",
            "/admin#/v1/",
            "/admin/..%2fv1/",
            // `..` takes back what only some servers take for a segment
            "/v1/x%2Fy/../../admin",
            "/v1/x\\y/../../admin",
            "/v1/../admin//../v1/x",
            "/v1/#/../admin",
        ] {
            let met = Caller::new(to).call(&request("GET", target));
            findings.equal(&format!("{} GET {target}", server.url), met, Met::Cut);
        }
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "get", "TRACE", "PURGE"] {
            let met = Caller::new(to).call(&request(method, "/v1/x"));
            findings.equal(&format!("{} {method} /v1/x", server.url), met, Met::Cut);
        }
        server.expect("ordinary requests alone", ordinary.len() as u64);
    }
    findings.equal(
        "denied for their path",
        weir.metric("weir_denials_total", &[("reason", "access")]) as u64,
        2 * 46,
    );
    findings.none();
}

/// `/v1` is `/v1` and what is below it, for access levels, routes of caps and what is exempt.
#[test]
fn paths_end_where_a_segment_does() {
    need!("nginx");
    let _turn = turn();
    let mut findings = Findings::default();
    let place = crate::harness::weir::Place::new("");
    let weir = place.start();
    let (acme, other) = (weir.fingerprint(ACME), weir.fingerprint("Bearer other-secret"));
    let place = weir.stop();
    place.configure(&format!(
        "[[role]]\nname = \"reader\"\nidentities = [{acme:?}]\naccess = [\"GET /v1\", \"GET /v2/\"]\n\
         [[cap]]\nname = \"route\"\nidentity = {other:?}\nroute = \"/v1\"\nrate = \"1/h\"\nburst = 2\n\
         [enforce]\nexempt = [\"/health\"]\n"
    ));
    let _weir = place.start();
    let server = servers::nginx(None);
    let met = |path: &str, credential: &str| {
        Caller::new(address(&server)).call(&get(path, &format!("Authorization: {credential}\r\n")))
    };
    for path in ["/v1", "/v1/", "/v1/x", "/v1?x=/v3", "/v2/", "/v2/x", "/health", "/health/x", "/health?x"] {
        findings.equal(&format!("{path} with access"), met(path, ACME), Met::Answer(200));
    }
    for path in ["/v1x", "/v1-x/y", "/v2", "/v2x", "/healthX-expensive", "/HEALTH", "/HEALTHx", "/v1%2fx"] {
        findings.equal(&format!("{path} without"), met(path, ACME), Met::Cut);
    }
    let other = |path| met(path, "Bearer other-secret");
    for path in ["/v1x", "/v", "/v1x/v1", "/v1-/"] {
        findings.equal(&format!("{path} is not on the route"), other(path), Met::Answer(200));
    }
    for (path, wanted) in [
        ("/V1", Met::Answer(200)),
        ("/v1/x", Met::Answer(200)),
        ("/v1", Met::Cut),
        ("/v1%2Fx", Met::Cut),
        ("/%761?x", Met::Cut),
        ("/v1;x", Met::Cut),
        ("/v1x", Met::Answer(200)),
    ] {
        findings.equal(&format!("{path} on the route"), other(path), wanted);
    }
    findings.none();
}

/// Of a denied response of a TLS server no byte reaches the caller.
#[test]
fn a_tls_server_is_fenced() {
    need!("nginx", "curl", "openssl");
    let _turn = turn();
    let certificate = Certificate::new();
    let weir = Weir::start();
    let server = servers::nginx(Some(&certificate));
    cap(&weir, "acme", ACME, &["--rate", "1/h", "--burst", "3"]);
    let mut codes = Vec::new();
    let mut slowest = Duration::ZERO;
    for n in 0..40 {
        let start = Instant::now();
        let said = run(Command::new(tool("curl").unwrap())
            .args([
                "-sk",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code} %{size_header} %{size_download}",
                "-m",
                "10",
                "-H",
            ])
            .arg(format!("Authorization: {ACME}"))
            .arg(format!("{}/tls?{n}", server.url)));
        slowest = slowest.max(start.elapsed());
        codes.push(said.out);
    }
    let (admitted, cut) = codes.split_at(3);
    assert!(admitted.iter().all(|said| said.starts_with("200 ")), "{codes:?}");
    assert!(cut.iter().all(|said| said == "000 0 0"), "{codes:?}");
    assert_eq!(row(&weir, "acme").denied, 37);
    until("the connections to be destroyed", LIMIT, || {
        (weir.metric("weir_connections_ended_total", &[]) >= 37.0).then_some(())
    });
    note(&format!("37 denials over TLS without a byte; the slowest call took {slowest:?}"));
}

/// What is denied on its way out never reaches the other side, and the caller learns at once.
#[test]
fn outbound_requests_do_not_leave() {
    need!("nginx", "curl", "python3", "openssl");
    let _turn = turn();
    let mut findings = Findings::default();
    let certificate = Certificate::new();
    let weir = Weir::start();
    let identity = weir.fingerprint(ACME);
    let set =
        ["caps", "set", "bill", "--identity", &identity, "--direction", "outbound", "--host", "localhost"];
    weir.run(&[&set[..], &["--rate", "1/h", "--burst", "3"]].concat()).ok();
    for tls in [None, Some(&certificate)] {
        let server = servers::nginx(tls);
        let url = server.url.replace("127.0.0.1", "localhost");
        weir.run(&["caps", "reset", "bill"]).ok();
        let mut refused = 0;
        for _ in 0..10 {
            let mut curl = Command::new(tool("curl").unwrap());
            curl.args(["-4sk", "-o", "/dev/null", "-m", "10", "-H"])
                .arg(format!("Authorization: {ACME}"))
                .arg(&url);
            refused += u64::from(!run(&mut curl).status.success());
        }
        findings.equal(&format!("{url}: curl's failures"), refused, 7);
        server.expect("curl", 3);
        weir.run(&["caps", "reset", "bill"]).ok();
        let python = run(Command::new(tool("python3").unwrap()).args(["-c", PYTHON, &url, ACME]));
        findings.equal(&format!("{url}: Python {}", python.err), python.out.trim(), "3 answered, 7 failed");
        server.expect("curl and Python", 6);
        // another destination is another matter
        let mut other = Command::new(tool("curl").unwrap());
        other
            .args(["-sk", "-o", "/dev/null", "-m", "10", "-H"])
            .arg(format!("Authorization: {ACME}"))
            .arg(&server.url);
        findings.equal("another host", run(&mut other).status.success(), true);
    }
    findings.none();
}

const PYTHON: &str = "
import http.client, ssl, sys, urllib.parse
url = urllib.parse.urlsplit(sys.argv[1])
tls = ssl._create_unverified_context()
answered = failed = 0
connection = None
for n in range(10):
    if connection is None:
        connection = (http.client.HTTPSConnection(url.hostname, url.port, context=tls, timeout=10)
                      if url.scheme == 'https' else http.client.HTTPConnection(url.hostname, url.port, timeout=10))
    try:
        connection.request('GET', '/', headers={'Authorization': sys.argv[2]})
        connection.getresponse().read()
        answered += 1
    except (OSError, http.client.HTTPException):
        failed += 1
        connection.close()
        connection = None
print(f'{answered} answered, {failed} failed')
";

/// Inventing credentials buys nothing, costs bounded memory, and leaves others alone.
#[test]
fn invented_credentials_change_nothing() {
    need!("nginx");
    let _turn = turn();
    let mut findings = Findings::default();
    let weir = Weir::start();
    // everything that is not accepted is rejected
    let server = servers::nginx_with(
        &format!("if ($http_authorization = \"{ACME}\") {{ return 200 \"ok\\n\"; }} return 401 \"no\\n\";"),
        None,
    );
    let to = address(&server);
    cap(&weir, "acme", ACME, &["--rate", "5/h", "--burst", "5"]);
    weir.run(&[
        "caps",
        "set",
        "strangers",
        "--each",
        "credential",
        "--rate",
        "1/h",
        "--burst",
        "20000",
        "--strangers",
        "1/h",
        "--strangers-burst",
        "20000",
        "--action",
        "shadow",
    ])
    .ok();
    for _ in 0..3 {
        findings.equal("before", Caller::new(to).call(&acme("/")), Met::Answer(200));
    }
    let before = resident_bytes(weir.pid());
    let mut half = before;
    let mut caller = Caller::new(to);
    let count = if long() { 1_000_000u64 } else { 30_000 };
    for n in 0..count {
        let met = caller.call(&get("/", &format!("Authorization: Bearer invented-{n}\r\n")));
        if met != Met::Answer(401) {
            findings.add(format!("invented credential {n}: {met:?}"));
            break;
        }
        if n == count / 2 {
            half = resident_bytes(weir.pid());
        }
    }
    let end = resident_bytes(weir.pid());
    let (grown, late) = (end.saturating_sub(before) >> 20, end.saturating_sub(half) >> 20);
    // a million are more than any table holds: the second half must find all of them full
    let bound = if long() { (128, 16) } else { (64, 64) };
    findings.equal(
        &format!("{grown} MiB more, {late} of them in the second half"),
        grown < bound.0 && late < bound.1,
        true,
    );
    for wanted in [Met::Answer(200), Met::Answer(200), Met::Cut] {
        findings.equal("the capped credential afterwards", Caller::new(to).call(&acme("/")), wanted);
    }
    let strangers = row(&weir, "strangers");
    findings.equal(
        &format!("all of them share a bucket: {strangers:?}"),
        strangers.shadowed >= count - 21_000,
        true,
    );
    note(&format!(
        "{count} invented credentials: {grown} MiB more, {late} in the second half, {} in shadow",
        strangers.shadowed
    ));
    findings.none();
}

/// Without the daemon nothing is denied: killed at once, stopped once its lease has run out; back, it denies again.
#[test]
fn enforcement_ends_with_the_daemon() {
    need!("nginx");
    let _turn = turn();
    let weir = Weir::start();
    let server = servers::nginx(None);
    let to = address(&server);
    let call = || Caller::new(to).call(&acme("/alive"));
    let identity = weir.fingerprint(ACME);
    let set = ["caps", "set", "acme", "--identity", &identity, "--rate", "1/h", "--burst", "2", "--persist"];
    weir.run(&set).ok();
    assert_eq!([call(), call(), call()], [Met::Answer(200), Met::Answer(200), Met::Cut]);
    send_signal(weir.pid(), libc::SIGSTOP);
    let stopped = Instant::now();
    until("requests to pass a daemon that hangs", LIMIT, || (call() == Met::Answer(200)).then_some(()));
    let open_after = stopped.elapsed();
    send_signal(weir.pid(), libc::SIGCONT);
    until("a daemon that goes on to deny again", LIMIT, || (call() == Met::Cut).then_some(()));
    let (place, objects) = weir.kill();
    assert_eq!(call(), Met::Answer(200), "nothing is denied without the daemon");
    crate::harness::weir::gone(&objects);
    let weir = place.start();
    assert_eq!(
        [call(), call(), call()],
        [Met::Answer(200), Met::Answer(200), Met::Cut],
        "the kept cap, a fresh bucket"
    );
    weir.run(&["caps", "disable", "acme"]).ok();
    assert_eq!(call(), Met::Answer(200), "out of force as soon as the command returns");
    weir.run(&["caps", "enable", "acme"]).ok();
    assert_eq!(call(), Met::Cut);
    weir.run(&["caps", "shadow", "acme"]).ok();
    assert_eq!(call(), Met::Answer(200));
    assert_eq!(row(&weir, "acme").shadowed, 1);
    note(&format!("a daemon that hangs denies nothing after {open_after:.1?}"));
}
