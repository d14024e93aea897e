//! TLS libraries: plaintext at the entry and return of the functions that read and write it.
//!
//! The entry remembers (connection, buffer, where the count goes) in the thread's storage, the return frames what was
//! moved. A call that moved nothing (a retry is due) is not counted, so retries are not counted twice.

#![allow(
    clippy::needless_borrows_for_generic_args,
    reason = "a key or value that is passed by value is copied to the stack"
)]

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::BPF_LOCAL_STORAGE_GET_F_CREATE;
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::{
    bpf_get_attach_cookie, bpf_get_current_task_btf, bpf_get_smp_processor_id, bpf_get_socket_cookie,
    bpf_ktime_get_ns, bpf_task_storage_get,
};
use aya_ebpf::macros::{uprobe, uretprobe};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use core::ptr;
use monitor_common::event::{role, transport};
use monitor_common::http1::{Start, phase};
use monitor_common::kernel::{TlsKey, tls_site};
use monitor_common::ledger::Counter;

use crate::maps::{CALLS, CHECKS, Conn, Mark, Peer, TLS, TLS_PEERS, TlsCall, ZERO, count, is_on, mark, told};
use crate::scratch;
use crate::{conn, framing, judge, raw};

/// Requests for which an unknown peer is looked up again.
const PEER_TRIES: u8 = 16;

#[inline(always)]
fn call_of_thread(flags: u32) -> *mut TlsCall {
    // SAFETY: a task-storage map and the current task.
    unsafe {
        bpf_task_storage_get(
            (&raw const CALLS).cast_mut().cast(),
            bpf_get_current_task_btf().cast(),
            core::ptr::null_mut(),
            flags as u64,
        )
        .cast()
    }
}

/// The TLS call that this thread is in, null when there is none.
#[inline(always)]
fn active_call() -> *mut TlsCall {
    let call = call_of_thread(0);
    // SAFETY: thread storage.
    if call.is_null() || unsafe { (*call).active } == 0 { ptr::null_mut() } else { call }
}

#[inline(always)]
fn key(ssl: u64) -> TlsKey {
    TlsKey { ssl, tgid: conn::tgid(), pad: 0 }
}

/// A call on a TLS socket: when it is nested in a TLS call of this thread, that is the connection it belongs to. No
/// other evidence is accepted: no data instead of wrong data.
///
/// # Safety
/// `socket_mark` must be socket storage of `sk`.
#[inline(always)]
pub unsafe fn bind(sk: *mut c_void, socket_mark: *mut Mark) {
    let call = active_call();
    if call.is_null() {
        return;
    }
    // SAFETY: thread storage; the caller's promise.
    unsafe {
        // made empty and filled in place: a peer on the stack is a tenth of what there is
        let key = key((*call).ssl);
        let _ = TLS_PEERS.insert(&key, &NO_PEER, 0);
        let Some(peer) = TLS_PEERS.get_ptr_mut(&key) else {
            count(Counter::NoTlsState, 1);
            return;
        };
        conn::learn_peer(sk as u64, bpf_get_socket_cookie(sk), peer);
        (*socket_mark).state = mark::TLS_BOUND;
    }
}

/// What a peer that is not known yet looks like. Read-only data: a map value.
static NO_PEER: Peer = Peer {
    cookie: 0,
    local: [0; 2],
    remote: [0; 2],
    netns: 0,
    local_port: 0,
    remote_port: 0,
    family: 0,
    known: 0,
    pad: 0,
    device: 0,
    uid: 0,
    pad2: 0,
};

/// Entry of a function that reads or writes: `(ssl, buf, num, ...)`.
#[uprobe]
pub fn tls_enter(ctx: ProbeContext) -> u32 {
    let (Some(ssl), Some(buf)) = (ctx.arg::<u64>(0), ctx.arg::<u64>(1)) else { return 0 };
    // SAFETY: the context of this program.
    let site = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) };
    // VERIFIER(all): "dereference of modified ctx ptr": both are loaded before one is chosen
    // SAFETY: the context of a uprobe is the registers of the thread.
    let (arg4, arg5) = unsafe {
        (ptr::read_volatile(&raw const (*ctx.regs).rcx), ptr::read_volatile(&raw const (*ctx.regs).r8))
    };
    let out = match site & (tls_site::OUT_ARG4 | tls_site::OUT_ARG5) {
        tls_site::OUT_ARG4 => arg4,
        tls_site::OUT_ARG5 => arg5,
        _ => 0,
    };
    count(Counter::TlsCalls, 1);
    let call = call_of_thread(BPF_LOCAL_STORAGE_GET_F_CREATE);
    if call.is_null() {
        count(Counter::LostTlsCall, 1);
        return 0;
    }
    // SAFETY: thread storage.
    unsafe {
        // TLS inside TLS: the call around this one is lost
        if (*call).active != 0 && (*call).ssl != ssl {
            count(Counter::LostTlsCall, 1);
        }
        *call = TlsCall { ssl, buf, out, active: 1, site: site as u32 };
    }
    0
}

/// The same entry, of a function that writes: frames a request before it is encrypted. Attached only while a cap or an access
/// level denies outbound requests.
#[uprobe]
pub fn tls_early(ctx: ProbeContext) -> u32 {
    if !judge::is_early() {
        return 0;
    }
    let (Some(ssl), Some(buf), Some(n)) = (ctx.arg::<u64>(0), ctx.arg::<u64>(1), ctx.arg::<u64>(2)) else {
        return 0;
    };
    // SAFETY: the context of this program.
    let site = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) };
    // the length is an `int` in some functions and a `size_t` in others, never more than the former here
    let n = n as u32;
    if n != 0 && n <= 0x7fff_ffff {
        // SAFETY: the arguments of the function.
        unsafe { plaintext(ssl, buf, n, site as u32, true) }
    }
    0
}

/// Return of the same function.
#[uretprobe]
pub fn tls_return(ctx: RetProbeContext) -> u32 {
    returned(ctx.ret::<u64>() as i32);
    0
}

/// An instruction behind the call of the same function, where its result is in `eax`: for kernels on which return probes
/// kill programs. Other paths may come by; they have no call in progress.
#[uprobe]
pub fn tls_after(ctx: ProbeContext) -> u32 {
    // SAFETY: the context of a uprobe is the registers of the thread.
    returned(unsafe { (*ctx.regs).rax } as i32);
    0
}

/// The call of this thread ended with `result`: frames what it moved.
#[inline(always)]
fn returned(result: i32) {
    let call = active_call();
    if call.is_null() {
        return;
    }
    // SAFETY: thread storage.
    unsafe {
        (*call).active = 0;
        if result <= 0 {
            return;
        }
        let moved = if (*call).out == 0 {
            result as u64
        } else if let Some(n) = raw::user::<u64>((*call).out) {
            n
        } else {
            count(Counter::Fault, 1);
            return;
        };
        if moved != 0 && moved <= 0x7fff_ffff {
            plaintext((*call).ssl, (*call).buf, moved as u32, (*call).site, false);
        }
    }
}

/// Plaintext of a TLS connection. `early`: it has not left yet, and only requests are of interest.
#[inline(always)]
unsafe fn plaintext(ssl: u64, buf: u64, n: u32, site: u32, early: bool) {
    let read = site & tls_site::READ as u32 != 0;
    let key = key(ssl);
    let mut known = TLS.get_ptr_mut(key);
    let mut skip = 0;
    if let Some(conn) = known {
        // SAFETY: a map value.
        unsafe {
            if early {
                skip = (*conn).ahead;
                // a response, or a call that is made once more because it could not be finished
                if (*conn).role == role::INBOUND || skip >= n {
                    return;
                }
            } else if !read && framing::was_framed(conn, n) {
                return;
            }
        }
    } else if early && raw::start(buf, n) != Start::Request {
        return;
    }
    let (buf, n) = (buf + skip as u64, n - skip);
    if known.is_none() && !is_on(site >> tls_site::SET_SHIFT) {
        return;
    }
    let mut checks = 0;
    if let Some(conn) = known
        // SAFETY: a map value.
        && unsafe { is_misjudged(conn, buf, n, read) }
    {
        // SAFETY: a map value; the pointer is not used again.
        checks = unsafe { (*conn).checks };
        end(key);
        known = None;
    }
    let Some(conn) = known.or_else(|| insert(key, checks)) else { return };
    // SAFETY: a map value.
    unsafe {
        if (*conn).http.shared.opaque != 0 {
            return;
        }
        if (*conn).peer.known == 0 && (*conn).tries < PEER_TRIES {
            (*conn).tries += 1;
            if let Some(peer) = TLS_PEERS.get_ptr(key) {
                (*conn).peer = *peer;
                (*conn).client = conn::client_key(peer);
                // the peer is news
                (*conn).told &= !told::CONN;
            }
        }
        if (*conn).role == role::UNKNOWN {
            judge(conn, buf, n, read);
        }
        if (*conn).role == role::UNKNOWN {
            return;
        }
        if early {
            (*conn).ahead = skip + n;
        }
        let response = conn::is_response(conn, read);
        let Some(scratch) = scratch::take() else {
            framing::give_up(conn, response);
            return;
        };
        (*scratch).iov_left = 0;
        (*scratch).bytes_left = 0;
        framing::run(conn, scratch, response, buf, n);
        scratch::release(scratch);
    }
}

/// A send on a TLS socket: when it is nested in a TLS call whose connection was denied, that is the socket to cut.
#[inline(always)]
pub fn fence_nested(sk: *mut c_void) {
    let call = active_call();
    if call.is_null() {
        return;
    }
    // SAFETY: thread storage and map values.
    unsafe {
        let Some(conn) = TLS.get_ptr_mut(key((*call).ssl)) else { return };
        if (*conn).fenced == 0 || (*conn).peer.cookie != 0 {
            return;
        }
        conn::learn_peer(sk as u64, bpf_get_socket_cookie(sk), &raw mut (*conn).peer);
        (*conn).client = conn::client_key(&raw const (*conn).peer);
        judge::fence_late(conn);
    }
}

/// A connection that begins; `checks` is not 0 when it is judged again.
#[inline(always)]
fn insert(key: TlsKey, checks: u8) -> Option<*mut Conn> {
    let zero = ZERO.get_ptr(0)?;
    // SAFETY: a zeroed value, which is a connection not begun.
    if TLS.insert(key, unsafe { &*zero }, 1).is_err() {
        count(Counter::NoTlsState, 1);
        return None;
    }
    let conn = TLS.get_ptr_mut(key)?;
    // SAFETY: a map value.
    unsafe {
        (*conn).id = fresh_id();
        (*conn).transport = transport::TLS;
        (*conn).checks = checks;
        (*conn).again = u8::from(checks != 0);
    }
    Some(conn)
}

/// Whether a connection's side was judged wrong, see the same of a socket.
#[inline(always)]
unsafe fn is_misjudged(conn: *mut Conn, buf: u64, n: u32, read: bool) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        (*conn).role != role::UNKNOWN
            && (*conn).again == 0
            && conn::is_unproven(conn, conn::is_response(conn, read))
            && ((*conn).http.req.phase != phase::OPAQUE || raw::start(buf, n) == Start::Request)
    }
}

/// First plaintext after a change of direction: which side of HTTP is this, if any?
#[inline(always)]
unsafe fn judge(conn: *mut Conn, buf: u64, n: u32, read: bool) {
    // SAFETY: the caller's promise.
    unsafe {
        let last = 1 + read as u8;
        if (*conn).last == last {
            return;
        }
        (*conn).last = last;
        (*conn).checks += 1;
        let mut start = raw::start(buf, n);
        // where HTTP is served, servers take more than what looks like it
        if read && start != Start::Http2 && conn::serves_http_to(conn) {
            start = Start::Request;
            (*conn).http.req.proven = 1;
        }
        if (*conn).checks > CHECKS || (start != Start::No && conn::is_excluded()) {
            (*conn).http.shared.opaque = 1;
            return;
        }
        match start {
            Start::Request => (*conn).role = if read { role::INBOUND } else { role::OUTBOUND },
            Start::Response => {
                (*conn).role = if read { role::OUTBOUND } else { role::INBOUND };
                conn::join(conn);
            }
            _ => {}
        }
    }
}

/// A number that no socket cookie has: bit 63, the time and the CPU.
#[inline(always)]
fn fresh_id() -> u64 {
    // SAFETY: take no arguments.
    unsafe { 1 << 63 | (bpf_ktime_get_ns() << 8) & !(1 << 63) | (bpf_get_smp_processor_id() as u64 & 0xff) }
}

/// Ends a connection, if there is one.
#[inline(always)]
fn end(key: TlsKey) {
    if let Some(conn) = TLS.get_ptr_mut(key) {
        // SAFETY: a map value.
        unsafe { framing::closed(conn) }
        let _ = TLS.remove(key);
    }
}

/// `SSL_free(ssl)`: the connection ended.
#[uprobe]
pub fn tls_free(ctx: ProbeContext) -> u32 {
    let Some(ssl) = ctx.arg::<u64>(0) else { return 0 };
    let key = key(ssl);
    end(key);
    let _ = TLS_PEERS.remove(key);
    0
}

/// `SSL_set_fd(ssl, fd)`, `SSL_set_rfd`, `SSL_set_wfd`: the socket under the connection, when `fd` is one. An object that had
/// a connection begins another one.
#[uprobe]
pub fn tls_set_fd(ctx: ProbeContext) -> u32 {
    let (Some(ssl), Some(fd)) = (ctx.arg::<u64>(0), ctx.arg::<u64>(1)) else { return 0 };
    let Some(sk) = raw::socket_of_fd(fd as u32) else { return 0 };
    // SAFETY: zero is valid for integers.
    let key = key(ssl);
    end(key);
    let _ = TLS_PEERS.insert(&key, &NO_PEER, 0);
    match TLS_PEERS.get_ptr_mut(&key) {
        // SAFETY: a map value.
        Some(peer) => unsafe { conn::learn_peer(sk, 0, peer) },
        None => count(Counter::NoTlsState, 1),
    }
    0
}
