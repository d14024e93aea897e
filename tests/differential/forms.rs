//! The forms that a part of a request can have when it is not plain: what servers are known to read, to refuse, or to
//! read differently.
//!
//! A form's name is `part/what`. What stands in braces is filled in by `grammar`.

use Slot::{
    Behind, Body, Content, Cut, Front, Gap, HeadEnd, Header, Host, Length, LineEnd, Method, Target, Version,
};

/// A part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// Bytes in front of the request line.
    Front,
    Method,
    /// Between method and target.
    Gap,
    Target,
    /// The version with what is in front of it.
    Version,
    /// Between version and line end.
    Behind,
    LineEnd,
    Host,
    /// More header lines.
    Header,
    /// The header lines that say how long the body is.
    Length,
    HeadEnd,
    Body,
    /// What the body holds.
    Content,
    /// Where the request breaks off.
    Cut,
}

/// A form of one part, or of several that belong together.
pub struct Form {
    /// Its name.
    pub class: &'static str,
    parts: &'static [(Slot, &'static [u8])],
}

impl Form {
    /// The text of a part, if it sets one.
    pub fn sets(&self, slot: Slot) -> Option<&'static [u8]> {
        self.parts.iter().find(|(own, _)| *own == slot).map(|(_, text)| *text)
    }

    /// Whether both set the same part.
    pub fn meets(&self, other: &Self) -> bool {
        self.parts.iter().any(|(slot, _)| other.sets(*slot).is_some())
    }
}

macro_rules! forms {
    ($($class:literal $($slot:ident $text:literal)+;)+) => {
        /// Every form.
        pub const FORMS: &[Form] =
            &[$(Form { class: $class, parts: &[$(($slot, $text)),+] }),+];
    };
}

forms! {
    // bytes in front
    "front/crlf" Front b"\r\n";
    "front/two-crlf" Front b"\r\n\r\n";
    "front/lf" Front b"\n";
    "front/cr" Front b"\r";
    "front/8-crlf" Front b"{l8}";
    "front/100-crlf" Front b"{l100}";
    "front/blank" Front b" ";
    "front/blank-crlf" Front b" \r\n";
    "front/tab" Front b"\t";
    "front/vt" Front b"\x0b";
    "front/ff" Front b"\x0c";
    "front/nul" Front b"\0";
    "front/high" Front b"\x80";
    "front/bom" Front b"\xef\xbb\xbf";
    "front/nel" Front b"\xc2\x85";
    // methods
    "method/post" Method b"POST";
    "method/get" Method b"GET";
    "method/head" Method b"HEAD";
    "method/options" Method b"OPTIONS";
    "method/trace" Method b"TRACE";
    "method/connect" Method b"CONNECT";
    "method/propfind" Method b"PROPFIND";
    "method/m-search" Method b"M-SEARCH";
    "method/pri" Method b"PRI";
    "method/describe" Method b"DESCRIBE";
    "method/lower" Method b"get";
    "method/one" Method b"A";
    "method/empty" Method b"";
    "method/34-letters" Method b"{a34}";
    "method/300-letters" Method b"{a300}";
    "method/3000-letters" Method b"{a3000}";
    "method/digits" Method b"123";
    "method/symbols" Method b"!#$%&'*+-.^_`|~";
    "method/parenthesis" Method b"G(T";
    "method/at" Method b"G@T";
    "method/slash" Method b"G/T";
    "method/colon" Method b"GET:";
    "method/quoted" Method b"\"GET\"";
    "method/high" Method b"G\xe9T";
    "method/nul" Method b"G\0T";
    "method/del" Method b"G\x7fT";
    "method/http" Method b"HTTP/1.1";
    // between method and target
    "gap/two-blanks" Gap b"  ";
    "gap/tab" Gap b"\t";
    "gap/vt" Gap b"\x0b";
    "gap/ff" Gap b"\x0c";
    "gap/cr" Gap b"\r";
    "gap/nul" Gap b"\0";
    "gap/nbsp" Gap b"\xa0";
    "gap/blank-tab" Gap b" \t";
    // targets
    "target/star" Target b"*";
    "target/absolute" Target b"http://h{t}";
    "target/absolute-https" Target b"https://h{t}";
    "target/absolute-user" Target b"http://u@h{t}";
    "target/authority" Target b"h:80";
    "target/empty" Target b"";
    "target/no-slash" Target b"v1";
    "target/two-slashes" Target b"/{t}";
    "target/query-only" Target b"?x";
    "target/query" Target b"{t}?a=b&c";
    "target/fragment" Target b"{t}#a";
    "target/blank" Target b"{t} b";
    "target/tab" Target b"{t}\tb";
    "target/cr" Target b"{t}\rb";
    "target/vt" Target b"{t}\x0bb";
    "target/nul" Target b"{t}\0b";
    "target/high" Target b"{t}\xe9";
    "target/del" Target b"{t}\x7f";
    "target/bad-percent" Target b"{t}%zz";
    "target/backslash" Target b"{t}\\b";
    "target/brackets" Target b"{t}[\"]<>";
    "target/3000" Target b"{t}{a3000}";
    "target/12000" Target b"{t}{a12000}";
    // versions
    "version/none" Version b"";
    "version/blank" Version b" ";
    "version/0.9" Version b" HTTP/0.9";
    "version/1.0" Version b" HTTP/1.0";
    "version/1.2" Version b" HTTP/1.2";
    "version/1.9" Version b" HTTP/1.9";
    "version/1.10" Version b" HTTP/1.10";
    "version/1.32" Version b" HTTP/1.32";
    "version/1.1000" Version b" HTTP/1.1000";
    "version/01.1" Version b" HTTP/01.1";
    "version/1.01" Version b" HTTP/1.01";
    "version/0.0" Version b" HTTP/0.0";
    "version/2.0" Version b" HTTP/2.0";
    "version/2" Version b" HTTP/2";
    "version/3.0" Version b" HTTP/3.0";
    "version/9.9" Version b" HTTP/9.9";
    "version/11.1" Version b" HTTP/11.1";
    "version/1" Version b" HTTP/1";
    "version/1." Version b" HTTP/1.";
    "version/.1" Version b" HTTP/.1";
    "version/1.1x" Version b" HTTP/1.1x";
    "version/1.1.1" Version b" HTTP/1.1.1";
    "version/comma" Version b" HTTP/1,1";
    "version/minus" Version b" HTTP/-1.1";
    "version/plus" Version b" HTTP/+1.1";
    "version/plus-minor" Version b" HTTP/1.+1";
    "version/underscore" Version b" HTTP/1.1_0";
    "version/no-slash" Version b" HTTP1.1";
    "version/backslash" Version b" HTTP\\1.1";
    "version/blank-slash" Version b" HTTP /1.1";
    "version/slash-blank" Version b" HTTP/ 1.1";
    "version/blank-dot" Version b" HTTP/1 .1";
    "version/lower" Version b" http/1.1";
    "version/mixed" Version b" Http/1.1";
    "version/https" Version b" HTTPS/1.1";
    "version/xttp" Version b" XTTP/1.1";
    "version/word" Version b" FOO";
    "version/rtsp" Version b" RTSP/1.0";
    "version/rtsp-describe" Method b"DESCRIBE" Version b" RTSP/1.0";
    "version/ice" Version b" ICE/1.0";
    "version/ice-source" Method b"SOURCE" Version b" ICE/1.0";
    "version/two-blanks" Version b"  HTTP/1.1";
    "version/tab" Version b"\tHTTP/1.1";
    "version/vt" Version b"\x0bHTTP/1.1";
    "version/ff" Version b"\x0cHTTP/1.1";
    "version/twice" Version b" HTTP/1.1 HTTP/1.1";
    // between version and line end
    "behind/blank" Behind b" ";
    "behind/two-blanks" Behind b"  ";
    "behind/tab" Behind b"\t";
    "behind/vt" Behind b"\x0b";
    "behind/ff" Behind b"\x0c";
    "behind/nul" Behind b"\0";
    "behind/cr" Behind b"\r";
    "behind/nel" Behind b"\x85";
    "behind/word" Behind b" x";
    // ends of the request line and of the head
    "line-end/lf" LineEnd b"\n";
    "line-end/cr" LineEnd b"\r";
    "line-end/lf-cr" LineEnd b"\n\r";
    "head-end/lf" HeadEnd b"\n";
    "head-end/cr" HeadEnd b"\r";
    "head-end/cr-cr-lf" HeadEnd b"\r\r\n";
    "head-end/blank" HeadEnd b" \r\n\r\n";
    "head-end/lf-only" LineEnd b"\n" Host b"Host: h\n" HeadEnd b"\n";
    // Host and other header lines
    "host/none" Host b"";
    "host/none-1.0" Host b"" Version b" HTTP/1.0";
    "host/empty" Host b"Host:\r\n";
    "host/twice" Host b"Host: h\r\nHost: h\r\n";
    "host/differ" Host b"Host: h\r\nHost: i\r\n";
    "host/odd" Host b"Host: h h/@\r\n";
    "host/lf" Host b"Host: h\n";
    "header/no-colon" Header b"foo\r\n";
    "header/no-name" Header b": x\r\n";
    "header/colon" Header b":\r\n";
    "header/blank-in-name" Header b"A b: x\r\n";
    "header/blank-behind-name" Header b"A : x\r\n";
    "header/tab-behind-name" Header b"A\t: x\r\n";
    "header/high-name" Header b"\xe9: x\r\n";
    "header/nul-name" Header b"A\0b: x\r\n";
    "header/odd-name" Header b"(A): x\r\n";
    "header/no-value" Header b"A:\r\n";
    "header/nul-value" Header b"A: x\0y\r\n";
    "header/cr-value" Header b"A: x\ry\r\n";
    "header/vt-value" Header b"A: \x0bx\x0c\r\n";
    "header/high-value" Header b"A: \xff\x80\r\n";
    "header/del-value" Header b"A: \x7f\x01\r\n";
    "header/fold" Header b"A: x\r\n y\r\n";
    "header/fold-tab" Header b"A: x\r\n\ty\r\n";
    "header/fold-empty" Header b"A: x\r\n \r\n";
    "header/fold-length" Header b"A: x\r\n Content-Length: 9\r\n";
    "header/fold-first" Host b" A: x\r\nHost: h\r\n";
    "header/lf" Header b"A: x\n";
    "header/cr" Header b"A: x\r";
    "header/cr-cr-lf" Header b"A: x\r\r\n";
    "header/cr-length" Header b"A: x\rContent-Length: 9\r\n";
    "header/100-lines" Header b"{h100}";
    "header/2000-value" Header b"A: {a2000}\r\n";
    "header/7000-value" Header b"A: {a7000}\r\n";
    "header/30000-value" Header b"A: {a30000}\r\n";
    "header/2000-name" Header b"{a2000}: x\r\n";
    "header/close" Header b"Connection: close\r\n";
    "header/keep-alive-1.0" Header b"Connection: keep-alive\r\n" Version b" HTTP/1.0";
    "header/keep-alive-length" Header b"Connection: keep-alive, Content-Length\r\n";
    "header/upgrade-websocket" Header b"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    "header/upgrade-h2c" Header b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";
    "header/upgrade-other" Header b"Connection: Upgrade\r\nUpgrade: x\r\n";
    "header/expect" Header b"Expect: 100-continue\r\n";
    "header/expect-odd" Header b"Expect: x\r\n";
    "header/te" Header b"TE: trailers\r\nTrailer: a\r\n";
    "header/method-override" Header b"X-HTTP-Method-Override: POST\r\n";
    // lengths
    "length/plain" Length b"Content-Length: {n}\r\n" Body b"{d}";
    "length/zero" Length b"Content-Length: 0\r\n" Body b"";
    "length/on-get" Method b"GET" Length b"Content-Length: {n}\r\n" Body b"{d}";
    "length/on-get-1.0" Method b"GET" Version b" HTTP/1.0" Length b"Content-Length: {n}\r\nConnection: keep-alive\r\n" Body b"{d}";
    "length/lower" Length b"content-length:{n}\r\n" Body b"{d}";
    "length/10-digits" Length b"Content-Length: {n10}\r\n" Body b"{d}";
    "length/20-digits" Length b"Content-Length: {n20}\r\n" Body b"{d}";
    "length/40-digits" Length b"Content-Length: {n40}\r\n" Body b"{d}";
    "length/2000-digits" Length b"Content-Length: {n2000}\r\n" Body b"{d}";
    "length/comma-same" Length b"Content-Length: {n},{n}\r\n" Body b"{d}";
    "length/comma-blank-same" Length b"Content-Length: {n}, {n}\r\n" Body b"{d}";
    "length/comma-differ" Length b"Content-Length: {n}, 0\r\n" Body b"{d}";
    "length/comma-front" Length b"Content-Length: ,{n}\r\n" Body b"{d}";
    "length/comma-behind" Length b"Content-Length: {n},\r\n" Body b"{d}";
    "length/twice-same" Length b"Content-Length: {n}\r\nContent-Length: {n}\r\n" Body b"{d}";
    "length/twice-first" Length b"Content-Length: {n}\r\nContent-Length: 0\r\n" Body b"{d}";
    "length/twice-last" Length b"Content-Length: 0\r\nContent-Length: {n}\r\n" Body b"{d}";
    "length/plus" Length b"Content-Length: +{n}\r\n" Body b"{d}";
    "length/minus" Length b"Content-Length: -{n}\r\n" Body b"{d}";
    "length/minus-zero" Length b"Content-Length: -0\r\n" Body b"";
    "length/empty" Length b"Content-Length:\r\n" Body b"";
    "length/empty-body" Length b"Content-Length:\r\n" Body b"{d}";
    "length/blank" Length b"Content-Length:   \r\n" Body b"";
    "length/blanks-around" Length b"Content-Length:  \t {n} \t \r\n" Body b"{d}";
    "length/blank-name" Length b"Content-Length : {n}\r\n" Body b"{d}";
    "length/vt-behind" Length b"Content-Length: {n}\x0b\r\n" Body b"{d}";
    "length/vt-front" Length b"Content-Length: \x0b{n}\r\n" Body b"{d}";
    "length/ff-behind" Length b"Content-Length: {n}\x0c\r\n" Body b"{d}";
    "length/nul-behind" Length b"Content-Length: {n}\0\r\n" Body b"{d}";
    "length/cr-behind" Length b"Content-Length: {n}\r\r\n" Body b"{d}";
    "length/nbsp-behind" Length b"Content-Length: {n}\xa0\r\n" Body b"{d}";
    "length/hex" Length b"Content-Length: 0x{x}\r\n" Body b"{d}";
    "length/underscore" Length b"Content-Length: 0_{n}\r\n" Body b"{d}";
    "length/fraction" Length b"Content-Length: {n}.0\r\n" Body b"{d}";
    "length/exponent" Length b"Content-Length: {n}e0\r\n" Body b"{d}";
    "length/quoted" Length b"Content-Length: \"{n}\"\r\n" Body b"{d}";
    "length/semicolon" Length b"Content-Length: {n};x\r\n" Body b"{d}";
    "length/word" Length b"Content-Length: x\r\n" Body b"{d}";
    "length/two-numbers" Length b"Content-Length: {n} 0\r\n" Body b"{d}";
    "length/fold" Length b"Content-Length:\r\n {n}\r\n" Body b"{d}";
    "length/32-bits" Length b"Content-Length: {v}\r\n" Body b"{d}";
    "length/64-bits" Length b"Content-Length: {w}\r\n" Body b"{d}";
    "length/on-options" Method b"OPTIONS" Length b"Content-Length: {n}\r\n" Body b"{d}";
    "length/on-trace" Method b"TRACE" Length b"Content-Length: {n}\r\n" Body b"{d}";
    "length/on-connect" Method b"CONNECT" Length b"Content-Length: {n}\r\n" Body b"{d}";
    // transfer codings
    "coding/plain" Length b"Transfer-Encoding: chunked\r\n" Body b"{c}";
    "coding/on-get" Method b"GET" Length b"Transfer-Encoding: chunked\r\n" Body b"{c}";
    "coding/upper" Length b"TRANSFER-ENCODING: CHUNKED\r\n" Body b"{c}";
    "coding/1.0" Version b" HTTP/1.0" Length b"Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n" Body b"{c}";
    "coding/with-length" Length b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n" Body b"{c}";
    "coding/before-length" Length b"Transfer-Encoding: chunked\r\nContent-Length: {n}\r\n" Body b"{c}";
    "coding/comma-behind" Length b"Transfer-Encoding: chunked,\r\n" Body b"{c}";
    "coding/comma-front" Length b"Transfer-Encoding: ,chunked\r\n" Body b"{c}";
    "coding/comma-vt" Length b"Transfer-Encoding: \x0b,chunked\r\n" Body b"{c}";
    "coding/vt-behind" Length b"Transfer-Encoding: chunked\x0b\r\n" Body b"{c}";
    "coding/vt-front" Length b"Transfer-Encoding: \x0bchunked\r\n" Body b"{c}";
    "coding/nul-behind" Length b"Transfer-Encoding: chunked\0\r\n" Body b"{c}";
    "coding/cr-behind" Length b"Transfer-Encoding: chunked\r\r\n" Body b"{c}";
    "coding/blanks-around" Length b"Transfer-Encoding:  \t chunked \t\r\n" Body b"{c}";
    "coding/blank-name" Length b"Transfer-Encoding : chunked\r\n" Body b"{c}";
    "coding/underscore-name" Length b"Transfer_Encoding: chunked\r\n" Body b"{c}";
    "coding/fold" Length b"Transfer-Encoding:\r\n chunked\r\n" Body b"{c}";
    "coding/identity" Length b"Transfer-Encoding: identity\r\n" Body b"";
    "coding/identity-length" Length b"Transfer-Encoding: identity\r\nContent-Length: {n}\r\n" Body b"{d}";
    "coding/identity-chunked" Length b"Transfer-Encoding: identity, chunked\r\n" Body b"{c}";
    "coding/chunked-identity" Length b"Transfer-Encoding: chunked, identity\r\n" Body b"{c}";
    "coding/gzip-chunked" Length b"Transfer-Encoding: gzip, chunked\r\n" Body b"{c}";
    "coding/chunked-gzip" Length b"Transfer-Encoding: chunked, gzip\r\n" Body b"{c}";
    "coding/gzip" Length b"Transfer-Encoding: gzip\r\n" Body b"{c}";
    "coding/chunked-chunked" Length b"Transfer-Encoding: chunked, chunked\r\n" Body b"{c}";
    "coding/twice" Length b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n" Body b"{c}";
    "coding/identity-line" Length b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n" Body b"{c}";
    "coding/xchunked" Length b"Transfer-Encoding: xchunked\r\n" Body b"{c}";
    "coding/chunkedx" Length b"Transfer-Encoding: chunkedx\r\n" Body b"{c}";
    "coding/quoted" Length b"Transfer-Encoding: \"chunked\"\r\n" Body b"{c}";
    "coding/parameter" Length b"Transfer-Encoding: chunked;q=1\r\n" Body b"{c}";
    "coding/empty" Length b"Transfer-Encoding:\r\n" Body b"";
    "coding/empty-length" Length b"Transfer-Encoding:\r\nContent-Length: {n}\r\n" Body b"{d}";
    "coding/word-length" Length b"Transfer-Encoding: x\r\nContent-Length: {n}\r\n" Body b"{d}";
    // chunks
    "chunk/two" Length b"Transfer-Encoding: chunked\r\n" Body b"{x}\r\n{d}\r\n{x}\r\n{d}\r\n0\r\n\r\n";
    "chunk/0x" Length b"Transfer-Encoding: chunked\r\n" Body b"0x{x}\r\n{d}\r\n0\r\n\r\n";
    "chunk/plus" Length b"Transfer-Encoding: chunked\r\n" Body b"+{x}\r\n{d}\r\n0\r\n\r\n";
    "chunk/minus" Length b"Transfer-Encoding: chunked\r\n" Body b"-{x}\r\n{d}\r\n0\r\n\r\n";
    "chunk/underscore" Length b"Transfer-Encoding: chunked\r\n" Body b"0_{x}\r\n{d}\r\n0\r\n\r\n";
    "chunk/blank-front" Length b"Transfer-Encoding: chunked\r\n" Body b" {x}\r\n{d}\r\n0\r\n\r\n";
    "chunk/blank-behind" Length b"Transfer-Encoding: chunked\r\n" Body b"{x} \r\n{d}\r\n0\r\n\r\n";
    "chunk/tab-behind" Length b"Transfer-Encoding: chunked\r\n" Body b"{x}\t\r\n{d}\r\n0\r\n\r\n";
    "chunk/vt-behind" Length b"Transfer-Encoding: chunked\r\n" Body b"{x}\x0b\r\n{d}\r\n0\r\n\r\n";
    "chunk/nul-behind" Length b"Transfer-Encoding: chunked\r\n" Body b"{x}\0\r\n{d}\r\n0\r\n\r\n";
    "chunk/cr-behind" Length b"Transfer-Encoding: chunked\r\n" Body b"{x}\r\r\n{d}\r\n0\r\n\r\n";
    "chunk/letter-behind" Length b"Transfer-Encoding: chunked\r\n" Body b"{x}g\r\n{d}\r\n0\r\n\r\n";
    "chunk/upper" Length b"Transfer-Encoding: chunked\r\n" Body b"{X}\r\n{d}\r\n0\r\n\r\n";
    "chunk/10-digits" Length b"Transfer-Encoding: chunked\r\n" Body b"{x10}\r\n{d}\r\n0\r\n\r\n";
    "chunk/20-digits" Length b"Transfer-Encoding: chunked\r\n" Body b"{x20}\r\n{d}\r\n0\r\n\r\n";
    "chunk/2000-digits" Length b"Transfer-Encoding: chunked\r\n" Body b"{x2000}\r\n{d}\r\n0\r\n\r\n";
    "chunk/64-bits" Length b"Transfer-Encoding: chunked\r\n" Body b"{y}\r\n{d}\r\n0\r\n\r\n";
    "chunk/extension" Length b"Transfer-Encoding: chunked\r\n" Body b"{x};a=b\r\n{d}\r\n0;c\r\n\r\n";
    "chunk/extension-blank" Length b"Transfer-Encoding: chunked\r\n" Body b"{x} ; a = b\r\n{d}\r\n0\r\n\r\n";
    "chunk/extension-quoted" Length b"Transfer-Encoding: chunked\r\n" Body b"{x};a=\"\r\n{d}\r\n0\r\n\r\n";
    "chunk/extension-lf" Length b"Transfer-Encoding: chunked\r\n" Body b"{x};\n{d}\r\n0\r\n\r\n";
    "chunk/extension-cr" Length b"Transfer-Encoding: chunked\r\n" Body b"{x};\r{d}\r\n0\r\n\r\n";
    "chunk/extension-3000" Length b"Transfer-Encoding: chunked\r\n" Body b"{x};{a3000}\r\n{d}\r\n0\r\n\r\n";
    "chunk/size-lf" Length b"Transfer-Encoding: chunked\r\n" Body b"{x}\n{d}\r\n0\r\n\r\n";
    "chunk/data-lf" Length b"Transfer-Encoding: chunked\r\n" Body b"{x}\r\n{d}\n0\r\n\r\n";
    "chunk/all-lf" Length b"Transfer-Encoding: chunked\r\n" Body b"{x}\n{d}\n0\n\n";
    "chunk/data-no-end" Length b"Transfer-Encoding: chunked\r\n" Body b"{x}\r\n{d}0\r\n\r\n";
    "chunk/data-other-end" Length b"Transfer-Encoding: chunked\r\n" Body b"{x}\r\n{d}XX0\r\n\r\n";
    "chunk/data-longer" Length b"Transfer-Encoding: chunked\r\n" Body b"{x}\r\n{d}more\r\n0\r\n\r\n";
    "chunk/empty-size" Length b"Transfer-Encoding: chunked\r\n" Body b"\r\n{d}\r\n0\r\n\r\n";
    "chunk/zeros" Length b"Transfer-Encoding: chunked\r\n" Body b"{x}\r\n{d}\r\n{z8}\r\n\r\n";
    "chunk/last-extension" Length b"Transfer-Encoding: chunked\r\n" Body b"{x}\r\n{d}\r\n0 ;a\r\n\r\n";
    "chunk/last-lf" Length b"Transfer-Encoding: chunked\r\n" Body b"{x}\r\n{d}\r\n0\r\n\n";
    "chunk/last-cr" Length b"Transfer-Encoding: chunked\r\n" Body b"{x}\r\n{d}\r\n0\r\n\r";
    "chunk/last-no-empty-line" Length b"Transfer-Encoding: chunked\r\n" Body b"{x}\r\n{d}\r\n0\r\n";
    "chunk/trailer" Length b"Transfer-Encoding: chunked\r\n" Body b"{x}\r\n{d}\r\n0\r\nA: b\r\n\r\n";
    "chunk/trailer-no-colon" Length b"Transfer-Encoding: chunked\r\n" Body b"{x}\r\n{d}\r\n0\r\nfoo\r\n\r\n";
    "chunk/trailer-length" Length b"Transfer-Encoding: chunked\r\n" Body b"{x}\r\n{d}\r\n0\r\nContent-Length: 50\r\n\r\n";
    "chunk/trailer-blank" Length b"Transfer-Encoding: chunked\r\n" Body b"{x}\r\n{d}\r\n0\r\n \r\n\r\n";
    "chunk/none" Length b"Transfer-Encoding: chunked\r\n" Body b"0\r\n\r\n";
    // what a body holds
    "content/none" Content b"";
    "content/request" Content b"GET {t} HTTP/1.1\r\nHost: h\r\n\r\n";
    "content/3000" Content b"{a3000}";
    "content/70000" Content b"{a70000}";
    // where it breaks off
    "cut/line" Cut b"line";
    "cut/version" Cut b"version";
    "cut/head" Cut b"head";
    "cut/body" Cut b"body";
}
