//! What a stream begins with: telling HTTP from everything else by its first bytes.

use super::Env;
use super::state::{flag, method};
use super::window::{le, opaque};

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
    /// HTTP/2, as far as visible.
    Http2 = 4,
}

/// Most bytes of a method where the other end is not known to speak HTTP.
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
    if n == 0 {
        return Start::No;
    }
    // it begins like a request so that servers of HTTP/1 refuse it
    if word == le(b"PRI * HT") {
        return Start::Http2;
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

/// Bytes at the end of a request line in which its version is looked for.
const VERSION_BYTES: u32 = 32;

/// What the end of a request line says.
pub mod odd {
    /// One word only: no server takes it.
    pub const WORD: u32 = 0;
    /// More than one.
    pub const WORDS: u32 = 1;
    /// And one of them begins like a path.
    pub const PATH: u32 = 2;
    /// A version, somewhere at its end: a head follows.
    pub const VERSION: u32 = 4;
}

/// Looks at the last bytes from `p` to `t`, the end of a request line: bits of [`odd`], and from bit 16 on the stream's flags.
#[inline(always)]
pub fn version<E: Env>(env: &E, p: u32, t: u32) -> u32 {
    let n = t.wrapping_sub(p);
    // as RFC 9112 section 3 has it: a blank and the version end the line, which holds more than that
    // SAFETY: `Env::at` is readable for 64 bytes for any offset.
    let v = unsafe { env.at(t.wrapping_sub(8)).cast::<u64>().read_unaligned() };
    // SAFETY: likewise.
    let blank = unsafe { env.at(t.wrapping_sub(9)).read() } == b' ';
    let minor = (v >> 56) as u8 ^ b'0';
    if n >= 9 && t >= p && (v ^ le(b"HTTP/1.")) & (u64::MAX >> 8) == 0 && blank && minor <= 1 {
        return odd::VERSION | if minor == 0 { (flag::V10 as u32) << 16 } else { 0 };
    }
    let mut q = if n > VERSION_BYTES { t.wrapping_sub(VERSION_BYTES) } else { p };
    let mut found = if n > VERSION_BYTES { odd::WORDS } else { odd::WORD };
    found |= ((flag::ODD | flag::V10) as u32) << 16;
    let mut i = 0;
    while i < VERSION_BYTES {
        if q >= t {
            break;
        }
        // SAFETY: `Env::at` is readable for 64 bytes for any offset.
        let w = unsafe { env.at(q).cast::<u64>().read_unaligned() };
        // of HTTP, RTSP and ICE, which share a parser in some servers
        let five = w & 0xff_ffff_ffff;
        if five == le(b"HTTP/") || five == le(b"RTSP/") || w as u32 == le(b"ICE/") as u32 {
            found |= odd::VERSION;
        }
        if w as u16 == le(b" /") as u16 {
            found |= odd::PATH;
        }
        if w as u8 <= b' ' {
            found |= odd::WORDS;
        }
        q = q.wrapping_add(1);
        i = opaque(i + 1);
    }
    found
}

/// What a line with an unknown method begins.
pub mod other {
    /// Another protocol.
    pub const NO: u32 = 0;
    /// A request, as far as visible.
    pub const REQUEST: u32 = 1;
    /// HTTP/2.
    pub const HTTP2: u32 = 2;
}

/// What the bytes from `p` to `end` begin, whose method is not a known one: one of [`other`]. Ends early on other protocols, so that
/// nothing of them is held back.
#[inline(always)]
pub fn other_method<E: Env>(env: &E, p: u32, end: u32) -> u32 {
    // SAFETY: `Env::at` is readable for 64 bytes for any offset.
    let byte = |off: u32| unsafe { env.at(off).read() };
    // SAFETY: likewise.
    let [w, v] = unsafe { env.at(p).cast::<[u64; 2]>().read_unaligned() };
    if w == le(b"PRI * HT") && v & (u64::MAX >> 16) == le(b"TP/2.0") {
        return other::HTTP2;
    }
    let mut q = p;
    let mut i = 0;
    while i <= METHOD_BYTES {
        if q >= end {
            return other::REQUEST;
        }
        let byte = byte(q);
        q = q.wrapping_add(1);
        if byte == b' ' {
            break;
        }
        if !token(byte) {
            return other::NO;
        }
        i = opaque(i + 1);
    }
    if i == 0 || i > METHOD_BYTES {
        return other::NO;
    }
    if q >= end {
        return other::REQUEST;
    }
    let target = byte(q);
    let plausible = matches!(target, b'/' | b'*' | b':' | b'[') || target.is_ascii_alphanumeric();
    if plausible { other::REQUEST } else { other::NO }
}

/// Whether the `n` visible bytes in `w` can begin a status line.
#[inline(always)]
pub(super) const fn status_line(w: u64, n: u32) -> bool {
    let shown = if n >= 7 { u64::MAX >> 8 } else { !(u64::MAX << (n * 8)) };
    (w ^ le(b"HTTP/1.")) & shown == 0
}
