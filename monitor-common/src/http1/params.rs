//! Credentials in the request target (`?api_key=...`) and in cookies: finds configured names and hands their values to
//! [`super::credential`]. Without configured names none of this runs.
//!
//! Names are compared byte by byte: percent-encoding is not decoded and case matters, as in the programs that read them.

use super::state::{flag, kind, phase};
use super::window::{BLANKS, Machine, ONES, index, low_byte, opaque, zeros};
use super::{Env, SEG, need};
use crate::event::cred;

/// `Stream::stage`: between parameters, looking for a separator.
pub(super) const SEEK: u8 = 0;
/// At the start of a parameter's name.
pub(super) const NAME: u8 = 1;
/// In the path, looking for the query.
pub(super) const PATH: u8 = 2;

/// Bytes that must be visible to compare a name: 31, and the `=`.
const VISIBLE: u32 = 32;
/// Names of each kind.
const NAMES: u32 = 8;

/// Offset of the first of three bytes, or of an LF, at or after `p`; `u32::MAX` when there is none in `SEG` bytes.
#[inline(always)]
pub fn find_any<E: Env>(env: &E, p: u32, bytes: u32) -> u32 {
    let every = |shift: u32| ONES * (bytes >> shift & 0xff) as u64;
    let [a, b, c] = [every(0), every(8), every(16)];
    let mut q = p;
    let mut i = 0;
    while i < SEG / 8 {
        // SAFETY: `Env::at` is readable for 64 bytes for any offset.
        let w = unsafe { env.at(q).cast::<u64>().read_unaligned() };
        // the lowest mark of each is right, so the lowest of all is
        let t = zeros(w ^ a) | zeros(w ^ b) | zeros(w ^ c) | zeros(w ^ (ONES * b'\n' as u64));
        if t != 0 {
            return q.wrapping_add(low_byte(t));
        }
        q = q.wrapping_add(8);
        i = opaque(i + 1);
    }
    u32::MAX
}

/// Three bytes as [`find_any`] takes them.
pub(super) const fn three(bytes: [u8; 3]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0])
}

/// The request line at `p` begins: goes on with its target.
#[inline(always)]
pub(super) fn target<E: Env>(e: &mut Machine<'_, E>, p: u32) {
    let blank = e.env.find_any(p, three([b' '; 3]));
    e.c().pos = if blank == u32::MAX { p } else { blank.wrapping_add(1) };
    e.s().phase = phase::QUERY;
    e.s().stage = PATH;
}

/// Advances in a target or in a `Cookie` value. True: nothing more can be done in this read.
#[inline(always)]
pub(super) fn params<E: Env>(e: &mut Machine<'_, E>, ph: u8, p0: u32, end: u32) -> bool {
    let query = ph == phase::QUERY;
    let mut p = p0;
    let stage = e.s().stage;
    if stage == NAME {
        if !query {
            p = e.env.skip_blanks(p0);
        }
        e.c().pos = p;
        if p >= end {
            return need(e);
        }
        if p.wrapping_sub(p0) >= BLANKS {
            return false;
        }
        if end.wrapping_sub(p) < VISIBLE && e.env.find_lf(p) >= end {
            return need(e);
        }
        e.s().stage = SEEK;
        return named(e, query, p);
    }
    let separator = if !query {
        b';'
    } else if stage == PATH {
        b'?'
    } else {
        b'&'
    };
    let stops = if query { [separator, b'#', b' '] } else { [separator; 3] };
    let q = e.env.find_any(p, three(stops));
    let q = e.forget(q);
    if q >= end {
        // none of these bytes matters, but a CR, which tells CRLF from a bare LF
        let far = end.wrapping_sub(p) > SEG;
        let cr = u32::from(e.byte(end.wrapping_sub(1)) == b'\r');
        e.c().pos = if far { p.wrapping_add(SEG) } else { end.wrapping_sub(cr) };
        return !far && need(e);
    }
    let byte = e.byte(q);
    if byte == separator {
        e.c().pos = q.wrapping_add(1);
        e.s().stage = NAME;
    } else if query {
        // the rest is an ordinary request line
        e.c().pos = q;
        e.s().phase = phase::VALUE;
        e.s().kind = kind::START;
    } else {
        if !e.ends_in_crlf(q) {
            e.s().flags |= flag::BARE_LF;
        }
        e.c().pos = q.wrapping_add(1);
        e.s().phase = phase::HEADER;
        e.s().kind = kind::SKIP;
    }
    false
}

/// Is the name at `p` a configured one? Then its value is a credential.
#[inline(always)]
fn named<E: Env>(e: &mut Machine<'_, E>, query: bool, p: u32) -> bool {
    let found = e.env.param(p, if query { 0 } else { NAMES });
    if found != 0 {
        let k = (found & 7) as u8 + if query { cred::QUERY } else { cred::COOKIE };
        e.s().kind = k;
        e.s().phase = phase::VALUE;
        e.c().pos = p.wrapping_add(found >> 8);
        super::credential::enter(e, k);
    }
    false
}

/// The configured name at `p`, among the eight from `first` on: its index there and, from bit 8 on, its length with the `=`; 0 for none.
#[inline(always)]
pub fn param<E: Env>(env: &E, p: u32, first: u32) -> u32 {
    // SAFETY: `Env::at` is readable for 64 bytes for any offset.
    let w = unsafe { env.at(p).cast::<[u64; 4]>().read_unaligned() };
    // SAFETY: `Env::names` is valid and nobody writes to it during a call.
    let names = unsafe { &*env.names() };
    let mut j = 0;
    while j < NAMES {
        let n = &names.param[index(first + j, 2 * NAMES - 1)];
        if n.len == 0 {
            return 0;
        }
        let d = ((w[0] ^ n.word[0]) & n.mask[0])
            | ((w[1] ^ n.word[1]) & n.mask[1])
            | ((w[2] ^ n.word[2]) & n.mask[2])
            | ((w[3] ^ n.word[3]) & n.mask[3]);
        if d == 0 {
            return j | n.len << 8;
        }
        j = opaque(j + 1);
    }
    0
}
