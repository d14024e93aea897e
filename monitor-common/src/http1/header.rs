//! Header lines at their beginning: the hot loop, and the short values that frame the body.

use super::memo::learn;
use super::state::{flag, kind, phase};
use super::window::{BLANKS, HIGH, Machine, ONES, blank, index, le, low_byte, opaque};
use super::{END, Env, HEAD, HOLD, Names, need, params};

/// Header lines looked at in one pass.
const LINES: u32 = 8;
/// Most names in one slot that are compared.
const CHAIN: u32 = 8;

/// Whether another pass may follow at once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// The next tick goes on.
    Go,
    /// A line that matters was finished; more lines follow.
    Again,
}

/// Header lines from `p0` on. Leaves the loop for anything but an uninteresting complete line.
#[inline(always)]
pub(super) fn header<E: Env>(e: &mut Machine<'_, E>, p0: u32, end: u32) -> Pass {
    let mut p = p0;
    let mut bare = 0u16;
    let mut i = 0;
    let mut w;
    let mut cand;
    loop {
        w = e.word::<0>(p);
        cand = 0;
        if w as u8 <= 0x20 {
            break;
        }
        cand = e.nm().first[index(Names::slot(e.nm().mult, w as u32), 31)];
        if cand != 0 {
            // a common name in the same slot (content-type beside content-length) must not leave the loop
            let w1 = e.word::<1>(p);
            let n = &e.nm().name[index(cand as u32, 15)];
            let d =
                (((w | n.fold[0]) ^ n.word[0]) & n.mask[0]) | (((w1 | n.fold[1]) ^ n.word[1]) & n.mask[1]);
            if d == 0 || n.next != 0 {
                break;
            }
        }
        let q = e.env.find_lf(p);
        if q >= end {
            break;
        }
        if e.byte(q.wrapping_sub(1)) != b'\r' {
            bare = flag::BARE_LF;
        }
        p = q.wrapping_add(1);
        i += 1;
        if i >= LINES {
            e.c().pos = p;
            e.s().flags |= bare;
            e.s().kind = kind::SKIP;
            return Pass::Go;
        }
    }
    e.c().pos = p;
    let f = e.s().flags | bare;
    e.s().flags = f;
    if i > 0 {
        e.s().kind = kind::SKIP;
    }
    if p >= end {
        need(e);
        return Pass::Go;
    }
    let mut k = kind::SKIP;
    if w as u8 <= 0x20 {
        if w as u8 == b'\r' {
            if p.wrapping_add(1) >= end {
                need(e);
                return Pass::Go;
            }
            if (w >> 8) as u8 == b'\n' {
                e.c().pos = p.wrapping_add(2);
                learn(e, p.wrapping_add(2));
                return end_of_block(e, f);
            }
            e.s().flags = f | flag::BAD;
        } else if w as u8 == b'\n' {
            e.s().flags = f | flag::BARE_LF;
            e.c().pos = p.wrapping_add(1);
            return end_of_block(e, f);
        } else if blank(w as u8) {
            e.s().flags = f | flag::FOLD;
            let previous = e.s().kind;
            if previous == kind::TE {
                k = previous;
            }
            if previous == kind::CL || previous == kind::CL_REST {
                e.s().flags = f | flag::FOLD | flag::BAD_CL;
            }
        }
    }
    let nl = e.env.find_lf(p);
    let nl = e.forget(nl);
    let found = nl < end;
    if !found && end.wrapping_sub(p) < HOLD {
        need(e);
        return Pass::Go;
    }
    let mut len = 0;
    if cand != 0 && f & flag::TRAILER == 0 {
        let found = e.env.name(p, cand as u32);
        if found != 0 {
            k = found as u8;
            len = found >> 8 & 0xff;
        }
    }
    e.s().kind = k;
    let v = p.wrapping_add(len);
    if k >= kind::HOST {
        e.c().pos = v;
        if k == kind::COOKIE {
            e.s().phase = phase::COOKIE;
            e.s().stage = params::NAME;
        } else {
            e.s().phase = phase::VALUE;
            e.s().stage = 0;
            e.s().delim = if k == kind::HOST { b':' } else { 0 };
        }
        return Pass::Go;
    }
    note(e, k);
    if !found || k == kind::TE {
        if k == kind::CL {
            e.c().pos = v;
        }
        e.s().phase = phase::VALUE;
        return Pass::Go;
    }
    if k == kind::CL && !length(e, v) {
        return Pass::Go;
    }
    if k == kind::CONN {
        connection(e, v);
    }
    if e.byte(nl.wrapping_sub(1)) != b'\r' {
        e.s().flags |= flag::BARE_LF;
    }
    e.c().pos = nl.wrapping_add(1);
    Pass::Again
}

/// The name at `p`, among those of a slot that begin with `candidate`: its kind and, from bit 8 on, its length; 0 for none.
#[inline(always)]
pub fn name<E: Env>(env: &E, p: u32, candidate: u32) -> u32 {
    // SAFETY: `Env::at` is readable for 64 bytes for any offset.
    let [w, w1, w2, w3] = unsafe { env.at(p).cast::<[u64; 4]>().read_unaligned() };
    // SAFETY: `Env::names` is valid and nobody writes to it during a call.
    let names = unsafe { &*env.names() };
    let mut cand = candidate;
    let mut j = 0;
    while j < CHAIN && cand != 0 {
        let n = &names.name[index(cand, 15)];
        let d0 = ((w | n.fold[0]) ^ n.word[0]) & n.mask[0];
        let d1 = ((w1 | n.fold[1]) ^ n.word[1]) & n.mask[1];
        let d2 = ((w2 | n.fold[2]) ^ n.word[2]) & n.mask[2];
        let d3 = ((w3 | n.fold[3]) ^ n.word[3]) & n.mask[3];
        if d0 | d1 | d2 | d3 == 0 {
            return n.kind as u32 | (n.len & 0xff) << 8;
        }
        cand = n.next as u32;
        j = opaque(j + 1);
    }
    0
}

/// The empty line: a head is complete, or (after trailers) a message.
#[inline(always)]
fn end_of_block<E: Env>(e: &mut Machine<'_, E>, f: u16) -> Pass {
    if f & flag::TRAILER == 0 {
        e.c().event = HEAD;
    } else {
        e.s().phase = phase::START;
        e.c().event = END;
    }
    Pass::Go
}

#[inline(always)]
fn note<E: Env>(e: &mut Machine<'_, E>, k: u8) {
    e.s().flags |= match k {
        kind::UPGRADE => flag::UPGRADE,
        kind::EXPECT => flag::EXPECT,
        kind::TE => flag::TE,
        _ => 0,
    };
}

/// `Connection: close`, when it is the first option.
#[inline(always)]
fn connection<E: Env>(e: &mut Machine<'_, E>, v0: u32) {
    let v = if blank(e.byte(v0)) { v0.wrapping_add(1) } else { v0 };
    let w = e.word::<0>(v) | 0x2020_2020_2020_2020;
    if w & 0xff_ffff_ffff == le(b"close") {
        e.s().flags |= flag::CONN_CLOSE;
    }
}

/// Content-Length at `v0`, in a line that is complete or at least `HOLD` bytes long. False: so many blanks in front of it that
/// the next tick must go on. Blanks behind the digits, as many as there may be, do not matter.
#[inline(always)]
pub(super) fn length<E: Env>(e: &mut Machine<'_, E>, v0: u32) -> bool {
    let v = e.env.skip_blanks(v0);
    if v.wrapping_sub(v0) >= BLANKS {
        e.s().phase = phase::VALUE;
        e.c().pos = v;
        return false;
    }
    let (high, low) = (e.word::<0>(v), e.word::<1>(v));
    let (n, m) = (digits(high), digits(low));
    let count = if n < 8 { n } else { 8 + m };
    let after = e.byte(v.wrapping_add(count));
    let mut value = dec8(high, n);
    if n == 8 && m != 0 {
        // shift the first eight digits left by the number of digits that follow them
        value = value * POW10[index(m, 15)] + dec8(low, m);
    }
    let f = e.s().flags;
    let end = after == b'\r' || after == b'\n' || blank(after);
    if n == 0 || !end || (f & flag::CL != 0 && e.s().remaining != value) {
        e.s().flags = f | flag::BAD_CL;
        return true;
    }
    e.s().flags = f | flag::CL;
    e.s().remaining = value;
    true
}

const POW10: [u64; 16] =
    [1, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1, 1, 1, 1, 1, 1, 1];

/// How many of the bytes of `w`, from the lowest, are decimal digits.
#[inline(always)]
const fn digits(w: u64) -> u32 {
    let x = w ^ (ONES * b'0' as u64);
    let other = ((x & !HIGH).wrapping_add(ONES * 0x76) | x) & HIGH;
    if other == 0 { 8 } else { low_byte(other) }
}

/// Decimal value of the `n` (0..=8) digits in the low bytes of `w`.
#[inline(always)]
const fn dec8(w: u64, n: u32) -> u64 {
    if n == 0 {
        return 0;
    }
    // the digits in the high bytes, zeros below: three steps add up neighbours
    let x = (w << (((8 - n) * 8) & 63)) & 0x0f0f_0f0f_0f0f_0f0f;
    let x = x.wrapping_mul(2561) >> 8 & 0x00ff_00ff_00ff_00ff;
    let x = x.wrapping_mul(6_553_601) >> 16 & 0x0000_ffff_0000_ffff;
    x.wrapping_mul(42_949_672_960_001) >> 32
}
