//! Ring-buffer records: integers and arrays only, explicit padding, little endian, decoded with checked `from_bytes`.
//!
//! Every record begins with [`Head`] and holds at [`TIME_AT`] a time at which its program ran, by which the records of
//! several rings are put in order. Records about one connection arrive in the order in which they were written.
//! A request is known by (`conn`, `seq`): `seq` counts the requests of a connection from 0, and the response with the
//! same `seq` answers it, whatever the order in which the two records arrive.

use core::mem::{offset_of, size_of};

/// Kind of a record, the first byte.
pub mod kind {
    /// [`super::Conn`]: a connection became known, or its process or peer changed (later ones replace earlier ones).
    pub const CONN: u8 = 1;
    /// [`super::Request`] followed by head bytes.
    pub const REQUEST: u8 = 2;
    /// [`super::HeadPart`] followed by head bytes.
    pub const HEAD_PART: u8 = 3;
    /// [`super::Response`]: a final response is complete.
    pub const RESPONSE: u8 = 4;
    /// [`super::Close`]: a connection ended.
    pub const CLOSE: u8 = 5;
    /// [`super::Exec`] followed by the file name.
    pub const EXEC: u8 = 6;
    /// [`super::Exit`]: a process (its last thread) ended.
    pub const EXIT: u8 = 7;
    /// [`super::Verdict`]: a request was refused, or would have been.
    pub const VERDICT: u8 = 8;
    /// [`super::Due`]: denied requests can be answered now.
    pub const DUE: u8 = 9;
}

/// Kind of a credential, as the kernel side tells them apart: by where it stood, not by what it means.
pub mod cred {
    /// No credential.
    pub const NONE: u8 = 0;
    /// `Authorization`, any scheme but AWS. The daemon tells bearer, JWT and Basic apart by the bytes.
    pub const AUTHORIZATION: u8 = 1;
    /// Access-key id of an AWS-style signature in `Authorization`.
    pub const AWS: u8 = 2;
    /// First configured API-key header; header `n` is `HEADER + n`, at most 8 headers (the first of them is
    /// `Authorization` by default and then has the kinds above).
    pub const HEADER: u8 = 8;
    /// First configured query key, at most 8.
    pub const QUERY: u8 = 16;
    /// First configured cookie, at most 8.
    pub const COOKIE: u8 = 24;
}

/// Bit of a connection's number: the denied requests of the connection without it, which Weir answers. They are numbered among all
/// that came in; those that the server gets, among each other.
pub const ANSWERED_CONN: u64 = 1 << 61;

/// The connection as the server's framing knows it.
#[inline(always)]
pub const fn server_conn(id: u64) -> u64 {
    // connections of TLS libraries have the topmost bit
    if id >> 61 == 1 { id & !ANSWERED_CONN } else { id }
}

/// Most credentials recorded for one request.
pub const CREDS: usize = 4;
/// `content_length` of a request whose body is chunked.
pub const CHUNKED: u64 = u64::MAX;

/// Which side of the connection the observed process is on.
pub mod role {
    /// Not known yet.
    pub const UNKNOWN: u8 = 0;
    /// The process serves: requests come in.
    pub const INBOUND: u8 = 1;
    /// The process calls: requests go out.
    pub const OUTBOUND: u8 = 2;
}

/// What carries the connection.
pub mod transport {
    /// TCP (or MPTCP), plaintext.
    pub const TCP: u8 = 1;
    /// Unix stream socket, plaintext. `remote[0..4]` is the peer's uid and `remote[4..8]` its pid.
    pub const UNIX: u8 = 2;
    /// Plaintext seen in a TLS library; addresses are valid if `peer_known`.
    pub const TLS: u8 = 3;
}

/// Flags of [`Request`].
pub mod request_flag {
    /// The header block equals the one of the previous request on this connection: only the request line is attached.
    pub const SAME_HEADERS: u16 = 1;
    /// Earlier bytes of this head were sent as [`super::HeadPart`]s.
    pub const PARTS: u16 = 2;
    /// The attached bytes end before the head does.
    pub const CUT: u16 = 4;
    /// The connection was joined in the middle (it was open before Weir, or framing was lost and found again).
    pub const JOINED: u16 = 8;
    /// HTTP/1.0.
    pub const V10: u16 = 16;
    /// Servers disagree on where it ends (RFC 9112 section 6.3): [`crate::http1::flag::is_ambiguous`].
    pub const AMBIGUOUS: u16 = 32;
    /// Bare LF, obsolete line folding, or an odd request line.
    pub const LAX: u16 = 64;
    /// `Upgrade` was requested.
    pub const UPGRADE: u16 = 128;
    /// More credentials than [`super::CREDS`].
    pub const MORE_CREDS: u16 = 256;
    /// Not framed: the server has answered a request that was not recognised as one, or bytes were refused that are none.
    pub const UNFRAMED: u16 = 512;
}

/// Flags of [`Response`] and [`Close`].
pub mod response_flag {
    /// The body ended with the connection, or the connection ended before the body.
    pub const AT_CLOSE: u16 = 1;
    /// The connection became a tunnel (101, or 2xx to CONNECT): nothing after this is parsed.
    pub const TUNNEL: u16 = 2;
    /// Framing of the response was lost: it ended in an unknown state.
    pub const DESYNC: u16 = 4;
    /// `req_body_bytes` belongs to this request (not pipelined).
    pub const REQ_BODY: u16 = 8;
}

macro_rules! record {
    ($(#[$doc:meta])* $name:ident = $kind:expr, $size:literal, $time:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }
        const _: () = {
            assert!(size_of::<$name>() == $size);
            assert!(offset_of!($name, head) == 0);
            assert!(offset_of!($name, $time) == TIME_AT);
            // no implicit padding: the fields fill the struct
            assert!(0 $(+ size_of::<$type>())* == $size);
        };
        impl $name {
            /// Value of `Head::kind` for this record.
            pub const KIND: u8 = $kind;
            /// Bytes of the fixed part.
            pub const SIZE: usize = $size;
            /// The record at the start of `bytes` and what follows it, or `None` when there are too few bytes.
            pub fn from_bytes(bytes: &[u8]) -> Option<(Self, &[u8])> {
                let (fixed, rest) = bytes.split_at_checked($size)?;
                // SAFETY: `fixed` is exactly `$size` readable bytes, the asserts above show that the struct has that
                // size without padding, and integers and arrays of integers are valid for any bytes.
                let record = unsafe { fixed.as_ptr().cast::<Self>().read_unaligned() };
                Some((record, rest))
            }
            /// The bytes of the record, as the kernel side writes them.
            pub fn as_bytes(&self) -> &[u8] {
                // SAFETY: the struct has no padding (asserted above), so all of its bytes are initialised.
                unsafe { core::slice::from_raw_parts(core::ptr::from_ref(self).cast::<u8>(), $size) }
            }
        }
    };
}

/// Start of every record.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// One of [`kind`].
    pub kind: u8,
    /// Zero.
    pub pad: [u8; 3],
    /// Bytes of the whole record, with what follows the fixed part.
    pub len: u32,
}
const _: () = assert!(size_of::<Head>() == 8);

/// Offset of the time (u64, ns, `bpf_ktime_get_ns`) that every record has: later than the start of the program that wrote
/// it, and earlier than its being written.
pub const TIME_AT: usize = 16;

/// The time of a record, `None` when there are too few bytes for one.
pub fn time(record: &[u8]) -> Option<u64> {
    record.get(TIME_AT..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

record! {
    /// A connection and the process that uses it. Sent before the first request of a connection, and again when the
    /// process or the peer becomes known or changes.
    Conn = kind::CONN, 136, ts_ns {
        /// Start of the record.
        head: Head,
        /// Identifier of the connection, unique since boot: the socket cookie, or bit 63 and a number for TLS.
        conn: u64,
        /// `CLOCK_BOOTTIME`-free monotonic time (`bpf_ktime_get_ns`) in ns.
        ts_ns: u64,
        /// Socket cookie, 0 when not known (TLS without a known socket).
        cookie: u64,
        /// cgroup v2 id (inode number of its directory) of the process.
        cgroup: u64,
        /// Start of the process, ns since boot (`task_struct.start_boottime` of the thread-group leader).
        start_ns: u64,
        /// Local address; IPv4 as `::ffff:a.b.c.d`.
        local: [u8; 16],
        /// Remote address; IPv4 as `::ffff:a.b.c.d`; see [`transport::UNIX`].
        remote: [u8; 16],
        /// Name of the thread that made the call, NUL padded.
        comm: [u8; 16],
        /// Inode number of the network namespace.
        netns: u32,
        /// Process (thread group) that made the call, in the initial pid namespace.
        tgid: u32,
        /// Effective user of the process.
        uid: u32,
        /// Local port, host order.
        local_port: u16,
        /// Remote port, host order.
        remote_port: u16,
        /// `AF_INET` 2, `AF_INET6` 10, `AF_UNIX` 1, 0 not known.
        family: u16,
        /// One of [`role`].
        role: u8,
        /// One of [`transport`].
        transport: u8,
        /// 1 when `local`, `remote`, ports and `netns` are known.
        peer_known: u8,
        /// 1 when the connection was joined in the middle.
        joined: u8,
        /// Zero.
        pad: [u8; 18],
    }
}

record! {
    /// The head of a request is complete. Followed by the head's bytes from `from` on (see [`request_flag`]).
    Request = kind::REQUEST, 96, ts_ns {
        /// Start of the record.
        head: Head,
        /// The connection.
        conn: u64,
        /// Time at which the head was complete.
        ts_ns: u64,
        /// Length of the body from Content-Length, or [`CHUNKED`].
        content_length: u64,
        /// Fingerprints, first in configured order first.
        fp: [u64; CREDS],
        /// Kinds ([`cred`]) of the fingerprints, 0 where there is none.
        cred: [u8; CREDS],
        /// Number of the request on its connection, from 0.
        seq: u32,
        /// Process that received or sent it.
        tgid: u32,
        /// Bytes of the whole head.
        head_len: u32,
        /// Offset in the head of the attached bytes.
        from: u32,
        /// [`request_flag`]s.
        flags: u16,
        /// `monitor_common::http1::method`.
        method: u8,
        /// One of [`role`].
        role: u8,
        /// The kernel's key for requests without a credential: a fingerprint of the remote address.
        client: u64,
    }
}

record! {
    /// Bytes of a head that is not complete yet: it did not fit in one read or in one window.
    HeadPart = kind::HEAD_PART, 32, ts_ns {
        /// Start of the record.
        head: Head,
        /// The connection.
        conn: u64,
        /// Time.
        ts_ns: u64,
        /// The request's number.
        seq: u32,
        /// Offset in the head of the attached bytes.
        from: u32,
    }
}

record! {
    /// A final response (or 101) is complete, body included, or its connection ended.
    Response = kind::RESPONSE, 64, ts_end_ns {
        /// Start of the record.
        head: Head,
        /// The connection.
        conn: u64,
        /// Time at which the body was complete.
        ts_end_ns: u64,
        /// Time at which the head was complete.
        ts_head_ns: u64,
        /// Bytes of the response's body, framing of chunks not counted.
        body_bytes: u64,
        /// Bytes of the request's body, when [`response_flag::REQ_BODY`].
        req_body_bytes: u64,
        /// Number of the request that it answers.
        seq: u32,
        /// Bytes of the response's head.
        head_len: u32,
        /// Status code.
        status: u16,
        /// [`response_flag`]s.
        flags: u16,
        /// Zero.
        pad: [u8; 4],
    }
}

record! {
    /// A connection ended. Requests without a response get none.
    Close = kind::CLOSE, 32, ts_ns {
        /// Start of the record.
        head: Head,
        /// The connection.
        conn: u64,
        /// Time.
        ts_ns: u64,
        /// Requests seen on it.
        req_seq: u32,
        /// Responses seen on it.
        resp_seq: u32,
    }
}

record! {
    /// A process executed a file. Followed by the file name (at most 255 bytes, no NUL).
    Exec = kind::EXEC, 64, ts_ns {
        /// Start of the record.
        head: Head,
        /// Start of the process, ns since boot.
        start_ns: u64,
        /// Time.
        ts_ns: u64,
        /// cgroup v2 id.
        cgroup: u64,
        /// Process.
        tgid: u32,
        /// Parent process, 0 when not known.
        ppid: u32,
        /// User.
        uid: u32,
        /// Zero.
        pad: u32,
        /// Name of the thread, NUL padded.
        comm: [u8; 16],
    }
}

record! {
    /// A process ended.
    Exit = kind::EXIT, 32, ts_ns {
        /// Start of the record.
        head: Head,
        /// Start of the process, ns since boot.
        start_ns: u64,
        /// Time.
        ts_ns: u64,
        /// Process.
        tgid: u32,
        /// `task_struct.exit_code`: signal in the low 7 bits, status in bits 8 to 15.
        code: u32,
    }
}

record! {
    /// A request was refused (or would have been). Written behind its [`Request`]; allowed requests have none. One with reason
    /// [`SOCKET`](crate::cap::reason::SOCKET) follows when the socket to cut became known later.
    Verdict = kind::VERDICT, 120, ts_ns {
        /// Start of the record.
        head: Head,
        /// The connection.
        conn: u64,
        /// Time of the decision.
        ts_ns: u64,
        /// Socket cookie, 0 when the socket is not known: then nothing could be cut.
        cookie: u64,
        /// Who was over: as in `cap::SubjectKey`.
        value: u64,
        /// The next request would be admitted after so many ns; 0 for an access level.
        wait_ns: u64,
        /// Local address, as in [`Conn`].
        local: [u8; 16],
        /// Remote address, as in [`Conn`].
        remote: [u8; 16],
        /// Number of the request on its connection.
        seq: u32,
        /// Kind of the subject.
        subject: u32,
        /// Inode number of the socket's network namespace.
        netns: u32,
        /// The rule's index, or the role's number for an access level.
        rule: u32,
        /// Process that received or sent it.
        tgid: u32,
        /// Local port, host order.
        local_port: u16,
        /// Remote port, host order.
        remote_port: u16,
        /// Address family, as in [`Conn`].
        family: u16,
        /// Zero.
        pad: [u8; 6],
        /// Interface that the socket is bound to, 0 for none.
        device: u32,
        /// One of `cap::action`: [`DENY`](crate::cap::action::DENY) was enforced.
        action: u8,
        /// One of `cap::reason`.
        reason: u8,
        /// One of [`role`].
        role: u8,
        /// One of [`enforced`].
        enforced: u8,
    }
}

record! {
    /// The server has answered everything in front of requests that were denied: they can be answered now.
    Due = kind::DUE, 24, ts_ns {
        /// Start of the record.
        head: Head,
        /// Socket cookie.
        cookie: u64,
        /// When.
        ts_ns: u64,
    }
}

/// How a denial was enforced.
pub mod enforced {
    /// Not at all: nothing to enforce (`shadow`), or no socket was known.
    pub const NOT: u8 = 0;
    /// The connection is fenced: nothing more leaves it.
    pub const FENCED: u8 = 1;
    /// The caller is answered in the server's place.
    pub const ANSWERED: u8 = 2;
    /// The same, and told that the connection ends.
    pub const ANSWERED_LAST: u8 = 3;
    /// Fenced although the listener answers: its server waits in its system calls, and would take fright.
    pub const FENCED_BLOCKING: u8 = 4;
}

/// A decoded record with the bytes that followed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// See [`Conn`].
    Conn(Conn),
    /// See [`Request`].
    Request(Request, &'a [u8]),
    /// See [`HeadPart`].
    HeadPart(HeadPart, &'a [u8]),
    /// See [`Response`].
    Response(Response),
    /// See [`Close`].
    Close(Close),
    /// See [`Exec`].
    Exec(Exec, &'a [u8]),
    /// See [`Exit`].
    Exit(Exit),
    /// See [`Verdict`].
    Verdict(Verdict),
    /// See [`Due`].
    Due(Due),
}

/// Why a record could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Fewer bytes than the record's fixed part, or than its `len` says.
    Short,
    /// A kind that this build does not know.
    Kind(u8),
}

/// Decodes one ring-buffer record. The ring may round a record's size up, so bytes after `Head::len` are ignored.
///
/// # Errors
/// [`DecodeError`] when the bytes are no record; nothing is read beyond them.
pub fn decode(bytes: &[u8]) -> Result<Event<'_>, DecodeError> {
    let (Some(&found), Some(len)) = (bytes.first(), bytes.get(4..8)) else { return Err(DecodeError::Short) };
    let len = u32::from_le_bytes([len[0], len[1], len[2], len[3]]) as usize;
    let bytes = bytes.get(..len).ok_or(DecodeError::Short)?;
    let short = DecodeError::Short;
    Ok(match found {
        kind::CONN => Event::Conn(Conn::from_bytes(bytes).ok_or(short)?.0),
        kind::REQUEST => {
            Request::from_bytes(bytes).map(|(record, rest)| Event::Request(record, rest)).ok_or(short)?
        }
        kind::HEAD_PART => {
            HeadPart::from_bytes(bytes).map(|(record, rest)| Event::HeadPart(record, rest)).ok_or(short)?
        }
        kind::RESPONSE => Event::Response(Response::from_bytes(bytes).ok_or(short)?.0),
        kind::CLOSE => Event::Close(Close::from_bytes(bytes).ok_or(short)?.0),
        kind::EXEC => Exec::from_bytes(bytes).map(|(record, rest)| Event::Exec(record, rest)).ok_or(short)?,
        kind::EXIT => Event::Exit(Exit::from_bytes(bytes).ok_or(short)?.0),
        kind::VERDICT => Event::Verdict(Verdict::from_bytes(bytes).ok_or(short)?.0),
        kind::DUE => Event::Due(Due::from_bytes(bytes).ok_or(short)?.0),
        other => return Err(DecodeError::Kind(other)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_of_a_record_is_short_and_the_whole_decodes() {
        let close = Close {
            head: Head { kind: kind::CLOSE, pad: [0; 3], len: Close::SIZE as u32 },
            conn: 7,
            ts_ns: 8,
            req_seq: 9,
            resp_seq: 10,
        };
        let bytes = close.as_bytes();
        for cut in 0..bytes.len() {
            assert_eq!(decode(&bytes[..cut]), Err(DecodeError::Short));
        }
        assert_eq!(decode(bytes), Ok(Event::Close(close)));
        let mut padded = bytes.to_vec();
        padded.extend([1, 2, 3]);
        assert_eq!(decode(&padded), Ok(Event::Close(close)));
    }
}
