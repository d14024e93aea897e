//! One table of conversations: what goes over the wire, and how many requests that is.

use crate::harness::raw::Pair;

use super::OK;

/// A conversation on one connection.
pub struct Case {
    /// Last segment of its path.
    pub name: &'static str,
    /// Requests by class of their answer: none, 1xx, 2xx, 3xx, 4xx, 5xx.
    pub status: [u64; 6],
    /// Whether all of its requests are for its path.
    pub has_path: bool,
    /// Performs it.
    pub run: fn(Pair, &str),
}

impl Case {
    pub fn requests(&self) -> u64 {
        self.status.iter().sum()
    }
}

const fn case(name: &'static str, status: [u64; 6], run: fn(Pair, &str)) -> Case {
    Case { name, status, has_path: true, run }
}

/// A case whose targets are not paths, or not its own.
const fn other(name: &'static str, status: [u64; 6], run: fn(Pair, &str)) -> Case {
    Case { name, status, has_path: false, run }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: example\r\n\r\n")
}

/// A request and its answer, to show that the connection is still followed.
fn after(pair: &mut Pair, path: &str) {
    pair.up(get(path));
    pair.down(OK);
}

/// Looks like the start of requests, in a place where there are none.
const DECOY: &str =
    "GET /decoy HTTP/1.1\r\nHost: decoy\r\n\r\nPOST /decoy HTTP/1.1\r\nContent-Length: 0\r\n\r\n";

pub const ALL: &[Case] = &[
    case("kept-alive", [0, 0, 3, 0, 0, 0], |mut pair, path| {
        (0..3).for_each(|_| after(&mut pair, path));
    }),
    case("pipelined", [0, 0, 100, 0, 0, 0], |mut pair, path| {
        pair.up(get(path).repeat(100));
        pair.down(OK.repeat(100));
    }),
    case("pipelined-with-bodies", [0, 0, 20, 20, 20, 0], |mut pair, path| {
        let three = format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{DECOY}HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n\
             PUT {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nGET /\r\n0\r\n\r\n",
            DECOY.len()
        );
        pair.up(three.repeat(20));
        let answers = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nHTTP/1.1 \
                       HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n\
                       HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nHTTP\r\n0\r\n\r\n";
        pair.down(answers.repeat(20));
    }),
    case("body-with-request-lines", [0, 0, 3, 0, 0, 0], |mut pair, path| {
        let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", DECOY.len());
        pair.up(format!("{head}{DECOY}"));
        pair.down(OK);
        // The body in a write of its own, beginning with what looks like a head.
        pair.up(head);
        pair.up(DECOY);
        pair.down(OK);
        after(&mut pair, path);
    }),
    case("answer-with-status-lines", [0, 0, 2, 0, 0, 0], |mut pair, path| {
        let body = "HTTP/1.1 500 Decoy\r\nContent-Length: 0\r\n\r\n";
        pair.up(get(path));
        pair.down(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len() + DECOY.len()));
        pair.down(body);
        pair.down(DECOY);
        after(&mut pair, path);
    }),
    case("chunked", [0, 0, 2, 0, 0, 0], |mut pair, path| {
        pair.up(format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: Check\r\n\r\n\
             {:X};name=\"value\";GET=/\r\n{DECOY}\r\n0005\r\nGET /\r\n0;last\r\nCheck: GET / HTTP/1.1\r\nMore: 1\r\n\r\n",
            DECOY.len()
        ));
        pair.down(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1a;x\r\nabcdefghijklmnopqrstuvwxyz\r\n",
        );
        pair.down("0\r\nSum: HTTP/1.1 200 OK\r\n\r\n");
        after(&mut pair, path);
    }),
    case("expect-continue", [0, 0, 2, 0, 0, 0], |mut pair, path| {
        pair.up(format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        ));
        pair.down("HTTP/1.1 100 Continue\r\n\r\n");
        pair.up("GET /");
        pair.down(OK);
        after(&mut pair, path);
    }),
    case("early-hints", [0, 0, 2, 0, 0, 0], |mut pair, path| {
        pair.up(get(path));
        pair.down("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n");
        pair.down("HTTP/1.1 103 Early Hints\r\n\r\n");
        pair.down(OK);
        after(&mut pair, path);
    }),
    case("head", [0, 0, 3, 0, 0, 0], |mut pair, path| {
        for _ in 0..2 {
            pair.up(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            pair.down("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n");
        }
        after(&mut pair, path);
    }),
    case("no-content-and-not-modified", [0, 0, 2, 1, 0, 0], |mut pair, path| {
        pair.up(get(path));
        pair.down("HTTP/1.1 204 No Content\r\n\r\n");
        pair.up(get(path));
        pair.down("HTTP/1.1 304 Not Modified\r\nContent-Length: 777\r\nETag: \"x\"\r\n\r\n");
        after(&mut pair, path);
    }),
    other("connect", [0, 0, 1, 0, 0, 0], |mut pair, _| {
        pair.up("CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n");
        pair.down("HTTP/1.1 200 Connection established\r\n\r\n");
        pair.up(DECOY);
        pair.down(OK);
        pair.up(DECOY);
    }),
    other("connect-refused", [0, 0, 1, 0, 1, 0], |mut pair, path| {
        pair.up("CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n");
        pair.down("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 4\r\n\r\nHTTP");
        after(&mut pair, path);
    }),
    case("websocket", [0, 1, 0, 0, 0, 0], |mut pair, path| {
        pair.up(format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        ));
        pair.down("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        pair.up(DECOY);
        pair.down(OK);
        pair.up(b"\x81\x05GET /");
    }),
    case("upgrade-declined", [0, 0, 3, 0, 0, 0], |mut pair, path| {
        pair.up(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"));
        pair.down(OK);
        after(&mut pair, path);
        after(&mut pair, path);
    }),
    case("sixty-four-kib-of-headers", [0, 0, 2, 0, 0, 0], |mut pair, path| {
        let filler = format!("X-Filler: {}\r\n", "x".repeat(90)).repeat(640);
        pair.up(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{filler}Authorization: Bearer last\r\n\r\n"));
        pair.down(OK);
        after(&mut pair, path);
    }),
    other("eighteen-bytes", [0, 0, 2, 0, 0, 0], |mut pair, path| {
        pair.up("GET / HTTP/1.1\r\n\r\n");
        pair.down(OK);
        after(&mut pair, path);
    }),
    case("line-feeds-only", [0, 0, 3, 0, 0, 0], |mut pair, path| {
        pair.up(format!("GET {path} HTTP/1.1\nHost: a\n\n"));
        pair.down("HTTP/1.1 200 OK\nContent-Length: 3\n\nGET");
        pair.up(format!("POST {path} HTTP/1.1\nHost: a\nContent-Length: 5\n\nGET /"));
        pair.down(OK);
        after(&mut pair, path);
    }),
    case("unknown-methods", [0, 0, 7, 0, 0, 0], |mut pair, path| {
        for method in ["BREW", "PROPFIND", "M-SEARCH", "get", "X", "VERSION-CONTROL", "!#$%&'*+-.^_`|~9"] {
            pair.up(format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            pair.down(OK);
        }
    }),
    case("same-content-length-twice", [0, 0, 2, 0, 0, 0], |mut pair, path| {
        pair.up(format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nGET /"
        ));
        pair.down(OK);
        after(&mut pair, path);
    }),
    case("two-content-lengths", [0, 0, 0, 0, 1, 0], |mut pair, path| {
        pair.up(format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 9\r\n\r\nhello"
        ));
        pair.down("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        pair.server_closes();
    }),
    case("length-and-chunked", [0, 0, 1, 0, 0, 0], |mut pair, path| {
        pair.up(format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nGET /\r\n0\r\n\r\n"
        ));
        pair.down("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
        pair.server_closes();
    }),
    case("a-byte-a-write", [0, 0, 2, 0, 0, 0], |mut pair, path| {
        let request =
            format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nGET /{}", get(path));
        request.as_bytes().iter().for_each(|&byte| pair.up([byte]));
        OK.repeat(2).as_bytes().iter().for_each(|&byte| pair.down([byte]));
    }),
    case("a-byte-a-read", [0, 0, 2, 0, 0, 0], |mut pair, path| {
        pair.step = 1;
        pair.up(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nGET /{}", get(path)));
        pair.down(OK.repeat(2));
    }),
    case("seven-bytes-a-read", [0, 0, 30, 0, 0, 0], |mut pair, path| {
        pair.step = 7;
        pair.up(get(path).repeat(30));
        pair.down(OK.repeat(30));
    }),
    case("until-close", [0, 0, 1, 0, 0, 0], |mut pair, path| {
        pair.up(format!("GET {path} HTTP/1.0\r\n\r\n"));
        pair.down("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nHTTP/1.1 500 Decoy\r\n\r\n");
        pair.down(DECOY);
        pair.server_closes();
    }),
    case("kept-alive-one-zero", [0, 0, 2, 0, 0, 0], |mut pair, path| {
        for _ in 0..2 {
            pair.up(format!("GET {path} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
            pair.down("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok");
        }
    }),
    case("absolute-target", [0, 0, 1, 0, 0, 0], |mut pair, path| {
        pair.up(format!("GET http://example.com{path} HTTP/1.1\r\nHost: example.com\r\n\r\n"));
        pair.down(OK);
    }),
    other("asterisk-target", [0, 0, 2, 0, 0, 0], |mut pair, path| {
        pair.up("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
        pair.down(OK);
        after(&mut pair, path);
    }),
    case("empty-lines-before", [0, 0, 2, 0, 0, 0], |mut pair, path| {
        pair.up(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nGET /"));
        pair.down(OK);
        pair.up(format!("\r\n{}", get(path)));
        pair.down(OK);
    }),
    case("folded-lines", [0, 0, 2, 0, 0, 0], |mut pair, path| {
        pair.up(format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nX-Folded: one\r\n Content-Length: 50\r\n\ttwo\r\n\r\n"
        ));
        pair.down(OK);
        after(&mut pair, path);
    }),
    case("large-bodies", [0, 0, 2, 0, 0, 0], |mut pair, path| {
        let body = DECOY.repeat(1_000_000 / DECOY.len());
        pair.up(format!("PUT {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()));
        pair.up(&body);
        pair.down(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()));
        pair.down(&body);
        after(&mut pair, path);
    }),
    case("answered-early", [0, 0, 1, 0, 1, 0], |mut pair, path| {
        pair.up(format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\nGET /",
            5 + DECOY.len()
        ));
        pair.down("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n");
        pair.up(DECOY);
        after(&mut pair, path);
    }),
    case("vectored-and-peeked", [0, 0, 3, 0, 0, 0], |mut pair, path| {
        let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", DECOY.len());
        let next = get(path);
        let (front, back) = head.as_bytes().split_at(11);
        pair.up_vectored(&[b"", front, b"", back, b"", b"", DECOY.as_bytes(), next.as_bytes(), b"", b"GET"]);
        pair.down(OK.repeat(2));
        pair.up(&next[3..]);
        pair.down(OK);
    }),
    case("never-answered", [1, 0, 1, 0, 0, 0], |mut pair, path| {
        after(&mut pair, path);
        pair.up(get(path));
        pair.server_closes();
    }),
    case("body-cut-off", [1, 0, 0, 0, 0, 0], |mut pair, path| {
        pair.up(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\nGET /"));
        pair.server_closes();
    }),
    case("head-cut-off", [0; 6], |mut pair, path| {
        pair.up(format!("GET {path} HTTP/1.1\r\nHost: a\r\n"));
        pair.server_closes();
    }),
    other("not-http", [0; 6], |mut pair, path| {
        pair.up("SSH-2.0-OpenSSH_9.2\r\n");
        pair.down("SSH-2.0-OpenSSH_9.2\r\n");
        pair.up(get(path));
        pair.server_closes();
    }),
];
