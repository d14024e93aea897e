//! Header blocks that repeat: compared with the last one instead of being parsed.

use super::Env;
use super::state::{MEMO, flag};
use super::window::{Machine, index, opaque};

/// Shortest block worth remembering, and the step of the comparison.
const STEP: u32 = 32;
const STEPS: u32 = MEMO as u32 / STEP;

#[inline(always)]
fn equal(a: [u64; 4], b: [u64; 4]) -> bool {
    (a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) == 0
}

/// Is the header block at `h` the one seen last? Then takes over its result.
#[inline(always)]
pub(super) fn recall<E: Env>(e: &mut Machine<'_, E>, h: u32, end: u32) -> bool {
    if e.s().cred[0] != 0 {
        // the start line carried a credential, and a block remembers only its own
        e.c().block_at = u32::MAX;
        return false;
    }
    e.c().block_at = h;
    let len = e.m().len;
    if e.nm().host != 0 && e.m().host == 0 {
        return false; // learned while destinations were not told apart, or it names none
    }
    if len < STEP || len > MEMO as u32 || end.wrapping_sub(h) < len || h > end {
        return false;
    }
    // The end first: it settles the length, and the loop need not mind a remainder.
    if !equal(e.words4(h.wrapping_add(len).wrapping_sub(STEP)), e.m().tail) {
        return false;
    }
    let mut i = 0u32;
    while i < STEPS {
        if i * STEP + STEP > len {
            break;
        }
        let here = e.words4(h.wrapping_add(i * STEP));
        if !equal(here, e.m().bytes[index(i, STEPS - 1)]) {
            return false;
        }
        i = opaque(i + 1);
    }
    e.m().miss = 0;
    e.s().flags |= e.m().flags;
    e.s().remaining = e.m().remaining;
    e.s().fp = e.m().fp;
    e.s().cred = e.m().cred;
    e.s().host = e.m().host;
    e.s().more = e.m().more;
    e.s().same = 1;
    e.c().pos = h.wrapping_add(len);
    true
}

/// Remembers the block that ends at `to`; less and less often when it never comes back.
#[inline(always)]
pub(super) fn learn<E: Env>(e: &mut Machine<'_, E>, to: u32) {
    let h = e.c().block_at;
    e.c().block_at = u32::MAX;
    let f = e.s().flags;
    let len = to.wrapping_sub(h);
    if h == u32::MAX
        || len < STEP
        || len > MEMO as u32
        || f & (flag::BARE_LF | flag::BAD | flag::TRAILER) != 0
    {
        return;
    }
    let n = e.m().miss.wrapping_add(1);
    e.m().miss = n;
    if n > 4 && n & 15 != 0 {
        return;
    }
    let mut i = 0u32;
    while i < STEPS {
        if i * STEP >= len {
            break;
        }
        e.m().bytes[index(i, STEPS - 1)] = e.words4(h.wrapping_add(i * STEP));
        i = opaque(i + 1);
    }
    e.m().tail = e.words4(to.wrapping_sub(STEP));
    e.m().len = len;
    e.m().flags = f & !(flag::V10 | flag::ODD);
    e.m().remaining = e.s().remaining;
    e.m().fp = e.s().fp;
    e.m().cred = e.s().cred;
    e.m().host = e.s().host;
    e.m().more = e.s().more;
}
