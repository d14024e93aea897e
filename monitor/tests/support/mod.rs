//! What must hold for any bytes. The fuzzer calls these, and a test replays its corpus.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    dead_code,
    missing_docs,
    reason = "a check stops at the first thing that is not as it should be, and each fuzz target calls one of them"
)]

pub mod cgroup;
pub mod elf;
pub mod head;

use monitor_common::event::{self, Conn, role, transport};

/// A connection from 10.0.0.7 to process 100, which serves.
pub fn connection(conn: u64) -> Conn {
    let mut remote = [0; 16];
    remote[10..].copy_from_slice(&[0xff, 0xff, 10, 0, 0, 7]);
    Conn {
        head: event::Head { kind: Conn::KIND, pad: [0; 3], len: Conn::SIZE as u32 },
        conn,
        ts_ns: 1_000_000_000,
        remote,
        comm: *b"server\0\0\0\0\0\0\0\0\0\0",
        tgid: 100,
        uid: 33,
        remote_port: 40_000,
        family: 2,
        role: role::INBOUND,
        transport: transport::TCP,
        peer_known: 1,
        ..Conn::from_bytes(&[0; Conn::SIZE]).unwrap().0
    }
}
