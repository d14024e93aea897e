//! The path of a request target in every reading that a server could have of it: what access levels and routes are compared with.
//!
//! Servers differ: one resolves `..`, one decodes `%2e` first, one takes `\` for `/`, one hands on what it got. So a target is read
//! twice, byte by byte, in one go:
//!
//! * *raw*: as sent, without scheme and authority of the absolute form;
//! * *normal*: percent-decoded once, `\` taken for `/`, empty segments and `.` dropped, parameters (`;v=1`) left out.
//!
//! A target with a `..`, however it is written, is [`flag::ODD`]: clients resolve it before they send (RFC 3986, 5.2.4), and what
//! it takes back depends on what a server takes for a segment. `/v1/x%2Fy/../../admin` is `/v1/admin` to one and `/admin` to
//! another; so is it with `\`, and with an empty segment for the one that counts it.
//!
//! An access level grants a request only if **both** readings fall under its prefix and nothing about the target is [`flag::ODD`];
//! so no spelling widens access, and `/v1/projects/a%2Fb` still is under `/v1/`. A cap with a route applies if **either** reading,
//! in lower case, falls under the route, or the target is odd; so no spelling escapes it. A path is exempt only if both do.
//!
//! Prefixes know segments, see [`is_under`]. So that the longest match in the trie knows them, too, a reading ends with [`END`], and a
//! prefix stands in the trie with each of its [`ends`].
//!
//! Only the first [`PATH`] bytes of a reading are kept, and only the first [`LINE`] bytes of a request line are looked at. State is
//! integers and arrays, with masked indices: [`Path::step`] runs in the kernel.

use crate::cap::{PATH, PathValue};

/// Bytes of a request line that are looked at. A path that does not end there is odd.
pub const LINE: u32 = 512;
/// Mask, which the verifier must see on the register that is used.
const PATH_MASK: u32 = PATH as u32 - 1;
const _: () = assert!(PATH.is_power_of_two());

/// Byte behind a path that has ended: no path has it (encoded it is odd).
pub const END: u8 = 0;

/// Whether a path falls under a prefix: `/v1` is `/v1` and what is below it, not `/v1x`; `/v1/` is what is below it only.
pub fn is_under(path: &[u8], prefix: &[u8]) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| prefix.ends_with(b"/") || matches!(rest.first(), None | Some(b'/')))
}

/// What stands behind a prefix in the trie, once with each: a reading falls under the prefix if it begins with one of them.
pub fn ends(prefix: &[u8]) -> &'static [&'static [u8]] {
    if prefix.ends_with(b"/") { &[b""] } else { &[&[END], b"/"] }
}

/// What was noticed.
pub mod flag {
    /// Servers may read it differently: no access level grants it, and every route applies.
    pub const ODD: u32 = 1;
    /// The target has ended.
    pub const DONE: u32 = 2;
}

/// Where the reader is.
mod at {
    pub const METHOD: u32 = 0;
    pub const TARGET: u32 = 1;
    /// In a scheme, if it is one.
    pub const SCHEME: u32 = 2;
    /// In `://` and the authority: slashes seen.
    pub const SLASH: u32 = 3;
    pub const AUTHORITY: u32 = 4;
    pub const PATH: u32 = 5;
    pub const END: u32 = 6;
}

/// What the current segment is so far.
mod segment {
    pub const EMPTY: u32 = 0;
    pub const DOT: u32 = 1;
    pub const DOTS: u32 = 2;
    pub const OTHER: u32 = 3;
    /// Its parameters, which are no part of the normal reading.
    pub const PARAMETERS: u32 = 4;
}

/// The beginning of a reading: a key of the path trie.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Bits that count, as in `cap::PathKey`.
    pub bits: u32,
    /// As in `cap::PathKey`.
    pub space: [u8; 4],
    /// The bytes.
    pub bytes: [u8; PATH],
}

/// A target that is being read. All zero bytes, lengths apart, are a reader before its first byte: see [`Path::begin`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    at: u32,
    /// [`flag`]s.
    pub flags: u32,
    /// Bytes of the raw reading.
    pub raw_len: u32,
    /// Bytes of the normal reading.
    pub normal_len: u32,
    /// Digits of an escape that are still to come, and the first of them.
    escape: u32,
    high: u32,
    segment: u32,
    /// Where the current segment begins in the normal reading.
    begins: u32,
    /// As sent.
    pub raw: Reading,
    /// As most servers understand it.
    pub normal: Reading,
    /// Both in lower case.
    pub raw_lower: Reading,
    /// As [`Path::raw_lower`].
    pub normal_lower: Reading,
}

const EMPTY: Reading = Reading { bits: 0, space: [0; 4], bytes: [0; PATH] };

impl Path {
    /// Before the first byte.
    pub const NEW: Self = Self {
        at: 0,
        flags: 0,
        raw_len: 0,
        normal_len: 0,
        escape: 0,
        high: 0,
        segment: 0,
        begins: 0,
        raw: EMPTY,
        normal: EMPTY,
        raw_lower: EMPTY,
        normal_lower: EMPTY,
    };

    /// Begins anew; bytes of earlier targets stay where no length reaches.
    #[inline(always)]
    pub fn begin(&mut self) {
        self.at = at::METHOD;
        self.flags = 0;
        self.raw_len = 0;
        self.normal_len = 0;
        self.escape = 0;
        self.segment = segment::EMPTY;
        self.begins = 0;
    }

    /// Reads a whole request line.
    pub fn of_line(line: &[u8]) -> Self {
        let mut path = Self::NEW;
        for byte in line.iter().take(LINE as usize) {
            if path.flags & flag::DONE != 0 {
                break;
            }
            path.step(*byte);
        }
        path.finish();
        path
    }

    /// Takes one byte of a request line, from its first one on, until [`flag::DONE`] is set.
    #[inline(always)]
    pub fn step(&mut self, byte: u8) {
        let ends = byte <= b' ' || byte == 0x7f;
        match self.at {
            at::METHOD => {
                if byte == b' ' {
                    self.at = at::TARGET;
                }
                return;
            }
            at::TARGET => {
                if byte == b'/' {
                    self.at = at::PATH;
                    self.root();
                    return;
                }
                self.at = at::SCHEME;
                if !byte.is_ascii_alphabetic() {
                    self.flags |= flag::ODD; // `*`, an authority, or nothing known
                }
            }
            at::SCHEME => {
                if byte == b':' {
                    self.at = at::SLASH;
                    self.high = 0;
                    return;
                }
            }
            at::SLASH => {
                if byte == b'/' && self.high < 1 {
                    self.high += 1;
                    return;
                }
                if byte == b'/' {
                    self.at = at::AUTHORITY;
                    self.high = 0;
                    return;
                }
                self.flags |= flag::ODD; // the authority of CONNECT, or another scheme's
                self.at = at::SCHEME;
            }
            at::AUTHORITY => {
                if byte == b'/' {
                    self.at = at::PATH;
                    if self.high == 0 {
                        self.flags |= flag::ODD; // an empty authority: to some the host comes next
                    }
                    self.root();
                    return;
                }
                if byte == b'\\' || byte == b'@' {
                    self.flags |= flag::ODD; // where the authority ends is in dispute
                }
                self.high = 1;
            }
            at::PATH => {
                if !ends && byte != b'?' && byte != b'#' {
                    self.path(byte);
                    return;
                }
            }
            _ => return,
        }
        if ends || byte == b'?' || byte == b'#' {
            // a fragment is never sent, and some take `#` for a byte of the path
            if byte == b'#' || ends && byte != b' ' && byte != b'\r' && byte != b'\n' {
                self.flags |= flag::ODD;
            }
            self.end();
        }
    }

    /// The line ends, or what is looked at of it.
    #[inline(always)]
    pub fn finish(&mut self) {
        if self.flags & flag::DONE == 0 {
            self.flags |= flag::ODD; // the end of the target was not seen
            self.end();
        }
    }

    /// Length of the raw reading with its [`END`], as far as they are kept, in bits.
    #[inline(always)]
    pub fn raw_bits(&self) -> u32 {
        8 * if self.raw_len >= PATH as u32 { PATH as u32 } else { self.raw_len + 1 }
    }

    /// The same of the normal reading.
    #[inline(always)]
    pub fn normal_bits(&self) -> u32 {
        8 * if self.normal_len >= PATH as u32 { PATH as u32 } else { self.normal_len + 1 }
    }

    /// The target ends: the last segment is resolved.
    #[inline(always)]
    fn end(&mut self) {
        if self.at != at::PATH {
            // the absolute form without a path means the root
            if self.at != at::AUTHORITY {
                self.flags |= flag::ODD;
            }
            self.root();
        }
        if self.escape != 0 {
            self.flags |= flag::ODD;
        }
        self.resolve();
        let (raw, normal) = (self.raw_len, self.normal_len);
        self.put_raw(END);
        self.put(END);
        (self.raw_len, self.normal_len) = (raw, normal);
        self.at = at::END;
        self.flags |= flag::DONE;
    }

    /// The first slash.
    #[inline(always)]
    fn root(&mut self) {
        self.put_raw(b'/');
        self.put(b'/');
        self.begins = 1;
    }

    /// A byte of the path.
    #[inline(always)]
    fn path(&mut self, byte: u8) {
        if self.raw_len == 1 && (byte == b'/' || byte == b'\\') {
            self.flags |= flag::ODD; // `//host/path` is a reference without a scheme to those who parse it as a URL
        }
        self.put_raw(byte);
        if self.escape == 0 {
            if byte == b'%' {
                self.escape = 2;
                return;
            }
            self.normal(byte, false);
            return;
        }
        let letter = (byte | 0x20).wrapping_sub(b'a');
        let digit = if byte.wrapping_sub(b'0') < 10 {
            byte.wrapping_sub(b'0')
        } else if letter < 6 {
            letter + 10
        } else {
            self.flags |= flag::ODD;
            0
        };
        self.escape -= 1;
        if self.escape != 0 {
            self.high = digit as u32;
            return;
        }
        let byte = (self.high << 4) as u8 | digit;
        // an escape that decodes to an escape, or to a control byte
        if byte == b'%' || byte < b' ' || byte == 0x7f {
            self.flags |= flag::ODD;
        }
        self.normal(byte, true);
    }

    /// A byte of the normal reading, decoded.
    #[inline(always)]
    fn normal(&mut self, byte: u8, encoded: bool) {
        if byte == 0xc0 || byte == 0xc1 || byte >= 0xf5 {
            self.flags |= flag::ODD; // never valid UTF-8, `.` and `/` in disguise to careless decoders
        }
        if byte == b'/' || byte == b'\\' {
            if self.segment == segment::PARAMETERS && (encoded || byte == b'\\') {
                self.flags |= flag::ODD; // to some it is one of the parameters
            }
            self.resolve();
            if self.normal_len != self.begins {
                self.put(b'/');
                self.begins = self.normal_len;
            }
            self.segment = segment::EMPTY;
            return;
        }
        if self.segment == segment::PARAMETERS {
            return;
        }
        if byte == b';' {
            if self.segment == segment::DOT || self.segment == segment::DOTS {
                self.flags |= flag::ODD; // `..;` is `..` to some
            }
            self.segment = segment::PARAMETERS;
            return;
        }
        self.segment = match (self.segment, byte) {
            (segment::EMPTY, b'.') => segment::DOT,
            (segment::DOT, b'.') => segment::DOTS,
            _ => segment::OTHER,
        };
        self.put(byte);
    }

    /// A segment ends: `.` is dropped, `..` is not for us to resolve.
    #[inline(always)]
    fn resolve(&mut self) {
        if self.segment == segment::DOTS {
            self.flags |= flag::ODD;
        }
        if self.segment == segment::DOT {
            self.normal_len = self.begins;
        }
    }

    #[inline(always)]
    fn put_raw(&mut self, byte: u8) {
        let n = self.raw_len;
        if n < PATH as u32 {
            self.raw.bytes[(n & PATH_MASK) as usize] = byte;
            self.raw_lower.bytes[(n & PATH_MASK) as usize] = lower(byte);
        }
        self.raw_len = n + 1;
    }

    #[inline(always)]
    fn put(&mut self, byte: u8) {
        let n = self.normal_len;
        if n >= PATH as u32 {
            return; // it is compared by its beginning
        }
        self.normal.bytes[(n & PATH_MASK) as usize] = byte;
        self.normal_lower.bytes[(n & PATH_MASK) as usize] = lower(byte);
        self.normal_len = n + 1;
    }
}

#[inline(always)]
const fn lower(byte: u8) -> u8 {
    if byte.wrapping_sub(b'A') < 26 { byte | 0x20 } else { byte }
}

/// Whether an access level grants `method`, given the methods that it grants for both readings.
#[inline(always)]
pub const fn grants(raw: PathValue, normal: PathValue, flags: u32, method: u8) -> bool {
    flags & flag::ODD == 0 && (raw & normal) >> (method & 63) & 1 != 0
}

/// Bits of the routes that a target falls under, given those of both readings.
#[inline(always)]
pub const fn routes(raw: PathValue, normal: PathValue, flags: u32) -> PathValue {
    if flags & flag::ODD != 0 { PathValue::MAX } else { raw | normal }
}

/// Whether a target is exempt, given whether both readings are.
#[inline(always)]
pub const fn exempt(raw: bool, normal: bool, flags: u32) -> bool {
    raw && normal && flags & flag::ODD == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(target: &str) -> (String, String, bool) {
        let path = Path::of_line(format!("GET {target} HTTP/1.1\r\n").as_bytes());
        let text = |reading: &Reading, len: u32| {
            String::from_utf8_lossy(&reading.bytes[..(len as usize).min(PATH)]).into_owned()
        };
        let odd = path.flags & flag::ODD != 0;
        (text(&path.raw, path.raw_len), text(&path.normal, path.normal_len), odd)
    }

    /// Both readings of what no server reads differently.
    fn plain(target: &str) -> (String, String) {
        let (raw, normal, odd) = read(target);
        assert!(!odd, "{target} is not odd");
        (raw, normal)
    }

    #[test]
    fn ordinary_targets() {
        for (target, raw, normal) in [
            ("/", "/", "/"),
            ("/v1/users", "/v1/users", "/v1/users"),
            ("/v1/users/?a=/../b", "/v1/users/", "/v1/users/"),
            ("/v1/a%2Fb", "/v1/a%2Fb", "/v1/a/b"),
            ("/v1/%41b%20c", "/v1/%41b%20c", "/v1/Ab c"),
            ("http://host:80/v1/x", "/v1/x", "/v1/x"),
            ("HTTPS://host", "/", "/"),
            ("http://host?x", "/", "/"),
            ("/a/./b//c/d", "/a/./b//c/d", "/a/b/c/d"),
            ("/a/b/.", "/a/b/.", "/a/b/"),
            ("/a\\b", "/a\\b", "/a/b"),
            ("/...", "/...", "/..."),
            ("/.well-known/x", "/.well-known/x", "/.well-known/x"),
            ("/caf\u{e9}", "/caf\u{e9}", "/caf\u{e9}"),
            ("/x;v=1/y", "/x;v=1/y", "/x/y"),
            ("/x%3Bv/y;a.b", "/x%3Bv/y;a.b", "/x/y"),
            ("/;a/x", "/;a/x", "/x"),
        ] {
            assert_eq!(plain(target), (raw.to_owned(), normal.to_owned()), "{target}");
        }
    }

    #[test]
    fn what_servers_read_differently_is_odd() {
        for target in [
            "*",
            "host:443",
            "/%",
            "/%4",
            "/%zz",
            "/%00",
            "/%0d",
            "/a%252e",
            "/..",
            "/../a",
            "/a/../../b",
            "/..;/a",
            "/.;/a",
            "/%2e%2e;x/a",
            "/..%3bx/a",
            "/;a%2Fx/v1",
            "ftp:x",
            "v1/x",
            "/%c0%ae%c0%ae/a",
            "mailto:a@b",
            "/a\u{1}b",
            "/a\u{7f}b",
            "",
            "/a/../b",
            "/a/b/..",
            "/a%2fb/../c",
            "/a\\b/../c",
            "/a//../c",
            "/a#/b",
            "//h/a",
            "/\\h/a",
            "http:///a",
            "http://h\\@x/a",
            "http://u@h/a",
        ] {
            let (raw, normal, odd) = read(target);
            assert!(odd, "{target}: {raw} {normal}");
        }
        assert!(Path::of_line(b"GET /\xc0\xae/a HTTP/1.1\r\n").flags & flag::ODD != 0, "overlong, as it is");
        let long = format!("/v1/{}/../../admin", "x".repeat(200));
        assert!(read(&long).2, "a `..` beyond what is kept");
        let endless = format!("/v1/{}", "x".repeat(600));
        assert!(read(&endless).2, "the end is not seen");
        let deep = "/a".repeat(20);
        assert_eq!(plain(&deep).1, deep);
    }

    /// Whether the trie finds a prefix for a reading.
    fn finds(reading: &Reading, bits: u32, prefix: &[u8]) -> bool {
        let kept = &reading.bytes[..bits as usize / 8];
        ends(prefix).iter().any(|end| kept.starts_with(&[prefix, end].concat()))
    }

    #[test]
    fn prefixes_know_segments() {
        for (path, prefix, under) in [
            ("/health", "/health", true),
            ("/health/", "/health", true),
            ("/health/x", "/health", true),
            ("/healthX", "/health", false),
            ("/healt", "/health", false),
            ("/health%00", "/health", false),
            ("/v1", "/v1/", false),
            ("/v1/", "/v1/", true),
            ("/v1/x", "/v1/", true),
            ("/", "/", true),
            ("/x", "/", true),
        ] {
            assert_eq!(is_under(path.as_bytes(), prefix.as_bytes()), under, "{path} {prefix}");
            for target in [path.to_owned(), format!("{path}?q=/{path}"), format!("http://h{path}")] {
                let read = Path::of_line(format!("GET {target} HTTP/1.1\r\n").as_bytes());
                let found = finds(&read.raw, read.raw_bits(), prefix.as_bytes());
                assert_eq!(found, under, "{target} {prefix}, as sent");
                let found = finds(&read.normal_lower, read.normal_bits(), prefix.as_bytes());
                assert_eq!(found && read.flags & flag::ODD == 0, under, "{target} {prefix}");
            }
        }
        // the longest prefix there is, and paths that are longer than what is kept
        let prefix = format!("/{}", "p".repeat(PATH - 2));
        for (path, under) in [
            (prefix.clone(), true),
            (format!("{prefix}/x"), true),
            (format!("{prefix}p"), false),
            (format!("{prefix}px"), false),
        ] {
            let read = Path::of_line(format!("GET {path} HTTP/1.1\r\n").as_bytes());
            assert_eq!(finds(&read.raw, read.raw_bits(), prefix.as_bytes()), under, "{path}");
            assert_eq!(finds(&read.normal, read.normal_bits(), prefix.as_bytes()), under, "{path}");
        }
    }

    /// Tricks against a role that may `GET /v1/`: what a server could take them for is not under it, or they are refused.
    #[test]
    fn tricks_do_not_widen_access() {
        let get = 1 << crate::http1::method::GET;
        let under = |reading: &Reading, len: u32| {
            let text = &reading.bytes[..(len as usize).min(PATH)];
            if text.starts_with(b"/v1/") { get } else { 0 }
        };
        let granted = |target: &str, method: u8| {
            let path = Path::of_line(format!("GET {target} HTTP/1.1\r\n").as_bytes());
            grants(under(&path.raw, path.raw_len), under(&path.normal, path.normal_len), path.flags, method)
        };
        for target in [
            "/",
            "/v1",
            "/v1x/",
            "/V1/",
            "/v2/",
            "//v1/",
            "/./v1/",
            "/x/../v1/",
            "/%76%31/",
            "/v1/../admin",
            "/v1/..%2fadmin",
            "/v1/..%2Fadmin",
            "/v1/%2e%2e/admin",
            "/v1/%2E%2E/admin",
            "/v1/.%2e/admin",
            "/v1/%2e./admin",
            "/v1/..\\admin",
            "/v1/..%5cadmin",
            "/v1%2f..%2fadmin",
            "/v1/..;/admin",
            "/v1/%2e%2e;/admin",
            "/v1/%252e%252e/admin",
            "/v1/..%252fadmin",
            "/v1/%c0%ae%c0%ae/admin",
            "/v1/x/../../admin",
            "/v1/./../admin",
            "/v1//../admin",
            "/v1/%00/../admin",
            "/v1/%00",
            "/v1/..",
            "/v1/%2e%2e",
            "http://h/admin",
            "http://h/v1/../admin",
            "http://h",
            "*",
            "v1/x",
            "h:80",
            "/admin?/v1/",
            "/admin#/v1/",
            "/admin/..%2fv1/",
            "/admin/%2e%2e/v1/",
            "\\v1/",
            "/v1/%",
            // `..` takes back what only some take for a segment
            "/v1/x%2Fy/../../admin",
            "/v1/x%5Cy/../../admin",
            "/v1/x\\y/../../admin",
            "/v1/../admin//../v1/x",
            "/v1/../admin/%2e%2e/v1/x",
            "/v1/#/../admin",
            "http:///v1/x",
            "http://h\\@x/v1/x",
        ] {
            assert!(!granted(target, crate::http1::method::GET), "{target}");
        }
        for target in [
            "/v1/",
            "/v1/x",
            "/v1/a/b?c=/../d",
            "/v1/projects/a%2Fb",
            "http://h/v1/x",
            "/v1/x;v=1/y",
            "/v1//x",
        ] {
            assert!(granted(target, crate::http1::method::GET), "{target}");
            assert!(!granted(target, crate::http1::method::POST), "POST {target}");
            assert!(!granted(target, crate::http1::method::OTHER), "another method, {target}");
        }
    }

    /// The normal reading, written so that one sees that it is right.
    fn reference(path: &[u8]) -> Vec<u8> {
        let mut decoded = Vec::new();
        let mut at = 0;
        while at < path.len() {
            let escape = path
                .get(at + 1..at + 3)
                .and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
            match (path[at], escape) {
                (b'%', Some(byte)) => {
                    decoded.push(if byte == b'\\' { b'/' } else { byte });
                    at += 2;
                }
                (b'\\', _) => decoded.push(b'/'),
                (byte, _) => decoded.push(byte),
            }
            at += 1;
        }
        let bare = |segment| <[u8]>::split(segment, |byte| *byte == b';').next().unwrap();
        let segments: Vec<&[u8]> = decoded.split(|byte| *byte == b'/').map(bare).collect();
        let mut kept: Vec<&[u8]> = Vec::new();
        let mut open = false;
        for segment in &segments {
            open = false;
            match *segment {
                b"" | b"." => open = true,
                other => kept.push(other),
            }
        }
        let mut normal = vec![b'/'];
        normal.extend(kept.join(&b'/'));
        if open && !kept.is_empty() {
            normal.push(b'/');
        }
        normal
    }

    proptest! {
        #[test]
        fn the_normal_reading_is_that_of_the_reference(parts in proptest::collection::vec(
            proptest::sample::select(vec!["/", ".", "..", "a", "bc", "%2e", "%2F", "%5c", "\\", "%41", ";", "d%20"]), 0..24,
        )) {
            let target = format!("/{}", parts.concat());
            let (_, normal, odd) = read(&target);
            prop_assume!(!odd);
            prop_assert_eq!(normal.as_bytes(), &reference(target.as_bytes())[..]);
            // reading it again changes nothing
            prop_assume!(!normal.contains([' ', '%', ';']));
            prop_assert_eq!(read(&normal).1, normal);
        }

        #[test]
        fn the_trie_agrees_with_the_shared_rule(
            path in "/[ab]{0,2}(/[ab]{0,2}){0,2}", prefix in "/[ab]{0,2}(/[ab]{1,2}){0,2}/?",
        ) {
            let mut read = Path::of_line(b"GET /ab/ab/ab/ab HTTP/1.1\r\n");
            read.begin();
            for byte in format!("GET {path} HTTP/1.1\r\n").bytes() {
                read.step(byte);
            }
            let under = is_under(path.as_bytes(), prefix.as_bytes());
            prop_assert_eq!(finds(&read.raw, read.raw_bits(), prefix.as_bytes()), under);
        }

        #[test]
        fn any_bytes_are_read_and_the_two_cases_agree(line in proptest::collection::vec(any::<u8>(), 0..700)) {
            let path = Path::of_line(&line);
            prop_assert!(path.flags & flag::DONE != 0 && path.normal_len <= PATH as u32);
            let len = path.normal_len as usize;
            prop_assert_eq!(path.normal.bytes[..len].to_ascii_lowercase(), &path.normal_lower.bytes[..len]);
        }
    }
}
