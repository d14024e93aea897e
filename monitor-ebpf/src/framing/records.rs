//! What the framing reports: requests, counted in the kernel first, and responses.
//!
//! Global functions, see [`super::pieces`].

use monitor_common::event::{self, CREDS, request_flag, response_flag};
use monitor_common::http1::{Env as _, PRE, flag, method, phase, window_bytes};
use monitor_common::kernel::{IdentityCount, IdentityKey};
use monitor_common::ledger::Counter;

use super::{Driver, Frame};
use crate::conn::{self, ANONYMOUS};
use crate::maps::{Conn, IDENTITIES, count};
use crate::mode::{Calls, Ingress, LocalReply};
use crate::scratch::Scratch;
use crate::{judge, raw, ring};

/// The head of a request that a call moved is complete: counts it, reports it and begins its decision.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn frame_head(conn: *mut Conn, scratch: *mut Scratch) -> u32 {
    if conn.is_null() || scratch.is_null() {
        return 1;
    }
    // SAFETY: the verifier proves that the pointers are what they say.
    unsafe {
        let mut frame = Frame::<Calls>::of(0, conn, scratch, core::ptr::null());
        frame.request();
        Calls::judge(conn, scratch, (*scratch).cur.head_at);
    }
    0
}

/// The next request was not framed: the server has answered it, or must not get it. What is in progress is not what the server reads; it
/// is charged to whom the connection's last request was charged to.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn frame_unframe(conn: *mut Conn) -> u32 {
    if conn.is_null() {
        return 1;
    }
    // SAFETY: the verifier proves that the pointer is what it says.
    unsafe {
        let stream = &raw mut (*conn).http.req;
        if (*stream).open != 0 {
            // what was read of them may be half
            let cred = (&raw mut (*stream).cred).cast::<u32>();
            cred.write_volatile(0);
        }
        (*stream).method = method::OTHER;
        (*stream).open = 0;
        (*stream).carry = 0;
        (*stream).phase = phase::OPAQUE;
        (*stream).head = 0;
        (*stream).shipped = 0;
        (*stream).body = 0;
        (*stream).remaining = 0;
        (*stream).more = 0;
        (*stream).flags &= flag::CUT;
    }
    0
}

/// A final response is complete.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn frame_response(conn: *mut Conn, scratch: *mut Scratch, how: u32) -> u32 {
    if conn.is_null() || scratch.is_null() {
        return 1;
    }
    // SAFETY: the verifier proves that the pointers are what they say.
    unsafe { Frame::<Calls>::of(1, conn, scratch, core::ptr::null()).response(how as u16) }
    0
}

/// A method of a mode's view as a function.
macro_rules! of_modes {
    ($($(#[$doc:meta])* $name:ident = $mode:ident.$method:ident;)*) => {$(
        $(#[$doc])*
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $name(conn: *mut Conn, scratch: *mut Scratch) -> u32 {
            if conn.is_null() || scratch.is_null() {
                return 1;
            }
            // SAFETY: the verifier proves that the pointers are what they say.
            unsafe { Frame::<$mode>::of(0, conn, scratch, core::ptr::null()).$method() }
            0
        }
    )*};
}
of_modes! {
    /// Counts a request in the totals and for its identity, and tells the daemon about its connection.
    frame_count = Calls.count;
    /// The same of a packet.
    ingress_count = Ingress.count;
    /// The same where denied requests get a reply.
    local_reply_count = LocalReply.count;
    /// Reports a request that was not framed, gives it a number, and fences its connection where such ones are denied.
    frame_unframed = Calls.report_unframed;
    /// The same of a packet, which the server does not get.
    ingress_unframed = Ingress.report_unframed;
    /// The same where denied requests get a reply.
    local_reply_unframed = LocalReply.report_unframed;
    /// Counts and reports a request that the server will not see.
    ingress_request = Ingress.request;
    /// The same where its sender gets a reply.
    local_reply_request = LocalReply.request;
}

impl<M: Driver> Frame<M> {
    /// A request's head is complete: counts and reports it.
    ///
    /// # Safety
    /// The pointers must be valid.
    #[inline(always)]
    pub(super) unsafe fn request(&mut self) {
        // SAFETY: valid pointers for the duration of the call.
        unsafe {
            M::count(self.conn, self.scratch);
            let stream = self.stream();
            let conn = self.conn;
            let cur = self.cur();
            let from = (*stream).shipped;
            let at = (*cur).head_at;
            let mut same = (*stream).same != 0 && from == 0 && (*cur).block_at != u32::MAX;
            if M::REPLIES {
                same = false; // the daemon has not seen the block on this connection: allowed requests are the server's
            }
            let end = if same { (*cur).block_at } else { (*cur).pos };
            let all = end.wrapping_sub(at);
            let size = window_bytes(all);
            let framing = (*stream).flags;
            let mut flags = 0;
            if same {
                flags |= request_flag::SAME_HEADERS;
            }
            if from != 0 {
                flags |= request_flag::PARTS;
            }
            if size != all {
                flags |= request_flag::CUT;
            }
            if (*conn).joined != 0 && (*conn).http.shared.req_seq == 0 {
                flags |= request_flag::JOINED;
                count(Counter::Joined, 1);
            }
            if framing & flag::V10 != 0 {
                flags |= request_flag::V10;
            }
            if flag::is_ambiguous(framing) {
                flags |= request_flag::AMBIGUOUS;
            }
            if framing & (flag::BARE_LF | flag::FOLD | flag::ODD) != 0 {
                flags |= request_flag::LAX;
            }
            if framing & flag::UPGRADE != 0 {
                flags |= request_flag::UPGRADE;
            }
            if (*stream).more != 0 {
                flags |= request_flag::MORE_CREDS;
            }
            self.report(at, size, flags);
        }
    }

    /// Reports a request that was not framed, and gives it a number.
    #[inline(always)]
    unsafe fn report_unframed(&mut self) {
        // SAFETY: valid pointers for the duration of the call.
        unsafe {
            let (stream, shared, conn) = (self.stream(), self.shared(), self.conn);
            self.report(0, 0, request_flag::UNFRAMED | request_flag::AMBIGUOUS);
            judge::unframed(conn, self.scratch, stream);
            (*stream).flags |= flag::DESYNC;
            count(Counter::Unframed, 1);
            let seq = (*shared).req_seq;
            let bit = 1u64 << (seq & 63);
            (*shared).head_bits &= !bit;
            (*shared).connect_bits &= !bit;
            (*shared).req_seq = seq.wrapping_add(1);
        }
    }

    /// See [`frame_count`].
    #[inline(always)]
    unsafe fn count(&mut self) {
        // SAFETY: valid pointers for the duration of the call.
        unsafe {
            let (stream, conn) = (self.stream(), self.conn);
            let role = (*conn).role;
            count(conn::total(role), 1);
            let key = if (*stream).cred[0] == 0 {
                IdentityKey { fp: (*conn).client, cred: ANONYMOUS, role: role as u32 }
            } else {
                IdentityKey { fp: (*stream).fp[0], cred: (*stream).cred[0] as u32, role: role as u32 }
            };
            charge(&key);
            conn::announce::<M>(conn, self.scratch);
        }
    }

    /// Sends the record of a request with `size` bytes of the window from `at` on.
    #[inline(always)]
    unsafe fn report(&mut self, at: u32, size: u32, flags: u16) {
        // SAFETY: valid pointers for the duration of the call.
        unsafe {
            let (stream, conn) = (self.stream(), self.conn);
            let framing = (*stream).flags;
            let body = if framing & flag::CHUNKED != 0 {
                event::CHUNKED
            } else if framing & flag::CL != 0 {
                (*stream).remaining
            } else {
                0
            };
            let total = event::Request::SIZE as u32 + size;
            let record = self.window(at, event::Request::SIZE);
            let to = record.cast::<event::Request>();
            // one by one: a whole record would be built on the stack
            macro_rules! set {
                ($field:ident, $value:expr) => {
                    (&raw mut (*to).$field).write_unaligned($value)
                };
            }
            set!(head, ring::head(event::Request::KIND, total));
            set!(conn, (*conn).id);
            set!(ts_ns, ring::now(self.scratch));
            set!(content_length, body);
            // word by word: a copy of an array is a call of a loop over bytes
            let fp = (&raw mut (*to).fp).cast::<u64>();
            fp.write_unaligned((*stream).fp[0]);
            fp.add(1).write_unaligned((*stream).fp[1]);
            fp.add(2).write_unaligned((*stream).fp[2]);
            fp.add(3).write_unaligned((*stream).fp[3]);
            (&raw mut (*to).cred).cast::<u32>().write_unaligned(u32::from_ne_bytes((*stream).cred));
            set!(seq, (*conn).http.shared.req_seq);
            set!(tgid, (*conn).tgid);
            set!(head_len, (*stream).head);
            set!(from, (*stream).shipped);
            set!(flags, flags);
            set!(method, (*stream).method);
            set!(role, (*conn).role);
            set!(client, (*conn).client);
            let copied = size as u64 + event::Request::SIZE as u64;
            ring::output(record.cast(), copied, Counter::LostRequest);
        }
    }

    /// A final response is complete, or ended with its connection: reports it.
    #[inline(always)]
    unsafe fn response(&mut self, how: u16) {
        // SAFETY: valid pointers for the duration of the call.
        unsafe {
            let conn = self.conn;
            let stream = self.stream();
            let shared = self.shared();
            let seq = (*shared).resp_seq.wrapping_sub(1);
            let mut flags = how;
            if (*shared).opaque != 0 {
                flags |= response_flag::TUNNEL;
            }
            if (*shared).req_seq == seq.wrapping_add(1) {
                flags |= response_flag::REQ_BODY;
            }
            let record = event::Response {
                head: ring::head(event::Response::KIND, event::Response::SIZE as u32),
                conn: (*conn).id,
                ts_head_ns: (*conn).response_ts,
                ts_end_ns: ring::now(self.scratch),
                body_bytes: (*stream).body,
                req_body_bytes: (*conn).http.req.body,
                seq,
                head_len: (*stream).head,
                status: (*stream).status,
                flags,
                pad: [0; 4],
            };
            ring::send(&record, Counter::LostResponse);
        }
    }
}

/// Adds a request to its identity. The table never evicts: what does not fit stays in the totals and is counted.
#[inline(always)]
fn charge(key: &IdentityKey) {
    let mut cell = IDENTITIES.get_ptr_mut(key);
    if cell.is_none() {
        // BPF_NOEXIST: when another CPU was first, its entry is the one to add to
        let _ = IDENTITIES.insert(key, IdentityCount { requests: 0 }, 1);
        cell = IDENTITIES.get_ptr_mut(key);
    }
    match cell {
        // SAFETY: a map value, shared between CPUs.
        Some(cell) => unsafe { raw::atomic_add(&raw mut (*cell).requests, 1) },
        None => count(Counter::IdentityOverflow, 1),
    }
}

const _: () = assert!(CREDS == 4 && event::Request::SIZE <= PRE);
