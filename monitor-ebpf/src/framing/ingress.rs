//! Packets on their way to a server: [`crate::hooks::gate`].

use aya_ebpf::bindings::__sk_buff;
use monitor_common::http1::Env as _;

use super::records::ingress_request;
use super::{Driver, Frame, decision_step, drive, fill_from_packet};
use crate::judge;
use crate::maps::{Conn, GATE_SCRATCH, NAMES};
use crate::mode::Ingress;
use crate::scratch::Scratch;

decision_step!(gate_judge_step, Ingress, GATE_SCRATCH[]);

impl Driver for Ingress {
    #[inline(always)]
    fn fill(frame: &mut Frame<Self>, to: u32, src: u64, n: u32) -> bool {
        fill_from_packet(frame, to, src, n)
    }
    #[inline(always)]
    fn request(frame: &mut Frame<Self>) {
        // SAFETY: valid pointers.
        unsafe { judge::begin::<Self>(frame.conn, frame.scratch, frame.stream(), (*frame.cur()).head_at) }
    }
    #[inline(always)]
    fn response(_frame: &mut Frame<Self>) {}
    #[inline(always)]
    fn lost(frame: &mut Frame<Self>) {
        // SAFETY: valid connection.
        unsafe { (*frame.conn).synced = 0 }
    }
    /// The server's framing sends those of requests that it gets.
    #[inline(always)]
    fn reports_parts() -> bool {
        false
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
    #[inline(always)]
    fn next(_frame: &mut Frame<Self>) -> bool {
        true
    }
    #[inline(always)]
    fn is_through(_frame: &Frame<Self>) -> bool {
        false
    }
}

/// Frames `n` bytes of a packet from byte `offset` on, and decides about the requests whose heads are complete.
///
/// # Safety
/// `conn` and `scratch` must be valid, the scratch taken; `skb` the packet of this program.
#[inline(always)]
pub unsafe fn gate(conn: *mut Conn, scratch: *mut Scratch, skb: *mut __sk_buff, offset: u32, n: u32) {
    let Some(names) = NAMES.get_ptr(judge::hosts() * 2) else { return };
    // SAFETY: the caller's promise.
    unsafe {
        (*scratch).response = 0;
        (*scratch).ask.emit = 0;
        let mut frame = Frame::<Ingress>::new(conn, scratch, names, skb);
        drive(&mut frame, offset as u64, n);
    }
}
