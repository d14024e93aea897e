//! Exact, incremental HTTP/1.x framing. The same code runs in the kernel (as the callback of `bpf_loop`), in the daemon's
//! tests and in the fuzzer, so counts equal the server's own.
//!
//! It owns: where messages begin and end, what a head says about its body, and the fingerprints of the credentials in it. It
//! must not copy bodies, allocate, block, or keep bytes of a credential any longer than the next read. What it does not
//! understand it gives up on ([`Env::desync`]); it never guesses a message boundary.
//!
//! # Use
//! The caller owns a window of memory ([`Env::at`]) and the state of the stream. For each read it calls [`begin`], then
//! [`tick`] until that returns true. A tick is a bounded unit of work: at most [`SEG`] bytes of one line, or up to eight
//! uninteresting lines, or one body skip. The window is filled by [`Env::fill`] as the machine asks for bytes, so a read has no
//! limit; bodies are skipped by arithmetic and never copied. What is too short to judge (at most [`HOLD`] bytes) is held in the
//! state and put in front of the next read.
//!
//! # Letters
//! `e` machine, `s` stream, `c` cursor, `p` position, `q` a later one, `end` of the window's data, `nl` next LF, `w` word of eight
//! bytes, `k` kind, `f` flags, `ph` phase, `v` value or hash state, `n` a count.
#![allow(clippy::many_single_char_names, reason = "the letters above, the same everywhere")]
#![allow(
    clippy::cast_ptr_alignment,
    reason = "words are read from any address, always with `read_unaligned`"
)]

mod body;
mod credential;
mod header;
mod line;
mod memo;
mod names;
mod params;
mod start;
mod state;
mod window;

pub use header::name;
pub use line::hex;
pub use names::{CRED_HEADERS, NAME_BYTES, NAME_MIN, NAMES, Name, Names, NamesError, PARAMS, Param};
pub use params::{find_any, param};
pub use start::{
    METHOD_BYTES, Start, odd, other, other_method, plausible, plausible_with, token_run, version,
};
pub use state::{Conn, Cur, MEMO, Memo, Shared, Stream, flag, kind, method, phase};
pub use window::{find_lf, skip_blanks, trim_blanks};

use header::{Pass, header};
use window::{Machine, opaque};

/// Bytes of data that the window holds; offsets are masked with `WIN - 1`.
pub const WIN: usize = 4096;
/// Bytes behind the window: 64 are read by the machine, the rest lets a record of [`window_bytes`] be sent from
/// any offset.
pub const SLACK: usize = 4096 + 64;
/// Bytes of scratch in front of the window, for the fixed part of a record that carries bytes of the window.
pub const PRE: usize = 128;
/// Bytes of one line looked at in one tick.
pub const SEG: u32 = 256;
/// Most bytes kept back between two reads: a header name of 31 bytes with its colon, and a word.
pub const HOLD: u32 = 40;
/// Bytes kept back inside a value: up to 8 trailing blanks or CR, and an incomplete word.
pub const TAIL: u32 = 16;
/// Most bytes of data copied into the window at a time: behind at most [`HOLD`] bytes and in front of the sentinel.
pub const FILL: u32 = WIN as u32 - 64;
/// Most bytes of a head that are handed to [`Env::part`]. A longer one is framed all the same: it needs no memory.
pub const HEAD_MAX: u32 = 256 * 1024;
/// Passes over header lines in one tick: one more for each line that matters.
const ROUNDS: u32 = 3;

/// `Cur::event`: a head is complete.
const HEAD: u32 = 1;
/// `Cur::event`: a message is complete.
const END: u32 = 2;
/// `Cur::event`: framing was lost.
const LOST: u32 = 4;
/// `Cur::event`: and that is because bytes could not be read.
const UNREAD: u32 = 8;

const _: () = assert!(HOLD < 64 && TAIL + 7 < 24 && HOLD as usize + (FILL as usize) < WIN);

/// What the machine runs on: window, state, and what to do with its findings.
///
/// # Safety
/// * [`Env::at`] is valid for reads and writes of 64 bytes for any offset, in memory that nothing refers to.
/// * The pointers are valid, aligned and stay the same between [`begin`] and the last [`tick`]; those of one `Env` do not
///   overlap each other or the window. Other threads may write to the same state (the kernel cannot prevent it); any value in
///   it is safe, though the framing of that connection may then be lost.
/// * Nobody writes to [`Env::names`] during a call.
///
/// VERIFIER(6.18): "BPF program is too large": the kernel side must read the direction once per callback and derive the
/// pointers and [`Env::resp`] from that one value. Reading it anew for each (2026-11: 950,000 instructions instead of 340,000)
/// makes paths for combinations that do not exist. [`tick`] asks for each pointer once.
pub unsafe trait Env {
    /// Direction: false for requests, true for responses.
    fn resp(&self) -> bool;
    /// Pointer to window byte `off & (WIN - 1)`.
    fn at(&self, off: u32) -> *mut u8;
    /// The cursor. It lives in memory on purpose: the verifier then forgets its bounds.
    fn cur(&self) -> *mut Cur;
    /// The stream that is read.
    fn stream(&self) -> *mut Stream;
    /// The other direction's stream.
    fn other(&self) -> *mut Stream;
    /// What both directions share.
    fn shared(&self) -> *mut Shared;
    /// The names of this direction.
    fn names(&self) -> *const Names;
    /// The memo of this direction.
    fn memo(&self) -> *mut Memo;
    /// Copies `n` (1..=[`FILL`]) bytes from `src` to window offset `to` (< 64). False if they cannot be read.
    fn fill(&mut self, to: u32, src: u64, n: u32) -> bool;
    /// A head is complete. `Cur::head_at` is the window offset of its first byte that was not handed to [`Env::part`] and
    /// `Cur::pos` the offset behind it; [`Stream`] says the rest. The message's number is `Shared::req_seq` or `resp_seq`, which
    /// is counted up after this call (not for interim responses).
    fn head(&mut self);
    /// Bytes `from..to` of the window belong to a request's head that is not complete and will not be seen again.
    /// `Stream::shipped` is their offset in the head.
    fn part(&mut self, from: u32, to: u32);
    /// A message is complete, body included; its number is one below the counter. Never called for interim responses. (Also where
    /// what the PROXY protocol puts in front of the first request ends.)
    fn end(&mut self);
    /// Framing was lost: the stream stays opaque.
    fn desync(&mut self);
    /// Runs a [`piece`] of a tick. The methods from here on run in place; the kernel side calls functions of its own instead,
    /// which the verifier checks once, whatever state they are called in.
    #[inline(always)]
    fn piece<const PIECE: u32>(&mut self) -> bool
    where
        Self: Sized,
    {
        run_piece::<Self, PIECE>(self)
    }
    /// [`find_lf`].
    #[inline(always)]
    fn find_lf(&self, p: u32) -> u32
    where
        Self: Sized,
    {
        find_lf(self, p)
    }
    /// [`find_any`].
    #[inline(always)]
    fn find_any(&self, p: u32, bytes: u32) -> u32
    where
        Self: Sized,
    {
        find_any(self, p, bytes)
    }
    /// [`skip_blanks`].
    #[inline(always)]
    fn skip_blanks(&self, p: u32) -> u32
    where
        Self: Sized,
    {
        skip_blanks(self, p)
    }
    /// [`trim_blanks`].
    #[inline(always)]
    fn trim_blanks(&self, p: u32, stop: u32) -> u32
    where
        Self: Sized,
    {
        trim_blanks(self, p, stop)
    }
    /// [`version`].
    #[inline(always)]
    fn version(&self, p: u32, t: u32) -> u32
    where
        Self: Sized,
    {
        version(self, p, t)
    }
    /// [`other_method`].
    #[inline(always)]
    fn other_method(&self, p: u32, end: u32) -> u32
    where
        Self: Sized,
    {
        other_method(self, p, end)
    }
    /// [`hex`].
    #[inline(always)]
    fn hex(&self, p: u32) -> u64
    where
        Self: Sized,
    {
        hex(self, p)
    }
    /// [`name`].
    #[inline(always)]
    fn name(&self, p: u32, candidate: u32) -> u32
    where
        Self: Sized,
    {
        name(self, p, candidate)
    }
    /// [`param`].
    #[inline(always)]
    fn param(&self, p: u32, first: u32) -> u32
    where
        Self: Sized,
    {
        param(self, p, first)
    }
}

/// Pieces of a tick: what they hand to each other is in [`Cur`] and [`Stream`].
pub mod piece {
    /// A line that is no header line at its beginning.
    pub const LINE: u32 = 0;
    /// Header lines.
    pub const HEADERS: u32 = 1;
    /// Query keys and cookies.
    pub const PARAMS: u32 = 2;
    /// The next bytes of a credential.
    pub const CREDENTIAL: u32 = 3;
    /// The window is used up.
    pub const REFILL: u32 = 4;
    /// Words of a credential, hashed.
    pub const ABSORB: u32 = 5;
    /// Whether this header block is the direction's last one.
    pub const RECALL: u32 = 6;
    /// The scheme of an `Authorization`.
    pub const SCHEME: u32 = 7;
    /// A request line without a version.
    pub const BARE: u32 = 8;
    /// What stands in front of a start line.
    pub const FRONT: u32 = 9;
}

/// Runs a [`piece`]; what it returns is its own.
#[inline(always)]
pub fn run_piece<E: Env, const PIECE: u32>(env: &mut E) -> bool {
    let e = &mut Machine::new(env);
    let (p, end) = e.span();
    match PIECE {
        piece::LINE => {
            let ph = e.s().phase;
            line::line(e, ph, p, end)
        }
        piece::HEADERS => header(e, p, end) == Pass::Again,
        piece::PARAMS => {
            let ph = e.s().phase;
            params::params(e, ph, p, end)
        }
        piece::CREDENTIAL => {
            let k = e.s().kind;
            let nl = e.env.find_lf(p);
            let nl = e.forget(nl);
            credential::credential(e, k, p, nl, end)
        }
        piece::ABSORB => credential::words(e),
        piece::RECALL => memo::recall(e, p, end),
        piece::SCHEME => credential::scheme(e),
        piece::BARE => line::bare(e, p),
        piece::FRONT => line::front(e, p, end),
        _ => more(e, p),
    }
}

/// At most [`FILL`], with a bound on the very register that is used.
///
/// VERIFIER(6.1): "R2 unbounded memory access": 6.1 does not link `w6 = w8; if w8 < N`.
#[inline(always)]
pub fn clamp(n: u32) -> u32 {
    opaque(if n > FILL { FILL } else { n }) & (WIN as u32 - 1)
}

/// At most `WIN - 1`, bounded as by [`clamp`]: bytes of the window that a record carries. Held bytes in front of a full window
/// make a head longer than [`FILL`].
#[inline(always)]
pub fn window_bytes(n: u32) -> u32 {
    opaque(if n > WIN as u32 - 1 { WIN as u32 - 1 } else { n }) & (WIN as u32 - 1)
}

/// Call before the first tick of a read of `len` bytes at `user`.
#[inline(always)]
pub fn begin<E: Env>(env: &mut E, user: u64, len: u32) {
    let e = &mut Machine::new(env);
    let head_at = if e.s().open != 0 { 0 } else { u32::MAX };
    let held = e.s().carry as u32;
    // not all of it: what is only handed from one piece to another is written first
    let c = e.c();
    c.pos = 0;
    c.end = held;
    c.left = len;
    c.head_at = head_at;
    c.user = user;
    c.need = 0;
    c.block_at = u32::MAX;
    c.event = 0;
    if held != 0 {
        let a = e.s().area;
        // inside a credential the first words are the state of the hash
        let hashing = e.s().phase == phase::VALUE && kind::credential(e.s().kind);
        e.put(if hashing { [a[4], a[5], a[6], 0, 0] } else { [a[0], a[1], a[2], a[3], a[4]] });
        e.s().carry = 0;
    }
    if !e.resp() && e.sh().opaque != 0 {
        e.s().phase = phase::OPAQUE;
        e.s().open = 0;
    }
}

/// Advances by one bounded unit. True: everything that can be consumed is consumed.
#[inline(always)]
pub fn tick<E: Env>(env: &mut E) -> bool {
    let e = &mut Machine::new(env);
    let done = step(e);
    let mut event = e.c().event;
    if event == 0 {
        return done;
    }
    // One place for each report, so that the caller's code is there once.
    e.c().event = 0;
    if event & HEAD != 0 {
        let head = e.c().pos.wrapping_sub(e.c().head_at);
        e.s().head = e.s().shipped.wrapping_add(head);
        e.env.head();
        e.s().open = 0;
        e.c().head_at = u32::MAX;
        event |= body::decide(e);
    }
    if event & END != 0 {
        e.env.end();
    }
    if event & LOST != 0 {
        lose(e, event & UNREAD != 0);
        return true;
    }
    let (p, end) = e.span();
    done || (p >= end && e.c().left == 0)
}

/// Gives a stream up: framing was lost, perhaps because bytes were not seen.
#[inline(always)]
fn lose<E: Env>(e: &mut Machine<'_, E>, unread: bool) {
    let s = e.s();
    s.phase = phase::OPAQUE;
    s.flags |= if unread { flag::DESYNC | flag::CUT } else { flag::DESYNC };
    s.carry = 0;
    s.open = 0;
    e.env.desync();
}

#[inline(always)]
fn step<E: Env>(e: &mut Machine<'_, E>) -> bool {
    let ph = e.s().phase;
    if ph >= phase::BODY {
        let (p, end) = e.span();
        return body::consume(e, ph, p, end);
    }
    if (e.c().need != 0 || e.c().pos >= e.c().end) && e.env.piece::<{ piece::REFILL }>() {
        return true;
    }
    if ph == phase::QUERY || ph == phase::COOKIE {
        return e.env.piece::<{ piece::PARAMS }>();
    }
    if ph != phase::HEADER && (ph != phase::VALUE || !kind::credential(e.s().kind)) {
        if e.env.piece::<{ piece::LINE }>() {
            return true;
        }
        if e.s().phase != phase::HEADER || e.c().event != 0 || e.c().pos >= e.c().end {
            return false;
        }
    }
    if e.s().phase == phase::HEADER {
        let mut round = 0;
        while e.env.piece::<{ piece::HEADERS }>() {
            round = opaque(round + 1);
            if round >= ROUNDS {
                return false;
            }
        }
        if e.s().phase != phase::VALUE || e.c().need != 0 {
            return false;
        }
    }
    kind::credential(e.s().kind) && e.env.piece::<{ piece::CREDENTIAL }>()
}

/// The rest of the window is not enough.
#[inline(always)]
fn need<E: Env>(e: &mut Machine<'_, E>) -> bool {
    e.c().need = 1;
    false
}

/// Framing is lost.
#[inline(always)]
fn fail<E: Env>(e: &mut Machine<'_, E>) -> bool {
    e.c().event = LOST;
    true
}

/// More bytes are needed than those from `p` on: refills the window, or holds the rest until the next read (true: done).
#[inline(always)]
fn more<E: Env>(e: &mut Machine<'_, E>, p: u32) -> bool {
    let keep = e.c().end.wrapping_sub(p);
    e.c().need = 0;
    if keep > HOLD {
        return fail(e);
    }
    let at = e.c().head_at;
    if at != u32::MAX {
        // a head in progress leaves the window
        let n = p.wrapping_sub(at);
        if n != 0 && n <= WIN as u32 {
            let shipped = e.s().shipped;
            if !e.resp() && shipped < HEAD_MAX {
                e.env.part(at, p);
            }
            e.s().shipped = shipped.saturating_add(n);
        }
        e.c().head_at = 0;
    }
    let held = e.words5(p);
    let left = e.c().left;
    if left == 0 {
        let hashing = e.s().phase == phase::VALUE && kind::credential(e.s().kind);
        let s = e.s();
        s.carry = keep as u8;
        if hashing {
            [s.area[4], s.area[5], s.area[6]] = [held[0], held[1], held[2]];
        } else {
            [s.area[0], s.area[1], s.area[2], s.area[3], s.area[4]] = held;
        }
        return true;
    }
    if keep != 0 {
        e.put(held);
    }
    let n = clamp(left);
    let user = e.c().user;
    if !e.env.fill(keep, user, n) {
        e.c().event = LOST | UNREAD;
        return true;
    }
    let end = keep.wrapping_add(n);
    let c = e.c();
    c.user = user.wrapping_add(n as u64);
    c.left = left.wrapping_sub(n);
    c.pos = 0;
    c.end = end;
    c.block_at = u32::MAX;
    e.set_byte(end, b'\n'); // sentinel: every search ends here
    false
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eof {
    /// Between messages, or nothing was understood.
    Idle,
    /// A message that ends with the connection is complete; [`Env::end`] was called.
    Closed,
    /// In the middle of a message: of its head if `Stream::open`, else of its body.
    Cut,
}

/// The connection ended. A second call returns [`Eof::Idle`].
#[inline(always)]
pub fn eof<E: Env>(env: &mut E) -> Eof {
    let e = &mut Machine::new(env);
    let (ph, open) = (e.s().phase, e.s().open);
    e.s().phase = phase::OPAQUE;
    // a body of nothing: the end that `body::decide` left to the next read
    if ph == phase::CLOSE || (ph == phase::BODY && e.s().remaining == 0) {
        e.env.end();
        return Eof::Closed;
    }
    if ph == phase::OPAQUE || (ph == phase::START && open == 0) {
        return Eof::Idle;
    }
    e.s().flags |= flag::CUT;
    Eof::Cut
}

/// `n` bytes of the stream went by unseen (`sendfile`, `splice`, a fault). Inside a body that is arithmetic; several chunks at
/// once, or a head, cannot be skipped.
#[inline(always)]
pub fn skip<E: Env>(env: &mut E, n: u64) {
    let e = &mut Machine::new(env);
    let ph = e.s().phase;
    if n == 0 || ph >= phase::OPAQUE {
        return;
    }
    if ph == phase::CLOSE {
        e.s().body = e.s().body.wrapping_add(n);
        return;
    }
    let r = e.s().remaining;
    if ph < phase::BODY || n > r {
        lose(e, true);
        return;
    }
    e.s().body = e.s().body.wrapping_add(n);
    e.s().remaining = r - n;
    if r == n && body::ended(e, ph) & END != 0 {
        e.env.end();
    }
}
