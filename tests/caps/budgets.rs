//! Whose budget a request spends: nobody spends another's, or multiplies his own.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use base64::Engine as _;
use monitor::view::BucketUse;

use super::load::{Caller, Met, Offer, load};
use super::{address, get, judge, row};
use crate::harness::process::Guard;
use crate::harness::servers::Server;
use crate::harness::weir::{Place, Weir};
use crate::harness::{Findings, LIMIT, need, note, open_dir, servers, tool, turn, until};

/// A cap for each client counts every request of it, whatever header is made up, also when the server has taken it for good.
#[test]
fn made_up_headers_lift_no_client_cap() {
    need!("nginx");
    let _turn = turn();
    let mut findings = Findings::default();
    let place = Place::new(
        "[[role]]\nname = \"known\"\nidentities = [\"client:127.0.0.3\"]\n\n[[cap]]\nname = \"seen\"\neach = \"client\"\n\
         except = [\"role:known\"]\nrate = \"1/h\"\nburst = 1000\naction = \"shadow\"\n",
    );
    let weir = place.start();
    let server = servers::nginx(None);
    let made_up = get("/public", "X-Api-Key: made-up\r\n");
    // a public page has answered it with 200
    findings.equal("uncapped", Caller::new(address(&server)).call(&made_up), Met::Answer(200));
    weir.settle();
    weir.run(&["caps", "set", "clients", "--each", "client", "--rate", "5/h", "--burst", "5"]).ok();
    let met: Vec<_> = (0..12).map(|_| Caller::new(address(&server)).call(&made_up)).collect();
    let answered = met.iter().filter(|met| **met == Met::Answer(200)).count();
    findings.equal(&format!("a made-up header: {met:?}"), answered, 5);
    findings.equal("the rest", met.iter().filter(|met| **met == Met::Cut).count(), 7);
    // an exception is for its role only
    weir.run(&["caps", "set", "clients", "--except", "role:known"]).ok();
    let refused = Caller::new(address(&server)).call(&made_up);
    findings.equal("others stay capped", refused, Met::Cut);
    note(&format!("{answered} of {} with a made-up header", met.len()));
    drop(weir);
    findings.none();
}

/// A server that takes credentials that begin with `good`, in either of two headers, and nothing else.
fn guarded() -> Server {
    servers::nginx_with(
        "if ($http_authorization ~ \"^Bearer good\") { return 200 \"ok\\n\"; }\n\
         if ($http_x_api_key ~ \"^good\") { return 200 \"ok\\n\"; }\n\
         return 401 \"no\\n\";",
        None,
    )
}

fn bearer(token: &str) -> Vec<u8> {
    get("/", &format!("Authorization: Bearer {token}\r\n"))
}

/// The bucket of the strangers at the caller.
fn strangers(weir: &Weir, cap: &str) -> BucketUse {
    let buckets = row(weir, cap).buckets;
    buckets.into_iter().find(|one| one.identity == "client:127.0.0.1").unwrap_or_default()
}

/// Calls until the credential is proven, so that the strangers are not charged for it.
fn prove(weir: &Weir, to: SocketAddr, cap: &str, request: &[u8]) {
    until("the credential to be proven", LIMIT, || {
        let before = strangers(weir, cap).admitted;
        assert_eq!(Caller::new(to).call(request), Met::Answer(200));
        (strangers(weir, cap).admitted == before).then_some(())
    });
}

/// Whatever is invented, the strangers at a client have one bucket together, also where a server takes all of it.
#[test]
fn inventing_buys_one_bucket() {
    need!("nginx");
    let _turn = turn();
    let mut findings = Findings::default();
    let weir = Weir::start();
    let server = servers::nginx(None);
    let set = ["caps", "set", "each", "--each", "credential", "--rate", "5/h", "--burst", "5"];
    weir.run(&[&set[..], &["--strangers", "5/h", "--strangers-burst", "20"]].concat()).ok();
    let call = |n: usize| {
        // known to the daemon before it comes again
        weir.settle();
        Caller::new(address(&server)).call(&bearer(&format!("invented-{}", n % 10)))
    };
    let met: Vec<_> = (0..40).map(call).collect();
    let answered = met.iter().filter(|met| **met == Met::Answer(200)).count();
    findings.equal(&format!("10 keys, 4 times: {met:?}"), answered, 20);
    let whole = row(&weir, "each");
    findings.equal("each request is counted once", (whole.allowed, whole.denied), (20, 20));
    note(&format!("{answered} of 40 requests with invented keys answered"));
    findings.none();
}

/// A token that nobody has signed.
fn token(signature: &str) -> String {
    let part = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    let claims = part(r#"{"iss":"https://idp","sub":"alice"}"#);
    format!("{}.{claims}.{signature}", part(r#"{"alg":"HS256"}"#))
}

/// A server of a local user without rights: it refuses callers without a token, and takes any.
struct OwnServer {
    _guard: Guard,
    _dir: tempfile::TempDir,
    to: SocketAddr,
}

impl OwnServer {
    fn start() -> Self {
        const NOBODY: u32 = 65_534; // of Debian
        let dir = open_dir();
        let (out, err) = (dir.path().join("out"), dir.path().join("err"));
        let mut command = Command::new(tool("python3").unwrap());
        command.args(["-u", "-c", OWN_SERVER]).uid(NOBODY).gid(NOBODY).current_dir("/");
        let guard = Guard::spawn(&mut command, &out, &err);
        let port: u16 = until("the user's server", LIMIT, || {
            let text = std::fs::read_to_string(&out).unwrap();
            text.strip_suffix('\n').and_then(|port| port.parse().ok())
        });
        Self { _guard: guard, _dir: dir, to: ([127, 0, 0, 1], port).into() }
    }
}

const OWN_SERVER: &str = "
from http.server import BaseHTTPRequestHandler, HTTPServer
class Own(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if 'Authorization' in self.headers else 401)
        self.send_header('Content-Length', '0')
        self.end_headers()
    def log_message(self, *rest): pass
server = HTTPServer(('127.0.0.1', 0), Own)
print(server.server_port)
server.serve_forever()
";

/// Who only knows a name spends nothing of its owner: not on a public page, not at a server of his own.
#[test]
fn an_impostor_spends_nothing_of_the_owner() {
    need!("nginx", "python3");
    let _turn = turn();
    let mut findings = Findings::default();
    let place = Place::new(
        "[[cap]]\nname = \"alice\"\nidentity = \"jwt:alice@https://idp\"\nrate = \"8/h\"\nburst = 8\n",
    );
    let weir = place.start();
    let public = servers::nginx(None);
    let guarded = servers::nginx_with(
        "if ($http_authorization ~ \"[.]signed$\") { return 200 \"ok\\n\"; } return 401 \"no\\n\";",
        None,
    );
    let server = OwnServer::start();
    let (to, own) = (address(&guarded), server.to);
    let nobody = get("/", "");
    findings.equal("nobody", Caller::new(to).call(&nobody), Met::Answer(401));
    findings.equal("nobody at the user's server", Caller::new(own).call(&nobody), Met::Answer(401));
    let alice = bearer(&token("signed"));
    until("alice to be capped", LIMIT, || {
        assert_eq!(Caller::new(to).call(&alice), Met::Answer(200));
        (row(&weir, "alice").allowed > 0).then_some(())
    });
    weir.run(&["caps", "reset", "alice"]).ok();
    for (at, wanted) in [(address(&public), Some(200)), (to, Some(401)), (own, None)] {
        for n in 0..30 {
            let met = Caller::new(at).call(&bearer(&token("forged")));
            // his own server's bucket of the name may run out
            let fits = wanted.is_none_or(|status| met == Met::Answer(status));
            findings.equal(&format!("{at}, forged, {n}: {met:?}"), fits, true);
            if n % 10 == 0 {
                weir.settle();
            }
        }
    }
    let met: Vec<_> = (0..9).map(|_| Caller::new(to).call(&alice)).collect();
    let answered = met.iter().filter(|met| **met == Met::Answer(200)).count();
    findings.equal(&format!("alice: {met:?}"), (answered, met.last().copied()), (8, Some(Met::Cut)));
    note(&format!("alice: {answered} of 8"));
    findings.none();
}

/// The customers behind one address are known after a restart.
#[test]
fn a_restart_forgets_no_customer() {
    need!("nginx");
    let _turn = turn();
    let mut findings = Findings::default();
    let place = Place::new(
        "[enforce]\nnewcomers = 1000\n\n[[cap]]\nname = \"each\"\neach = \"credential\"\nrate = \"1/h\"\nburst = 50\n\
         strangers = { rate = \"1/h\", burst = 1000 }\n",
    );
    let weir = place.start();
    let server = guarded();
    let to = address(&server);
    findings.equal("nobody", Caller::new(to).call(&get("/", "")), Met::Answer(401));
    let customers: Vec<_> = (0..100).map(|n| bearer(&format!("good-{n}"))).collect();
    for round in 0..2 {
        let odd =
            customers.iter().map(|one| Caller::new(to).call(one)).filter(|met| *met != Met::Answer(200));
        findings.equal(&format!("round {round}"), odd.count(), 0);
    }
    prove(&weir, to, "each", customers.last().unwrap());
    let place = weir.stop();
    let weir = place.start();
    let set = ["caps", "set", "few", "--each", "credential", "--rate", "1/h", "--burst", "5"];
    weir.run(&[&set[..], &["--strangers", "1/h", "--strangers-burst", "3"]].concat()).ok();
    let met: Vec<_> = customers.iter().map(|one| Caller::new(to).call(one)).collect();
    let answered = met.iter().filter(|met| **met == Met::Answer(200)).count();
    findings.equal(&format!("customers after a restart: {met:?}"), answered, 100);
    // others are strangers still
    let met: Vec<_> = (0..6).map(|n| Caller::new(to).call(&bearer(&format!("bad-{n}")))).collect();
    let refused = met.iter().filter(|met| **met == Met::Cut).count();
    findings.equal(&format!("strangers: {met:?}"), refused, 3);
    note(&format!("{answered} of 100 customers after a restart"));
    findings.none();
}

/// A credential has its bucket from its first request on and keeps it when it is proven; who has two has one budget.
#[test]
fn new_and_double_credentials_have_one_budget() {
    need!("nginx");
    let _turn = turn();
    let mut findings = Findings::default();
    let weir = Weir::start();
    let server = guarded();
    let to = address(&server);
    findings.equal("nobody", Caller::new(to).call(&get("/", "")), Met::Answer(401));
    let set = ["caps", "set", "each", "--each", "credential", "--rate", "100/s", "--burst", "20"];
    weir.run(&set).ok();
    for key in 0..2 {
        let before = server.served();
        let offer = Offer { callers: 4, rate: Some(300.0), ..Offer::default() };
        let seen = load(to, &bearer(&format!("good-{key}")), offer);
        // a request that another CPU decided about while the credential was proven may be more
        let slips = seen.cut / 50;
        let served = || (server.served() - before >= seen.answered).then(|| server.served() - before);
        let served = until("the server's log", LIMIT, served);
        judge(&mut findings, &format!("fresh key {key}"), &seen, served, (20, 100.0), slips);
    }
    let key = get("/", "X-Api-Key: good-key\r\n");
    prove(&weir, to, "each", &key);
    prove(&weir, to, "each", &bearer("good-0"));
    let both = get("/", "Authorization: Bearer good-0\r\nX-Api-Key: good-key\r\n");
    weir.run(&["caps", "reset", "each"]).ok();
    let before = server.served();
    let seen = load(to, &both, Offer { callers: 4, rate: Some(300.0), ..Offer::default() });
    let served = || (server.served() - before >= seen.answered).then(|| server.served() - before);
    let served = until("the server's log", LIMIT, served);
    judge(&mut findings, "two credentials", &seen, served, (20, 100.0), seen.cut / 50);
    findings.none();
}
