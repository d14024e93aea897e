//! What a stream begins with: telling HTTP from everything else by its first bytes.

use super::Env;
use super::state::method;
use super::window::{Machine, le, opaque};

/// What the first bytes of a buffer look like.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Nothing known here.
    No = 0,
    /// A request line, as far as it is visible.
    Request = 1,
    /// A status line, as far as it is visible.
    Response = 2,
    /// A TLS record.
    Tls = 3,
}

/// Most bytes of a method.
pub const METHOD_BYTES: u32 = 24;

/// Token characters (RFC 9110 section 5.6.2), bit `n` for byte `n`.
const TOKEN: [u64; 2] = {
    let mut set = [0u64; 2];
    let mut byte = 0u8;
    while byte < 128 {
        let special = matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        );
        if special || byte.is_ascii_alphanumeric() {
            set[(byte / 64) as usize] |= 1 << (byte % 64);
        }
        byte += 1;
    }
    set
};

/// Whether `byte` is a token character.
#[inline(always)]
pub(super) const fn token(byte: u8) -> bool {
    let set = if byte < 64 { TOKEN[0] } else { TOKEN[1] };
    byte < 128 && set >> (byte & 63) & 1 != 0
}

/// Judges the first `min(n, 8)` bytes of a buffer, given as a little-endian word. A request has a run of token characters
/// (any method, in any case) up to a blank, as far as visible; a lone `H` counts as a request.
#[inline(always)]
pub fn plausible(word: u64, n: u32) -> Start {
    plausible_with(word, n, token_run)
}

/// Whether the `n` (up to 8) bytes of `word` are a run of token characters, up to a blank that is not the first.
#[inline(always)]
pub fn token_run(word: u64, n: u32) -> bool {
    let mut rest = word;
    let mut i = 0;
    while i < 8 {
        let byte = rest as u8;
        if i >= n || (byte == b' ' && i > 0) {
            break;
        }
        if !token(byte) {
            return false;
        }
        rest >>= 8;
        i = opaque(i + 1);
    }
    true
}

/// As [`plausible`], with a function in the place of [`token_run`].
#[inline(always)]
pub fn plausible_with(word: u64, n: u32, run: impl FnOnce(u64, u32) -> bool) -> Start {
    let n = if n > 8 { 8 } else { n };
    // HTTP/2 begins like a request so that servers of HTTP/1 refuse it
    if n == 0 || word == le(b"PRI * HT") {
        return Start::No;
    }
    let first = word as u8;
    if (20..=23).contains(&first) {
        let major = n < 2 || (word >> 8) as u8 == 3;
        let minor = n < 3 || (word >> 16) as u8 <= 4;
        return if major && minor { Start::Tls } else { Start::No };
    }
    let slash = if n < 5 { n } else { 5 };
    let shown = u64::MAX >> (64 - slash * 8);
    if n >= 2 && (word ^ le(b"HTTP/")) & shown == 0 {
        return Start::Response;
    }
    if run(word, n) { Start::Request } else { Start::No }
}

/// The method that a request line with the first eight bytes `w` begins with.
#[inline(always)]
pub(super) const fn method_of(w: u64) -> u8 {
    const fn mask(bytes: u32) -> u64 {
        u64::MAX >> (64 - bytes * 8)
    }
    if w & mask(4) == le(b"GET ") {
        method::GET
    } else if w & mask(5) == le(b"POST ") {
        method::POST
    } else if w & mask(4) == le(b"PUT ") {
        method::PUT
    } else if w & mask(5) == le(b"HEAD ") {
        method::HEAD
    } else if w & mask(7) == le(b"DELETE ") {
        method::DELETE
    } else if w & mask(6) == le(b"PATCH ") {
        method::PATCH
    } else if w == le(b"OPTIONS ") {
        method::OPTIONS
    } else if w == le(b"CONNECT ") {
        method::CONNECT
    } else {
        method::OTHER
    }
}

/// Whether the bytes from `p` to `end` can begin a request line with an unknown method. Ends early on other protocols, so
/// that nothing of them is held back.
#[inline(always)]
pub(super) fn other_method<E: Env>(e: &Machine<'_, E>, p: u32, end: u32) -> bool {
    let mut q = p;
    let mut i = 0;
    while i <= METHOD_BYTES {
        if q >= end {
            return true;
        }
        let byte = e.byte(q);
        q = q.wrapping_add(1);
        if byte == b' ' {
            break;
        }
        if !token(byte) {
            return false;
        }
        i = opaque(i + 1);
    }
    if i == 0 || i > METHOD_BYTES {
        return false;
    }
    if q >= end {
        return true;
    }
    let target = e.byte(q);
    matches!(target, b'/' | b'*' | b':' | b'[') || target.is_ascii_alphanumeric()
}

/// Whether the `n` visible bytes in `w` can begin a status line.
#[inline(always)]
pub(super) const fn status_line(w: u64, n: u32) -> bool {
    let shown = if n >= 7 { u64::MAX >> 8 } else { !(u64::MAX << (n * 8)) };
    (w ^ le(b"HTTP/1.")) & shown == 0
}
