//! The core as a whole: records in, rows out.

mod caps;
mod exactness;
mod history;
mod identities;
mod speed;

use std::time::SystemTime;

use monitor_common::event::{
    CREDS, Close, Conn, Exec, Exit, Head, HeadPart, Request, Response, cred, kind, request_flag, role,
    transport,
};

use super::*;
use crate::view::IdentityRow;
use crate::workload::{Facts, NoSource};

pub(super) const SECOND: u64 = SECOND_NS;

fn head_of(kind: u8, len: usize) -> Head {
    Head { kind, pad: [0; 3], len: len as u32 }
}

pub(super) fn conn_record(conn: u64, role: u8) -> Conn {
    let mut remote = [0; 16];
    remote[10..].copy_from_slice(&[0xff, 0xff, 10, 0, 0, 7]);
    let mut comm = [0; 16];
    comm[..5].copy_from_slice(b"nginx");
    Conn {
        head: head_of(kind::CONN, Conn::SIZE),
        conn,
        ts_ns: SECOND,
        cookie: conn,
        cgroup: 0,
        start_ns: 77 * SECOND,
        local: remote,
        remote,
        comm,
        netns: 1,
        tgid: 100,
        uid: 33,
        local_port: 80,
        remote_port: 40_000,
        family: 2,
        role,
        transport: transport::TCP,
        peer_known: 1,
        joined: 0,
        pad: [0; 18],
    }
}

pub(super) fn request_record(conn: u64, seq: u32) -> Request {
    Request {
        head: head_of(kind::REQUEST, Request::SIZE),
        conn,
        ts_ns: 2 * SECOND,
        content_length: 0,
        fp: [0; CREDS],
        cred: [0; CREDS],
        seq,
        tgid: 100,
        head_len: 0,
        from: 0,
        flags: 0,
        method: 0,
        role: role::INBOUND,
        client: 0xc1,
    }
}

pub(super) fn response_record(conn: u64, seq: u32, status: u16) -> Response {
    Response {
        head: head_of(kind::RESPONSE, Response::SIZE),
        conn,
        ts_head_ns: 2 * SECOND,
        ts_end_ns: 2 * SECOND + 1_000_000,
        body_bytes: 100,
        req_body_bytes: 0,
        seq,
        head_len: 50,
        status,
        flags: 0,
        pad: [0; 4],
    }
}

/// A request record with the bytes behind it.
pub(super) fn with_head(mut record: Request, head: &[u8]) -> Vec<u8> {
    record.head.len = (Request::SIZE + head.len()) as u32;
    record.head_len = record.head_len.max(record.from + head.len() as u32);
    [record.as_bytes(), head].concat()
}

pub(super) fn part(conn: u64, seq: u32, from: u32, bytes: &[u8]) -> Vec<u8> {
    let head = head_of(kind::HEAD_PART, HeadPart::SIZE + bytes.len());
    [HeadPart { head, conn, ts_ns: 2 * SECOND, seq, from }.as_bytes(), bytes].concat()
}

pub(super) fn close(conn: u64) -> Vec<u8> {
    let head = head_of(kind::CLOSE, Close::SIZE);
    Close { head, conn, ts_ns: 3 * SECOND, req_seq: 0, resp_seq: 0 }.as_bytes().to_vec()
}

fn exec(file: &str) -> Vec<u8> {
    let head = head_of(kind::EXEC, Exec::SIZE + file.len());
    let record = Exec {
        head,
        start_ns: 77 * SECOND,
        ts_ns: 77 * SECOND,
        cgroup: 0,
        tgid: 100,
        ppid: 1,
        uid: 33,
        pad: 0,
        comm: *b"curl\0\0\0\0\0\0\0\0\0\0\0\0",
    };
    [record.as_bytes(), file.as_bytes()].concat()
}

fn exit() -> Vec<u8> {
    let head = head_of(kind::EXIT, Exit::SIZE);
    Exit { head, start_ns: 77 * SECOND, ts_ns: 78 * SECOND, tgid: 100, code: 0 }.as_bytes().to_vec()
}

pub(super) fn core(settings: Settings) -> Core {
    let wall = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    Core::new(settings, ClockBase { monotonic_ns: SECOND, boot_ns: SECOND, wall })
}

pub(super) fn feed(core: &mut Core, record: &[u8]) {
    core.event(record, &mut NoSource);
}

/// The fingerprint that the kernel side would have computed for an `Authorization` value.
pub(super) fn authorization(core: &Core, value: &str) -> u64 {
    core.prints.authorization(value.as_bytes()).unwrap()
}

/// One request with this `Authorization` and its response.
pub(super) fn exchange(core: &mut Core, conn: u64, seq: u32, value: &str, status: u16) {
    let mut record = request_record(conn, seq);
    record.fp[0] = authorization(core, value);
    record.cred[0] = cred::HEADER;
    let head = format!("GET /v1/users/{seq} HTTP/1.1\r\nHost: api.test\r\nAuthorization: {value}\r\n\r\n");
    feed(core, &with_head(record, head.as_bytes()));
    feed(core, response_record(conn, seq, status).as_bytes());
}

pub(super) fn row(core: &Core, identity: &str) -> Option<IdentityRow> {
    core.identities(usize::MAX).into_iter().find(|row| row.identity == identity)
}

fn requests(core: &Core, identity: &str) -> u64 {
    row(core, identity).map_or(0, |row| row.totals.requests)
}

#[test]
fn a_request_and_its_response_become_one_of_everything() {
    let mut core = core(Settings::default());
    feed(&mut core, conn_record(1, role::INBOUND).as_bytes());
    let head = b"POST /v1/users/42?token=x HTTP/1.1\r\nHost: api.test\r\nUser-Agent: curl/8\r\n\r\n";
    let mut record = request_record(1, 0);
    record.content_length = 10;
    feed(&mut core, &with_head(record, head));
    assert_eq!(core.summary().outstanding, 1);
    assert!(core.identities(10).is_empty());
    feed(&mut core, response_record(1, 0, 201).as_bytes());
    core.tick(3 * SECOND);

    let identity = row(&core, "client:10.0.0.7").unwrap();
    assert_eq!((identity.kind.as_str(), identity.fingerprint.as_str()), ("client", ""));
    assert_eq!(identity.totals.status, [0, 0, 1, 0, 0, 0]);
    assert_eq!(identity.totals.request_bytes, head.len() as u64 + 10);
    assert_eq!(identity.totals.response_bytes, 150);
    assert!((identity.totals.rates.s1 - 1.0).abs() < 1e-9);
    assert_eq!(identity.workloads, ["exe:[nginx]"]);
    assert_eq!(identity.first_seen, "2023-11-14T22:13:21.000000Z");

    let route = core.routes().remove(0);
    assert_eq!(
        (route.method.as_str(), route.route.as_str(), route.host.as_str()),
        ("POST", "/v1/users/{id}", "")
    );
    let process = core.processes().remove(0);
    assert_eq!((process.pid, process.user.as_str(), process.totals.requests), (100, "33", 1));
    let connection = core.connections(10).remove(0);
    assert_eq!(
        (connection.peer.as_str(), connection.requests, connection.outstanding),
        ("10.0.0.7:40000", 1, 0)
    );

    let tail = core.tail(0, 10);
    let record = &tail.records[0];
    assert_eq!(
        (record.path.as_str(), record.host.as_str(), record.status),
        ("/v1/users/42", "api.test", 201)
    );
    assert_eq!(
        (record.user_agent.as_str(), record.version.as_str(), record.duration),
        ("curl/8", "1.1", 0.001)
    );
    assert_eq!((tail.next, tail.skipped), (1, 0));
    assert_eq!(core.request_series().len(), 1);
    assert_eq!(core.duration_series()[0].buckets[0], 1);
}

#[test]
fn same_headers_reuse_the_meaning_of_the_block_and_a_gap_forgets_it() {
    let mut core = core(Settings::default());
    feed(&mut core, conn_record(1, role::INBOUND).as_bytes());
    let send = |core: &mut Core, seq, flags, head: &[u8]| {
        let record = Request { flags, ..request_record(1, seq) };
        feed(core, &with_head(record, head));
        feed(core, response_record(1, seq, 200).as_bytes());
    };
    send(&mut core, 0, 0, b"GET /a HTTP/1.1\r\nHost: one\r\n\r\n");
    send(&mut core, 1, request_flag::SAME_HEADERS, b"GET /b HTTP/1.1\r\n");
    send(&mut core, 2, request_flag::SAME_HEADERS, b"GET /b HTTP/1.1\r\n");
    send(&mut core, 4, request_flag::SAME_HEADERS, b"GET /b HTTP/1.1\r\n");
    send(&mut core, 5, 0, b"GET /b HTTP/1.1\r\nHost: two\r\n\r\n");
    let seen: Vec<_> =
        core.tail(0, 10).records.into_iter().map(|record| (record.host, record.path)).collect();
    let want = [("one", "/a"), ("one", "/b"), ("one", "/b"), ("", "/b"), ("two", "/b")];
    assert_eq!(seen, want.map(|(host, path)| (host.to_owned(), path.to_owned())));
}

#[test]
fn heads_in_parts_are_put_together() {
    let mut core = core(Settings::default());
    feed(&mut core, conn_record(1, role::INBOUND).as_bytes());
    let head = format!("GET /long HTTP/1.1\r\nX-Fill: {}\r\nUser-Agent: last\r\n\r\n", "x".repeat(70_000));
    let mut from = 0;
    for bytes in head.as_bytes()[..69_000].chunks(4096) {
        feed(&mut core, &part(1, 0, from, bytes));
        from += bytes.len() as u32;
    }
    let record = Request { flags: request_flag::PARTS, from, ..request_record(1, 0) };
    feed(&mut core, &with_head(record, &head.as_bytes()[69_000..]));
    feed(&mut core, response_record(1, 0, 200).as_bytes());
    let record = core.tail(0, 1).records.remove(0);
    assert_eq!((record.path.as_str(), record.user_agent.as_str()), ("/long", "last"));
    assert_eq!(record.request_bytes, head.len() as u64);
}

#[test]
fn a_response_may_come_first_and_a_close_ends_the_rest() {
    let mut core = core(Settings::default());
    feed(&mut core, conn_record(1, role::INBOUND).as_bytes());
    feed(&mut core, response_record(1, 0, 204).as_bytes());
    for seq in 0..3 {
        feed(&mut core, &with_head(request_record(1, seq), b"GET / HTTP/1.1\r\n\r\n"));
    }
    assert_eq!((core.summary().finished.inbound, core.summary().outstanding), (1, 2));
    feed(&mut core, &close(1));
    assert_eq!(row(&core, "client:10.0.0.7").unwrap().totals.status, [2, 0, 1, 0, 0, 0]);
    assert_eq!(core.summary().connections, 0);
}

#[test]
fn both_directions_of_one_host_are_kept_apart() {
    let mut core = core(Settings::default());
    feed(&mut core, conn_record(1, role::INBOUND).as_bytes());
    feed(&mut core, conn_record(2, role::OUTBOUND).as_bytes());
    for (conn, role) in [(1, role::INBOUND), (2, role::OUTBOUND)] {
        let record = Request { role, ..request_record(conn, 0) };
        feed(&mut core, &with_head(record, b"GET / HTTP/1.1\r\nHost: Peer.test\r\n\r\n"));
        feed(&mut core, response_record(conn, 0, 200).as_bytes());
    }
    let outbound = row(&core, "workload:exe:[nginx]").unwrap();
    assert_eq!((outbound.direction, outbound.peers[0].as_str()), (Direction::Outbound, "10.0.0.7:40000"));
    assert_eq!(row(&core, "client:10.0.0.7").unwrap().direction, Direction::Inbound);
    let hosts: Vec<_> = core.routes().into_iter().map(|route| (route.direction, route.host)).collect();
    assert!(hosts.contains(&(Direction::Outbound, "peer.test".to_owned())));
    assert!(hosts.contains(&(Direction::Inbound, String::new())));
}

struct Web;

impl ProcSource for Web {
    fn process(&mut self, _tgid: u32, _start_ns: u64) -> Option<Facts> {
        Some(Facts { exe: Some("/usr/sbin/nginx (deleted)".to_owned()), cgroup: None })
    }
    fn cgroup(&mut self, _id: u64) -> Option<Arc<str>> {
        Some(Arc::from("/system.slice/nginx.service"))
    }
    fn user(&mut self, _uid: u32) -> Option<Arc<str>> {
        Some(Arc::from("www-data"))
    }
}

#[test]
fn processes_are_enriched_and_retire_with_their_counts() {
    let mut core = core(Settings::default());
    core.event(conn_record(1, role::INBOUND).as_bytes(), &mut Web);
    for seq in 0..2 {
        feed(&mut core, &with_head(request_record(1, seq), b"GET / HTTP/1.1\r\n\r\n"));
    }
    feed(&mut core, response_record(1, 0, 200).as_bytes());
    let process = core.processes().remove(0);
    assert_eq!((process.exe.as_str(), process.user.as_str()), ("/usr/sbin/nginx", "www-data"));
    assert_eq!((process.workload.as_str(), process.alive), ("unit:nginx.service", true));
    // it dies without closing, as a TLS library lets it: the request it owed is finished after a while
    feed(&mut core, &exit());
    core.tick(10 * SECOND);
    assert_eq!((core.summary().outstanding, core.summary().connections), (0, 0));
    assert!(!core.processes()[0].alive);
    core.tick(2000 * SECOND);
    let gone = core.processes().remove(0);
    assert_eq!((gone.pid, gone.workload.as_str(), gone.totals.requests), (0, "unit:nginx.service", 2));
}

#[test]
fn a_process_that_is_gone_too_soon_is_known_by_its_exec() {
    let mut core = core(Settings::default());
    feed(&mut core, &exec("/usr/bin/curl"));
    feed(&mut core, conn_record(1, role::OUTBOUND).as_bytes());
    let record = Request { role: role::OUTBOUND, ..request_record(1, 0) };
    feed(&mut core, &with_head(record, b"GET / HTTP/1.1\r\n\r\n"));
    feed(&mut core, response_record(1, 0, 200).as_bytes());
    let process = core.processes().remove(0);
    assert_eq!((process.exe.as_str(), process.comm.as_str()), ("/usr/bin/curl", "curl"));
    assert_eq!(process.workload, "exe:/usr/bin/curl");
}
