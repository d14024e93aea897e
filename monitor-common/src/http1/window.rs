//! The only place of `http1` that touches memory it does not own: loads from the window and access to the state that the
//! caller keeps. Everything else is safe code on top of [`Access`].

use super::state::{Cur, Memo, Shared, Stream};
use super::{Env, Names, SEG};

/// Hides a value from the optimiser (not from the verifier): keeps loops rolled and masks in place.
#[inline(always)]
pub(super) fn opaque(x: u32) -> u32 {
    #[cfg(target_arch = "bpf")]
    {
        let mut y = x;
        // SAFETY: copies a register to itself; touches no memory, stack or flags.
        unsafe { core::arch::asm!("{0} = {0}", inout(reg) y, options(pure, nomem, nostack)) };
        y
    }
    #[cfg(not(target_arch = "bpf"))]
    x
}

/// `i` as an index of an array of `mask + 1` elements. The compiler drops a mask that it can prove to be without effect, but
/// the verifier does not follow such proofs: hidden, the mask stays.
#[inline(always)]
pub(super) fn index(i: u32, mask: u32) -> usize {
    (opaque(i) & mask) as usize
}

pub(super) const ONES: u64 = 0x0101_0101_0101_0101;
pub(super) const HIGH: u64 = 0x8080_8080_8080_8080;
const LF: u64 = 0x0a0a_0a0a_0a0a_0a0a;

/// Marks the zero bytes of `x` in their high bits. The lowest mark is right; marks above it may be false.
#[inline(always)]
pub(super) const fn zeros(x: u64) -> u64 {
    x.wrapping_sub(ONES) & !x & HIGH
}

/// Marks exactly the zero bytes of `x` in their high bits.
#[inline(always)]
pub(super) const fn exact_zeros(x: u64) -> u64 {
    !(((x & !HIGH).wrapping_add(!HIGH)) | x) & HIGH
}

/// Marks exactly the blanks (space, tab) of `w` in their high bits.
#[inline(always)]
pub(super) const fn blanks(w: u64) -> u64 {
    exact_zeros(w ^ (ONES * b' ' as u64)) | exact_zeros(w ^ (ONES * b'\t' as u64))
}

/// Index of the lowest marked byte, without ctz (BPF has none) and without a table.
#[inline(always)]
pub(super) const fn low_byte(marks: u64) -> u32 {
    (((marks & marks.wrapping_neg()) >> 7).wrapping_mul(0x0001_0203_0405_0607) >> 56) as u32
}

#[inline(always)]
pub(super) const fn blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// Up to eight bytes of text as a little-endian word, zero-padded.
pub(super) const fn le(text: &[u8]) -> u64 {
    let mut word = 0;
    let mut at = 0;
    while at < text.len() {
        word |= (text[at] as u64) << (at * 8);
        at += 1;
    }
    word
}

/// Safe access to what an [`Env`] owns. The pointers are asked for once a tick: the kernel side works them out from the
/// direction, and keeps the verifier from knowing it. References to the state live for one statement each.
pub(super) struct Machine<'a, E: Env> {
    pub(super) env: &'a mut E,
    stream: *mut Stream,
    cur: *mut Cur,
    shared: *mut Shared,
    memo: *mut Memo,
    names: *const Names,
    resp: bool,
}

impl<'a, E: Env> Machine<'a, E> {
    #[inline(always)]
    pub(super) fn new(env: &'a mut E) -> Self {
        let (stream, cur, shared) = (env.stream(), env.cur(), env.shared());
        let (memo, names, resp) = (env.memo(), env.names(), env.resp());
        Self { env, stream, cur, shared, memo, names, resp }
    }
    #[inline(always)]
    pub(super) fn resp(&self) -> bool {
        self.resp
    }
    #[inline(always)]
    pub(super) fn s(&mut self) -> &mut Stream {
        // SAFETY: `Env::stream` is valid and nothing else in this crate holds a reference to it, because every reference made
        // here ends before the next call on `self`.
        unsafe { &mut *self.stream }
    }
    /// The other direction's stream.
    #[inline(always)]
    pub(super) fn o(&mut self) -> &mut Stream {
        // SAFETY: as for `s`, by the contract of `Env::other`.
        unsafe { &mut *self.env.other() }
    }
    #[inline(always)]
    pub(super) fn c(&mut self) -> &mut Cur {
        // SAFETY: as for `s`, by the contract of `Env::cur`.
        unsafe { &mut *self.cur }
    }
    #[inline(always)]
    pub(super) fn sh(&mut self) -> &mut Shared {
        // SAFETY: as for `s`, by the contract of `Env::shared`.
        unsafe { &mut *self.shared }
    }
    #[inline(always)]
    pub(super) fn m(&mut self) -> &mut Memo {
        // SAFETY: as for `s`, by the contract of `Env::memo`.
        unsafe { &mut *self.memo }
    }
    #[inline(always)]
    pub(super) fn nm(&self) -> &Names {
        // SAFETY: `Env::names` is valid and nobody writes to it during a call.
        unsafe { &*self.names }
    }
    /// Position and end of the window's data.
    ///
    /// VERIFIER(6.1): "BPF program is too large": loaded afresh (volatile), neither the optimiser nor the verifier knows
    /// anything about the values, so every path that arrives here looks the same and is pruned. Without it the machine needs
    /// more than a million instructions.
    #[inline(always)]
    pub(super) fn span(&mut self) -> (u32, u32) {
        let cur = self.cur;
        // SAFETY: `Env::cur` is valid for reads and aligned.
        unsafe { ((&raw const (*cur).pos).read_volatile(), (&raw const (*cur).end).read_volatile()) }
    }
    /// `x`, about which the verifier knows nothing any more: the paths that made different values of it merge here.
    #[inline(always)]
    pub(super) fn forget(&mut self, x: u32) -> u32 {
        let mark = &raw mut self.c().mark;
        // SAFETY: a field of the cursor, which `Env::cur` keeps valid and aligned.
        unsafe {
            mark.write_volatile(x);
            mark.read_volatile()
        }
    }
    /// Word `I` of the 64 bytes at window offset `off`.
    #[inline(always)]
    pub(super) fn word<const I: usize>(&self, off: u32) -> u64 {
        const { assert!(I < 8) };
        // SAFETY: `Env::at` is readable for 64 bytes for any `off`, and `I < 8`.
        unsafe { self.env.at(off).cast::<u64>().add(I).read_unaligned() }
    }
    #[inline(always)]
    pub(super) fn byte(&self, off: u32) -> u8 {
        // SAFETY: `Env::at` is readable for 64 bytes for any `off`.
        unsafe { self.env.at(off).read() }
    }
    /// Whether the LF at `nl` has a CR in front of it. In front of the window's first byte there is none: a CR is held until
    /// the next byte is there, and what the window has there is of another read.
    #[inline(always)]
    pub(super) fn ends_in_crlf(&self, nl: u32) -> bool {
        nl != 0 && self.byte(nl.wrapping_sub(1)) == b'\r'
    }
    #[inline(always)]
    pub(super) fn words4(&self, off: u32) -> [u64; 4] {
        [self.word::<0>(off), self.word::<1>(off), self.word::<2>(off), self.word::<3>(off)]
    }
    #[inline(always)]
    pub(super) fn words5(&self, off: u32) -> [u64; 5] {
        let [a, b, c, d] = self.words4(off);
        [a, b, c, d, self.word::<4>(off)]
    }
    #[inline(always)]
    pub(super) fn set_byte(&mut self, off: u32, byte: u8) {
        // SAFETY: `Env::at` is writable for 64 bytes for any `off`.
        unsafe { self.env.at(off).write(byte) }
    }
    /// Writes held bytes back to the start of the window.
    #[inline(always)]
    pub(super) fn put(&mut self, words: [u64; 5]) {
        let to = self.env.at(0).cast::<u64>();
        // SAFETY: `Env::at` is writable for 64 bytes, five words are 40.
        unsafe {
            to.write_unaligned(words[0]);
            to.add(1).write_unaligned(words[1]);
            to.add(2).write_unaligned(words[2]);
            to.add(3).write_unaligned(words[3]);
            to.add(4).write_unaligned(words[4]);
        }
    }
}

/// Position of the next LF at or after `p`, or `u32::MAX` when there is none in `SEG` bytes.
#[inline(always)]
pub fn find_lf<E: Env>(env: &E, p: u32) -> u32 {
    let word = |off: u32, i: usize| {
        // SAFETY: `Env::at` is readable for 64 bytes for any `off`, and `i < 4`.
        unsafe { env.at(off).cast::<u64>().add(i).read_unaligned() }
    };
    let mut q = p;
    let mut i = 0;
    while i < SEG / 32 {
        let x0 = word(q, 0) ^ LF;
        let x1 = word(q, 1) ^ LF;
        // cheap test for 16 bytes; also true for bytes >= 0x80, which the exact test below sorts out
        if (x0.wrapping_sub(ONES) | x1.wrapping_sub(ONES)) & HIGH != 0 {
            let t = zeros(x0);
            if t != 0 {
                return q.wrapping_add(low_byte(t));
            }
            let t = zeros(x1);
            if t != 0 {
                return q.wrapping_add(8 + low_byte(t));
            }
        }
        let x0 = word(q, 2) ^ LF;
        let x1 = word(q, 3) ^ LF;
        if (x0.wrapping_sub(ONES) | x1.wrapping_sub(ONES)) & HIGH != 0 {
            let t = zeros(x0);
            if t != 0 {
                return q.wrapping_add(16 + low_byte(t));
            }
            let t = zeros(x1);
            if t != 0 {
                return q.wrapping_add(24 + low_byte(t));
            }
        }
        q = q.wrapping_add(32);
        i = opaque(i + 1);
    }
    u32::MAX
}

/// Most blanks that [`skip_blanks`] and [`trim_blanks`] pass.
pub(super) const BLANKS: u32 = 8;

/// Behind the blanks at `p`, of which at most [`BLANKS`] are passed.
#[inline(always)]
pub fn skip_blanks<E: Env>(env: &E, p: u32) -> u32 {
    let mut q = p;
    let mut i = 0;
    while i < BLANKS {
        // SAFETY: `Env::at` is readable for any offset.
        if !blank(unsafe { env.at(q).read() }) {
            break;
        }
        q = q.wrapping_add(1);
        i = opaque(i + 1);
    }
    q
}

/// In front of the blanks before `stop`, but not in front of `p`; at most [`BLANKS`] are passed.
#[inline(always)]
pub fn trim_blanks<E: Env>(env: &E, p: u32, stop: u32) -> u32 {
    let mut q = stop;
    let mut i = 0;
    while i < BLANKS {
        // SAFETY: `Env::at` is readable for any offset.
        if q <= p || !blank(unsafe { env.at(q.wrapping_sub(1)).read() }) {
            break;
        }
        q = q.wrapping_sub(1);
        i = opaque(i + 1);
    }
    q
}
