//! Packets on their way to a server whose denied callers get a response: [`crate::hooks::answer`].

use aya_ebpf::bindings::__sk_buff;
use monitor_common::http1::Env as _;

use super::records::{local_reply_count, local_reply_request, local_reply_unframed};
use super::{Driver, Frame, decision_step, drive_packet};
use crate::maps::{ANSWER_SCRATCH, Answer, Conn};
use crate::mode::LocalReply;
use crate::scratch::{NOTHING, Scratch};
use crate::{answer, judge};

/// `Ask::emit`: denied because it came behind a denied request.
const BEHIND: u32 = 2;

decision_step!(answer_judge_begin, answer_judge_step(which), LocalReply, ANSWER_SCRATCH.get_ptr_mut(which));

impl Driver for LocalReply {
    #[inline(always)]
    fn request(frame: &mut Frame<Self>) {
        // SAFETY: valid pointers.
        unsafe {
            let (cur, stream) = (frame.cur(), frame.stream());
            let reply = &raw mut (*frame.scratch).reply;
            let behind = (*cur).end.wrapping_sub((*cur).head_at).wrapping_add((*stream).shipped);
            (*reply).head_at = ((*cur).user as u32).wrapping_sub(behind);
            (*reply).complete = 1;
            let ask = &raw mut (*frame.scratch).ask;
            if (*reply).first != NOTHING {
                // behind a denied request: whatever it is, its answer would come too early
                (*ask).emit = BEHIND;
                (*ask).line_at = (*cur).head_at;
                (*ask).seq = (*frame.conn).http.shared.req_seq;
                (*ask).method = (*stream).method as u32;
                return;
            }
            Self::judge(frame.conn, frame.scratch, (*cur).head_at);
            (*ask).number = (*reply).number;
        }
    }
    #[inline(always)]
    fn unframed(conn: *mut Conn, scratch: *mut Scratch) {
        local_reply_unframed(conn, scratch);
    }
    #[inline(always)]
    fn reports_parts() -> bool {
        judge::is_gated()
    }
    #[inline(always)]
    fn count(conn: *mut Conn, scratch: *mut Scratch) {
        local_reply_count(conn, scratch);
    }
    #[inline(always)]
    fn judge(conn: *mut Conn, scratch: *mut Scratch, line_at: u32) {
        answer_judge_begin(conn, scratch, line_at);
    }
    #[inline(always)]
    unsafe fn decide(conn: *mut Conn, scratch: *mut Scratch) {
        // SAFETY: the caller's promise.
        answer_judge_step(conn, unsafe { (*scratch).which } as u32);
    }
    #[inline(always)]
    fn settle(frame: &mut Frame<Self>) -> Option<bool> {
        // SAFETY: valid pointers; the connection is that of an `Answer`.
        unsafe {
            let scratch = frame.scratch;
            if (*scratch).reply.complete == 0 {
                return None;
            }
            (*scratch).reply.complete = 0;
            let emit = core::mem::take(&mut (*scratch).ask.emit);
            let answer = frame.conn.cast::<Answer>();
            if emit == 0 {
                return Some(answer::pass(answer, scratch, frame.stream()));
            }
            let enforced = answer::deny(answer, scratch, frame.stream(), emit == BEHIND);
            let next = (*answer).conn.http.shared.req_seq;
            (*scratch).cur.head_at = (*scratch).ask.line_at;
            (*answer).conn.http.shared.req_seq = (*scratch).ask.seq;
            local_reply_request(frame.conn, scratch);
            (*answer).conn.http.shared.req_seq = next;
            judge::tell(frame.conn, scratch, enforced);
            answer::tell(answer, scratch);
            (*scratch).cur.head_at = u32::MAX;
            Some((*answer).conn.fenced != 0)
        }
    }
}

/// Frames the `n` bytes of a packet; [`crate::scratch::Reply`] says what came of it.
///
/// # Safety
/// `answer` and `scratch` must be valid, the scratch taken; `skb` the packet of this program.
#[inline(always)]
pub unsafe fn answer(answer: *mut Answer, scratch: *mut Scratch, skb: *mut __sk_buff, n: u32) {
    // SAFETY: the caller's promise.
    unsafe {
        (*scratch).reply.complete = 0;
        drive_packet::<LocalReply>((&raw mut (*answer).conn).cast(), scratch, skb, 0, n);
    }
}
