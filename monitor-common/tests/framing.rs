//! The framing machine against the reference parser, at every split.
#![allow(clippy::unwrap_used, clippy::panic, clippy::many_single_char_names)]

mod support;

use monitor_common::http1::*;
use support::generate::{INNER, message};
use support::{Host, Message, Rng, reference, request_names, run};

fn check(data: &[u8], resp: bool, methods: &[u8], cuts: &[usize], want: &[Message], names: &Names) {
    let mut conn = Conn::NEW;
    for (i, m) in methods.iter().enumerate() {
        conn.shared.head_bits |= u64::from(*m == method::HEAD) << (i & 63);
        conn.shared.connect_bits |= u64::from(*m == method::CONNECT) << (i & 63);
    }
    let (got, desync) = run(resp, &mut conn, names, data, cuts);
    if got != want {
        let i = got.iter().zip(want).position(|(a, b)| a != b).unwrap_or(got.len().min(want.len()));
        let text = String::from_utf8_lossy(want.get(i).map_or(&[][..], |m| &m.head)).into_owned();
        panic!(
            "cuts {:?} desync {desync} message {i}/{}/{}:\n got {:?}\nwant {:?}\n{text:?}",
            &cuts[..cuts.len().min(10)],
            got.len(),
            want.len(),
            got.get(i).map(|m| Message { head: vec![], ..m.clone() }),
            want.get(i).map(|m| Message { head: vec![], ..m.clone() }),
        );
    }
    assert_eq!(desync, 0);
}

fn names_of(resp: bool) -> Names {
    if resp { Names::response() } else { request_names() }
}

#[test]
fn random_streams_at_every_split() {
    let mut r = Rng(0x1234_5678_9abc_def1);
    let rounds = if cfg!(debug_assertions) { 120 } else { 1200 };
    for round in 0..rounds {
        let resp = round % 2 == 1;
        let names = names_of(resp);
        let n = 1 + r.n(4);
        let methods: Vec<u8> = (0..n).map(|_| r.pick(&[1, 1, 4, 2])).collect();
        let mut d = vec![];
        for (i, m) in methods.iter().enumerate() {
            d.extend(message(&mut r, resp, Some(*m), i + 1 == n));
        }
        let want = reference::messages(resp, &d, &methods);
        check(&d, resp, &methods, &[], &want, &names);
        if d.len() < 6000 {
            for c in 1..d.len() {
                check(&d, resp, &methods, &[c], &want, &names);
            }
        } else {
            for _ in 0..100 {
                let c = 1 + r.n(d.len() - 1);
                check(&d, resp, &methods, &[c], &want, &names);
            }
        }
        if d.len() < 20000 {
            check(&d, resp, &methods, &(1..d.len()).collect::<Vec<_>>(), &want, &names);
        }
        for k in [2usize, 3, 7, 39, 40, 41, 64, 511, 513, 4031, 4032, 4033, 4096] {
            check(&d, resp, &methods, &(1..d.len()).step_by(k).collect::<Vec<_>>(), &want, &names);
        }
        for _ in 0..30 {
            let mut c: Vec<usize> = (0..r.n(12)).map(|_| 1 + r.n(d.len() - 1)).collect();
            c.sort_unstable();
            check(&d, resp, &methods, &c, &want, &names);
        }
    }
}

#[test]
fn a_hundred_pipelined_requests_and_their_answers() {
    let names = request_names();
    let mut d = vec![];
    for i in 0..100 {
        let m = if i % 7 == 3 { "HEAD" } else { "GET" };
        d.extend(format!("{m} /{i} HTTP/1.1\r\nHost: a\r\nX-Api-Key: k{}\r\n\r\n", i % 3).bytes());
    }
    let want = reference::messages(false, &d, &[]);
    assert_eq!(want.len(), 100);
    check(&d, false, &[], &[], &want, &names);
    for c in 1..d.len() {
        check(&d, false, &[], &[c], &want, &names);
    }
    // the answers, those to HEAD without body, 60 outstanding at a time
    let mut conn = Conn::NEW;
    let mut got = 0;
    for part in want.chunks(60) {
        let (mut q, mut a) = (vec![], vec![]);
        for m in part {
            let head = m.method == method::HEAD;
            q.extend(format!("{} / HTTP/1.1\r\n\r\n", if head { "HEAD" } else { "GET" }).bytes());
            let body = if head { "" } else { "HTTP/1.1 500 X\n" };
            a.extend(format!("HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{body}").bytes());
        }
        run(false, &mut conn, &names, &q, &[]);
        let (messages, desync) = run(true, &mut conn, &Names::response(), &a, &[50, 999, 1000, 1001]);
        assert!(messages.iter().all(|m| m.status == 200 && m.body.is_some()));
        assert_eq!(desync, 0);
        got += messages.len();
    }
    assert_eq!(got, 100);
    assert_eq!((conn.shared.req_seq, conn.shared.resp_seq, conn.shared.overflow), (100, 100, 0));
}

#[test]
fn a_head_of_64_kib_with_the_credential_last() {
    let names = request_names();
    let mut d = b"POST /x HTTP/1.1\r\nHost: a\r\n".to_vec();
    let mut i = 0;
    while d.len() < 65536 {
        d.extend(format!("X-Pad-{i}: {}\r\n", "v".repeat(10 + i * 37 % 900)).bytes());
        i += 1;
    }
    d.extend(b"Content-Length: 30\r\nauthorization: Bearer deep\r\n\r\nGET / HTTP/1.1\r\nHost: fake\r\n\r\n");
    d.extend(b"GET /after HTTP/1.1\r\n\r\n");
    let want = reference::messages(false, &d, &[]);
    assert_eq!((want.len(), want[0].cred[0]), (2, 1));
    check(&d, false, &[], &[], &want, &names);
    for c in (1..d.len()).step_by(997).chain(d.len() - 150..d.len()) {
        check(&d, false, &[], &[c], &want, &names);
    }
    check(&d, false, &[], &(1..d.len()).collect::<Vec<_>>(), &want, &names);
}

#[test]
fn heads_and_lines_of_any_length() {
    let names = request_names();
    let mut long = b"GET / HTTP/1.1\r\n".to_vec();
    while long.len() < 4 << 20 {
        long.extend(b"X-Pad: vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv\r\n");
    }
    long.extend(b"Content-Length: 3\r\n\r\nabc");
    let method = [b"GET / HTTP/1.1\r\n\r\n", &b"M".repeat(70_000)[..], b" / HTTP/1.1\r\n\r\n"].concat();
    let target = [b"GET /", &b"t".repeat(70_000)[..], b" HTTP/1.1\r\n\r\n"].concat();
    for (d, n) in [(long, 2), (method, 3), (target, 2)] {
        let d = [&d[..], b"GET /after HTTP/1.1\r\n\r\n"].concat();
        for cuts in [vec![], (1..d.len()).step_by(1000).collect()] {
            let mut conn = Conn::NEW;
            let (messages, desync) = run(false, &mut conn, &names, &d, &cuts);
            assert_eq!((messages.len(), desync, conn.shared.req_seq), (n, 0, n as u32));
        }
    }
}

#[test]
fn proxy_headers_are_passed_over() {
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\x30\x39\0\x50";
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    for header in [&b"PROXY TCP4 10.0.0.1 10.0.0.2 12345 80\r\n"[..], b"PROXY UNKNOWN\r\n", v2, local] {
        let d = [header, b"GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n"].concat();
        for cut in [vec![], vec![header.len()], vec![header.len() + 3]] {
            let mut conn = Conn::NEW;
            let (m, lost) = run(false, &mut conn, &request_names(), &d, &cut);
            assert_eq!((m.len(), lost), (2, 0), "{:?}", String::from_utf8_lossy(header));
        }
    }
}

/// Request lines that servers take. In front of each one as RFC 9112 has it, so that the connection is known to carry HTTP.
#[test]
fn request_lines_that_servers_take() {
    let strict = "GET /first HTTP/1.1\r\n\r\n";
    for (line, whole) in [
        ("GET /q HTTP/1.1 ", true),
        ("GET /q HTTP/1.1 \t ", true),
        ("GET /q HTTP/1.32", true),
        ("GET /q HTTP/2.0", true),
        ("GET /q HTTP/0.9", true),
        ("GET /q RTSP/1.0", true),
        ("GET /q ICE/1.0", true),
        ("GET\t/q\tHTTP/1.1", true),
        ("GET  /q  HTTP/1.1", true),
        (" GET /q HTTP/1.1", true),
        ("\tGET /q HTTP/1.1", true),
        ("\x0b\x0cGET /q HTTP/1.1", true),
        ("\0\0\0GET /q HTTP/1.1", true),
        ("\rGET /q HTTP/1.1", true),
        ("\r\n\r\n\r\nGET /q HTTP/1.1", true),
        ("abcdefghijklmnopqrstuvwxyzabcdefgh /q HTTP/1.1", true),
        ("G(E)T /q HTTP/1.1", true),
        ("{G\u{e9}T} /q HTTP/1.1", true),
        ("HTTP/ /q HTTP/1.1", true),
        ("GET q HTTP/1.1", true),
        ("GET (x) HTTP/1.1", true),
        ("GET /q", false),
        ("GET q", false),
        ("BREW /q", false),
    ] {
        let d =
            format!("{strict}{line}\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /last HTTP/1.1\r\n\r\n");
        let (m, lost, _) = requests(d.as_bytes());
        // without a version nobody knows where it ends
        assert_eq!((m.len(), lost), if whole { (3, 0) } else { (2, 1) }, "{line:?}");
    }
    for line in ["GARBAGE", "/", "\u{e9}"] {
        let (m, lost, _) = requests(format!("{strict}{line}\r\n\r\n").as_bytes());
        assert_eq!((m.len(), lost), (1, 1), "{line:?}");
    }
    // as the first line: only what no other protocol says
    for (line, n) in
        [("GET /q", 1), ("GET q", 0), ("BREW /q", 0), ("GET /q HTTP/1.1 ", 1), ("BREW /q HTTP/2.0", 1)]
    {
        let (m, _, _) = requests(format!("{line}\r\n\r\n").as_bytes());
        assert_eq!(m.len(), n, "{line:?}");
    }
}

fn requests(d: &[u8]) -> (Vec<Message>, u32, Conn) {
    let mut conn = Conn::NEW;
    let names = request_names();
    let (messages, desync) = run(false, &mut conn, &names, d, &[]);
    for cut in 1..d.len() {
        let mut other = Conn::NEW;
        assert_eq!(run(false, &mut other, &names, d, &[cut]), (messages.clone(), desync), "cut {cut}");
    }
    (messages, desync, conn)
}

#[test]
fn ambiguous_lengths() {
    let (m, lost, _) = requests(b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!");
    assert_eq!((m.len(), lost), (1, 1));
    let (m, lost, _) = requests(
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n\r\n",
    );
    assert_eq!((m.len(), lost), (2, 0));
    for bad in ["+5", "5a", "", "0x5", "5,5", "-1", "99999999999999999"] {
        let d = format!("POST / HTTP/1.1\r\nContent-Length: {bad}\r\n\r\nhello");
        let (m, lost, _) = requests(d.as_bytes());
        assert_eq!((m.len(), lost), (1, 1), "{bad}");
    }
    // RFC 9112 section 6.3: chunked wins
    let d = b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n";
    let (m, lost, _) = requests(d);
    assert_eq!((m.len(), lost, m[0].body), (2, 0, Some(5)));
    assert_eq!(m[0].flags & (flag::CL | flag::TE | flag::CHUNKED), flag::CL | flag::TE | flag::CHUNKED);
    let (m, lost, _) = requests(b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\nhello");
    assert_eq!((m.len(), lost), (1, 1));
}

#[test]
fn folding() {
    let d = b"POST / HTTP/1.1\r\nTransfer-Encoding:\r\n chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n";
    let (m, lost, _) = requests(d);
    assert_eq!((m.len(), lost), (2, 0));
    assert_ne!(m[0].flags & flag::FOLD, 0);
    // a folded credential counts as its first line
    let (m, lost, _) =
        requests(b"GET / HTTP/1.1\r\nX-Api-Key: a\r\n b\r\n\r\nGET / HTTP/1.1\r\nX-Api-Key: a\r\n\r\n");
    assert_eq!((m.len(), lost, m[0].fp), (2, 0, m[1].fp));
}

#[test]
fn other_protocols_are_given_up_early() {
    for d in [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n",
        b"EHLO example.com\r\n",
        b"get some_key\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
        b"abcdefghijklmnopqrstuvwxyz / HTTP/1.1\r\n\r\n",
        b"X\n",
    ] {
        let (m, lost, _) = requests(d);
        assert_eq!((m.len(), lost), (0, 1), "{:?}", String::from_utf8_lossy(d));
    }
    // no line end yet: nothing but a plausible beginning is held
    let names = request_names();
    for d in [&b"hello!world"[..], b"a\x01", b"GETT?", b"12:45 foo", b"{\"a\""] {
        let (mut conn, data) = (Conn::NEW, d);
        let (_, lost) = run(false, &mut conn, &names, data, &[]);
        assert_eq!(lost, u32::from(d != b"hello!world"), "{:?}", String::from_utf8_lossy(d));
    }
}

#[test]
fn small_requests_and_unknown_methods() {
    let (m, lost, _) =
        requests(b"GET / HTTP/1.1\n\nGET / HTTP/1.0\r\n\r\nBREW /pot HTTP/1.1\r\n\r\nx * HTTP/1.1\r\n\r\n");
    assert_eq!((m.len(), lost), (4, 0));
    assert_eq!(m.iter().map(|m| m.head_len).collect::<Vec<_>>(), [16, 18, 22, 16]);
    assert!(m.iter().all(|m| m.body == Some(0)));
}

#[test]
fn tunnels() {
    let names = request_names();
    let mut conn = Conn::NEW;
    run(false, &mut conn, &names, b"CONNECT a:443 HTTP/1.1\r\n\r\n", &[]);
    let (m, _) = run(true, &mut conn, &Names::response(), b"HTTP/1.1 200 OK\r\n\r\n", &[]);
    assert_eq!(m[0].body, Some(0));
    let (m, _) = run(false, &mut conn, &names, b"GET / HTTP/1.1\r\n\r\n", &[]);
    assert_eq!((m.len(), conn.shared.req_seq, conn.shared.opaque), (0, 1, 1));

    // a server that goes on with HTTP
    for head in [
        "200 OK\r\nContent-Length: 0\r\n\r\n",
        "204 No Content\r\n\r\n",
        "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let mut conn = Conn::NEW;
        run(false, &mut conn, &names, b"CONNECT / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", &[]);
        run(true, &mut conn, &Names::response(), format!("HTTP/1.1 {head}").as_bytes(), &[]);
        let (m, _) = run(false, &mut conn, &names, b"GET / HTTP/1.1\r\n\r\n", &[]);
        assert_eq!((m.len(), conn.shared.req_seq, conn.shared.opaque), (1, 2, 0), "{head}");
    }

    let mut conn = Conn::NEW;
    let ws = b"GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    run(false, &mut conn, &names, ws, &[]);
    let d = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\nHTTP/1.1 200 no\r\n\r\n";
    let (m, _) = run(true, &mut conn, &Names::response(), d, &[]);
    assert_eq!(m.iter().map(|m| (m.status, m.body)).collect::<Vec<_>>(), [(100, None), (101, Some(0))]);
    assert_eq!((conn.resp.phase, conn.shared.resp_seq, conn.shared.opaque), (phase::OPAQUE, 1, 1));
}

#[test]
fn the_end_of_a_connection() {
    let names = Names::response();
    let answer = |d: &[u8]| {
        let mut conn = Conn::NEW;
        let mut host = Host::new(true, &mut conn, &names, d);
        host.feed(d.len());
        let first = host.eof();
        assert_eq!(host.eof(), Eof::Idle);
        (first, host.messages.first().map(|m| m.body))
    };
    assert_eq!(answer(b"HTTP/1.0 200 OK\r\n\r\nall of it"), (Eof::Closed, Some(Some(9))));
    assert_eq!(answer(b"HTTP/1.0 200 OK\r\n\r\n"), (Eof::Closed, Some(Some(0))));
    assert_eq!(answer(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc"), (Eof::Cut, Some(None)));
    assert_eq!(answer(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"), (Eof::Idle, Some(Some(3))));
    assert_eq!(
        answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc"),
        (Eof::Cut, Some(None))
    );
    assert_eq!(answer(b"HTTP/1.1 200 OK\r\nConte"), (Eof::Cut, None));
    assert_eq!(answer(b""), (Eof::Idle, None));
}

#[test]
fn unseen_bytes() {
    let names = Names::response();
    let d = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789HTTP/1.1 204 No\r\n\r\n";
    let body = d.len() - 29;
    for seen in 0..10 {
        let mut conn = Conn::NEW;
        let mut host = Host::new(true, &mut conn, &names, d);
        host.feed(body + seen);
        host.skip(10 - seen as u64);
        host.feed(d.len());
        assert_eq!((host.messages.len(), host.desync), (2, 0));
        assert_eq!((host.messages[0].body, host.messages[1].body), (Some(10), Some(0)));
    }
    let mut conn = Conn::NEW;
    let mut host = Host::new(true, &mut conn, &names, d);
    host.feed(body);
    host.skip(11);
    assert_eq!(host.desync, 1);
}

#[test]
fn a_response_framed_before_its_head_request() {
    let names = request_names();
    for head in ["Content-Length: 15\r\n", "Transfer-Encoding: chunked\r\n", ""] {
        let mut conn = Conn::NEW;
        let first = format!("HTTP/1.1 200 OK\r\n{head}\r\n");
        run(true, &mut conn, &Names::response(), first.as_bytes(), &[]);
        run(false, &mut conn, &names, b"HEAD / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n", &[]);
        let second = b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nok";
        let answers = Names::response();
        let mut host = Host::new(true, &mut conn, &answers, second).after_head();
        host.feed(second.len());
        assert_eq!((host.ends, host.desync), (2, 0));
        assert_eq!(host.messages.last().map(|m| (m.status, m.body)), Some((404, Some(2))));
        assert_eq!(conn.shared.resp_seq, 2);
    }
}

#[test]
fn hostile_bytes_end_and_do_not_depend_on_the_split() {
    let d = b"GET / HTTP/1.1\r\nauthorization\r\n: x\r\nContent-\nLength: 5\r\n\r\nGET / HTTP/1.1\r\n\r\n";
    let (m, lost, _) = requests(d);
    assert_eq!((m.len(), lost, m[0].cred[0]), (2, 0, 0));
    let names = request_names();
    let mut r = Rng(77);
    let alphabet = b"GET HTTP/1.1\r\n\r\n: content-length transfer-encoding chunked 0123456789abc;\x00\xff\t authorization:x-api-key:";
    for _ in 0..20_000 {
        let n = 1 + r.n(300);
        let mut d = b"POST / HTTP/1.1\r\n".to_vec();
        for _ in 0..n {
            if r.one(12) {
                let names = [
                    "\r\nauthorization: ",
                    "\r\nX-Api-Key:",
                    "\r\nContent-Length: ",
                    "\r\ntransfer-encoding:",
                    "         ",
                ];
                d.extend(r.pick(&names).bytes());
            } else {
                d.push(r.pick(alphabet));
            }
        }
        let cut = 1 + r.n(d.len() - 1);
        let (mut a, mut b) = (Conn::NEW, Conn::NEW);
        let whole = run(false, &mut a, &names, &d, &[]);
        let split = run(false, &mut b, &names, &d, &[cut]);
        assert_eq!(whole, split, "{:?} {cut}", String::from_utf8_lossy(&d));
    }
}

#[test]
fn repeated_blocks_equal_parsed_blocks() {
    let mut r = Rng(4242);
    for round in 0..if cfg!(debug_assertions) { 60 } else { 300 } {
        let resp = round % 2 == 1;
        let names = names_of(resp);
        let mut pool: Vec<Vec<u8>> = (0..3).map(|_| message(&mut r, resp, Some(1), false)).collect();
        if resp {
            pool.retain(|p| {
                let text = String::from_utf8_lossy(p).to_lowercase();
                text.contains("content-length:") || text.contains("transfer-encoding:")
            });
        }
        let (mut d, mut methods) = (vec![], vec![]);
        for _ in 0..30 {
            let Some(last) = pool.len().checked_sub(1) else { break };
            let mut x = pool[if r.one(3) { r.n(last + 1) } else { 0 }].clone();
            if r.one(4) {
                x = String::from_utf8_lossy(&x).replace('~', "_").into_bytes();
            }
            d.extend(x);
            methods.push(1);
        }
        if d.is_empty() || d.len() > 300_000 {
            continue;
        }
        let want = reference::messages(resp, &d, &methods);
        check(&d, resp, &methods, &[], &want, &names);
        for k in [37usize, 512, 3000] {
            check(&d, resp, &methods, &(1..d.len()).step_by(k).collect::<Vec<_>>(), &want, &names);
        }
        for _ in 0..20 {
            let mut c: Vec<usize> = (0..r.n(12)).map(|_| 1 + r.n(d.len() - 1)).collect();
            c.sort_unstable();
            check(&d, resp, &methods, &c, &want, &names);
        }
    }
}

#[test]
fn a_repeated_block_is_recalled() {
    let names = request_names();
    let one = b"GET / HTTP/1.1\r\nHost: example.com\r\nX-Api-Key: 1234567890abcdef\r\n\r\n";
    let d = one.repeat(5);
    let mut conn = Conn::NEW;
    let mut host = Host::new(false, &mut conn, &names, &d);
    host.feed(d.len());
    assert_eq!((host.same, host.messages.len()), (4, 5));
    assert!(host.messages.iter().all(|m| m.fp == host.messages[0].fp && m.cred == [8, 0, 0, 0]));
}

#[test]
fn a_body_that_looks_like_a_request() {
    let d =
        format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{INNER}GET / HTTP/1.1\r\n\r\n", INNER.len());
    let (m, lost, _) = requests(d.as_bytes());
    assert_eq!((m.len(), lost, m[0].body), (2, 0, Some(INNER.len() as u64)));
}

#[test]
fn first_bytes() {
    let start = |d: &[u8]| {
        let mut word = [0xff; 8];
        let n = d.len().min(8);
        word[..n].copy_from_slice(&d[..n]);
        plausible(u64::from_le_bytes(word), d.len() as u32)
    };
    for (d, want) in [
        (&b""[..], Start::No),
        (b"H", Start::Request),
        (b"HT", Start::Response),
        (b"HTTP/1.1 200", Start::Response),
        (b"HTTP/2", Start::Response),
        (b"HTTQ", Start::Request),
        (b"HEAD / HTTP", Start::Request),
        (b"GET /", Start::Request),
        (b"get /", Start::Request),
        (b"M-SEARCH * ", Start::Request),
        (b"G", Start::Request),
        (b" GET", Start::No),
        (b"\r\n", Start::No),
        (b"*1\r\n", Start::No),
        (b"{\"a\"", Start::No),
        (b"\x16\x03\x01\x02", Start::Tls),
        (b"\x17\x03\x03", Start::Tls),
        (b"\x16", Start::Tls),
        (b"\x16\x02", Start::No),
        (b"\x18\x03\x01", Start::No),
        (b"\x00\x00", Start::No),
    ] {
        assert_eq!(start(d), want, "{:?}", String::from_utf8_lossy(d));
    }
}
