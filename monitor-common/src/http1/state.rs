//! State that outlives a read: one [`Stream`] and one [`Memo`] per direction, one [`Shared`] per connection, and the
//! per-call [`Cur`]. Integers and arrays only, because the kernel side keeps them in maps.
//!
//! Nothing here prints raw bytes: `area` and `bytes` may hold parts of a credential, so `Debug` leaves them out.

use core::fmt;
use core::mem::{align_of, size_of};

use crate::event::CREDS;

/// What the next byte of a stream is. Phases from [`phase::BODY`] on need no bytes in the window.
///
/// ```text
///            blank lines
///              +--+
///              v  |      start line           LF                empty line
///  joined -> START -------> VALUE ----------> HEADER ---------------------------> (head)
///              ^            ^   |  name that matters or a long line |               |
///              |            |   +-----------------------------------+               |
///              |  no body   +-------------------------------------------------------+
///              |<------------------- Content-Length ------------ BODY <-------------|
///              |<-- trailers: HEADER <-- 0 -- CHUNK <--> DATA <------ chunked ------|
///              |                                 CLOSE (until the connection ends) <|
///
///  With configured query keys or cookies, START and HEADER go through QUERY or COOKIE; each value found there is a VALUE.
///            fail --> OPAQUE <---------- 101, 2xx to CONNECT -----------------------+
/// ```
pub mod phase {
    /// Between messages, or in a start line of which nothing was consumed yet.
    pub const START: u8 = 0;
    /// At the start of a header (or trailer) line.
    pub const HEADER: u8 = 1;
    /// Inside a line; `kind` says what it is.
    pub const VALUE: u8 = 2;
    /// At the start of a chunk-size line.
    pub const CHUNK: u8 = 3;
    /// In a request target, while query keys are looked for.
    pub const QUERY: u8 = 4;
    /// In a `Cookie` value, while cookies are looked for.
    pub const COOKIE: u8 = 5;
    /// In a body of known length.
    pub const BODY: u8 = 8;
    /// In the data of a chunk.
    pub const DATA: u8 = 9;
    /// In a body that ends with the connection.
    pub const CLOSE: u8 = 10;
    /// Tunnel, or framing lost: nothing is parsed.
    pub const OPAQUE: u8 = 11;
}

/// Flags of a [`Stream`], about the message in progress.
pub mod flag {
    /// `chunked` is the last transfer coding.
    pub const CHUNKED: u16 = 1;
    /// Transfer-Encoding is present.
    pub const TE: u16 = 2;
    /// A valid Content-Length is present.
    pub const CL: u16 = 4;
    /// Content-Length is malformed, folded, or two of them differ.
    pub const BAD_CL: u16 = 8;
    /// A line ended with a bare LF.
    pub const BARE_LF: u16 = 16;
    /// Obsolete line folding.
    pub const FOLD: u16 = 32;
    /// `Connection: close`.
    pub const CONN_CLOSE: u16 = 64;
    /// `Upgrade` is present.
    pub const UPGRADE: u16 = 128;
    /// `Expect` is present.
    pub const EXPECT: u16 = 256;
    /// The start line is not as RFC 9112 section 3 has it.
    pub const ODD: u16 = 512;
    /// HTTP/1.0, or a version that is neither that nor HTTP/1.1.
    pub const V10: u16 = 1024;
    /// In the trailers of a chunked body.
    pub const TRAILER: u16 = 2048;
    /// The line end behind a chunk's data is still to come.
    pub const CRLF_DUE: u16 = 4096;
    /// A line began with a bare CR.
    pub const BAD: u16 = 8192;
    /// Framing was lost.
    pub const DESYNC: u16 = 16384;
    /// The connection ended before the message did, or bytes of it could not be read: whoever sent it is not to blame.
    pub const CUT: u16 = 32768;

    /// Whether servers disagree on where a request with these flags ends.
    #[inline(always)]
    pub const fn is_ambiguous(flags: u16) -> bool {
        let te = flags & TE != 0;
        flags & BAD_CL != 0 || (te && (flags & (CL | V10) != 0 || flags & CHUNKED == 0))
    }
}

/// What a line is. Kinds 8 to 31 are the numbers of [`crate::event::cred`].
pub mod kind {
    /// Of no interest.
    pub const SKIP: u8 = 0;
    /// Content-Length.
    pub const CL: u8 = 1;
    /// Transfer-Encoding.
    pub const TE: u8 = 2;
    /// Connection.
    pub const CONN: u8 = 3;
    /// Upgrade.
    pub const UPGRADE: u8 = 4;
    /// Expect.
    pub const EXPECT: u8 = 5;
    /// Host, when destinations are told apart: fingerprinted like a credential, without its port and its case.
    pub const HOST: u8 = 6;
    /// Authorization: a credential with a scheme in front.
    pub const AUTH: u8 = 7;
    /// First of the other credential headers, up to 15.
    pub const CRED: u8 = 8;
    /// A request line.
    pub const START: u8 = 32;
    /// The rest of a chunk-size line.
    pub const CHUNK_EXT: u8 = 33;
    /// The `Cookie` header, when cookies are configured.
    pub const COOKIE: u8 = 34;
    /// The rest of a Content-Length line whose number was read before its end came.
    pub const CL_REST: u8 = 35;

    /// Whether a value of this kind is fingerprinted.
    #[inline(always)]
    pub const fn credential(kind: u8) -> bool {
        kind >= HOST && kind < START
    }
}

/// Methods, as far as they are told apart.
pub mod method {
    /// Any other token.
    pub const OTHER: u8 = 0;
    /// GET
    pub const GET: u8 = 1;
    /// POST
    pub const POST: u8 = 2;
    /// PUT
    pub const PUT: u8 = 3;
    /// HEAD: its response has no body.
    pub const HEAD: u8 = 4;
    /// DELETE
    pub const DELETE: u8 = 5;
    /// OPTIONS
    pub const OPTIONS: u8 = 6;
    /// PATCH
    pub const PATCH: u8 = 7;
    /// CONNECT: a 2xx makes a tunnel.
    pub const CONNECT: u8 = 8;
}

/// State of one direction. All zero bytes are a valid new stream.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    /// One of [`phase`].
    pub phase: u8,
    /// One of [`kind`]: the line in progress, or in [`phase::HEADER`] the previous one.
    pub kind: u8,
    /// Bytes held until the next read, at most [`super::HOLD`].
    pub carry: u8,
    /// One of [`method`] (requests).
    pub method: u8,
    /// [`flag`]s.
    pub flags: u16,
    /// Status code (responses).
    pub status: u16,
    /// Bytes of the whole head, start line included; valid from [`super::Env::head`] on.
    pub head: u32,
    /// Bytes of the head in progress that were handed to [`super::Env::part`].
    pub shipped: u32,
    /// 1 while a head is in progress.
    pub open: u8,
    /// 1 when the header block was the same as the one before it.
    pub same: u8,
    /// 1 when there were more credentials than [`CREDS`].
    pub more: u8,
    /// How far the credential in progress is: before its value, behind its scheme, in its bytes; or the search for one.
    pub stage: u8,
    /// Byte that ends the credential in progress (of several the first), 0 for none.
    pub delim: u8,
    /// Length of the message hashed so far, modulo 256.
    pub hashed: u8,
    /// 1 where the other end is known to speak HTTP, so that whatever line comes is taken for a request's, as servers do. A request
    /// line as RFC 9112 has it proves it, too.
    pub proven: u8,
    /// Zero.
    pub pad: u8,
    /// Bytes of the body (or of the chunk) still to come; the Content-Length at [`super::Env::head`].
    pub remaining: u64,
    /// Bytes of this message's body so far, chunk framing not counted.
    pub body: u64,
    /// Fingerprints of the credentials, lowest kind first.
    pub fp: [u64; CREDS],
    /// Fingerprint of the `Host`, 0 where destinations are not told apart.
    pub host: u64,
    /// Their kinds, [`crate::event::cred`]; 0 where there is none.
    pub cred: [u8; CREDS],
    /// Zero.
    pub pad2: [u8; 4],
    /// Held bytes, or the `SipHash` state (words 0..4) and held bytes (words 4..7) while inside a credential.
    pub area: [u64; 7],
}

/// Shared by both directions; each field but `overflow` has one writer.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shared {
    /// Requests whose head is complete: the number of the next request.
    pub req_seq: u32,
    /// Final responses whose head is complete: the number of the next response.
    pub resp_seq: u32,
    /// Bit `n % 64`: request `n` was HEAD.
    pub head_bits: u64,
    /// Bit `n % 64`: request `n` was CONNECT.
    pub connect_bits: u64,
    /// 1 once the connection is a tunnel.
    pub opaque: u32,
    /// Requests whose HEAD or CONNECT bit overwrote one that was still needed.
    pub overflow: u32,
}

/// Bytes of a header block that a [`Memo`] can hold.
pub const MEMO: usize = 512;

/// The last header block (everything after the start line) of a direction and what it meant. Equal bytes mean equal
/// results, so a repeated block is compared instead of parsed. All zero bytes are a valid empty memo.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Memo {
    /// Bytes of the block, 0 for none.
    pub len: u32,
    /// [`flag`]s that the block set.
    pub flags: u16,
    /// Blocks since the last hit, modulo 256: learning backs off when blocks never repeat.
    pub miss: u8,
    /// [`Stream::more`].
    pub more: u8,
    /// [`Stream::remaining`].
    pub remaining: u64,
    /// [`Stream::fp`].
    pub fp: [u64; CREDS],
    /// [`Stream::host`].
    pub host: u64,
    /// [`Stream::cred`].
    pub cred: [u8; CREDS],
    /// Zero.
    pub pad: [u8; 4],
    /// The last 32 bytes of the block.
    pub tail: [u64; 4],
    /// The block.
    pub bytes: [[u64; 4]; MEMO / 32],
}

/// The per-call cursor. It lives in memory on purpose: see [`super::Env::cur`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cur {
    /// Window offset of the next byte.
    pub pos: u32,
    /// Window offset behind the last byte.
    pub end: u32,
    /// Bytes of the read that are not in the window yet.
    pub left: u32,
    /// Window offset of the first byte of the head in progress that was not handed to `part`; `u32::MAX` outside heads.
    pub head_at: u32,
    /// Address of those bytes.
    pub user: u64,
    /// 1 when the rest of the window is not enough to go on.
    pub need: u32,
    /// Window offset of the header block in progress, `u32::MAX` when it is not whole in the window.
    pub block_at: u32,
    /// What happened in this tick, to be reported at its end.
    pub event: u32,
    /// Where a value passes through memory, so that the verifier forgets what it knew about it.
    pub mark: u32,
    /// Of a credential: the next word to hash, or behind the last one that was.
    pub from: u32,
    /// Of a credential: words are hashed below this.
    pub stop: u32,
    /// Of a credential: its final word, filled up with blanks.
    pub last: u64,
    /// Of a credential: 1 when the rest of it is blank.
    pub cut: u32,
    /// Zero.
    pub pad: u32,
}

/// Both directions of a connection. Stream and memo of a direction are neighbours, so that one pointer serves both.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conn {
    /// Requests.
    pub req: Stream,
    /// Memo of the requests.
    pub req_memo: Memo,
    /// Responses.
    pub resp: Stream,
    /// Memo of the responses.
    pub resp_memo: Memo,
    /// Shared.
    pub shared: Shared,
}

const _: () = {
    assert!(size_of::<Stream>() == 144 && align_of::<Stream>() == 8);
    assert!(size_of::<Shared>() == 32 && align_of::<Shared>() == 8);
    assert!(size_of::<Memo>() == 608 && align_of::<Memo>() == 8);
    assert!(size_of::<Cur>() == 64 && align_of::<Cur>() == 8);
    assert!(size_of::<Conn>() == 1536);
};

impl Stream {
    /// A stream before its first message.
    pub const NEW: Self = Self {
        phase: 0,
        kind: 0,
        carry: 0,
        method: 0,
        flags: 0,
        status: 0,
        head: 0,
        shipped: 0,
        open: 0,
        same: 0,
        more: 0,
        stage: 0,
        delim: 0,
        hashed: 0,
        proven: 0,
        pad: 0,
        remaining: 0,
        body: 0,
        fp: [0; CREDS],
        host: 0,
        cred: [0; CREDS],
        pad2: [0; 4],
        area: [0; 7],
    };
}

impl Shared {
    /// No message yet.
    pub const NEW: Self =
        Self { req_seq: 0, resp_seq: 0, head_bits: 0, connect_bits: 0, opaque: 0, overflow: 0 };
}

impl Memo {
    /// Nothing remembered.
    pub const NEW: Self = Self {
        len: 0,
        flags: 0,
        miss: 0,
        more: 0,
        remaining: 0,
        fp: [0; CREDS],
        host: 0,
        cred: [0; CREDS],
        pad: [0; 4],
        tail: [0; 4],
        bytes: [[0; 4]; MEMO / 32],
    };
}

impl Cur {
    /// Before the first read.
    pub const NEW: Self = Self {
        pos: 0,
        end: 0,
        left: 0,
        head_at: u32::MAX,
        user: 0,
        need: 0,
        block_at: u32::MAX,
        event: 0,
        mark: 0,
        from: 0,
        stop: 0,
        last: 0,
        cut: 0,
        pad: 0,
    };
}

impl Conn {
    /// A connection before its first message.
    pub const NEW: Self = Self {
        req: Stream::NEW,
        resp: Stream::NEW,
        shared: Shared::NEW,
        req_memo: Memo::NEW,
        resp_memo: Memo::NEW,
    };
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("phase", &self.phase)
            .field("kind", &self.kind)
            .field("carry", &self.carry)
            .field("flags", &format_args!("{:#x}", self.flags))
            .field("status", &self.status)
            .field("head", &self.head)
            .field("remaining", &self.remaining)
            .field("body", &self.body)
            .field("cred", &self.cred)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memo").field("len", &self.len).field("cred", &self.cred).finish_non_exhaustive()
    }
}
