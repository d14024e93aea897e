//! Writes responses: over the packet of the request, or, from a token that comes through the pair of sockets, into a packet of
//! their own.

use aya_ebpf::bindings::{__sk_buff, sk_action};
use aya_ebpf::cty::{c_long, c_void};
use aya_ebpf::helpers::generated::{bpf_loop, bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_store_bytes};
use aya_ebpf::macros::stream_verdict;
use aya_ebpf::programs::SkBuffContext;
use monitor_common::answer::{self, BYTES, DIGITS, ENDS, Text, WAITING};

use crate::answer::{due, leaves, outstanding, waiting};
use crate::maps::{ANSWERED, ANSWERS, Answer, TEXTS};
use crate::raw;
use crate::scratch::{self, Reply, Scratch};

/// Bytes of a token: the cookie twice.
pub(super) const TOKEN: u32 = 16;

/// Bytes that are filled at a time.
const FILL: u32 = 256;

static BLANKS: [u8; FILL as usize] = [b' '; FILL as usize];

static LINES: [u8; FILL as usize] = [b'\n'; FILL as usize];

/// One step of [`fill`].
unsafe extern "C" fn fill_step(_index: u32, context: *mut c_void) -> c_long {
    // SAFETY: the context is `Filling`.
    unsafe {
        let filling = context.cast::<Filling>();
        let reply = (*filling).reply;
        let left = core::ptr::read_volatile(&raw const (*reply).left);
        if left == 0 {
            return 1;
        }
        let n = raw::some(if left > FILL { FILL } else { left }, FILL);
        let bytes = if (*reply).fill == 0 { BLANKS.as_ptr() } else { LINES.as_ptr() };
        if bpf_skb_store_bytes((*filling).skb.cast(), (*reply).at, bytes.cast(), n, 0) != 0 {
            return 1;
        }
        (*reply).at += n;
        (*reply).left = left - n;
    }
    0
}

/// What [`fill_step`] works on.
struct Filling {
    skb: *mut __sk_buff,
    reply: *mut Reply,
}

/// Fills `n` bytes of a packet with blanks, or with line feeds.
#[inline(always)]
pub(super) unsafe fn fill(skb: *mut __sk_buff, reply: *mut Reply, at: u32, n: u32, lines: u32) {
    // SAFETY: the caller's promise.
    unsafe {
        if n == 0 {
            return;
        }
        (*reply).at = at;
        (*reply).left = n;
        (*reply).fill = lines;
        let mut filling = Filling { skb, reply };
        // a packet is at most 64 KiB, or 512 KiB where the interface allows it
        bpf_loop(2048, fill_step as *const () as *mut c_void, (&raw mut filling).cast(), 0);
    }
}

static ENDS_TEXT: [u8; 10] = ENDS;

/// Writes a response to byte `at` of a packet; `room` bytes are its own. False when the packet cannot be written.
#[inline(always)]
pub(super) unsafe fn write(
    skb: *mut __sk_buff,
    reply: *mut Reply,
    answer: *mut Answer,
    text: *const Text,
    at: u32,
    room: u32,
    ends: bool,
) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let len = (*text).len as u32;
        if len == 0 || len > BYTES as u32 {
            return false;
        }
        let len = raw::some(len, BYTES as u32);
        if bpf_skb_store_bytes(skb.cast(), at, (&raw const (*text).bytes).cast(), len, 0) != 0 {
            return false;
        }
        let retry = (*answer).retry as u64;
        number(skb, reply, at, (*text).retry_at, retry, b' ');
        number(skb, reply, at, (*text).reset_at, retry, b'0');
        number(skb, reply, at, (*text).length_at, (room - (*text).head as u32) as u64, b' ');
        if ends {
            let to = at + (*text).connection_at as u32;
            bpf_skb_store_bytes(skb.cast(), to, ENDS_TEXT.as_ptr().cast(), ENDS.len() as u32, 0);
        }
        true
    }
}

/// Writes a number of a response, if it has that one.
#[inline(always)]
unsafe fn number(skb: *mut __sk_buff, reply: *mut Reply, at: u32, place: u16, n: u64, fill: u8) {
    if place == 0 {
        return;
    }
    // SAFETY: the caller's promise; the field has a byte more than the number.
    unsafe {
        let field = &mut *(&raw mut (*reply).field).cast::<[u8; DIGITS]>();
        answer::digits(field, n, fill);
        bpf_skb_store_bytes(skb.cast(), at + place as u32, field.as_ptr().cast(), DIGITS as u32, 0);
    }
}

/// What [`respond_step`] works on.
struct Responding {
    skb: *mut __sk_buff,
    reply: *mut Reply,
    answer: *mut Answer,
    text: *const Text,
    waiting: u64,
}

/// Writes the next of several responses.
unsafe extern "C" fn respond_step(index: u32, context: *mut c_void) -> c_long {
    // SAFETY: the context is `Responding`.
    unsafe {
        let all = context.cast::<Responding>();
        let reply = (*all).reply;
        let text = (*all).text;
        if index >= (*all).waiting as u32 & 0xff {
            return 1;
        }
        let head = (*all).waiting >> (8 + (index & 31)) & 1 != 0;
        let at = core::ptr::read_volatile(&raw const (*reply).at);
        let len = (*text).len as u32;
        // those behind it would not be read
        let ends = (*(*all).answer).last != 0 && index + 1 == (*all).waiting as u32 & 0xff;
        if !write((*all).skb, reply, (*all).answer, text, at, len, ends) {
            return 1;
        }
        // the response to a HEAD says how long the body would be; the next response takes its place
        (*reply).at = at + if head { (*text).head as u32 } else { len };
    }
    0
}

/// A token comes out of the pair of sockets: it becomes the responses to what waits on the connection that it names.
#[stream_verdict]
pub fn answer_out(ctx: SkBuffContext) -> u32 {
    let skb = ctx.skb.skb;
    let mut token = [0u64; 2];
    // SAFETY: the packet of this program, and 16 bytes to read to.
    unsafe {
        if bpf_skb_load_bytes(skb.cast(), 0, (&raw mut token).cast(), TOKEN) != 0 || token[0] != token[1] {
            return sk_action::SK_DROP;
        }
        let Some(answer) = ANSWERS.get_ptr_mut(&token[0]) else { return sk_action::SK_DROP };
        let Some(text) = TEXTS.get_ptr((*answer).text) else { return sk_action::SK_DROP };
        let Some(scratch) = scratch::take_to_answer() else { return sk_action::SK_DROP };
        let verdict = respond(&ctx, answer, text, scratch, &mut token[0]);
        scratch::release(scratch);
        verdict
    }
}

#[inline(always)]
unsafe fn respond(
    ctx: &SkBuffContext,
    answer: *mut Answer,
    text: *const Text,
    scratch: *mut Scratch,
    cookie: &mut u64,
) -> u32 {
    let skb = ctx.skb.skb;
    // SAFETY: the caller's promise.
    unsafe {
        let reply = &raw mut (*scratch).reply;
        let waiting = waiting(answer);
        let n = waiting & 0xff;
        // a token too many finds nothing
        if n == 0 || outstanding(answer) != 0 {
            return sk_action::SK_DROP;
        }
        let whole = (*text).len as u32;
        let bodies = (whole - (*text).head as u32) * (waiting >> 8).count_ones();
        let len = whole * n as u32 - bodies;
        // (its place may be another connection's by now)
        if (*answer).conn.peer.cookie != *cookie || !raw::atomic_swap(&raw mut (*answer).waiting, waiting, 0)
        {
            due(answer, scratch); // another one came in at this moment
            return sk_action::SK_DROP;
        }
        if build(skb, reply, answer, text, waiting, len) {
            leaves(answer, len);
            let verdict = ANSWERED.redirect_skb(ctx, cookie, 0) as u32;
            if verdict == sk_action::SK_PASS {
                return verdict;
            }
        }
        // they wait on: the next walk through the open connections asks again
        raw::atomic_swap(&raw mut (*answer).waiting, 0, waiting);
        sk_action::SK_DROP
    }
}

/// Makes a packet into the responses to what waits, `len` bytes together.
#[inline(always)]
unsafe fn build(
    skb: *mut __sk_buff,
    reply: *mut Reply,
    answer: *mut Answer,
    text: *const Text,
    waiting: u64,
    len: u32,
) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let all = (*text).len as u32 * (waiting & 0xff) as u32;
        // room for the last one's body: it is cut off again
        if bpf_skb_change_tail(skb.cast(), all, 0) != 0 {
            return false;
        }
        (*reply).at = 0;
        let mut responding = Responding { skb, reply, answer, text, waiting };
        bpf_loop(WAITING * 2, respond_step as *const () as *mut c_void, (&raw mut responding).cast(), 0);
        core::ptr::read_volatile(&raw const (*reply).at) == len
            && (len == all || bpf_skb_change_tail(skb.cast(), len, 0) == 0)
    }
}
