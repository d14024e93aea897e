//! Bytes of calls: sockets and TLS libraries, both directions. The segments of a call follow each other.

use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::bpf_probe_read_user;
use monitor_common::event::{response_flag, role};
use monitor_common::http1::{self, Env as _, Start, Stream, flag, phase};
use monitor_common::ledger::Counter;

use super::records::{frame_count, frame_head, frame_response, frame_unframed};
use super::{Driver, Frame, decision_step, drive};
use crate::maps::{Conn, NAMES, SCRATCH, count};
use crate::mode::Calls;
use crate::scratch::{self, Scratch};
use crate::{answer, conn, judge, raw, ring};

decision_step!(judge_begin, judge_step(), Calls, SCRATCH.get_ptr_mut(0));

impl Driver for Calls {
    #[inline(always)]
    fn fill(frame: &mut Frame<Self>, to: u32, src: u64, n: u32) -> bool {
        // SAFETY: at most WIN bytes to one of the first 64 window bytes: inside window and tail.
        let result = unsafe { bpf_probe_read_user(frame.window(to, 0).cast(), n, src as *const c_void) };
        if result != 0 {
            count(Counter::Fault, 1);
        }
        result == 0
    }
    #[inline(always)]
    fn request(frame: &mut Frame<Self>) {
        frame_head(frame.conn, frame.scratch);
    }
    #[inline(always)]
    fn response(frame: &mut Frame<Self>) {
        frame_response(frame.conn, frame.scratch, 0);
        // SAFETY: valid pointers.
        unsafe {
            conn::has_served(frame.conn);
            if (*frame.conn).answered != 0 {
                answer::served(frame.conn, frame.scratch);
            }
        }
    }
    #[inline(always)]
    fn response_head(frame: &mut Frame<Self>) {
        if frame_response_head(frame.conn, frame.scratch) != 0 {
            frame.unframed();
        }
    }
    #[inline(always)]
    fn unframed(conn: *mut Conn, scratch: *mut Scratch) {
        frame_unframed(conn, scratch);
    }
    #[inline(always)]
    fn lost(frame: &mut Frame<Self>) {
        // SAFETY: valid pointers.
        unsafe {
            let stream = frame.stream();
            if (*stream).flags & flag::CUT != 0 {
                (*frame.conn).blind = 1;
            } else if !frame.resp() && judge::is_refused(frame.conn, stream) {
                frame.unframed();
            }
        }
        // SAFETY: valid connection.
        let (shared, answered, cookie) =
            unsafe { (&(*frame.conn).http.shared, (*frame.conn).answered, (*frame.conn).peer.cookie) };
        if answered != 0 {
            answer::lost(cookie);
        }
        // what never had a message was no HTTP
        let known = shared.req_seq != 0 || shared.resp_seq != 0;
        count(if known { Counter::Desync } else { Counter::NotHttp }, 1);
    }
    #[inline(always)]
    fn reports_parts() -> bool {
        true
    }
    #[inline(always)]
    fn count(conn: *mut Conn, scratch: *mut Scratch) {
        frame_count(conn, scratch);
    }
    #[inline(always)]
    fn judge(conn: *mut Conn, scratch: *mut Scratch, line_at: u32) {
        judge_begin(conn, scratch, line_at);
    }
    #[inline(always)]
    unsafe fn decide(conn: *mut Conn, _scratch: *mut Scratch) {
        judge_step(conn);
    }
    #[inline(always)]
    fn settle(_frame: &mut Frame<Self>) -> Option<bool> {
        None
    }
    #[inline(always)]
    fn next(frame: &mut Frame<Self>) -> bool {
        // SAFETY: valid scratch.
        unsafe {
            if raw::is_through(frame.scratch) {
                return true;
            }
            // an empty one says nothing
            let (address, n) = raw::next_segment(frame.scratch);
            if n != 0 {
                (*frame.scratch).between = 0;
                http1::begin(frame, address, n);
            }
        }
        false
    }
    #[inline(always)]
    fn is_through(frame: &Frame<Self>) -> bool {
        // SAFETY: valid scratch.
        unsafe { raw::is_through(frame.scratch) && !judge::pending(frame.scratch) }
    }
}

impl Frame<Calls> {
    /// The view of a call that begins: sets its direction.
    ///
    /// # Safety
    /// As [`Self::new`].
    #[inline(always)]
    unsafe fn begin(conn: *mut Conn, scratch: *mut Scratch, response: bool) -> Option<Self> {
        let names = NAMES.get_ptr(if response { 1 } else { judge::hosts() * 2 })?;
        // SAFETY: the caller's promise.
        unsafe {
            (*scratch).response = response as u32;
            Some(Self::new(conn, scratch, names, core::ptr::null_mut()))
        }
    }
}

/// Frames `n` bytes at `address` and the segments that follow them.
///
/// # Safety
/// `conn` and `scratch` must be valid, the scratch taken.
#[inline(always)]
pub unsafe fn run(conn: *mut Conn, scratch: *mut Scratch, response: bool, address: u64, n: u32) {
    // SAFETY: the caller's promise.
    unsafe {
        let stream = if response { &raw const (*conn).http.resp } else { &raw const (*conn).http.req };
        if (*stream).phase == phase::OPAQUE && (*stream).flags & flag::DESYNC != 0 {
            frame_again(conn, response as u32, address, n);
        }
        let Some(mut frame) = Frame::begin(conn, scratch, response) else { return };
        drive(&mut frame, address, n);
    }
}

/// A direction whose framing was lost goes on with these `n` bytes, if they begin like a message and nothing is outstanding: that is
/// where the next one begins.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn frame_again(conn: *mut Conn, response: u32, address: u64, n: u32) -> u32 {
    if conn.is_null() {
        return 0;
    }
    let start = raw::start(address, n);
    // SAFETY: the verifier proves that the pointer is what it says.
    unsafe {
        let (req, resp, shared) =
            (&raw mut (*conn).http.req, &raw mut (*conn).http.resp, &raw mut (*conn).http.shared);
        if response != 0 {
            if start == Start::Response {
                framed_again(resp);
                if ((*shared).req_seq.wrapping_sub((*shared).resp_seq) as i32) > 0 {
                    (*shared).resp_seq = (*shared).req_seq.wrapping_sub(1);
                }
            }
        } else if start == Start::Request
            && (*shared).resp_seq == (*shared).req_seq
            && matches!((*resp).phase, phase::START | phase::OPAQUE)
        {
            framed_again(req);
            (*req).proven = 1;
        }
    }
    0
}

/// # Safety
/// `stream` must be valid.
#[inline(always)]
unsafe fn framed_again(stream: *mut Stream) {
    // SAFETY: the caller's promise.
    unsafe {
        (*stream).phase = phase::START;
        (*stream).flags = 0;
        (*stream).carry = 0;
        (*stream).open = 0;
    }
    count(Counter::FramedAgain, 1);
}

/// The head of a response is complete. 1: no request was framed for it, but there was one, since a server answers what it took for one.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn frame_response_head(conn: *mut Conn, scratch: *mut Scratch) -> u32 {
    if conn.is_null() || scratch.is_null() {
        return 0;
    }
    // SAFETY: the verifier proves that the pointers are what they say.
    unsafe {
        (*conn).response_ts = ring::now(scratch);
        if (*conn).http.shared.resp_seq != (*conn).http.shared.req_seq {
            return 0;
        }
        let status = (*conn).http.resp.status;
        // (an interim response has no number; a client can read a response before its send has ended)
        if (*conn).role != role::INBOUND || (status < 200 && status != 101) {
            return 0;
        }
        1
    }
}

/// Bytes of a stream could not be looked at: where its messages begin and end is not known any more.
///
/// # Safety
/// `conn` must be valid.
#[inline(always)]
pub unsafe fn give_up(conn: *mut Conn, response: bool) {
    // SAFETY: the caller's promise.
    unsafe {
        let stream = if response { &raw mut (*conn).http.resp } else { &raw mut (*conn).http.req };
        (*stream).phase = phase::OPAQUE;
        (*stream).open = 0;
        (*stream).flags |= flag::DESYNC | flag::CUT;
        (*conn).blind = 1;
        if (*conn).answered != 0 {
            answer::lost((*conn).peer.cookie);
        }
    }
    count(Counter::Desync, 1);
}

/// `n` bytes were sent: whether they were framed before. When only some of them were, which takes a send that was not seen in
/// between, the framing is lost.
///
/// # Safety
/// `conn` must be valid.
#[inline(always)]
pub unsafe fn was_framed(conn: *mut Conn, n: u32) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let ahead = (*conn).ahead;
        if ahead == 0 {
            return false;
        }
        if n > ahead {
            give_up(conn, false);
        }
        (*conn).ahead = if n > ahead { 0 } else { ahead.wrapping_sub(n) };
        true
    }
}

/// `n` bytes went by unseen (sendfile, or a call that cannot be read): only a body may take them.
///
/// # Safety
/// As [`run`].
#[inline(always)]
pub unsafe fn skip(conn: *mut Conn, scratch: *mut Scratch, response: bool, n: u32) {
    // SAFETY: the caller's promise.
    unsafe {
        let Some(mut frame) = Frame::begin(conn, scratch, response) else { return };
        http1::skip(&mut frame, n as u64);
    }
}

/// The connection (or its receiving half) ended: a response that lasts until then is complete now.
///
/// # Safety
/// As [`run`].
#[inline(always)]
pub unsafe fn finish(conn: *mut Conn, scratch: *mut Scratch) {
    // SAFETY: the caller's promise.
    unsafe {
        let Some(mut frame) = Frame::begin(conn, scratch, true) else { return };
        match http1::eof(&mut frame) {
            http1::Eof::Idle | http1::Eof::Closed => {}
            http1::Eof::Cut => {
                frame_response(conn, scratch, response_flag::AT_CLOSE as u32);
            }
        }
    }
}

/// Tells the daemon that a connection ended, with the response that ended with it.
///
/// # Safety
/// `conn` must be valid.
#[inline(always)]
pub unsafe fn closed(conn: *mut Conn) {
    // SAFETY: the caller's promise.
    unsafe {
        if (*conn).told == 0 {
            return;
        }
        count(Counter::Overflow, (*conn).http.shared.overflow as u64);
        if let Some(scratch) = scratch::take() {
            finish(conn, scratch);
            scratch::release(scratch);
        }
        conn::tell_end(conn);
    }
}
