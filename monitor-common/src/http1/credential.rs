//! Credential values: hashed word by word while they go by, never stored. The result is what
//! [`crate::siphash::fingerprint`] computes from the whole value.

use super::params::{SEEK, three};
use super::state::{flag, kind, phase};
use super::window::{BLANKS, HIGH, Machine, ONES, blank, blanks, index, le, low_byte, opaque};
use super::{Env, SEG, TAIL, need, piece};
use crate::event::{CREDS, cred};
use crate::siphash::{SCHEME_AWS, SCHEME_AWS4, State, absorb, finish};

/// `Stream::stage`: blanks in front of the value.
const LEAD: u8 = 0;
/// Behind the scheme.
const GAP: u8 = 1;
/// In the bytes that are hashed, some of which went by.
const BYTES: u8 = 2;
/// At the first of them: the value of a query key, where blanks are not skipped.
const FIRST: u8 = 3;

/// Bytes that must be visible to judge a scheme.
const SCHEME: u32 = 17;
const SPACES: u64 = ONES * b' ' as u64;
/// The bit that tells lower-case letters from upper-case ones, in eight bytes.
const CASE: u64 = ONES * 0x20;

/// A piece of the value of kind `k` at `p0`, in a line that ends at `nl` if that is below `end`. True: nothing more can be
/// done in this read.
#[inline(always)]
pub(super) fn credential<E: Env>(e: &mut Machine<'_, E>, k: u8, p0: u32, nl: u32, end: u32) -> bool {
    let found = nl < end;
    let mut p = p0;
    let mut stage = e.s().stage;
    if stage < BYTES {
        p = e.env.skip_blanks(p0);
        if p.wrapping_sub(p0) >= BLANKS || (p >= end && !found) {
            // the sentinel behind the data is no blank, so `p` is at most `end`
            e.c().pos = p;
            return p >= end && need(e);
        }
    }
    let mut stop; // hash whole words below this
    if found {
        stop = nl;
        if e.ends_in_crlf(nl) {
            stop = nl.wrapping_sub(1);
        } else {
            e.s().flags |= flag::BARE_LF;
        }
    } else {
        let lim = if end.wrapping_sub(p) > SEG { p.wrapping_add(SEG) } else { end };
        stop = lim.wrapping_sub(TAIL);
        if lim.wrapping_sub(p) < TAIL + 8 {
            e.c().pos = p;
            return need(e);
        }
    }
    stop = e.forget(stop);
    p = e.forget(p);
    if stage == LEAD && found && p >= stop {
        return value_end(e, nl); // an empty value is no credential
    }
    let seen = if found { stop } else { end }; // of the value
    let mut v: State;
    let hashed;
    if stage == LEAD {
        v = e.nm().sip[index(k as u32, 31)];
        hashed = 16;
        if k == kind::AUTH {
            let c = e.c();
            c.from = p;
            c.stop = seen;
            e.env.piece::<{ piece::SCHEME }>();
            let len = e.c().from;
            let words = [e.s().area[0], e.s().area[1]];
            let aws4 = words[0] == SCHEME_AWS4[0] && words[1] == SCHEME_AWS4[1];
            let aws = words[0] == SCHEME_AWS[0] && words[1] == 0;
            v = absorb(
                absorb(v, if aws4 { SCHEME_AWS[0] } else { words[0] }),
                if aws4 { 0 } else { words[1] },
            );
            e.s().delim = if aws4 {
                b'/'
            } else if aws {
                b':'
            } else {
                0
            };
            p = p.wrapping_add(len);
            if len != 0 && p < seen {
                p = p.wrapping_add(1);
                stage = GAP;
            } else if aws4 {
                e.s().delim = 0; // no access-key id
            }
            if stage == GAP && (aws4 || blank(e.byte(p)) || !found) {
                keep(e, v, hashed, GAP, p);
                return false;
            }
        }
    } else {
        let [a, b, c, d, ..] = e.s().area;
        v = [a, b, c, d];
        hashed = e.s().hashed;
        if stage == GAP && e.s().delim == b'/' {
            let text = (e.word::<0>(p) ^ le(b"Credenti")) | ((e.word::<1>(p) ^ le(b"al=")) & 0xff_ffff);
            if text == 0 && seen.wrapping_sub(p) >= 11 && p < seen {
                p = p.wrapping_add(11);
            } else {
                e.s().delim = 0;
            }
        }
    }
    let mut over = found; // the value ends at `stop`
    let mut inner = false; // and the line goes on
    let delim = e.s().delim;
    if delim != 0 {
        let query = (cred::QUERY..cred::COOKIE).contains(&k);
        let d = e.env.find_any(p, three(if query { [delim, b'#', b' '] } else { [delim; 3] }));
        let d = e.forget(d);
        // from behind blanks a line end is seen that `find_lf` did not reach: the next tick's
        if d < seen && e.byte(d) != b'\n' {
            stop = d;
            over = true;
            inner = true;
        }
    }
    // From here on the paths above look the same to the verifier: the loops below are walked once, not once for each.
    let facts = u32::from(over) | u32::from(inner) << 1 | u32::from(found) << 2 | u32::from(delim != 0) << 3;
    let facts = e.forget(facts | u32::from(stage == BYTES) << 4);
    let (over, inner, found, delimited) = (facts & 1 != 0, facts & 2 != 0, facts & 4 != 0, facts & 8 != 0);
    let begun = facts & 16 != 0; // the number of bytes does not tell: it is known modulo 256
    let hashed = e.forget(hashed as u32) as u8;
    p = e.forget(p);
    stop = e.forget(stop);
    if over {
        // Up to eight trailing blanks here; where there are more, a word of only blanks follows and is found below.
        stop = e.env.trim_blanks(p, stop);
    }
    // a host has no case
    let fold = if k == kind::HOST { CASE } else { 0 };
    let start = p;
    let s = e.s();
    [s.area[0], s.area[1], s.area[2], s.area[3]] = v;
    let c = e.c();
    c.from = p;
    c.stop = stop;
    let mut i = 0;
    let mut more = true;
    while more && i < CALLS {
        more = e.env.piece::<{ piece::ABSORB }>();
        i = opaque(i + 1);
    }
    let cut = e.c().cut != 0;
    let mut last = e.c().last; // the final word, filled up with blanks
    p = e.c().from;
    let [a, b, c, d, ..] = e.s().area;
    v = [a, b, c, d];
    let hashed = (p.wrapping_sub(start) as u8).wrapping_add(hashed);
    if more || (!over && !cut) {
        keep(e, v, hashed, BYTES, p);
        return false;
    }
    let r = stop.wrapping_sub(p);
    if !cut && r < 8 {
        let beyond = u64::MAX << (r * 8);
        last = ((e.word::<0>(p) | fold) & !beyond) | (SPACES & beyond);
    }
    let (tail, n) = trimmed(last);
    let fp = finish(v, tail, hashed.wrapping_add(n));
    if k == kind::HOST {
        if e.s().host == 0 {
            e.s().host = fp;
        }
        if found {
            return value_end(e, nl);
        }
        e.c().pos = if p < end { p } else { end };
        e.s().kind = kind::SKIP; // the rest of the line
        return false;
    }
    let number = if k != kind::AUTH {
        k
    } else if delimited {
        cred::AWS
    } else {
        cred::AUTHORIZATION
    };
    if n != 0 || p != start || begun || k == kind::AUTH {
        add(e, number, fp);
    }
    if k >= cred::QUERY {
        // further parameters may follow; a query also ends at the line's end in its own way
        if inner || k < cred::COOKIE || !found {
            e.c().pos = if inner || found { stop } else { p };
            e.s().phase = if k < cred::COOKIE { phase::QUERY } else { phase::COOKIE };
            e.s().stage = SEEK;
            return false;
        }
    }
    if found {
        return value_end(e, nl);
    }
    e.c().pos = if p < end { p } else { end };
    e.s().kind = kind::SKIP; // the rest of the line
    false
}

/// Calls of [`words`] in one tick.
const CALLS: u32 = SEG / 8 / WORDS + 1;
/// Words that [`words`] hashes at a time.
const WORDS: u32 = 8;

/// Hashes whole words of a value from [`super::Cur::from`] to `stop`, up to [`WORDS`]. True: there are more.
#[inline(always)]
pub(super) fn words<E: Env>(e: &mut Machine<'_, E>) -> bool {
    let fold = if e.s().kind == kind::HOST { CASE } else { 0 };
    let (mut p, stop) = (e.c().from, e.c().stop);
    let [a, b, c, d, ..] = e.s().area;
    let mut v = [a, b, c, d];
    let mut last = SPACES;
    let mut cut = 0;
    let mut more = true;
    let mut i = 0;
    // VERIFIER: each way on in this loop costs a walk of the hash, eight times over: it has exits only
    while i < WORDS {
        if stop.wrapping_sub(p).wrapping_sub(8) > SEG - 8 {
            more = false;
            break;
        }
        let m = e.word::<0>(p);
        // a blank is 0x20 or 0x09: one branch for nearly every word
        if (m >> 56) & !0x29 == 0 {
            cut = 1;
            break;
        }
        v = absorb(v, m | fold);
        p = p.wrapping_add(8);
        i = opaque(i + 1);
    }
    if cut != 0 {
        let m = e.word::<0>(p);
        if !blank((m >> 56) as u8) || (blanks(m) != HIGH && blanks(e.word::<1>(p)) != HIGH) {
            cut = 0;
            v = absorb(v, m | fold);
            p = p.wrapping_add(8);
        } else {
            last = m | fold;
            more = false;
        }
    }
    let s = e.s();
    [s.area[0], s.area[1], s.area[2], s.area[3]] = v;
    let c = e.c();
    c.from = p;
    c.last = last;
    c.cut = cut;
    more
}

/// A value of kind `k` begins, a query key's or cookie's.
#[inline(always)]
pub(super) fn enter<E: Env>(e: &mut Machine<'_, E>, k: u8) {
    let query = k < cred::COOKIE;
    let [a, b, c, d] = e.nm().sip[index(k as u32, 31)];
    let s = e.s();
    [s.area[0], s.area[1], s.area[2], s.area[3]] = [a, b, c, d];
    s.hashed = 16;
    s.delim = if query { b'&' } else { b';' };
    // blanks in front of a cookie's value are not part of it, a blank in a target ends it
    s.stage = if query { FIRST } else { LEAD };
}

/// The line that ends at `nl` is done.
#[inline(always)]
fn value_end<E: Env>(e: &mut Machine<'_, E>, nl: u32) -> bool {
    e.c().pos = nl.wrapping_add(1);
    e.s().phase = phase::HEADER;
    false
}

/// Keeps the state of the hash until the next tick.
#[inline(always)]
fn keep<E: Env>(e: &mut Machine<'_, E>, v: State, hashed: u8, stage: u8, p: u32) {
    let s = e.s();
    [s.area[0], s.area[1], s.area[2], s.area[3]] = v;
    s.hashed = hashed;
    s.stage = stage;
    e.c().pos = p;
}

/// Puts the scheme at [`super::Cur::from`], canonical, into the area, and its length into `from`; zeros when the first token is
/// too long to be one.
#[inline(always)]
pub(super) fn scheme<E: Env>(e: &mut Machine<'_, E>) -> bool {
    let (p, stop) = (e.c().from, e.c().stop);
    let (words, len) = scheme_at(e, p, stop);
    let s = e.s();
    [s.area[0], s.area[1]] = words;
    e.c().from = len;
    false
}

#[inline(always)]
fn scheme_at<E: Env>(e: &Machine<'_, E>, p: u32, stop: u32) -> ([u64; 2], u32) {
    let (m0, m1, m2) = (e.word::<0>(p), e.word::<1>(p), e.byte(p.wrapping_add(16)));
    let (z0, z1) = (blanks(m0), blanks(m1));
    let mut n = if z0 != 0 {
        low_byte(z0)
    } else if z1 != 0 {
        8 + low_byte(z1)
    } else if blank(m2) {
        16
    } else {
        SCHEME
    };
    let seen = stop.wrapping_sub(p);
    if seen < n {
        n = seen;
    }
    if n >= SCHEME {
        return ([0; 2], 0);
    }
    let low = if n >= 8 { u64::MAX } else { !(u64::MAX << ((n * 8) & 63)) };
    let high = if n >= 16 {
        u64::MAX
    } else if n > 8 {
        !(u64::MAX << (((n - 8) * 8) & 63))
    } else {
        0
    };
    ([(m0 | CASE) & low, (m1 | CASE) & high], n)
}

/// The bytes of a final word up to its last one that is not blank, and their number.
#[inline(always)]
const fn trimmed(word: u64) -> (u64, u8) {
    let mut used = !blanks(word) & HIGH;
    used |= used >> 8;
    used |= used >> 16;
    used |= used >> 32;
    let n = (used >> 7).wrapping_mul(ONES) >> 56;
    (word & (used >> 7).wrapping_mul(0xff), n as u8)
}

/// Records a credential: sorted by kind, at most [`CREDS`], the lowest kinds win.
#[inline(always)]
fn add<E: Env>(e: &mut Machine<'_, E>, number: u8, fp: u64) {
    let s = e.s();
    if s.cred[0] == 0 {
        s.cred[0] = number;
        s.fp[0] = fp;
        return;
    }
    let full = s.cred[CREDS - 1] != 0;
    if full {
        s.more = 1;
        if s.cred[CREDS - 1] <= number {
            return;
        }
    }
    let mut at = CREDS - 1;
    while at > 0 {
        let before = s.cred[at - 1];
        if before != 0 && before <= number {
            break;
        }
        s.cred[at] = before;
        s.fp[at] = s.fp[at - 1];
        at -= 1;
    }
    s.cred[at] = number;
    s.fp[at] = fp;
}
