//! Bytes that are no request as RFC 9112 has it: what a server takes for one is counted as one, and gets round no cap and no access
//! level.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use monitor::view::Direction::Inbound;

use super::lines::reader;
use super::*;
use crate::harness::weir::Place;

/// First requests of connections, with `{}` where the path is. Each was invisible once, with all that followed it.
const ODD: &[&str] = &[
    "GET {} HTTP/1.1 \r\nHost: a\r\n\r\n",
    "GET {} HTTP/1.32\r\nHost: a\r\n\r\n",
    "GET {} HTTP/2.0\r\nHost: a\r\n\r\n",
    "GET {} HTTP/0.9\r\nHost: a\r\n\r\n",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGH {} HTTP/1.1\r\nHost: a\r\n\r\n",
    "\r\nGET {} HTTP/1.1\r\nHost: a\r\n\r\n",
    "\r\n\n\r\n\n\n\nGET {} HTTP/1.1\r\nHost: a\r\n\r\n",
    " GET {} HTTP/1.1\r\nHost: a\r\n\r\n",
    "\tGET {} HTTP/1.1\r\nHost: a\r\n\r\n",
    "\x0bGET {} HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET\t{}\tHTTP/1.1\r\nHost: a\r\n\r\n",
    "GET {} RTSP/1.0\r\nHost: a\r\n\r\n",
    "POST {} HTTP/1.1\r\nHost: a\r\nContent-Length: 3,3\r\n\r\nabc",
    "POST {} HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
    "POST {} HTTP/1.1\r\nHost: a\r\nContent-Length: 00000000000000000003\r\n\r\nabc",
    "POST {} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    "POST {} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked,\r\n\r\n0\r\n\r\n",
    "POST {} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n",
    "GET {}\r\nHost: a\r\n\r\n",
    "GARBAGE\r\n\r\n",
];

/// How long an answer may take. Where none comes, nobody is waited for.
const PATIENCE: Duration = Duration::from_millis(100);

fn odd(form: &str, path: &str) -> Vec<u8> {
    form.replace("{}", path).into_bytes()
}

/// Reads to the end of the connection, and returns how many responses began.
fn responses(stream: &mut TcpStream) -> usize {
    let mut all = Vec::new();
    // a reset ends it, too
    let _ = stream.read_to_end(&mut all);
    String::from_utf8_lossy(&all).matches("HTTP/1.").count()
}

/// Sends `first`, waits for its answer where `waits`, then `more`, and returns the responses.
fn talk(to: SocketAddr, first: &[u8], more: &[u8], waits: bool) -> usize {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    if !waits {
        let _ = stream.write_all(&[first, more].concat());
        return responses(&mut stream);
    }
    let _ = stream.write_all(first);
    let mut before = [0; 4096];
    let n = stream.read(&mut before).unwrap_or(0);
    let _ = stream.write_all(more);
    String::from_utf8_lossy(&before[..n]).matches("HTTP/1.").count() + responses(&mut stream)
}

/// No response goes uncounted, whatever the server was asked.
#[test]
fn what_a_server_answers_is_counted() {
    need!("nginx");
    let _turn = turn();
    let mut findings = Findings::default();
    let weir = Weir::start();
    let last = "GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let server = servers::nginx(None);
    let to = address(&server);
    let mut before = weir.settled(&server.pids, Inbound);
    for form in ODD {
        let answered = talk(to, &odd(form, "/odd"), last.as_bytes(), true) as u64;
        let now = weir.settled(&server.pids, Inbound);
        // A server that refuses the first one reads those behind it all the same, and answers no more; without a version there is
        // no status line.
        let what = format!("{form:?}: {answered} answered, {} counted", now - before);
        findings.equal(&what, (answered..=3).contains(&(now - before)), true);
        before = now;
    }
    findings.none();
}

/// Requests that the server has handled: nginx logs what it refuses, too.
fn handled(server: &Server) -> usize {
    let log = std::fs::read_to_string(server.file("requests.log")).unwrap();
    log.lines().filter(|line| !line.starts_with('4')).count()
}

fn servers() -> Vec<(&'static str, Server)> {
    let mut all = vec![("nginx", servers::nginx(None))];
    if tool("python3").is_some() {
        all.push(("http.server", servers::python("threading", None, &Home::default())));
    }
    all
}

/// On one connection and on many, behind an odd request and as one: a client gets what its cap says, and one more at most.
#[test]
fn odd_requests_get_round_no_cap() {
    need!("nginx");
    let _turn = turn();
    let mut findings = Findings::default();
    for respond in [false, true] {
        for (name, server) in servers() {
            if respond && name == "http.server" {
                continue; // it blocks, so its callers are fenced as without
            }
            let to = address(&server);
            let weir = Place::new(&listener(to, respond)).start();
            // the gate opens for the first who is close to his cap: what came before it in one packet is handled
            weir.run(&["caps", "set", "each", "--each", "client", "--rate", "1/m", "--burst", "5"]).ok();
            let mut caller = Caller::new(to);
            for _ in 0..8 {
                caller.call(&get("/first", ""));
            }
            // all of them at nginx; what fences is the same at the others
            let every = if name == "nginx" && !respond { 1 } else { 3 };
            for form in ODD.iter().step_by(every) {
                let what = format!("{name}, respond {respond}, {form:?}");
                weir.run(&["caps", "reset", "each"]).ok();
                let before = handled(&server);
                let plain = get("/plain", "").repeat(60);
                talk(to, &odd(form, "/odd"), &plain, true);
                let each = [odd(form, "/odd"), get("/plain", "")].concat().repeat(30);
                talk(to, &each, &[], false);
                for _ in 0..4 {
                    talk(to, &odd(form, "/odd"), &get("/plain", "Connection: close\r\n"), true);
                }
                let served = handled(&server) - before;
                findings.equal(&format!("{what}: {served} served of 5"), served <= 6, true);
            }
            // connections that the server keeps open keep the programs that answer
            drop(server);
            drop(weir);
        }
    }
    findings.none();
}

/// Behind an odd request and as one, nothing outside an access level is handled.
#[test]
fn odd_requests_get_round_no_access_level() {
    need!("nginx");
    let _turn = turn();
    let mut findings = Findings::default();
    for respond in [false, true] {
        let server = servers::nginx(None);
        let to = address(&server);
        let weir = reader(&listener(to, respond));
        // that HTTP is served here is learned from an answer
        findings.equal("the first answer", Caller::new(to).call(&acme("/v1/first")), Met::Answer(200));
        for form in ODD {
            let with = form.replace("{}", "/admin");
            let with = with.replace("Host: a", &format!("Host: a\r\nAuthorization: {ACME}"));
            let plain = acme("/admin").repeat(3);
            for waits in [true, false] {
                talk(to, with.as_bytes(), &plain, waits);
                talk(to, &odd(form, "/v1/odd"), &plain, waits);
            }
        }
        weir.settle();
        let log = std::fs::read_to_string(server.file("requests.log")).unwrap();
        let outside: Vec<&str> =
            log.lines().filter(|line| line.starts_with("200 ") && line.contains("/admin")).collect();
        findings.equal(&format!("respond {respond}: handled outside"), outside, Vec::<&str>::new());
        drop(server);
        drop(weir);
    }
    findings.none();
}
