//! Random messages that a strict server would accept.

use std::fmt::Write;

use super::{HEADERS, Rng};

/// Text that must not be mistaken for a message.
pub const INNER: &str =
    "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer stolen\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";

fn blanks(r: &mut Rng) -> &'static str {
    r.pick(&["", " ", " ", " ", "  ", "\t", "            ", "                         "])
}

fn trail(r: &mut Rng) -> &'static str {
    r.pick(&["", "", "", " ", "   ", "\t ", "        ", "         ", " \t                            "])
}

fn token(r: &mut Rng, n: usize) -> String {
    let text = r.text(n);
    if n == 0 { text } else { format!("k{}{}k", text.trim(), if r.one(9) { "        z" } else { "" }) }
}

fn credential(r: &mut Rng, n: usize) -> String {
    let name = HEADERS[r.n(HEADERS.len())];
    let mut value = token(r, n);
    if name == "authorization" {
        let scheme = r.pick(&[
            "",
            "Bearer",
            "bEARER",
            "Basic",
            "AWS",
            "aws4-hmac-sha256",
            "AWS4-HMAC-SHA256",
            "x17-xxxxxxxxxxxxxx",
        ]);
        let gap = r.pick(&[" ", " ", " ", "  ", "\t", "        ", "                        "]);
        value = match (scheme, r.n(3)) {
            ("", _) => value,
            (_, 0) if n == 0 => scheme.to_string(),
            (s, 1) if s.len() == 16 => {
                format!("{s}{gap}Credential=AKID{}/2026/eu, SignedHeaders=a{value}", r.n(3))
            }
            ("AWS", 1) => format!("AWS{gap}AKID{}:{value}", r.n(3)),
            _ => format!("{scheme}{gap}{value}"),
        };
    }
    format!("{}:{}{value}{}", r.case(name), blanks(r), trail(r))
}

/// One message. `method` is that of the request that a response answers.
pub fn message(r: &mut Rng, resp: bool, method: Option<u8>, last: bool) -> Vec<u8> {
    let eol = if r.one(12) { "\n" } else { "\r\n" };
    let mut s = String::new();
    if !resp && r.one(20) {
        s += "\r\n";
    }
    let mut nobody = false;
    if resp {
        while r.one(8) {
            let _ = write!(s, "HTTP/1.1 {} Wait{eol}X-Hint: 1{eol}{eol}", r.pick(&[100, 102, 103]));
        }
        let status = r.pick(&[200, 200, 200, 201, 204, 304, 404, 429, 500, 503]);
        let n = r.n(20);
        let _ = write!(s, "HTTP/1.{} {status} {}{eol}", u8::from(!r.one(10)), r.text(n));
        nobody = status == 204 || status == 304 || method == Some(4);
    } else {
        let m = r.pick(&[
            "GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH", "PROPFIND", "M-SEARCH", "get",
        ]);
        let n = r.pick(&[1, 5, 30, 200, 700]);
        let _ = write!(s, "{m} /{} HTTP/1.{}{eol}", r.text(n).replace(' ', "%20"), u8::from(!r.one(10)));
    }
    let mut h: Vec<String> = vec![];
    for _ in 0..r.n(25) {
        let name = r.pick(&[
            "Host",
            "User-Agent",
            "Accept",
            "Accept-Encoding",
            "Cookie",
            "Cache-Control",
            "X-Request-Id",
            "Content-Type",
            "Content-Lengthy",
            "X-Api-Keys",
            "Sec-Fetch-Mode",
            "A",
            "Transfer-Encodings",
            "Upgrade-Insecure-Requests",
            "Auth",
            "ETag",
        ]);
        let n = if r.one(30) { 5000 } else { r.pick(&[0, 3, 20, 60, 600]) };
        h.push(format!("{}:{}{}", r.case(name), if r.one(5) { "" } else { " " }, r.text(n)));
    }
    if r.one(2) {
        for _ in 0..r.pick(&[1, 1, 1, 1, 2, 3, 6]) {
            let n = if r.one(20) { 9000 } else { r.pick(&[0, 1, 6, 7, 8, 9, 12, 15, 16, 17, 40, 300, 1200]) };
            h.push(credential(r, n));
        }
    }
    if r.one(6) {
        h.push(format!("X-Forwarded-For: 10.0.0.{}", r.n(255)));
    }
    if r.one(6) {
        h.push(format!("Connection: {}", r.pick(&["close", "keep-alive", "Close", "Upgrade"])));
    }
    if r.one(10) {
        h.push("Expect: 100-continue".into());
    }
    if r.one(10) {
        h.push("Upgrade: h2c".into());
    }
    let mut body = String::new();
    match r.n(4) {
        0 if !resp => {}
        1 => {
            let coding =
                r.pick(&["chunked", "gzip, chunked", "Chunked", "gzip,chunked", "deflate, gzip , chunked"]);
            h.push(format!("{}:{}{coding}{}", r.case("transfer-encoding"), blanks(r), trail(r)));
            if r.one(5) {
                h.push("Content-Length: 7".into());
            }
            if !nobody {
                body = chunked(r);
            }
        }
        2 if resp && last && !nobody => body = INNER.repeat(3),
        _ => {
            let n = if r.one(10) { 70000 } else { r.pick(&[0, 1, 9, 10, 300, 5000]) };
            let mut content = r.text(n);
            if r.one(2) {
                content += INNER;
            }
            let len = content.len();
            let digits = if r.one(10) { format!("{len:016}") } else { len.to_string() };
            h.push(format!("{}:{}{digits}{}", r.case("content-length"), blanks(r), trail(r)));
            if !nobody {
                body = content;
            }
        }
    }
    for i in (1..h.len()).rev() {
        let j = r.n(i + 1);
        h.swap(i, j);
    }
    for l in h {
        s += &l;
        s += eol;
    }
    s += eol;
    s += &body;
    s.into_bytes()
}

fn chunked(r: &mut Rng) -> String {
    let mut body = String::new();
    for _ in 0..r.n(6) {
        let n = if r.one(10) { 20000 } else { r.pick(&[1, 2, 15, 16, 300, 5000]) };
        let mut c = r.text(n);
        if r.one(2) {
            c += INNER;
        }
        let long = format!(";ext=\"quoted\";more={}", "a".repeat(32));
        let ext = r.pick(&["", "", ";a=b", &long, " "]);
        let _ = write!(body, "{:x}{ext}\r\n{c}{}", c.len(), if r.one(15) { "\n" } else { "\r\n" });
    }
    body += r.pick(&["0\r\n", "0;last\r\n", "000\r\n", "00000000000000000000\r\n"]);
    for _ in 0..if r.one(3) { r.n(4) } else { 0 } {
        let _ = write!(body, "X-Trailer: {}\r\nAuthorization: Bearer trailer\r\n", r.text(10));
    }
    body += "\r\n";
    body
}
