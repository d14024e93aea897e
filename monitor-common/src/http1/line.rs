//! Start lines, chunk-size lines and the rest of long lines.

use super::header::length;
use super::params::target;
use super::start::{method_of, odd, other, status_line};
use super::state::{flag, kind, method, phase};
use super::window::{BLANKS, Machine, blank, le, opaque};
use super::{Env, HOLD, SEG, TAIL, fail, need, piece};

/// Advances a line that is no header line at its beginning. True: nothing more can be done in this read.
#[inline(always)]
pub(super) fn line<E: Env>(e: &mut Machine<'_, E>, ph: u8, p0: u32, end: u32) -> bool {
    let mut p = p0;
    if ph == phase::CHUNK && e.s().flags & flag::CRLF_DUE != 0 {
        let w = e.word::<0>(p);
        if w as u16 == 0x0a0d && p.wrapping_add(1) < end {
            p = p.wrapping_add(2);
        } else if w as u8 == b'\n' {
            p = p.wrapping_add(1);
            e.s().flags |= flag::BARE_LF;
        } else if w as u8 == b'\r' && p.wrapping_add(1) >= end {
            return need(e);
        } else {
            return fail(e);
        }
        e.s().flags &= !flag::CRLF_DUE;
        e.c().pos = p;
        if p >= end {
            return need(e);
        }
    }
    let nl = e.env.find_lf(p);
    let nl = e.forget(nl);
    let found = nl < end;
    let mut k = e.s().kind;
    if ph == phase::START {
        let w = e.word::<0>(p);
        if w as u8 == b'\n' || w as u8 == b'\r' || (!e.resp() && w as u8 <= b' ') {
            return e.env.piece::<{ piece::FRONT }>();
        }
        k = if e.resp() { kind::SKIP } else { kind::START };
        if e.resp() {
            if !status_line(w, end.wrapping_sub(p)) {
                return fail(e);
            }
        } else if method_of(w) == method::OTHER {
            let begins = e.env.other_method(p, end);
            if begins == other::HTTP2 || (begins == other::NO && !proven(e)) {
                return fail(e);
            }
        }
        if !found && end.wrapping_sub(p) < HOLD {
            return need(e);
        }
        open(e, p, w);
        if e.resp() {
            let d = (e.word::<1>(p) >> 8) as u32;
            if d & 0x00f0_f0f0 != 0x0030_3030 || (found && nl.wrapping_sub(p) < 12) {
                return fail(e);
            }
            e.s().status = ((d & 15) * 100 + (d >> 8 & 15) * 10 + (d >> 16 & 15)) as u16;
            if (w >> 56) as u8 == b'0' {
                e.s().flags = flag::V10;
            }
        }
        e.s().kind = k;
        e.s().phase = phase::VALUE;
        if k == kind::START && e.nm().query != 0 {
            target(e, p);
            return false;
        }
    } else if ph == phase::CHUNK {
        if !found && end.wrapping_sub(p) < HOLD {
            return need(e);
        }
        if !chunk_size(e, p) {
            return fail(e);
        }
        k = kind::CHUNK_EXT;
        e.s().kind = k;
        e.s().phase = phase::VALUE;
    } else if k == kind::CL {
        if found {
            if !length(e, p) {
                return false;
            }
        } else if blank(e.byte(p)) {
            e.c().pos = p.wrapping_add(1);
            return false;
        } else if end.wrapping_sub(p) < HOLD {
            return need(e);
        } else {
            length(e, p);
            e.s().kind = kind::CL_REST;
        }
    }
    if !found {
        // keep the tail; the rest of this line is of no interest
        let lim = if end.wrapping_sub(p) > SEG { p.wrapping_add(SEG) } else { end };
        if lim.wrapping_sub(p) > TAIL {
            e.c().pos = lim.wrapping_sub(TAIL);
            if lim != end {
                return false;
            }
        }
        return need(e);
    }
    let next = nl.wrapping_add(1);
    e.c().pos = next;
    let mut t = nl;
    if e.ends_in_crlf(nl) {
        t = nl.wrapping_sub(1);
    } else {
        e.s().flags |= flag::BARE_LF;
    }
    e.s().phase = phase::HEADER;
    if k == kind::START {
        let found = e.env.version(p, t);
        e.s().flags |= (found >> 16) as u16;
        if found & odd::VERSION == 0 {
            return e.env.piece::<{ piece::BARE }>();
        }
    }
    if ph == phase::START || k == kind::START {
        if e.env.piece::<{ piece::RECALL }>() {
            e.c().event = super::HEAD;
        }
    } else if k == kind::CHUNK_EXT {
        if e.s().remaining != 0 {
            e.s().phase = phase::DATA;
        } else {
            e.s().flags |= flag::TRAILER;
        }
    } else if k == kind::TE {
        coding(e, p, t);
    }
    false
}

/// A request line that names no version ended at the cursor. For some servers that is the whole request (HTTP/0.9), for others a head
/// follows: where it ends is not known, so framing is lost behind it.
#[inline(always)]
pub(super) fn bare<E: Env>(e: &mut Machine<'_, E>, next: u32) -> bool {
    // a long line is not whole in the window, but it has more than a word
    let p = e.c().head_at;
    let whole = e.s().shipped == 0;
    let nl = next.wrapping_sub(1);
    let t = if e.ends_in_crlf(nl) { nl.wrapping_sub(1) } else { nl };
    let found = if whole { e.env.version(p, t) & 0xffff } else { odd::WORDS };
    if whole && e.word::<0>(p) & (u64::MAX >> 16) == le(b"PROXY ") && e.sh().req_seq == 0 {
        // version 1 of the PROXY protocol: who the client is, in front of what it sends
        e.s().open = 0;
        e.s().phase = phase::START;
        e.c().head_at = u32::MAX;
        return false;
    }
    // other protocols have words, too
    let http = e.s().method != method::OTHER && found & odd::PATH != 0;
    if found == odd::WORD || !(http || proven(e)) {
        return fail(e);
    }
    e.s().flags |= flag::BAD_CL;
    e.c().event = super::HEAD;
    false
}

/// What stands in front of a start line: blank lines (RFC 9112 section 2.2); servers pass over blanks and controls, too. Or version 2 of
/// the PROXY protocol: a signature of 12 bytes, two more, and how many follow, which are passed over like a body.
#[inline(always)]
pub(super) fn front<E: Env>(e: &mut Machine<'_, E>, p: u32, end: u32) -> bool {
    let (w, v) = (e.word::<0>(p), e.word::<1>(p));
    e.c().pos = p.wrapping_add(1);
    if w & 0xff_ffff_ffff != le(b"\r\n\r\n\0") || e.resp() || e.sh().req_seq != 0 {
        return false;
    }
    if end.wrapping_sub(p) < 16 {
        e.c().pos = p;
        return need(e);
    }
    if w == le(b"\r\n\r\n\0\r\nQ") && v as u32 == le(b"UIT\n") as u32 {
        e.c().pos = p.wrapping_add(16);
        e.s().remaining = u16::from_be((v >> 48) as u16) as u64;
        if e.s().remaining != 0 {
            e.s().phase = phase::BODY;
        }
    }
    false
}

/// Whether the other end is known to speak HTTP.
#[inline(always)]
fn proven<E: Env>(e: &mut Machine<'_, E>) -> bool {
    e.s().proven != 0 || e.sh().req_seq != 0
}

/// A head begins at `p`.
#[inline(always)]
fn open<E: Env>(e: &mut Machine<'_, E>, p: u32, w: u64) {
    e.c().head_at = p;
    let method = method_of(w);
    let s = e.s();
    s.method = method;
    s.flags = 0;
    s.open = 1;
    s.same = 0;
    s.more = 0;
    s.shipped = 0;
    s.cred = [0; 4];
    // Volatile, or LLVM makes one memset call of the zeros, which on BPF is a slow loop over bytes.
    volatile_zero(&mut s.remaining);
    volatile_zero(&mut s.body);
    volatile_zero(&mut s.host);
    let [a, b, c, d] = &mut s.fp;
    volatile_zero(a);
    volatile_zero(b);
    volatile_zero(c);
    volatile_zero(d);
}

#[inline(always)]
fn volatile_zero(word: &mut u64) {
    // SAFETY: a reference is valid for writes and aligned.
    unsafe { core::ptr::from_mut(word).write_volatile(0) }
}

/// Most bytes that [`hex`] looks at.
const HEX: u32 = 8;

/// The value of the hexadecimal digits at `p`, and from bit 32 on how many there are, up to [`HEX`].
#[inline(always)]
pub fn hex<E: Env>(env: &E, p: u32) -> u64 {
    let mut v = 0u64;
    let mut i = 0;
    while i < HEX {
        // SAFETY: `Env::at` is readable for any offset.
        let ch = unsafe { env.at(p.wrapping_add(i)).read() };
        let digit = ch.wrapping_sub(b'0');
        let letter = (ch | 0x20).wrapping_sub(b'a');
        let x = if digit < 10 {
            digit
        } else if letter < 6 {
            letter + 10
        } else {
            break;
        };
        v = v << 4 | x as u64;
        i = opaque(i + 1);
    }
    v | (i as u64) << 32
}

/// Reads the size of a chunk at `p`; false if it is malformed.
#[inline(always)]
fn chunk_size<E: Env>(e: &mut Machine<'_, E>, p: u32) -> bool {
    let mut v = 0u64;
    let mut q = p;
    let mut i = 0;
    let mut n = HEX;
    while i < 4 && n == HEX {
        let found = e.env.hex(q);
        n = (found >> 32) as u32 & 15;
        let shift = (n * 4) & 63;
        if shift != 0 && v >> (64 - shift) != 0 {
            return false;
        }
        v = v << shift | found & 0xffff_ffff;
        q = q.wrapping_add(n);
        i = opaque(i + 1);
    }
    // 31 digits are plenty
    if q == p || n == HEX || v >> 63 != 0 {
        return false;
    }
    let ch = e.byte(q);
    if ch != b'\r' && ch != b'\n' && ch != b';' && !blank(ch) {
        return false;
    }
    e.s().remaining = v;
    true
}

/// Is `chunked` the last coding of the Transfer-Encoding line (or folded piece of it) from `p` to `t`?
#[inline(always)]
fn coding<E: Env>(e: &mut Machine<'_, E>, p: u32, t0: u32) {
    let t = e.env.trim_blanks(p, t0);
    let w = e.word::<0>(t.wrapping_sub(8));
    let sep = w as u8;
    let text = (w | 0x2020_2020_2020_2000) >> 8 == le(b"chunked");
    let last = text && (sep == b':' || sep == b',' || blank(sep)) && t.wrapping_sub(p) >= 8 && t > p;
    // A request with a Transfer-Encoding that does not end in `chunked` is refused by any server (RFC 9112 section 6.3), so
    // where more blanks follow than are looked at, `chunked` is in front of them.
    let f = e.s().flags | flag::TE;
    e.s().flags = if last || t0.wrapping_sub(t) >= BLANKS { f | flag::CHUNKED } else { f & !flag::CHUNKED };
}
