//! The gate: decides about inbound plaintext requests as their packets come in, before the server has them. A request that is
//! denied never reaches it.
//!
//! `cgroup_skb` ingress on the root of cgroup v2 (checked on 6.18). Active only while somebody is over a cap, or where access
//! levels deny; what the gate does not follow is decided when the server has read it, and fenced then.
//!
//! A gate ([`GATES`]) is a second framing of the requests of a connection, ahead of the one of the socket hooks. It begins with a
//! connection's first bytes, or between two messages once the server has read everything ([`resume`]). It takes bytes in order
//! only: of a packet that comes too early it drops what could belong to a head (TCP sends it again) and gives the rest up.
//! Requests keep their numbers, so that those that passed the gate are not charged again ([`follow`]).

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{__sk_buff, BPF_SK_STORAGE_GET_F_CREATE, BPF_TCP_LISTEN};
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_skb_load_bytes, bpf_skc_to_tcp_sock};
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use monitor_common::event::role;
use monitor_common::http1::{Start, phase};

use crate::maps::{Conn, GATES, MARKS, Mark, OWN, config, conn_of, mark, storage};
use crate::packet::{Segment, segment};
use crate::scratch;
use crate::{conn, framing, judge, raw};

/// Verdicts of a packet.
const PASS: i32 = 1;
const DROP: i32 = 0;

/// Whether the connection may begin here: its first bytes, and they look like a request.
#[inline(always)]
fn begins(ctx: &SkBuffContext, sk: *mut c_void, segment: &Segment) -> bool {
    let received = raw::kernel::<u64>(sk as u64 + config!(tcp_received) as u64).unwrap_or(1);
    if received != 0 || config!(excluded) != 0 || !storage::<u32>((&raw const OWN).cast(), sk, 0).is_null() {
        return false;
    }
    let mut word = 0u64;
    let n = if segment.len >= 8 { 8 } else { 1 };
    // SAFETY: at most 8 bytes to a word; the helper checks the packet's bounds.
    let read = unsafe { bpf_skb_load_bytes(ctx.as_ptr(), segment.offset, (&raw mut word).cast(), n) };
    read == 0 && may_begin(sk as u64, raw::start_in_word(word, n))
}

/// Whether a connection may begin with a packet that begins like this.
#[inline(always)]
fn may_begin(sk: u64, start: Start) -> bool {
    match start {
        Start::Request => true,
        Start::Tls | Start::Http2 => false,
        // where HTTP is served, servers take more than what looks like it
        Start::Response | Start::No => conn::serves_http(sk),
    }
}

/// The gate of a connection that begins with this packet, null when it does not.
#[inline(always)]
fn open(ctx: &SkBuffContext, sk: *mut c_void, segment: &Segment) -> *mut Conn {
    let conn = conn_of(sk);
    if !conn.is_null() {
        return resume(sk, conn, segment);
    }
    if !begins(ctx, sk, segment) {
        return core::ptr::null_mut();
    }
    let gate = storage::<Conn>((&raw const GATES).cast(), sk, BPF_SK_STORAGE_GET_F_CREATE);
    if !gate.is_null() {
        // SAFETY: fresh socket storage, zero.
        unsafe {
            conn::open(gate, sk as u64, bpf_get_socket_cookie(ctx.as_ptr()), role::INBOUND);
            (*gate).next = segment.sequence;
            (*gate).synced = 1;
        }
    }
    gate
}

/// The gate of a connection that the server has read to its end, between two messages: it can begin, or go on, with this packet.
/// Null when it cannot.
#[inline(always)]
fn resume(sk: *mut c_void, conn: *mut Conn, segment: &Segment) -> *mut Conn {
    let none = core::ptr::null_mut();
    // SAFETY: socket storage.
    unsafe {
        let between = (*conn).http.req.phase == phase::START && (*conn).http.req.carry == 0;
        if !between || (*conn).role != role::INBOUND || (*conn).http.shared.opaque != 0 {
            return none;
        }
        let next = raw::kernel::<u32>(sk as u64 + config!(tcp_rcv_nxt) as u64).unwrap_or(0);
        let read = raw::kernel::<u32>(sk as u64 + config!(tcp_copied_seq) as u64).unwrap_or(1);
        if next != read || next != segment.sequence {
            return none;
        }
        let gate = storage::<Conn>((&raw const GATES).cast(), sk, BPF_SK_STORAGE_GET_F_CREATE);
        if gate.is_null() {
            return none;
        }
        conn::go_on(gate, conn);
        (*gate).id = (*conn).id;
        (*gate).client = (*conn).client;
        (*gate).peer = (*conn).peer;
        (*gate).role = role::INBOUND;
        (*gate).transport = (*conn).transport;
        (*gate).told = (*conn).told;
        (*gate).tgid = (*conn).tgid;
        (*gate).next = next;
        (*gate).synced = 1;
        gate
    }
}

/// Coming in: requests that are denied do not get through.
#[cgroup_skb]
pub fn gate_in(ctx: SkBuffContext) -> i32 {
    if !judge::is_gated() {
        return PASS;
    }
    let Some(segment) = segment(&ctx) else { return PASS };
    if segment.len == 0 {
        return PASS;
    }
    let skb: *mut __sk_buff = ctx.skb.skb;
    // SAFETY: the packet of this program; the helper takes any socket, or none.
    let sk: *mut c_void = unsafe {
        let common = (*skb).__bindgen_anon_2.sk;
        // Data that comes with a SYN, or before the handshake's end is taken in, shows the listener: it must never be judged, or
        // one denial would fence and end it.
        if common.is_null() || (*common).state == BPF_TCP_LISTEN {
            return PASS;
        }
        bpf_skc_to_tcp_sock(common.cast()).cast()
    };
    if sk.is_null() {
        return PASS;
    }
    let known = storage::<Mark>((&raw const MARKS).cast(), sk, 0);
    // SAFETY: socket storage.
    if !known.is_null() && unsafe { (*known).state != mark::NEW || (*known).answered != 0 } {
        return PASS;
    }
    let mut gate = storage::<Conn>((&raw const GATES).cast(), sk, 0);
    // SAFETY: socket storage.
    if gate.is_null() || unsafe { (*gate).synced } == 0 {
        gate = open(&ctx, sk, &segment);
    }
    if gate.is_null() {
        return PASS;
    }
    // SAFETY: socket storage.
    unsafe {
        let early = segment.sequence.wrapping_sub((*gate).next) as i32;
        let seen = if early < 0 { early.unsigned_abs() } else { 0 };
        if seen >= segment.len {
            return PASS; // sent again
        }
        if early > 0 {
            // Bytes that were queued ahead of the gate's first packet went by unseen: what follows them is never sent again.
            let taken = raw::kernel::<u32>(sk as u64 + config!(tcp_rcv_nxt) as u64).unwrap_or(0);
            let unseen = taken.wrapping_sub((*gate).next) as i32 > 0;
            if (*gate).http.req.phase < phase::BODY && !unseen {
                return DROP;
            }
            (*gate).synced = 0;
            return PASS;
        }
        let Some(scratch) = scratch::take_at_gate() else {
            (*gate).synced = 0;
            return PASS;
        };
        // what is sent again may have more behind it
        framing::gate(gate, scratch, skb, segment.offset + seen, segment.len - seen);
        scratch::release(scratch);
        (*gate).next = segment.sequence.wrapping_add(segment.len);
        if (*gate).fenced != 0 { DROP } else { PASS }
    }
}

/// The server reads bytes that passed the gate: what was decided there is not decided again.
///
/// # Safety
/// `conn` must be the connection of `sk`.
#[inline(always)]
pub unsafe fn follow(sk: *mut c_void, conn: *mut Conn) {
    let gate = storage::<Conn>((&raw const GATES).cast(), sk, 0);
    if !gate.is_null() {
        // SAFETY: socket storage; the caller's promise.
        unsafe { (*conn).judged = core::ptr::read_volatile(&raw const (*gate).http.shared.req_seq) }
    }
}
