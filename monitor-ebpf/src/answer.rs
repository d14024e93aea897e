//! A connection whose denied callers are answered: what the server was given and has answered, what waits, what is on its way. The
//! programs are in [`crate::hooks::answer`].

#![allow(
    clippy::needless_borrows_for_generic_args,
    reason = "a key that is passed by value is copied to the stack"
)]

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use monitor_common::answer::{self, WAITING};
use monitor_common::cap::{RULES, action, reason, verdict};
use monitor_common::event::{self, enforced};
use monitor_common::http1::{Stream, flag, method};
use monitor_common::ledger::Counter;

use crate::maps::{ANSWERS, Answer, Conn, TEXTS, config};
use crate::scratch::{NOTHING, Reply, Scratch};
use crate::{judge, raw, ring};

/// `O_NONBLOCK` of x86-64.
const NONBLOCK: u32 = 0o4000;

/// How long an answer may be on its way to its socket, ns.
const LEAVING_NS: u64 = 1_000_000_000;

/// Most bytes of answers that may be on their way to a socket: a caller that does not take them is cut.
const PILE: u32 = 32 << 10;

/// Values of [`Reply::able`].
pub mod able {
    pub const UNKNOWN: u32 = 0;
    pub const YES: u32 = 1;
    pub const NO: u32 = 2;
    pub const BLOCKING: u32 = 3;
}

/// The server is given a request. Whether the rest of the packet can be followed.
///
/// # Safety
/// The pointers must be valid.
#[inline(always)]
pub unsafe fn pass(answer: *mut Answer, scratch: *mut Scratch, stream: *const Stream) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        raw::atomic_add(&raw mut (*answer).given, 1);
        (*scratch).reply.number += 1;
        // what comes now may be no HTTP any more
        let leaves = (*stream).flags & flag::UPGRADE != 0 || (*stream).method == method::CONNECT;
        if leaves {
            (*answer).conn.synced = 0;
        }
        leaves
    }
}

/// A request is denied. `behind`: because it came behind one. Says how that is enforced.
///
/// # Safety
/// The pointers must be valid, the scratch taken.
#[inline(always)]
pub unsafe fn deny(answer: *mut Answer, scratch: *mut Scratch, stream: *const Stream, behind: bool) -> u8 {
    // SAFETY: the caller's promise.
    unsafe {
        let reply = &raw mut (*scratch).reply;
        let ask = &raw mut (*scratch).ask;
        if behind {
            judge::nobody_else(&raw mut (*answer).conn, ask);
            (*ask).worst = 1 + action::DENY as u32;
            (*ask).by = (*answer).rule;
            (*ask).reason = (*answer).reason;
            (*ask).wait_ns = (*answer).retry as u64 * 1_000_000_000;
            if (*ask).reason == reason::CAP as u32 {
                judge::tally((*ask).by as u16, verdict::DENY, 1);
            }
        } else {
            (*answer).rule = (*ask).by;
            (*answer).reason = (*ask).reason;
            (*answer).text = if (*ask).reason == reason::CAP as u32 { (*ask).by } else { RULES };
            (*answer).retry = answer::seconds((*ask).wait_ns) as u32;
        }
        if (*reply).able == able::UNKNOWN {
            (*reply).able = ability(answer);
        }
        let before = waiting(answer) as u32 & 0xff;
        if (*reply).able != able::YES || before + (*reply).denied >= WAITING {
            let enforced = judge::cut(&raw mut (*answer).conn, (*ask).seq);
            let blocking = (*reply).able == able::BLOCKING && enforced == enforced::FENCED;
            return if blocking { enforced::FENCED_BLOCKING } else { enforced };
        }
        if (*reply).first == NOTHING {
            (*reply).first = (*reply).head_at;
            if ((*reply).head_at as i32) < 0 {
                (*reply).first = 0;
                (*reply).split = 1;
            }
        }
        if (*stream).method == method::HEAD {
            (*reply).heads |= 1 << ((*reply).denied & 31);
        }
        (*reply).denied += 1;
        let waits = (*stream).flags & (flag::CONN_CLOSE | flag::V10 | flag::EXPECT) != 0;
        if waits || (*reply).split != 0 {
            (*reply).last = 1;
            return enforced::ANSWERED_LAST;
        }
        enforced::ANSWERED
    }
}

/// Reports the response of a denied request.
///
/// # Safety
/// The pointers must be valid, the scratch taken.
#[inline(always)]
pub unsafe fn tell(answer: *mut Answer, scratch: *mut Scratch) {
    // SAFETY: the caller's promise.
    unsafe {
        if (*answer).conn.fenced != 0 {
            return;
        }
        let Some(text) = TEXTS.get_ptr((*answer).text) else { return };
        let now = ring::now(scratch);
        let record = &raw mut (*scratch).answered;
        record.write(event::Response {
            head: ring::head(event::Response::KIND, event::Response::SIZE as u32),
            conn: (*answer).conn.id,
            ts_head_ns: now,
            ts_end_ns: now,
            body_bytes: ((*text).len - (*text).head) as u64,
            req_body_bytes: 0,
            seq: (*scratch).ask.seq,
            head_len: (*text).head as u32,
            status: (*text).status,
            flags: 0,
            pad: [0; 4],
        });
        ring::send(&*record, Counter::LostResponse);
    }
}

/// Whether a caller can be answered: its server never waits in a system call, and the caller takes its answers.
///
/// # Safety
/// `answer` must be valid.
#[inline(always)]
unsafe fn ability(answer: *mut Answer) -> u32 {
    let field = |address: u64, offset: u32| raw::kernel::<u64>(address + offset as u64).unwrap_or(0);
    // SAFETY: the caller's promise.
    let sk = unsafe { (*answer).sk };
    let file = field(field(sk, config!(sock_socket)), config!(socket_file));
    let flags = raw::kernel::<u32>(file + config!(file_flags) as u64).unwrap_or(0);
    if flags & NONBLOCK == 0 {
        return able::BLOCKING;
    }
    // SAFETY: the caller's promise.
    if unsafe { piled(answer) } < PILE { able::YES } else { able::NO }
}

/// Denied requests that are not answered yet.
///
/// # Safety
/// `answer` must be valid.
#[inline(always)]
pub unsafe fn waiting(answer: *mut Answer) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { core::ptr::read_volatile(&raw const (*answer).waiting) }
}

/// Requests that the server was given and has not answered.
///
/// # Safety
/// `answer` must be valid.
#[inline(always)]
pub unsafe fn outstanding(answer: *mut Answer) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        let given = core::ptr::read_volatile(&raw const (*answer).given);
        let done = core::ptr::read_volatile(&raw const (*answer).done);
        // of a connection that was open before, it may have answered what nobody saw
        given.saturating_sub(done)
    }
}

/// The packet's denied requests wait for their answers.
///
/// # Safety
/// `answer` and `reply` must be valid.
#[inline(always)]
pub unsafe fn hold(answer: *mut Answer, reply: *const Reply) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut i = 0;
        while i < 8 {
            let before = waiting(answer);
            let n = before & 0xff;
            let heads = (*reply).heads << (8 + (n & 31));
            let after = (before | heads) + (*reply).denied as u64;
            if raw::atomic_swap(&raw mut (*answer).waiting, before, after) {
                return;
            }
            i += 1;
        }
    }
}

/// Asks the daemon for a token when nothing is in front of the answers any more.
///
/// # Safety
/// The pointers must be valid, the scratch taken.
#[inline(always)]
pub unsafe fn due(answer: *mut Answer, scratch: *mut Scratch) {
    // SAFETY: the caller's promise; the helper takes no arguments.
    unsafe {
        if waiting(answer) == 0 || outstanding(answer) != 0 {
            return;
        }
        let record = &raw mut (*scratch).due;
        record.write(event::Due {
            head: ring::head(event::Due::KIND, event::Due::SIZE as u32),
            cookie: (*answer).conn.peer.cookie,
            ts_ns: bpf_ktime_get_ns(),
        });
        ring::send(&*record, Counter::LostState);
    }
}

/// The server has answered a request.
///
/// # Safety
/// The pointers must be valid, the scratch taken.
#[inline(always)]
pub unsafe fn served(conn: *mut Conn, scratch: *mut Scratch) {
    // SAFETY: the caller's promise.
    unsafe {
        let cookie = (*conn).peer.cookie;
        // (its place may be another connection's by now)
        if let Some(answer) = ANSWERS.get_ptr_mut(&cookie)
            && (*answer).conn.peer.cookie == cookie
            && outstanding(answer) != 0
        {
            raw::atomic_add(&raw mut (*answer).done, 1);
            due(answer, scratch);
        }
    }
}

/// It is not known any more what the server has answered: denied callers are fenced from now on.
#[inline(always)]
pub fn lost(cookie: u64) {
    if let Some(answer) = ANSWERS.get_ptr_mut(&cookie) {
        // SAFETY: a map value.
        unsafe { (*answer).conn.synced = 0 }
    }
}

/// The server reads a connection: what was decided about it before is not decided again.
///
/// # Safety
/// `conn` must be valid.
#[inline(always)]
pub unsafe fn follow(conn: *mut Conn) {
    // SAFETY: the caller's promise.
    unsafe {
        if let Some(answer) = ANSWERS.get_ptr(&(*conn).peer.cookie) {
            (*conn).judged = core::ptr::read_volatile(&raw const (*answer).given) as u32;
        }
    }
}

/// Whether the caller is a kernel thread, which sends answers.
#[inline(always)]
pub fn is_ours() -> bool {
    raw::kernel::<u64>(raw::task() + config!(task_mm) as u64).unwrap_or(1) == 0
}

/// Sequence number of the next byte that is written to the socket.
#[inline(always)]
unsafe fn written(answer: *mut Answer) -> u32 {
    // SAFETY: the caller's promise.
    raw::kernel::<u32>(unsafe { (*answer).sk } + config!(tcp_write_seq) as u64).unwrap_or(0)
}

/// Bytes of answers that are on their way to the socket.
#[inline(always)]
unsafe fn piled(answer: *mut Answer) -> u32 {
    // SAFETY: the caller's promise.
    unsafe {
        let bytes = (*answer).leaves.wrapping_sub(written(answer));
        // far behind: of a time long ago
        if bytes > 2 * PILE { 0 } else { bytes }
    }
}

/// Whether an answer is on its way to the socket, so that another one would overtake it.
///
/// # Safety
/// The pointers must be valid, the scratch taken.
#[inline(always)]
pub unsafe fn is_leaving(answer: *mut Answer, scratch: *mut Scratch) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        if (*answer).leaving_ns == 0 {
            return false;
        }
        if piled(answer) > 0 && ring::now(scratch) < (*answer).leaving_ns {
            return true;
        }
        (*answer).leaving_ns = 0;
        false
    }
}

/// `n` bytes are on their way to the socket.
///
/// # Safety
/// `answer` must be valid.
#[inline(always)]
pub unsafe fn leaves(answer: *mut Answer, n: u32) {
    // SAFETY: the caller's promise; the helper takes no arguments.
    unsafe {
        (*answer).leaves = written(answer).wrapping_add(piled(answer)).wrapping_add(n);
        (*answer).leaving_ns = bpf_ktime_get_ns() + LEAVING_NS;
    }
}
