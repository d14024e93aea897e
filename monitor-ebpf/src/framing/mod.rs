//! Runs the framing of `monitor-common` over bytes, and turns what it finds into counts, records and decisions.
//!
//! One driver ([`drive`]) for three modes ([`crate::mode`]), which differ in where the bytes come from and what a denial does:
//! calls are fenced ([`calls`]), a packet is dropped ([`ingress`]) or becomes the response ([`local_reply`]).

mod calls;
mod ingress;
mod local_reply;
mod pieces;
mod records;

pub use calls::{closed, finish, give_up, run, skip, was_framed};
pub use ingress::gate;
pub use local_reply::answer;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::cty::{c_long, c_void};
use aya_ebpf::helpers::generated::{bpf_loop, bpf_skb_load_bytes};
use core::marker::PhantomData;
use core::mem::offset_of;
use monitor_common::event;
use monitor_common::http1::{self, Cur, Env, Memo, Names, PRE, Shared, Stream, WIN, clamp, window_bytes};
use monitor_common::ledger::Counter;

use self::pieces::{
    frame_absorb, frame_bare, frame_credential, frame_find_any, frame_find_lf, frame_front, frame_headers,
    frame_hex, frame_line, frame_name, frame_other_method, frame_param, frame_params, frame_recall,
    frame_scheme, frame_skip_blanks, frame_trim_blanks, frame_version,
};
use self::records::frame_unframe;
use crate::maps::{Conn, NAMES, count, told};
use crate::mode::Mode;
use crate::scratch::Scratch;
use crate::{judge, raw, ring};

/// Upper bound of ticks a call: each consumes a byte at least, and a call moves at most 2 GiB, of which bodies are
/// skipped. A head is bounded to 256 KiB, so this is never reached by well-formed traffic.
const MAX_TICKS: u32 = 1 << 20;

/// Distance between the two directions' parts of [`http1::Conn`].
const STREAM: usize = offset_of!(http1::Conn, resp) - offset_of!(http1::Conn, req);
const MEMO: usize = offset_of!(http1::Conn, resp_memo) - offset_of!(http1::Conn, req_memo);

/// Where a mode's bytes come from, and what becomes of what is found in them. What a mode does not say for itself is right for
/// packets on their way to a server: one segment, and requests only.
pub trait Driver: Mode + Sized {
    /// Copies `n` bytes at `src` to window byte `to` (< 64). False if they cannot be read.
    #[inline(always)]
    fn fill(frame: &mut Frame<Self>, to: u32, src: u64, n: u32) -> bool {
        if n == 0 {
            return false;
        }
        let n = raw::some(n, WIN as u32);
        // SAFETY: at most WIN bytes to one of the first 64 window bytes: inside window and tail. The helper checks the packet's
        // bounds.
        unsafe { bpf_skb_load_bytes(frame.skb.cast(), src as u32, frame.window(to, 0).cast(), n) == 0 }
    }
    /// The head of a request is complete.
    fn request(frame: &mut Frame<Self>);
    /// A final response is complete.
    #[inline(always)]
    fn response(_frame: &mut Frame<Self>) {}
    /// The head of a response is complete.
    #[inline(always)]
    fn response_head(_frame: &mut Frame<Self>) {}
    /// Framing was lost.
    #[inline(always)]
    fn lost(frame: &mut Frame<Self>) {
        // SAFETY: valid pointers.
        unsafe {
            (*frame.conn).synced = 0;
            if judge::is_refused(frame.conn, frame.stream()) {
                frame.unframed();
            }
        }
    }
    /// Reports a request that was not framed, and gives it a number.
    fn unframed(conn: *mut Conn, scratch: *mut Scratch);
    /// Whether the daemon is sent the parts of heads that leave the window.
    fn reports_parts() -> bool;
    /// Counts a request in the totals and for its identity.
    fn count(conn: *mut Conn, scratch: *mut Scratch);
    /// Begins the decision about the last request, whose line is at window byte `line_at`.
    fn judge(conn: *mut Conn, scratch: *mut Scratch, line_at: u32);
    /// One step of the decision in progress.
    ///
    /// # Safety
    /// The pointers must be valid.
    unsafe fn decide(conn: *mut Conn, scratch: *mut Scratch);
    /// Does what was decided about the last request. `Some`: whether the driver stops, else goes round again.
    fn settle(frame: &mut Frame<Self>) -> Option<bool>;
    /// The segment is framed: goes on with the next one, or stops (true).
    #[inline(always)]
    fn next(_frame: &mut Frame<Self>) -> bool {
        true
    }
    /// Whether nothing is left to do once the segment is framed, so that the driver need not go round again to see that.
    #[inline(always)]
    fn is_through(_frame: &Frame<Self>) -> bool {
        false
    }
}

/// One step's view of a connection. The direction is read once a step: pointers and branches that derive from one value let
/// the verifier see that they belong together (a third of the instructions).
pub struct Frame<M> {
    dir: usize,
    conn: *mut Conn,
    scratch: *mut Scratch,
    names: *const Names,
    /// The packet, of modes with packets.
    skb: *mut __sk_buff,
    mode: PhantomData<M>,
}

impl<M: Driver> Frame<M> {
    /// Address of window byte `offset`, or of the bytes in front of it where a record is built.
    #[inline(always)]
    fn window(&self, offset: u32, back: usize) -> *mut u8 {
        // SAFETY: the mask keeps the address inside the window, `back` is at most `PRE`.
        unsafe {
            let start = (&raw mut (*self.scratch).window).cast::<u8>();
            start.add(PRE - back).add((offset & (WIN as u32 - 1)) as usize)
        }
    }

    /// A request was not framed: counts it, decides about it (the server does not get a packet's) and reports it. One call after the
    /// other: each has a stack of its own.
    #[inline(always)]
    fn unframed(&mut self) {
        frame_unframe(self.conn);
        M::count(self.conn, self.scratch);
        // SAFETY: valid pointers.
        unsafe {
            if !M::PACKETS && judge::charges_unframed(self.conn) {
                M::judge(self.conn, self.scratch, 0);
                judge::has_no_line(self.scratch);
            }
        }
        M::unframed(self.conn, self.scratch);
    }

    /// A view of direction `dir`, without a packet.
    #[inline(always)]
    fn of(dir: usize, conn: *mut Conn, scratch: *mut Scratch, names: *const Names) -> Self {
        Self { dir, conn, scratch, names, skb: core::ptr::null_mut(), mode: PhantomData }
    }

    /// A view for the direction of the call in progress.
    ///
    /// # Safety
    /// The pointers must be valid.
    #[inline(always)]
    unsafe fn new(conn: *mut Conn, scratch: *mut Scratch, names: *const Names, skb: *mut __sk_buff) -> Self {
        // SAFETY: the caller's promise.
        let dir = unsafe { ((*scratch).response & 1) as usize };
        Self { dir, conn, scratch, names, skb, mode: PhantomData }
    }
}

/// One bounded step of [`drive`].
unsafe extern "C" fn step<M: Driver>(_index: u32, context: *mut c_void) -> c_long {
    // SAFETY: the context is the `Frame` of `drive`; copied, since it holds pointers only.
    let mut frame = unsafe {
        let context = context.cast::<Frame<M>>();
        Frame::<M>::new((*context).conn, (*context).scratch, (*context).names, (*context).skb)
    };
    // SAFETY: valid pointers.
    unsafe {
        if judge::pending(frame.scratch) {
            M::decide(frame.conn, frame.scratch);
            return 0;
        }
    }
    if let Some(stop) = M::settle(&mut frame) {
        return stop as c_long;
    }
    // SAFETY: valid scratch.
    let between = unsafe { &mut (*frame.scratch).between };
    if *between != 0 {
        return M::next(&mut frame) as c_long;
    }
    let ended = http1::tick(&mut frame);
    *between = ended as u8;
    (ended && M::is_through(&frame)) as c_long
}

/// Frames `n` bytes at `source`, and what [`Driver::next`] adds to them.
///
/// # Safety
/// The pointers of `frame` must be valid, its scratch taken.
#[inline(always)]
unsafe fn drive<M: Driver>(frame: &mut Frame<M>, source: u64, n: u32) {
    // SAFETY: the caller's promise.
    unsafe {
        let scratch = frame.scratch;
        (*scratch).between = 0;
        (*scratch).ask.stage = 0;
        http1::begin(frame, source, n);
        let context = core::ptr::from_mut(frame).cast();
        let turns = bpf_loop(MAX_TICKS, step::<M> as *const () as *mut c_void, context, 0);
        if turns as u32 >= MAX_TICKS {
            // VERIFIER(6.18): giving the stream up here keeps its direction alive over the loop, which doubles the work
            count(Counter::Truncated, 1);
        }
    }
}

/// Frames the requests in `n` bytes of a packet from byte `offset` on.
///
/// # Safety
/// `conn` and `scratch` must be valid, the scratch taken; `skb` the packet of this program.
#[inline(always)]
unsafe fn drive_packet<M: Driver>(
    conn: *mut Conn,
    scratch: *mut Scratch,
    skb: *mut __sk_buff,
    offset: u32,
    n: u32,
) {
    let Some(names) = NAMES.get_ptr(judge::hosts() * 2) else { return };
    // SAFETY: the caller's promise.
    unsafe {
        (*scratch).response = 0;
        (*scratch).ask.emit = 0;
        let mut frame = Frame::<M>::new(conn, scratch, names, skb);
        drive(&mut frame, offset as u64, n);
    }
}

/// Global functions for the steps of decisions, see [`pieces`].
///
/// VERIFIER(6.1): `R2 type=mem expected=fp, pkt, pkt_meta, map_key, map_value`: a map's key may not be in memory that a function was
/// given a pointer to, so each looks its working memory up anew.
macro_rules! decision_step {
    ($begin:ident, $name:ident($($argument:ident)?), $mode:ident, $scratch:expr) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $begin(conn: *mut Conn, scratch: *mut Scratch, line_at: u32) -> u32 {
            if conn.is_null() || scratch.is_null() {
                return 1;
            }
            // SAFETY: the verifier proves that the pointers are what they say.
            unsafe { judge::begin::<$mode>(conn, scratch, &raw const (*conn).http.req, line_at) };
            0
        }
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name(conn: *mut Conn $(, $argument: u32)?) -> u32 {
            let Some(scratch) = $scratch else { return 1 };
            if conn.is_null() {
                return 1;
            }
            // SAFETY: the verifier proves that the pointers are what they say.
            unsafe { judge::step::<$mode>(conn, scratch) };
            0
        }
    };
}
use decision_step;

// SAFETY: the window is memory of this CPU that no reference points to, with slack behind it; state is socket storage, a map
// value or scratch, distinct from each other; the names are written before the programs are attached.
unsafe impl<M: Driver> Env for Frame<M> {
    #[inline(always)]
    fn piece<const PIECE: u32>(&mut self) -> bool {
        let (conn, scratch, names) = (self.conn, self.scratch, self.names.cast_mut());
        (match PIECE {
            http1::piece::LINE => frame_line(conn, scratch, names),
            http1::piece::HEADERS => frame_headers(conn, scratch, names),
            http1::piece::PARAMS => frame_params(conn, scratch, names),
            http1::piece::ABSORB => frame_absorb(conn, scratch, names),
            http1::piece::RECALL => frame_recall(conn, scratch, names),
            http1::piece::SCHEME => frame_scheme(conn, scratch, names),
            http1::piece::CREDENTIAL => frame_credential(conn, scratch, names),
            http1::piece::BARE => frame_bare(conn, scratch, names),
            http1::piece::FRONT => frame_front(conn, scratch, names),
            // cheap for the verifier, and every call comes here
            _ => return http1::run_piece::<Self, PIECE>(self),
        }) != 0
    }
    #[inline(always)]
    fn find_any(&self, p: u32, bytes: u32) -> u32 {
        frame_find_any(self.scratch, p, bytes)
    }
    #[inline(always)]
    fn skip_blanks(&self, p: u32) -> u32 {
        frame_skip_blanks(self.scratch, p)
    }
    #[inline(always)]
    fn trim_blanks(&self, p: u32, stop: u32) -> u32 {
        frame_trim_blanks(self.scratch, p, stop)
    }
    #[inline(always)]
    fn version(&self, p: u32, t: u32) -> u32 {
        frame_version(self.scratch, p, t)
    }
    #[inline(always)]
    fn other_method(&self, p: u32, end: u32) -> u32 {
        frame_other_method(self.scratch, p, end)
    }
    #[inline(always)]
    fn hex(&self, p: u32) -> u64 {
        frame_hex(self.scratch, p)
    }
    #[inline(always)]
    fn param(&self, p: u32, first: u32) -> u32 {
        frame_param(self.scratch, self.names.cast_mut(), p, first)
    }
    #[inline(always)]
    fn name(&self, p: u32, candidate: u32) -> u32 {
        frame_name(self.scratch, self.names.cast_mut(), p, candidate)
    }
    #[inline(always)]
    fn find_lf(&self, p: u32) -> u32 {
        frame_find_lf(self.scratch, p)
    }
    #[inline(always)]
    fn resp(&self) -> bool {
        self.dir != 0
    }
    #[inline(always)]
    fn at(&self, off: u32) -> *mut u8 {
        self.window(off, 0)
    }
    #[inline(always)]
    fn cur(&self) -> *mut Cur {
        // SAFETY: valid scratch.
        unsafe { &raw mut (*self.scratch).cur }
    }
    #[inline(always)]
    fn stream(&self) -> *mut Stream {
        // SAFETY: one of the two streams of a valid connection.
        unsafe { (&raw mut (*self.conn).http.req).byte_add(self.dir * STREAM) }
    }
    #[inline(always)]
    fn other(&self) -> *mut Stream {
        // SAFETY: one of the two streams of a valid connection.
        unsafe { (&raw mut (*self.conn).http.req).byte_add((self.dir ^ 1) * STREAM) }
    }
    #[inline(always)]
    fn shared(&self) -> *mut Shared {
        // SAFETY: valid connection.
        unsafe { &raw mut (*self.conn).http.shared }
    }
    #[inline(always)]
    fn names(&self) -> *const Names {
        self.names
    }
    #[inline(always)]
    fn memo(&self) -> *mut Memo {
        // SAFETY: one of the two memos of a valid connection.
        unsafe { (&raw mut (*self.conn).http.req_memo).byte_add(self.dir * MEMO) }
    }
    #[inline(always)]
    fn fill(&mut self, to: u32, src: u64, n: u32) -> bool {
        M::fill(self, to & 63, src, clamp(n))
    }
    #[inline(always)]
    fn head(&mut self) {
        if self.resp() {
            M::response_head(self);
        } else {
            M::request(self);
        }
    }
    #[inline(always)]
    fn part(&mut self, from: u32, to: u32) {
        // SAFETY: valid pointers.
        unsafe {
            (*self.conn).told |= told::SOMETHING;
            let stream = self.stream();
            let n = window_bytes(to.wrapping_sub(from));
            judge::keep::<M>(self.conn, (*stream).shipped, self.window(from, 0), n);
            if !M::reports_parts() {
                return;
            }
            let record = self.window(from, event::HeadPart::SIZE);
            record.cast::<event::HeadPart>().write_unaligned(event::HeadPart {
                head: ring::head(event::HeadPart::KIND, event::HeadPart::SIZE as u32 + n),
                conn: (*self.conn).id,
                ts_ns: ring::now(self.scratch),
                seq: (*self.conn).http.shared.req_seq,
                from: (*stream).shipped,
            });
            ring::output(record.cast(), n as u64 + event::HeadPart::SIZE as u64, Counter::LostHeadPart);
        }
    }
    #[inline(always)]
    fn end(&mut self) {
        if self.resp() {
            M::response(self);
        }
    }
    #[inline(always)]
    fn desync(&mut self) {
        M::lost(self);
    }
}

const _: () = assert!(event::HeadPart::SIZE <= PRE);
