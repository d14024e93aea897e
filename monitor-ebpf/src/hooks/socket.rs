//! Socket calls: the end of every send and receive, in two forms with the same result.
//!
//! - `tp_btf` on `sock_recv_length(struct sock *sk, int ret, int flags)` and `sock_send_length` (kernel 6.3 and later;
//!   checked on 6.12 and 6.18): also runs for calls that received nothing.
//! - `fexit` where those are absent (checked on 6.1): `tcp_recvmsg(sk, msg, len, flags, addr_len)`,
//!   `tcp_sendmsg(sk, msg, size)`, `tcp_sendpage(sk, page, offset, size, flags)`,
//!   `unix_stream_recvmsg(sock, msg, size, flags)`, `unix_stream_sendmsg(sock, msg, len)`.

use aya_ebpf::bindings::BPF_SK_STORAGE_GET_F_CREATE;
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_sk_storage_delete};
use aya_ebpf::macros::{btf_tracepoint, fentry, fexit};
use aya_ebpf::programs::{BtfTracePointContext, FEntryContext, FExitContext};
use monitor_common::event::{role, transport};
use monitor_common::http1::{Start, phase};
use monitor_common::ledger::Counter;

use crate::answer;
use crate::hooks::{gate, tls};
use crate::maps::{CHECKS, CONNS, Conn, MARKS, Mark, config, conn_of, count, is_on, mark, storage};
use crate::raw::{self, Buffers, Found};
use crate::scratch::{self, Scratch};
use crate::{conn, framing, judge};

const MSG_PEEK: i32 = 0x2;
const MSG_ERRQUEUE: i32 = 0x2000;

/// Direction of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Receive,
    Send,
}

/// A call on `sk` moved `ret` bytes.
#[inline(always)]
fn on_call(sk: *mut c_void, ret: i32, flags: i32, way: Way) {
    if ret < 0 || (way == Way::Receive && flags & (MSG_PEEK | MSG_ERRQUEUE) != 0) {
        return;
    }
    let conn = conn_of(sk);
    // SAFETY: socket storage.
    if way == Way::Send && !conn.is_null() && unsafe { (*conn).answered } != 0 && answer::is_ours() {
        return;
    }
    take(sk, conn, ret, 0, way, false);
}

/// A send of `left` bytes is about to begin, or goes on: frames a request before it leaves. Attached only while a cap or an
/// access level denies outbound requests.
#[inline(always)]
fn on_send(sk: *mut c_void, left: u64) {
    if !judge::is_early() || left == 0 || left > 0x7fff_ffff {
        return;
    }
    let conn = conn_of(sk);
    let mut skip = 0;
    if conn.is_null() {
        let known = storage::<Mark>((&raw const MARKS).cast(), sk, 0);
        // SAFETY: socket storage.
        let state = if known.is_null() { mark::NEW } else { unsafe { (*known).state } };
        if state == mark::TLS || state == mark::TLS_BOUND {
            tls::fence_nested(sk);
            return;
        }
        if state != mark::NEW || !is_on(0) {
            return;
        }
    } else {
        // SAFETY: socket storage.
        unsafe {
            skip = (*conn).ahead;
            if (*conn).role != role::OUTBOUND || skip as u64 >= left {
                return;
            }
        }
    }
    take(sk, conn, left as i32, skip, Way::Send, true);
}

/// `n` bytes went or go through `sk`, of which the first `skip` were framed before. `early`: they have not left yet, and only
/// requests are of interest.
#[inline(always)]
fn take(sk: *mut c_void, known: *mut Conn, n: i32, skip: u32, way: Way, early: bool) {
    let ret = n;
    let mut conn = known;
    // SAFETY: socket storage.
    if !conn.is_null() && ret > 0 && unsafe { is_misjudged(conn, way) } {
        conn = forget(sk);
    }
    if conn.is_null() && (ret == 0 || !is_on(0) || (!early && !worth_a_look(sk, ret as u32, way))) {
        return;
    }
    let Some(scratch) = scratch::take() else {
        if !conn.is_null() && ret > 0 {
            // SAFETY: socket storage.
            unsafe { framing::give_up(conn, conn::is_response(conn, way == Way::Receive)) }
        }
        return;
    };
    // SAFETY: this CPU's scratch.
    let buffers = unsafe {
        core::ptr::write_volatile(&raw mut (*scratch).skip, skip as u64);
        raw::buffers(scratch, ret as u32)
    };
    if early && (buffers.found != Found::User || (conn.is_null() && start(&buffers) != Start::Request)) {
        // the end of the call decides
        // SAFETY: taken above.
        unsafe { scratch::release(scratch) }
        return;
    }
    if early && conn.is_null() && !worth_a_look(sk, ret as u32, way) {
        // SAFETY: taken above.
        unsafe { scratch::release(scratch) }
        return;
    }
    if conn.is_null()
        // SAFETY: socket storage.
        || unsafe {
            conn::is_unproven(conn, conn::is_response(conn, way == Way::Receive)) && (*conn).again == 0
        }
    {
        let again = u8::from(!conn.is_null());
        // SAFETY: this CPU's scratch.
        unsafe { (*scratch).again = again }
        let start = what_begins(sk, &buffers, way);
        // A request from the side that was to answer: what was taken for a request is the rest of a body. (The storage is
        // looked up anew so that the verifier need not follow both cases from here.)
        conn = if start == Start::Request { forget(sk) } else { conn_of(sk) };
        if conn.is_null() {
            let went = if early { 0 } else { ret as u32 };
            conn = first_bytes(sk, &buffers, start, went, way);
            if !conn.is_null() {
                // SAFETY: socket storage and this CPU's scratch.
                unsafe { (*conn).again = (*scratch).again }
            }
        }
    }
    if !conn.is_null() {
        // SAFETY: a connection of this socket and this CPU's scratch.
        unsafe {
            if !early && way == Way::Send && (*conn).role == role::OUTBOUND {
                conn::number_late_request(conn, sk as u64, ret as u32);
            }
            let mut framed = false;
            if early {
                (*conn).ahead = ret as u32;
            } else if way == Way::Send {
                framed = framing::was_framed(conn, ret as u32);
            }
            if way == Way::Receive {
                if (*conn).answered != 0 {
                    answer::follow(conn);
                } else if judge::is_gated() {
                    gate::follow(sk, conn);
                }
            }
            if !framed {
                data(conn, scratch, &buffers, ret as u32, way);
            }
        }
    }
    // SAFETY: taken above.
    unsafe { scratch::release(scratch) }
}

/// Takes back that a socket carries HTTP: it is judged again.
#[inline(always)]
fn forget(sk: *mut c_void) -> *mut Conn {
    let conn = conn_of(sk);
    if !conn.is_null() {
        // SAFETY: socket storage.
        unsafe { conn::tell_end(conn) }
    }
    // SAFETY: a socket from the hook's context; its storage is not used again.
    unsafe { bpf_sk_storage_delete((&raw const CONNS).cast_mut().cast(), sk) };
    core::ptr::null_mut()
}

/// Whether the judgement of a connection's side was wrong: a response before any request was complete. That is what the rest
/// of a body looks like which begins like a request and was taken for one.
#[inline(always)]
unsafe fn is_misjudged(conn: *mut Conn, way: Way) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        conn::is_unproven(conn, conn::is_response(conn, way == Way::Receive))
            && (*conn).http.req.phase != phase::OPAQUE
    }
}

/// Bytes of a connection that carries HTTP. The only place that runs the framing: the verifier walks it once a program.
#[inline(always)]
unsafe fn data(conn: *mut Conn, scratch: *mut Scratch, buffers: &Buffers, n: u32, way: Way) {
    // SAFETY: the caller's promise.
    unsafe {
        let response = conn::is_response(conn, way == Way::Receive);
        if n == 0 {
            // end of file: the peer closed its sending half
            if way == Way::Receive {
                if response {
                    framing::finish(conn, scratch);
                }
                // nothing tells later that a Unix socket is gone
                let shared = &raw const (*conn).http.shared;
                let between = matches!((*conn).http.resp.phase, phase::START | phase::OPAQUE);
                if (*conn).transport == transport::UNIX && between && (*shared).req_seq == (*shared).resp_seq
                {
                    conn::tell_end(conn);
                }
            }
            return;
        }
        if (*conn).http.shared.opaque != 0 {
            return;
        }
        if buffers.found == Found::User {
            framing::run(conn, scratch, response, buffers.address, buffers.first);
            return;
        }
        if buffers.found == Found::Uncovered {
            count(Counter::UncoveredCall, 1);
        }
        framing::skip(conn, scratch, response, n.wrapping_sub(raw::passed_over(scratch)));
    }
}

/// Whether a socket that is not known to carry HTTP could begin to with this call.
#[inline(always)]
fn worth_a_look(sk: *mut c_void, n: u32, way: Way) -> bool {
    let known = storage::<Mark>((&raw const MARKS).cast(), sk, 0);
    // that of a connection that is answered was made before anything was looked at
    // SAFETY: socket storage.
    let fresh = known.is_null() || unsafe { (*known).answered != 0 && (*known).last == 0 };
    let judged = if fresh { new_mark(sk) } else { known };
    if judged.is_null() {
        count(Counter::NoState, 1);
        return false;
    }
    // SAFETY: socket storage.
    unsafe {
        match (*judged).state {
            mark::NEW => {}
            mark::TLS => {
                tls::bind(sk, judged);
                return false;
            }
            _ => return false,
        }
        if (*judged).answered != 0 && way == Way::Send && answer::is_ours() {
            return false;
        }
        let last = way as u8 + 1;
        if (*judged).last == last {
            return false;
        }
        if (*judged).checks == 0 && way == Way::Receive {
            (*judged).whole = conn::is_beginning(sk as u64, n) as u8;
        }
        (*judged).last = last;
        (*judged).checks += 1;
        if (*judged).checks > CHECKS {
            overlook(sk, judged);
            count(Counter::NotHttp, 1);
            return false;
        }
    }
    true
}

/// What the bytes of a call begin, as far as their connection is concerned.
#[inline(always)]
fn what_begins(sk: *mut c_void, buffers: &Buffers, way: Way) -> Start {
    if buffers.found != Found::User {
        return Start::No;
    }
    conn::start(sk as u64, buffers.address, buffers.first, way == Way::Receive)
}

/// What the bytes of a call begin like.
#[inline(always)]
fn start(buffers: &Buffers) -> Start {
    if buffers.found != Found::User {
        return Start::No;
    }
    raw::start(buffers.address, buffers.first)
}

/// Looks at the first bytes after a change of direction. Returns the connection when HTTP begins, else null.
#[inline(always)]
fn first_bytes(sk: *mut c_void, buffers: &Buffers, start: Start, n: u32, way: Way) -> *mut Conn {
    let none = core::ptr::null_mut();
    if buffers.found == Found::Uncovered {
        count(Counter::UncoveredCall, 1);
    }
    let side = match (start, way) {
        (Start::Request, Way::Receive) | (Start::Response, Way::Send) => role::INBOUND,
        (Start::Request, Way::Send) | (Start::Response, Way::Receive) => role::OUTBOUND,
        (Start::Tls, _) if config!(tls) != 0 => {
            let judged = storage::<Mark>((&raw const MARKS).cast(), sk, 0);
            if !judged.is_null() {
                // SAFETY: socket storage.
                unsafe {
                    (*judged).state = mark::TLS;
                    count(Counter::TlsSockets, 1);
                    tls::bind(sk, judged);
                }
            }
            return none;
        }
        _ => return none,
    };
    if start == Start::Request && conn::is_in_first_upload(sk as u64, n, way == Way::Receive) {
        return none;
    }
    let conn = storage::<Conn>((&raw const CONNS).cast(), sk, BPF_SK_STORAGE_GET_F_CREATE);
    if conn.is_null() {
        count(Counter::NoState, 1);
        return none;
    }
    // SAFETY: fresh socket storage, zero.
    unsafe {
        conn::open(conn, sk as u64, bpf_get_socket_cookie(sk), side);
        let judged = storage::<Mark>((&raw const MARKS).cast(), sk, 0);
        if !judged.is_null() {
            (*conn).answered = (*judged).answered;
        }
        // what it answers went by before, unless all that came in was looked at: then it was not recognised
        let in_view = side == role::INBOUND && !judged.is_null() && (*judged).whole != 0;
        if start == Start::Response && !in_view {
            conn::join(conn);
        }
    }
    conn
}

/// Nothing is looked at on this socket any more.
#[inline(always)]
unsafe fn overlook(sk: *mut c_void, judged: *mut Mark) {
    // SAFETY: the caller's promise.
    unsafe {
        (*judged).state = mark::OPAQUE;
        if (*judged).answered != 0 {
            answer::lost(bpf_get_socket_cookie(sk));
        }
    }
}

/// First look at a socket: one that cannot or must not be observed is judged at once.
#[inline(always)]
fn new_mark(sk: *mut c_void) -> *mut Mark {
    let fresh = storage::<Mark>((&raw const MARKS).cast(), sk, BPF_SK_STORAGE_GET_F_CREATE);
    if !fresh.is_null() && !conn::is_of_interest(sk as u64) {
        // SAFETY: socket storage.
        unsafe { overlook(sk, fresh) }
    }
    fresh
}

/// `sock_recv_length`.
#[btf_tracepoint(function = "sock_recv_length")]
pub fn sock_recv(ctx: BtfTracePointContext) -> i32 {
    on_call(ctx.arg(0), ctx.arg(1), ctx.arg(2), Way::Receive);
    0
}

/// `tcp_sendmsg_locked(const struct sock *sk, const struct msghdr *msg, const struct sk_buff *skb, int size_goal)` (6.16 and
/// later; checked on 6.18): in front of each piece that a send copies.
#[btf_tracepoint(function = "tcp_sendmsg_locked")]
pub fn send_piece(ctx: BtfTracePointContext) -> i32 {
    let msg: u64 = ctx.arg(1);
    on_send(ctx.arg(0), raw::kernel::<u64>(msg + config!(msg_left) as u64).unwrap_or(0));
    0
}

/// `tcp_sendmsg(struct sock *sk, struct msghdr *msg, size_t size)`, before it runs.
#[fentry(function = "tcp_sendmsg")]
pub fn send_begin(ctx: FEntryContext) -> i32 {
    on_send(ctx.arg(0), ctx.arg(2));
    0
}

/// `sock_send_length`.
#[btf_tracepoint(function = "sock_send_length")]
pub fn sock_send(ctx: BtfTracePointContext) -> i32 {
    on_call(ctx.arg(0), ctx.arg(1), ctx.arg(2), Way::Send);
    0
}

/// `tcp_recvmsg`.
#[fexit(function = "tcp_recvmsg")]
pub fn tcp_recv(ctx: FExitContext) -> i32 {
    on_call(ctx.arg(0), ctx.arg(5), ctx.arg(3), Way::Receive);
    0
}

/// `tcp_bpf_recvmsg_parser`, in the place of `tcp_recvmsg` where denied callers are answered.
#[fexit(function = "tcp_bpf_recvmsg_parser")]
pub fn tcp_parsed_recv(ctx: FExitContext) -> i32 {
    on_call(ctx.arg(0), ctx.arg(5), ctx.arg(3), Way::Receive);
    0
}

/// `tcp_sendmsg`.
#[fexit(function = "tcp_sendmsg")]
pub fn tcp_send(ctx: FExitContext) -> i32 {
    on_call(ctx.arg(0), ctx.arg(3), 0, Way::Send);
    0
}

/// `tcp_sendpage`: the bytes come from a file, so they can only be part of a body.
#[fexit(function = "tcp_sendpage")]
pub fn tcp_page(ctx: FExitContext) -> i32 {
    let ret: i32 = ctx.arg(5);
    let conn = conn_of(ctx.arg(0));
    // SAFETY: socket storage.
    if ret <= 0 || conn.is_null() || unsafe { (*conn).http.shared.opaque } != 0 {
        return 0;
    }
    let Some(scratch) = scratch::take() else { return 0 };
    // SAFETY: a connection of this socket and this CPU's scratch, taken above.
    unsafe {
        framing::skip(conn, scratch, conn::is_response(conn, false), ret as u32);
        scratch::release(scratch);
    }
    0
}

/// `unix_stream_recvmsg`.
#[fexit(function = "unix_stream_recvmsg")]
pub fn unix_recv(ctx: FExitContext) -> i32 {
    on_call(sock_of(ctx.arg(0)), ctx.arg(4), ctx.arg(3), Way::Receive);
    0
}

/// `unix_stream_sendmsg`.
#[fexit(function = "unix_stream_sendmsg")]
pub fn unix_send(ctx: FExitContext) -> i32 {
    on_call(sock_of(ctx.arg(0)), ctx.arg(3), 0, Way::Send);
    0
}

/// `struct sock` of a `struct socket`: a typed load, so that the verifier knows what it is.
#[inline(always)]
fn sock_of(socket: *const c_void) -> *mut c_void {
    // SAFETY: an argument of the hooked function; the verifier checks the load against BTF.
    unsafe { core::ptr::read_volatile(socket.byte_add(config!(socket_sk) as usize).cast()) }
}
