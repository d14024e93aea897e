//! Packets on their way to a server: [`crate::hooks::gate`].

use aya_ebpf::bindings::__sk_buff;
use monitor_common::http1::Env as _;

use super::records::{ingress_count, ingress_request, ingress_unframed};
use super::{Driver, Frame, decision_step, drive_packet};
use crate::judge;
use crate::maps::{Conn, GATE_SCRATCH};
use crate::mode::Ingress;
use crate::scratch::Scratch;

decision_step!(gate_judge_begin, gate_judge_step(), Ingress, GATE_SCRATCH.get_ptr_mut(0));

impl Driver for Ingress {
    #[inline(always)]
    fn request(frame: &mut Frame<Self>) {
        // SAFETY: valid pointers.
        let line_at = unsafe { (*frame.cur()).head_at };
        Self::judge(frame.conn, frame.scratch, line_at);
    }
    #[inline(always)]
    fn unframed(conn: *mut Conn, scratch: *mut Scratch) {
        ingress_unframed(conn, scratch);
    }
    /// The server's framing sends those of requests that it gets.
    #[inline(always)]
    fn reports_parts() -> bool {
        false
    }
    #[inline(always)]
    fn count(conn: *mut Conn, scratch: *mut Scratch) {
        ingress_count(conn, scratch);
    }
    #[inline(always)]
    fn judge(conn: *mut Conn, scratch: *mut Scratch, line_at: u32) {
        gate_judge_begin(conn, scratch, line_at);
    }
    #[inline(always)]
    unsafe fn decide(conn: *mut Conn, _scratch: *mut Scratch) {
        gate_judge_step(conn);
    }
    #[inline(always)]
    fn settle(frame: &mut Frame<Self>) -> Option<bool> {
        // SAFETY: valid pointers.
        unsafe {
            if (*frame.scratch).ask.emit == 0 {
                return None;
            }
            // the server will not see it: it is counted and reported here, and nothing behind it matters
            (*frame.scratch).cur.head_at = (*frame.scratch).ask.line_at;
            (*frame.conn).http.shared.req_seq = (*frame.scratch).ask.seq;
            ingress_request(frame.conn, frame.scratch);
            let enforced = judge::cut(frame.conn, (*frame.scratch).ask.seq);
            judge::tell(frame.conn, frame.scratch, enforced);
        }
        Some(true)
    }
}

/// Frames `n` bytes of a packet from byte `offset` on, and decides about the requests whose heads are complete.
///
/// # Safety
/// `conn` and `scratch` must be valid, the scratch taken; `skb` the packet of this program.
#[inline(always)]
pub unsafe fn gate(conn: *mut Conn, scratch: *mut Scratch, skb: *mut __sk_buff, offset: u32, n: u32) {
    // SAFETY: the caller's promise.
    unsafe { drive_packet::<Ingress>(conn, scratch, skb, offset, n) }
}
