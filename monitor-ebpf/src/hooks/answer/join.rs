//! Which connections are answered: those of the listeners with `respond`, new ones and those that were open before.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{BPF_NOEXIST, BPF_SK_STORAGE_GET_F_CREATE, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB};
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::{
    bpf_get_socket_cookie, bpf_jiffies64, bpf_map_update_elem, bpf_skc_to_tcp_sock,
};
use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use monitor_common::event::{self, role};
use monitor_common::http1::phase;
use monitor_common::kernel::ListenerKey;
use monitor_common::ledger::Counter;

use super::due;
use crate::maps::{
    ANSWERED, ANSWERS, Answer, Conn, LISTENERS, MARKS, Mark, ZERO_ANSWER, config, conn_of, count, storage,
};
use crate::scratch;
use crate::{conn, raw};

/// States of `enum` in `include/net/tcp_states.h`.
const TCP_ESTABLISHED: u8 = 1;

/// Jiffies in which a request and its answer can have the same time: a second or less.
const JUST_NOW: u32 = 100;

/// Whether callers of this end of a connection are answered.
#[inline(always)]
fn is_listed(sk: u64) -> bool {
    let port = raw::kernel::<u16>(sk + config!(sock_num) as u64).unwrap_or(0) as u64;
    let mut key = ListenerKey { address: [0; 2], port };
    if LISTENERS.get_ptr(&key).is_some() {
        return true;
    }
    key.address = conn::local_address(sk);
    LISTENERS.get_ptr(&key).is_some()
}

/// Makes the state of a connection; it follows the stream from the next byte on. Null when there is no room.
///
/// # Safety
/// `tcp` must be a TCP socket.
#[inline(always)]
unsafe fn create(tcp: *mut c_void, cookie: u64) -> *mut Answer {
    let none = core::ptr::null_mut();
    let Some(zero) = ZERO_ANSWER.get(0) else { return none };
    if ANSWERS.insert(&cookie, zero, BPF_NOEXIST as u64).is_err() {
        return none;
    }
    let Some(answer) = ANSWERS.get_ptr_mut(&cookie) else { return none };
    // SAFETY: a map value; the caller's promise.
    unsafe {
        conn::open(&raw mut (*answer).conn, tcp as u64, cookie, role::INBOUND);
        (*answer).conn.id = cookie | event::ANSWERED_CONN;
        (*answer).conn.http.req.proven = 1;
        (*answer).sk = tcp as u64;
    }
    answer
}

/// Says on the socket that it is answered. False when that cannot be.
#[inline(always)]
fn note(tcp: *mut c_void) -> bool {
    let mark = storage::<Mark>((&raw const MARKS).cast(), tcp, BPF_SK_STORAGE_GET_F_CREATE);
    if mark.is_null() {
        return false;
    }
    // SAFETY: socket storage.
    unsafe { (*mark).answered = 1 }
    true
}

/// Connections of listeners that answer, from their first byte on.
#[sock_ops]
pub fn answer_join(ctx: SockOpsContext) -> u32 {
    // SAFETY: fields of this program's context; the helpers take what the verifier lets through.
    unsafe {
        if ctx.op() != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB {
            return 1;
        }
        let sk = (*ctx.ops).__bindgen_anon_2.sk;
        if sk.is_null() {
            return 1;
        }
        let tcp: *mut c_void = bpf_skc_to_tcp_sock(sk.cast()).cast();
        if tcp.is_null() || !is_listed(tcp as u64) {
            return 1;
        }
        let mut cookie = bpf_get_socket_cookie(ctx.as_ptr());
        let answer = create(tcp, cookie);
        if answer.is_null() {
            count(Counter::NoState, 1);
            return 1;
        }
        if ANSWERED.update(&mut cookie, &mut *ctx.ops, BPF_NOEXIST as u64).is_err() {
            let _ = ANSWERS.remove(&cookie);
            count(Counter::NoState, 1);
            return 1;
        }
        (*answer).conn.synced = note(tcp) as u32;
    }
    1
}

/// The socket is gone.
#[inline(always)]
pub fn leave(cookie: u64) {
    if let Some(answer) = ANSWERS.get_ptr_mut(&cookie) {
        // SAFETY: a map value.
        unsafe { conn::tell_end(&raw mut (*answer).conn) }
        let _ = ANSWERS.remove(&cookie);
    }
}

/// `struct bpf_iter__tcp`.
#[repr(C)]
pub struct IterTcp {
    meta: *mut c_void,
    sk: *mut c_void,
}

/// Connections that were open before: they are followed from a moment on at which nothing is under way. Those that have lost their
/// thread are taken up again.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
pub extern "C" fn answer_open(ctx: *mut IterTcp) -> i32 {
    // SAFETY: this program's context, under the socket's lock.
    unsafe {
        let sk = (*ctx).sk;
        if sk.is_null() {
            return 0;
        }
        let tcp: *mut c_void = bpf_skc_to_tcp_sock(sk).cast();
        if tcp.is_null() {
            return 0;
        }
        let at = tcp as u64;
        let state = raw::kernel::<u8>(at + config!(sock_state) as u64).unwrap_or(0);
        if state != TCP_ESTABLISHED || !is_listed(at) {
            return 0;
        }
        let cookie = bpf_get_socket_cookie(tcp);
        let mut answer = ANSWERS.get_ptr_mut(&cookie).unwrap_or(core::ptr::null_mut());
        if !answer.is_null() {
            if (*answer).conn.synced != 0
                && let Some(scratch) = scratch::take_to_answer()
            {
                due(answer, scratch); // a token may have been lost
                scratch::release(scratch);
            }
            if (*answer).conn.synced != 0
                || (*answer).last != 0
                || (*answer).cut != 0
                || (*answer).waiting != 0
            {
                return 0;
            }
        }
        let next = raw::kernel::<u32>(at + config!(tcp_rcv_nxt) as u64).unwrap_or(0);
        let read = raw::kernel::<u32>(at + config!(tcp_copied_seq) as u64).unwrap_or(1);
        if next != read {
            return 0;
        }
        let theirs = conn_of(tcp);
        if theirs.is_null() {
            // of what went by before it is known only that the server spoke last
            let received = raw::kernel::<u32>(at + config!(tcp_received_at) as u64).unwrap_or(1);
            let sent = raw::kernel::<u32>(at + config!(tcp_sent_at) as u64).unwrap_or(0);
            let since = (bpf_jiffies64() as u32).wrapping_sub(sent);
            let later = sent.wrapping_sub(received) as i32;
            if later < 0 || (later == 0 && since < JUST_NOW) {
                return 0;
            }
        } else if !is_idle(theirs) {
            return 0;
        }
        if answer.is_null() {
            answer = create(tcp, cookie);
            if answer.is_null() {
                count(Counter::NoState, 1);
                return 0;
            }
            let map = (&raw const ANSWERED).cast_mut().cast();
            if bpf_map_update_elem(map, (&raw const cookie).cast(), sk, BPF_NOEXIST as u64) != 0 {
                let _ = ANSWERS.remove(&cookie);
                return 0;
            }
        }
        if !theirs.is_null() {
            conn::go_on(&raw mut (*answer).conn, theirs);
            let number = (*theirs).http.shared.req_seq as u64;
            (*answer).given = number;
            (*answer).done = number;
            (*theirs).answered = 1;
        }
        (*answer).conn.synced = note(tcp) as u32;
    }
    0
}

/// Whether everything that came in was read and answered.
#[inline(always)]
unsafe fn is_idle(conn: *mut Conn) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let shared = &raw const (*conn).http.shared;
        (*conn).role == role::INBOUND
            && (*shared).opaque == 0
            && (*shared).req_seq == (*shared).resp_seq
            && (*conn).http.req.phase == phase::START
            && (*conn).http.req.carry == 0
            && (*conn).http.resp.phase == phase::START
    }
}
