//! Bodies by arithmetic, and what the end of a head decides about them (RFC 9112 section 6.3).

use super::state::{flag, method, phase};
use super::window::Machine;
use super::{END, Env, LOST};

/// Consumes body bytes: those in the window, then those of the read that were never copied. True: the read is used up.
#[inline(always)]
pub(super) fn consume<E: Env>(e: &mut Machine<'_, E>, ph: u8, p: u32, end: u32) -> bool {
    if ph >= phase::OPAQUE {
        return true;
    }
    let here = end.wrapping_sub(p);
    let left = e.c().left;
    let have = here as u64 + left as u64;
    if ph == phase::CLOSE {
        e.s().body = e.s().body.wrapping_add(have);
        return true;
    }
    let r = e.s().remaining;
    let n = if r < have { r } else { have };
    if n <= here as u64 {
        e.c().pos = p.wrapping_add(n as u32);
    } else {
        let over = n - here as u64;
        e.c().user = e.c().user.wrapping_add(over);
        e.c().left = left.wrapping_sub(over as u32);
        e.c().pos = end;
    }
    e.s().body = e.s().body.wrapping_add(n);
    e.s().remaining = r - n;
    if r == n {
        e.c().event = ended(e, ph);
    }
    n == have
}

/// The body, or the chunk, is complete.
#[inline(always)]
pub(super) fn ended<E: Env>(e: &mut Machine<'_, E>, ph: u8) -> u32 {
    if ph == phase::DATA {
        e.s().phase = phase::CHUNK;
        e.s().flags |= flag::CRLF_DUE;
        return 0;
    }
    e.s().phase = phase::START;
    END
}

/// A head is complete and reported: numbers the message and decides about its body. Returns further events.
#[inline(always)]
pub(super) fn decide<E: Env>(e: &mut Machine<'_, E>) -> u32 {
    let f = e.s().flags;
    let mut body = true;
    let mut tunnel = false;
    if e.resp() {
        let status = e.s().status;
        if status < 200 && status != 101 {
            e.s().phase = phase::START;
            return 0; // interim: the final response is still to come
        }
        let seq = e.sh().resp_seq;
        let bit = seq & 63;
        e.sh().resp_seq = seq.wrapping_add(1);
        if status == 101 {
            tunnel = true;
        } else {
            let head = (e.sh().head_bits >> bit) & 1 != 0;
            body = !(head || status == 204 || status == 304);
            // a server that says where its response ends goes on with HTTP, whatever it was asked for
            let framed = f & (flag::CL | flag::TE) != 0 || status == 204;
            tunnel = (e.sh().connect_bits >> bit) & 1 != 0 && status < 300 && !framed;
        }
    } else {
        number(e);
    }
    if tunnel {
        e.sh().opaque = 1;
        e.s().phase = phase::OPAQUE;
        return END;
    }
    if !body {
        e.s().phase = phase::START;
        return END;
    }
    if f & flag::TE != 0 {
        if f & flag::CHUNKED != 0 {
            e.s().phase = phase::CHUNK;
            return 0;
        }
        if e.resp() {
            e.s().phase = phase::CLOSE;
            return 0;
        }
        return LOST;
    }
    if f & flag::BAD_CL != 0 {
        return LOST;
    }
    if f & flag::CL != 0 && e.s().remaining != 0 {
        e.s().phase = phase::BODY;
        return 0;
    }
    if f & flag::CL == 0 && e.resp() {
        e.s().phase = phase::CLOSE;
        return 0;
    }
    e.s().phase = phase::START;
    END
}

/// Numbers a request and notes what its response depends on.
#[inline(always)]
fn number<E: Env>(e: &mut Machine<'_, E>) {
    let method = e.s().method;
    let seq = e.sh().req_seq;
    let resp = e.sh().resp_seq;
    let bit = 1u64 << (seq & 63);
    let (heads, connects) = (e.sh().head_bits, e.sh().connect_bits);
    let new_heads = if method == method::HEAD { heads | bit } else { heads & !bit };
    let new_connects = if method == method::CONNECT { connects | bit } else { connects & !bit };
    let ahead = seq.wrapping_sub(resp);
    if (64..1 << 31).contains(&ahead) && (new_heads != heads || new_connects != connects) {
        e.sh().overflow = e.sh().overflow.wrapping_add(1);
    }
    e.sh().head_bits = new_heads;
    e.sh().connect_bits = new_connects;
    e.sh().req_seq = seq.wrapping_add(1);
    if method == method::HEAD && resp == seq.wrapping_add(1) {
        answered_already(e);
    }
}

/// The response to this HEAD request was framed before the request was known: another thread's hook ran first. While nothing
/// of the body that its head announces has come, correct it: there is none. Its end is reported with the next read.
#[inline(always)]
fn answered_already<E: Env>(e: &mut Machine<'_, E>) {
    let o = e.o();
    if o.body == 0 && o.carry == 0 && matches!(o.phase, phase::BODY | phase::CHUNK | phase::CLOSE) {
        o.phase = phase::BODY;
        o.remaining = 0;
    }
}
