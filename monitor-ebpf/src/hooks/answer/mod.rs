//! Answers: on listeners with `respond`, a denied caller gets a response in the server's place, and its connection goes on.
//!
//! ```text
//! answer_join (sock_ops), answer_open (iter/tcp): the listener's connections -> ANSWERED, ANSWERS
//! packet -> answer_in (sk_skb verdict, before the server has it): frames and decides
//!   nothing denied                 -> passes
//!   denied, nothing outstanding    -> overwritten by its response and turned around, when it is long enough
//!                                  -> else a token through a pair of sockets, which answer_out makes into responses
//!   denied behind other requests   -> kept back (line feeds in its place when something in front of it passes); answered when
//!                                     the server has answered those: `served`, a record to the daemon, which sends the token
//!   the rest of a denied message   -> dropped
//! ```
//! What a program leaves of a packet counts as read by the server, so a packet keeps its length: dropping it is fine, growing it
//! is not. Everything behind a denied request that is not answered yet is denied with it, since its answer would overtake.
//!
//! The caller is told that the connection ends, and nothing more gets through, where the server already has the beginning of the
//! denied head, or where the caller waits for the end (`Connection: close`, HTTP/1.0, `Expect`).
//!
//! Only for servers that never wait in a system call: those that do see a wake-up without data and may give up. Theirs are fenced.
//! A socket is never taken out of the map under traffic, which breaks it; without the daemon's sign of life all passes.
//!
//! Runs under the socket's lock, so a connection's state has one writer, but for [`Answer::done`] and [`Answer::waiting`].

#![allow(
    clippy::needless_borrows_for_generic_args,
    reason = "a key that is passed by value is copied to the stack"
)]

mod join;
mod respond;

pub use join::leave;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::sk_action;
use aya_ebpf::helpers::generated::{
    bpf_get_socket_cookie, bpf_ktime_get_ns, bpf_skb_load_bytes, bpf_skb_store_bytes,
};
use aya_ebpf::macros::stream_verdict;
use aya_ebpf::programs::SkBuffContext;
use monitor_common::answer::{self, WAITING};
use monitor_common::cap::{RULES, action, reason, verdict};
use monitor_common::event::{self, enforced};
use monitor_common::http1::{Stream, flag, method, phase};
use monitor_common::ledger::Counter;

use self::respond::{PILE, TOKEN, fill, is_leaving, leaves, piled, write};
use crate::maps::{ANSWERED, ANSWERS, Answer, Conn, TEXTS, TOKENS_IN, config, count};
use crate::scratch::{self, NOTHING, Reply, Scratch};
use crate::{frame, judge, raw, ring};

/// `O_NONBLOCK` of x86-64.
const NONBLOCK: u32 = 0o4000;

/// Key of the only entry of a map.
static ONLY: u64 = 0;

/// Values of [`Reply::able`].
mod able {
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

/// Bytes of a listener's connection, before the server has them.
#[stream_verdict]
pub fn answer_in(ctx: SkBuffContext) -> u32 {
    let skb = ctx.skb.skb;
    // SAFETY: the packet of this program.
    unsafe {
        let mut cookie = bpf_get_socket_cookie(ctx.as_ptr());
        let Some(answer) = ANSWERS.get_ptr_mut(&cookie) else { return sk_action::SK_PASS };
        if (*answer).last != 0 {
            return sk_action::SK_DROP;
        }
        if (*answer).conn.synced == 0 {
            return let_go(answer);
        }
        let len = (*skb).len;
        if len == 0 {
            return sk_action::SK_PASS;
        }
        if !judge::is_answering() {
            return let_go(answer);
        }
        let Some(scratch) = scratch::take_to_answer() else { return let_go(answer) };
        let verdict = decide(&ctx, answer, scratch, &mut cookie, len);
        scratch::release(scratch);
        verdict
    }
}

/// Nothing is denied here any more: all passes. Where the server does not have what was in front of it, or answers are due in front of
/// its own, nothing does.
#[inline(always)]
unsafe fn let_go(answer: *mut Answer) -> u32 {
    // SAFETY: the caller's promise.
    unsafe {
        (*answer).conn.synced = 0;
        if (*answer).cut == 0 && waiting(answer) == 0 {
            return sk_action::SK_PASS;
        }
        (*answer).last = 1;
        sk_action::SK_DROP
    }
}

#[inline(always)]
unsafe fn decide(
    ctx: &SkBuffContext,
    answer: *mut Answer,
    scratch: *mut Scratch,
    cookie: &mut u64,
    len: u32,
) -> u32 {
    let skb = ctx.skb.skb;
    // SAFETY: the caller's promise.
    unsafe {
        let reply = &raw mut (*scratch).reply;
        let is_held = (*answer).cut != 0 || waiting(answer) != 0;
        if is_held && !judge::is_in_force(ring::now(scratch)) {
            return let_go(answer);
        }
        let waits = is_held || is_leaving(answer, scratch);
        reply.write(Reply {
            first: if waits { 0 } else { NOTHING },
            head_at: 0,
            complete: 0,
            split: 0,
            denied: 0,
            able: able::UNKNOWN,
            last: 0,
            left: 0,
            at: 0,
            fill: 0,
            number: (*answer).given as u32,
            pad: 0,
            heads: 0,
            sk: (*answer).sk,
            token: [*cookie; 2],
            saved: [0; 2],
            field: [0; 8],
        });
        frame::answer(answer, scratch, skb, len);
        let first = core::ptr::read_volatile(&raw const (*reply).first);
        if (*answer).conn.fenced != 0 {
            (*answer).last = 1;
            return sk_action::SK_DROP;
        }
        if first == NOTHING {
            return sk_action::SK_PASS;
        }
        if (*answer).conn.synced == 0 {
            (*reply).last = 1; // what follows the denied request is no HTTP
        }
        let stream = &raw const (*answer).conn.http.req;
        let between = (*stream).phase == phase::START && (*stream).carry == 0 && (*stream).open == 0;
        (*answer).cut = !between as u32;
        let denied = core::ptr::read_volatile(&raw const (*reply).denied);
        if denied == 0 {
            return sk_action::SK_DROP;
        }
        (*answer).last = (*reply).last;
        if first > 0 {
            // the line feeds stand in front of whatever the server gets next, which it skips
            hold(answer, reply);
            fill(skb, reply, first, len - first, 1);
            if core::ptr::read_volatile(&raw const (*reply).left) != 0 {
                judge::cut(&raw mut (*answer).conn, (*scratch).ask.seq);
                (*answer).last = 1;
                return sk_action::SK_DROP;
            }
            due(answer, scratch);
            return sk_action::SK_PASS;
        }
        let free = waiting(answer) == 0 && outstanding(answer) == 0;
        let Some(text) = TEXTS.get_ptr((*answer).text) else { return sk_action::SK_DROP };
        let whole = (*text).len as u32;
        if free
            && denied == 1
            && (*reply).heads == 0
            && len >= whole
            && write(skb, reply, answer, text, 0, len, (*answer).last != 0)
        {
            fill(skb, reply, whole, len - whole, 0);
            leaves(answer, len);
            return ANSWERED.redirect_skb(ctx, cookie, 0) as u32;
        }
        hold(answer, reply);
        if free && len >= TOKEN {
            return send_token(ctx, answer, reply);
        }
        due(answer, scratch);
        sk_action::SK_DROP
    }
}

/// Turns a packet into a token. Where that goes nowhere, because the daemon is gone, the server gets the packet as it was, or the
/// connection is fenced until the next daemon ends it.
#[inline(always)]
unsafe fn send_token(ctx: &SkBuffContext, answer: *mut Answer, reply: *mut Reply) -> u32 {
    let skb = ctx.skb.skb;
    // SAFETY: the caller's promise.
    unsafe {
        let (saved, token) = (&raw mut (*reply).saved, &raw const (*reply).token);
        if bpf_skb_load_bytes(skb.cast(), 0, saved.cast(), TOKEN) == 0
            && bpf_skb_store_bytes(skb, 0, token.cast(), TOKEN, 0) == 0
        {
            let mut only = ONLY;
            if TOKENS_IN.redirect_skb(ctx, &mut only, 0) as u32 == sk_action::SK_PASS {
                return sk_action::SK_PASS;
            }
            bpf_skb_store_bytes(skb, 0, saved.cast(), TOKEN, 0);
        }
        if judge::outlives() {
            judge::cut(&raw mut (*answer).conn, 0);
            (*answer).last = 1;
            return sk_action::SK_DROP;
        }
        count(Counter::NotEnforced, (*reply).denied as u64);
        raw::atomic_add(&raw mut (*answer).given, (*reply).denied as u64);
        (*answer).cut = 0;
        (*answer).last = 0;
        core::ptr::write_volatile(&raw mut (*answer).waiting, 0);
        sk_action::SK_PASS
    }
}

/// Denied requests that are not answered yet.
#[inline(always)]
unsafe fn waiting(answer: *mut Answer) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { core::ptr::read_volatile(&raw const (*answer).waiting) }
}

/// Requests that the server was given and has not answered.
#[inline(always)]
unsafe fn outstanding(answer: *mut Answer) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        let given = core::ptr::read_volatile(&raw const (*answer).given);
        let done = core::ptr::read_volatile(&raw const (*answer).done);
        // of a connection that was open before, it may have answered what nobody saw
        given.saturating_sub(done)
    }
}

/// The packet's denied requests wait for their answers.
#[inline(always)]
unsafe fn hold(answer: *mut Answer, reply: *const Reply) {
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
#[inline(always)]
unsafe fn due(answer: *mut Answer, scratch: *mut Scratch) {
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
