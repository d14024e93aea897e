//! Answers: on listeners with `respond`, a denied caller gets a response in the server's place, and its connection goes on.
//!
//! ```text
//! answer_join (sock_ops), answer_open (iter/tcp): the listener's connections -> ANSWERED, ANSWERS
//! packet -> answer_in (sk_skb verdict, before the server has it): frames and decides
//!   nothing denied                 -> passes
//!   denied, nothing outstanding    -> overwritten by its response and turned around, when it is long enough
//!                                  -> else a token through a pair of sockets, which answer_out makes into responses
//!   denied behind other requests   -> kept back (line feeds in its place when something in front of it passes); answered when
//!                                     the server has answered those: a record to the daemon, which sends the token
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
use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_skb_load_bytes, bpf_skb_store_bytes};
use aya_ebpf::macros::stream_verdict;
use aya_ebpf::programs::SkBuffContext;
use monitor_common::http1::phase;
use monitor_common::ledger::Counter;

use self::respond::{TOKEN, fill, write};
use crate::answer::{able, due, hold, is_leaving, leaves, outstanding, waiting};
use crate::maps::{ANSWERED, ANSWERS, Answer, TEXTS, TOKENS_IN, count};
use crate::scratch::{self, NOTHING, Reply, Scratch};
use crate::{framing, judge, raw, ring};

/// Key of the only entry of a map.
static ONLY: u64 = 0;

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
        framing::answer(answer, scratch, skb, len);
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
