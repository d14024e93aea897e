//! Request heads: the request line and the few headers that mean something to Weir.
//!
//! Framing was already decided by `monitor_common::http1`; this only reads. It is lenient where servers are: bare LF,
//! leading blank lines, obsolete folding, unknown methods, heads that are cut. What cannot be read is left out.

use std::hash::{BuildHasher, Hash as _, Hasher as _};

/// A request line, borrowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestLine<'a> {
    /// Method as sent.
    pub method: &'a [u8],
    /// Target as sent, query included.
    pub target: &'a [u8],
}

/// What a target names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Target<'a> {
    /// Authority of an absolute-form or authority-form target (RFC 9112 section 3.2), else empty.
    pub authority: &'a [u8],
    /// Path without query and fragment; `*` for asterisk-form, empty for authority-form.
    pub path: &'a [u8],
    /// Query without the question mark.
    pub query: &'a [u8],
}

/// Most lines kept of a header that may be repeated.
const REPEATS: usize = 8;

/// The parts of a head that Weir reads. A value may span folded lines, with their line ends inside.
#[derive(Clone, Debug, Default)]
pub struct Head<'a> {
    /// Request line, `None` when there is none.
    pub line: Option<RequestLine<'a>>,
    /// First `Host`.
    pub host: Option<&'a [u8]>,
    /// First `User-Agent`.
    pub user_agent: Option<&'a [u8]>,
    /// `Authorization` lines, the first 8.
    pub authorization: Vec<&'a [u8]>,
    /// `X-Forwarded-For` lines in order, the last 8: the rightmost entries are the trustworthy ones.
    pub forwarded_for: Vec<&'a [u8]>,
    /// `Forwarded` lines in order, the last 8.
    pub forwarded: Vec<&'a [u8]>,
    /// `Cookie` lines, the first 8.
    pub cookies: Vec<&'a [u8]>,
}

/// The headers that Weir reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Known {
    Host,
    UserAgent,
    Authorization,
    ForwardedFor,
    Forwarded,
    Cookie,
}

impl Known {
    fn of(name: &[u8]) -> Option<Self> {
        // the length decides most names without comparing
        let (known, text): (_, &[u8]) = match name.len() {
            4 => (Self::Host, b"host"),
            6 => (Self::Cookie, b"cookie"),
            9 => (Self::Forwarded, b"forwarded"),
            10 => (Self::UserAgent, b"user-agent"),
            13 => (Self::Authorization, b"authorization"),
            15 => (Self::ForwardedFor, b"x-forwarded-for"),
            _ => return None,
        };
        name.eq_ignore_ascii_case(text).then_some(known)
    }
}

/// Reads a whole head, or as much of one as there is.
pub fn head(bytes: &[u8]) -> Head<'_> {
    let mut head = Head::default();
    let (line, rest) = first_line(bytes);
    head.line = request_line(line);
    for (known, value) in known(rest) {
        match known {
            Known::Host => head.host = head.host.or(Some(value)),
            Known::UserAgent => head.user_agent = head.user_agent.or(Some(value)),
            Known::Authorization => keep_first(&mut head.authorization, value),
            Known::ForwardedFor => keep_last(&mut head.forwarded_for, value),
            Known::Forwarded => keep_last(&mut head.forwarded, value),
            Known::Cookie => keep_first(&mut head.cookies, value),
        }
    }
    head
}

/// The lines of a header block that Weir reads, with their values.
fn known(mut block: &[u8]) -> impl Iterator<Item = (Known, &[u8])> {
    std::iter::from_fn(move || {
        loop {
            let (name, value, after) = header(block)?;
            block = after;
            if let Some(known) = Known::of(name) {
                return Some((known, value));
            }
        }
    })
}

/// Hash of everything that [`head`] reads from a header block: blocks with equal hashes mean the same.
pub fn block_hash(bytes: &[u8], hasher: &impl BuildHasher) -> u64 {
    let mut hash = hasher.build_hasher();
    for line in known(first_line(bytes).1) {
        line.hash(&mut hash);
    }
    hash.finish()
}

fn keep_first<'a>(lines: &mut Vec<&'a [u8]>, value: &'a [u8]) {
    if lines.len() < REPEATS {
        lines.push(value);
    }
}

fn keep_last<'a>(lines: &mut Vec<&'a [u8]>, value: &'a [u8]) {
    if lines.len() == REPEATS {
        lines.remove(0);
    }
    lines.push(value);
}

/// The first line that is not empty, without its end, and what follows it.
pub fn first_line(mut bytes: &[u8]) -> (&[u8], &[u8]) {
    while let [b'\r' | b'\n', rest @ ..] = bytes {
        bytes = rest;
    }
    split_line(bytes)
}

/// Splits a request line at its first and last blanks. A line without version (HTTP/0.9) gives its target as well.
pub fn request_line(line: &[u8]) -> Option<RequestLine<'_>> {
    let at = line.iter().position(|byte| is_blank(*byte))?;
    let (method, rest) = line.split_at_checked(at)?;
    let rest = trim(rest);
    let target = match rest.iter().rposition(|byte| is_blank(*byte)).and_then(|at| rest.split_at_checked(at))
    {
        Some((target, version)) if trim(version).starts_with(b"HTTP/") => trim(target),
        _ if rest.starts_with(b"HTTP/") => &[],
        _ => rest,
    };
    (!method.is_empty()).then_some(RequestLine { method, target })
}

/// Splits a target into authority, path and query.
pub fn target<'a>(method: &[u8], target: &'a [u8]) -> Target<'a> {
    let target = split_at_byte(target, b'#').0;
    if target.first() == Some(&b'/') || target == b"*" {
        let (path, query) = split_at_byte(target, b'?');
        return Target { authority: &[], path, query };
    }
    let rest = if method == b"CONNECT" { Some(target) } else { after_scheme(target) };
    let Some(rest) = rest else {
        let (path, query) = split_at_byte(target, b'?');
        return Target { authority: &[], path, query };
    };
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at_checked(end).unwrap_or((rest, &[]));
    // userinfo is a credential: never kept
    let authority = match authority.iter().rposition(|byte| *byte == b'@') {
        Some(at) => authority.get(at + 1..).unwrap_or_default(),
        None => authority,
    };
    if method == b"CONNECT" {
        return Target { authority, path: &[], query: &[] };
    }
    let (path, query) = split_at_byte(rest, b'?');
    Target { authority, path: if path.is_empty() { b"/" } else { path }, query }
}

/// What follows `scheme://` (RFC 3986 section 3.1): a proxy is asked for other schemes than HTTP's, too.
fn after_scheme(target: &[u8]) -> Option<&[u8]> {
    let colon = memchr::memchr(b':', target)?;
    let (scheme, rest) = target.split_at_checked(colon)?;
    let valid = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    if scheme.is_empty() || !scheme.iter().all(valid) { None } else { rest.strip_prefix(b"://") }
}

/// The next header of a block as (name, value, rest), folded lines included in the value; `None` at the block's end.
fn header(mut bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    loop {
        let (line, mut rest) = split_line(bytes);
        if line.is_empty() {
            return None;
        }
        let mut whole = line;
        while matches!(rest.first(), Some(b' ' | b'\t')) {
            let (folded, after) = split_line(rest);
            // both lie in `bytes`, the fold after the line, so the distance is the length of both
            let end = bytes.len() - rest.len() + folded.len();
            whole = bytes.get(..end).unwrap_or(line);
            rest = after;
        }
        if let Some(colon) = memchr::memchr(b':', line) {
            let (name, value) = (whole.get(..colon)?, whole.get(colon + 1..)?);
            return Some((trim(name), trim(value), rest));
        }
        bytes = rest;
    }
}

/// A line without its end (LF or CRLF) and what follows it.
fn split_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (line, rest) = match memchr::memchr(b'\n', bytes) {
        Some(at) => (bytes.get(..at).unwrap_or_default(), bytes.get(at + 1..).unwrap_or_default()),
        None => (bytes, &[][..]),
    };
    (line.strip_suffix(b"\r").unwrap_or(line), rest)
}

/// Splits at the first `byte`, which neither half keeps; the second is empty when there is none.
pub(super) fn split_at_byte(bytes: &[u8], byte: u8) -> (&[u8], &[u8]) {
    match memchr::memchr(byte, bytes) {
        Some(at) => (bytes.get(..at).unwrap_or_default(), bytes.get(at + 1..).unwrap_or_default()),
        None => (bytes, &[]),
    }
}

/// `bytes` without blanks and line ends around them.
pub(super) fn trim(bytes: &[u8]) -> &[u8] {
    bytes.trim_ascii()
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn heads_yield_line_and_named_headers() {
        let found = head(
            b"\r\nPOST /v1/a?x=1 HTTP/1.1\r\nHost: api.test\r\nX-Forwarded-For: 1.1.1.1\r\nx-forwarded-for: 2.2.2.2,\r\n \
              3.3.3.3\r\nno colon here\r\nAUTHORIZATION:  Bearer x \r\nUser-Agent:curl\r\nCookie: a=b\r\n\r\nHost: body",
        );
        assert_eq!(found.line, Some(RequestLine { method: b"POST", target: b"/v1/a?x=1" }));
        assert_eq!(found.host, Some(&b"api.test"[..]));
        assert_eq!(found.forwarded_for, [&b"1.1.1.1"[..], b"2.2.2.2,\r\n 3.3.3.3"]);
        assert_eq!(found.authorization, [&b"Bearer x"[..]]);
        assert_eq!(found.user_agent, Some(&b"curl"[..]));
        assert_eq!(found.cookies, [&b"a=b"[..]]);
    }

    #[test]
    fn lax_lines_are_read() {
        for (line, method, target) in [
            (&b"GET / HTTP/1.1"[..], &b"GET"[..], &b"/"[..]),
            (b"GET   /a b  HTTP/1.0", b"GET", b"/a b"),
            (b"GET /", b"GET", b"/"),
            (b"brew\t/pot\tHTTP/1.1", b"brew", b"/pot"),
            (b"GET HTTP/1.1", b"GET", b""),
        ] {
            assert_eq!(request_line(line), Some(RequestLine { method, target }));
        }
        assert_eq!(request_line(b"nonsense"), None);
        assert_eq!(request_line(b" /x HTTP/1.1"), None);
    }

    #[test]
    fn targets_split_in_all_four_forms() {
        let split = |method: &'static [u8], bytes: &'static [u8]| {
            let found = target(method, bytes);
            (found.authority, found.path, found.query)
        };
        assert_eq!(split(b"GET", b"/a?b=c?d#e"), (&b""[..], &b"/a"[..], &b"b=c?d"[..]));
        assert_eq!(split(b"GET", b"http://u:p@h:8080/a?b"), (&b"h:8080"[..], &b"/a"[..], &b"b"[..]));
        assert_eq!(split(b"GET", b"HTTP://h?b"), (&b"h"[..], &b"/"[..], &b"b"[..]));
        assert_eq!(split(b"CONNECT", b"h:443"), (&b"h:443"[..], &b""[..], &b""[..]));
        assert_eq!(split(b"CONNECT", b"u:p@h:443?q"), (&b"h:443"[..], &b""[..], &b""[..]));
        assert_eq!(split(b"GET", b"ftp://u:p@h/a"), (&b"h"[..], &b"/a"[..], &b""[..]));
        assert_eq!(split(b"GET", b"a:b/c?d"), (&b""[..], &b"a:b/c"[..], &b"d"[..]));
        assert_eq!(split(b"OPTIONS", b"*"), (&b""[..], &b"*"[..], &b""[..]));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let found = head(&bytes);
            if let Some(line) = found.line { target(line.method, line.target); }
        }

        #[test]
        fn header_like_bytes_neither(lines in proptest::collection::vec("(Host|Cookie|X-Forwarded-For|x)?[: \t\r\na-c,]{0,9}", 0..20)) {
            head(lines.join("\n").as_bytes());
        }
    }
}
