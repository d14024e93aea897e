//! Runs the framing of `monitor-common` over a call's bytes, and turns what it finds into counts and records.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::cty::{c_long, c_void};
use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_user, bpf_skb_load_bytes};
use core::mem::offset_of;
use monitor_common::event::{self, CREDS, request_flag, response_flag};
use monitor_common::http1::{
    self, Cur, Env, Memo, Names, PRE, Shared, Stream, WIN, clamp, flag, phase, window_bytes,
};
use monitor_common::kernel::{IdentityCount, IdentityKey};
use monitor_common::ledger::Counter;

use crate::answer;
use crate::conn::{self, ANONYMOUS};
use crate::maps::{Answer, Conn, IDENTITIES, NAMES, count, told};
use crate::scratch::{self, NOTHING, Scratch};
use crate::{judge, raw, ring};

/// Upper bound of ticks a call: each consumes a byte at least, and a call moves at most 2 GiB, of which bodies are
/// skipped. A head is bounded to 256 KiB, so this is never reached by well-formed traffic.
const MAX_TICKS: u32 = 1 << 20;

/// One step's view of a connection. The direction is read once a step: pointers and branches that derive from one value let
/// the verifier see that they belong together (a third of the instructions).
struct Frame<const GATE: bool> {
    dir: usize,
    conn: *mut Conn,
    scratch: *mut Scratch,
    names: *const Names,
    /// The packet, at the gate.
    skb: *mut __sk_buff,
}

/// Distance between the two directions' parts of [`http1::Conn`].
const STREAM: usize = offset_of!(http1::Conn, resp) - offset_of!(http1::Conn, req);
const MEMO: usize = offset_of!(http1::Conn, resp_memo) - offset_of!(http1::Conn, req_memo);

impl<const GATE: bool> Frame<GATE> {
    /// Address of window byte `offset`, or of the bytes in front of it where a record is built.
    #[inline(always)]
    fn window(&self, offset: u32, back: usize) -> *mut u8 {
        // SAFETY: the mask keeps the address inside the window, `back` is at most `PRE`.
        unsafe {
            let start = (&raw mut (*self.scratch).window).cast::<u8>();
            start.add(PRE - back).add((offset & (WIN as u32 - 1)) as usize)
        }
    }

    /// A view for the direction of the call in progress.
    ///
    /// # Safety
    /// The pointers must be valid.
    #[inline(always)]
    unsafe fn new(conn: *mut Conn, scratch: *mut Scratch, names: *const Names, skb: *mut __sk_buff) -> Self {
        // SAFETY: the caller's promise.
        let dir = unsafe { ((*scratch).response & 1) as usize };
        Self { dir, conn, scratch, names, skb }
    }

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

    #[inline(always)]
    unsafe fn request(&mut self) {
        // SAFETY: valid pointers for the duration of the call.
        unsafe {
            let stream = self.stream();
            let conn = self.conn;
            let role = (*conn).role;
            count(conn::total(role), 1);
            let key = if (*stream).cred[0] == 0 {
                IdentityKey { fp: (*conn).client, cred: ANONYMOUS, role: role as u32 }
            } else {
                IdentityKey { fp: (*stream).fp[0], cred: (*stream).cred[0] as u32, role: role as u32 }
            };
            charge(&key);
            conn::announce::<GATE>(conn, self.scratch);
            let cur = self.cur();
            let from = (*stream).shipped;
            let at = (*cur).head_at;
            let mut same = (*stream).same != 0 && from == 0 && (*cur).block_at != u32::MAX;
            if GATE && (*self.scratch).reply.sk != 0 {
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
            if framing & flag::BAD_CL != 0 || framing & (flag::CL | flag::TE) == flag::CL | flag::TE {
                flags |= request_flag::AMBIGUOUS;
            }
            if framing & (flag::BARE_LF | flag::FOLD) != 0 {
                flags |= request_flag::LAX;
            }
            if framing & flag::UPGRADE != 0 {
                flags |= request_flag::UPGRADE;
            }
            if (*stream).more != 0 {
                flags |= request_flag::MORE_CREDS;
            }
            let body = if framing & flag::CHUNKED != 0 {
                event::CHUNKED
            } else if framing & flag::CL != 0 {
                (*stream).remaining
            } else {
                0
            };
            let total = event::Request::SIZE as u32 + size;
            let record = self.window(at, event::Request::SIZE);
            record.cast::<event::Request>().write_unaligned(event::Request {
                head: ring::head(event::Request::KIND, total),
                conn: (*conn).id,
                ts_ns: ring::now(self.scratch),
                content_length: body,
                fp: (*stream).fp,
                cred: (*stream).cred,
                seq: (*conn).http.shared.req_seq,
                tgid: (*conn).tgid,
                head_len: (*stream).head,
                from,
                flags,
                method: (*stream).method,
                role,
                client: (*conn).client,
            });
            let copied = size as u64 + event::Request::SIZE as u64;
            ring::output(record.cast(), copied, Counter::LostRequest);
        }
    }

    /// A final response is complete, or ended with its connection.
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

// SAFETY: the window is memory of this CPU that no reference points to, with slack behind it; state is socket storage, a map
// value or scratch, distinct from each other; the names are written before the programs are attached.
unsafe impl<const GATE: bool> Env for Frame<GATE> {
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
        let n = clamp(n);
        if GATE {
            if n == 0 {
                return false;
            }
            let n = raw::some(n, WIN as u32);
            // SAFETY: as below; the helper checks the packet's bounds.
            let result =
                unsafe { bpf_skb_load_bytes(self.skb.cast(), src as u32, self.window(to & 63, 0).cast(), n) };
            return result == 0;
        }
        // SAFETY: at most WIN bytes to one of the first 64 window bytes: inside window and tail.
        let result = unsafe { bpf_probe_read_user(self.window(to & 63, 0).cast(), n, src as *const c_void) };
        if result != 0 {
            count(Counter::Fault, 1);
        }
        result == 0
    }
    #[inline(always)]
    fn head(&mut self) {
        // SAFETY: valid pointers.
        unsafe {
            if self.resp() {
                (*self.conn).response_ts = ring::now(self.scratch);
            } else {
                let (cur, stream) = (self.cur(), self.stream());
                if GATE {
                    let reply = &raw mut (*self.scratch).reply;
                    let behind = (*cur).end.wrapping_sub((*cur).head_at).wrapping_add((*stream).shipped);
                    (*reply).head_at = ((*cur).user as u32).wrapping_sub(behind);
                    (*reply).complete = 1;
                    if (*reply).first != NOTHING {
                        // behind a denied request: whatever it is, its answer would come too early
                        let ask = &raw mut (*self.scratch).ask;
                        (*ask).emit = BEHIND;
                        (*ask).line_at = (*cur).head_at;
                        (*ask).seq = (*self.conn).http.shared.req_seq;
                        (*ask).method = (*stream).method as u32;
                        return;
                    }
                } else {
                    self.request();
                }
                judge::begin::<GATE>(self.conn, self.scratch, stream, (*cur).head_at);
                if GATE && (*self.scratch).reply.sk != 0 {
                    (*self.scratch).ask.number = (*self.scratch).reply.number;
                }
            }
        }
    }
    #[inline(always)]
    fn part(&mut self, from: u32, to: u32) {
        // SAFETY: valid pointers.
        unsafe {
            (*self.conn).told |= told::SOMETHING;
            let stream = self.stream();
            let n = window_bytes(to.wrapping_sub(from));
            judge::keep::<GATE>(self.conn, (*stream).shipped, self.window(from, 0), n);
            // the server's framing sends those of requests that it gets
            if GATE && ((*self.scratch).reply.sk == 0 || !judge::is_gated()) {
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
            // SAFETY: valid pointers.
            unsafe {
                self.response(0);
                if !GATE && (*self.conn).answered != 0 {
                    answer::served(self.conn, self.scratch);
                }
            }
        }
    }
    #[inline(always)]
    fn desync(&mut self) {
        if GATE {
            // SAFETY: valid connection.
            unsafe { (*self.conn).synced = 0 }
            return;
        }
        // SAFETY: valid connection.
        let shared = unsafe { &*self.shared() };
        // SAFETY: valid connection.
        if unsafe { (*self.conn).answered } != 0 {
            // SAFETY: as above.
            answer::lost(unsafe { (*self.conn).peer.cookie });
        }
        // what never had a message was no HTTP
        let known = shared.req_seq != 0 || shared.resp_seq != 0;
        count(if known { Counter::Desync } else { Counter::NotHttp }, 1);
    }
}

/// One bounded step of [`run`]; the segments of a call follow each other.
unsafe extern "C" fn step(_index: u32, context: *mut c_void) -> c_long {
    // SAFETY: the context is the `Frame` of `run`; copied, since it holds pointers only.
    let mut frame = unsafe {
        let context = context.cast::<Frame<false>>();
        Frame::<false>::new((*context).conn, (*context).scratch, (*context).names, core::ptr::null_mut())
    };
    // SAFETY: valid pointers.
    unsafe {
        if judge::pending(frame.scratch) {
            judge::step::<false>(frame.conn, frame.scratch);
            return 0;
        }
    }
    // SAFETY: valid scratch.
    let between = unsafe { &mut (*frame.scratch).between };
    if *between == 0 {
        let ended = http1::tick(&mut frame);
        *between = ended as u8;
        // most calls have one segment: the loop need not come back to see that there is no other, unless there is to decide
        // SAFETY: valid scratch.
        return (ended && unsafe { raw::is_through(frame.scratch) && !judge::pending(frame.scratch) })
            as c_long;
    }
    // SAFETY: valid scratch.
    unsafe {
        if raw::is_through(frame.scratch) {
            return 1;
        }
        // an empty one says nothing
        let (address, n) = raw::next_segment(frame.scratch);
        if n != 0 {
            *between = 0;
            http1::begin(&mut frame, address, n);
        }
    }
    0
}

/// Frames `n` bytes at `address` and the segments that follow them.
///
/// # Safety
/// `conn` and `scratch` must be valid, the scratch taken.
#[inline(always)]
pub unsafe fn run(conn: *mut Conn, scratch: *mut Scratch, response: bool, address: u64, n: u32) {
    // SAFETY: the caller's promise.
    unsafe {
        let Some(mut frame) = Frame::<false>::begin(conn, scratch, response) else { return };
        (*scratch).between = 0;
        (*scratch).ask.stage = 0;
        http1::begin(&mut frame, address, n);
        let done = bpf_loop(MAX_TICKS, step as *const () as *mut c_void, (&raw mut frame).cast(), 0);
        if done as u32 >= MAX_TICKS {
            // VERIFIER(6.18): giving the stream up here keeps its direction alive over the loop, which doubles the work
            count(Counter::Truncated, 1);
        }
    }
}

/// One bounded step of [`gate`].
unsafe extern "C" fn gate_step(_index: u32, context: *mut c_void) -> c_long {
    // SAFETY: the context is the `Frame` of `gate`; copied, since it holds pointers only.
    let mut frame = unsafe {
        let context = context.cast::<Frame<true>>();
        Frame::<true>::new((*context).conn, (*context).scratch, (*context).names, (*context).skb)
    };
    // SAFETY: valid pointers.
    unsafe {
        if judge::pending(frame.scratch) {
            judge::step::<true>(frame.conn, frame.scratch);
            return 0;
        }
        if (*frame.scratch).ask.emit != 0 {
            // the server will not see it: it is counted and reported here, and nothing behind it matters
            (*frame.scratch).cur.head_at = (*frame.scratch).ask.line_at;
            (*frame.conn).http.shared.req_seq = (*frame.scratch).ask.seq;
            frame.request();
            let enforced = judge::cut(frame.conn, (*frame.scratch).ask.seq);
            judge::tell(frame.conn, frame.scratch, enforced);
            return 1;
        }
        if (*frame.scratch).between != 0 {
            return 1;
        }
        (*frame.scratch).between = http1::tick(&mut frame) as u8;
    }
    0
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
        (*scratch).between = 0;
        (*scratch).ask.stage = 0;
        (*scratch).ask.emit = 0;
        (*scratch).reply.first = NOTHING;
        let mut frame = Frame::<true>::new(conn, scratch, names, skb);
        http1::begin(&mut frame, offset as u64, n);
        bpf_loop(MAX_TICKS, gate_step as *const () as *mut c_void, (&raw mut frame).cast(), 0);
    }
}

/// [`Ask::emit`]: denied because it came behind a denied request.
const BEHIND: u32 = 2;

/// One bounded step of [`answer`].
unsafe extern "C" fn answer_step(_index: u32, context: *mut c_void) -> c_long {
    // SAFETY: the context is the `Frame` of `answer`; copied, since it holds pointers only.
    let mut frame = unsafe {
        let context = context.cast::<Frame<true>>();
        Frame::<true>::new((*context).conn, (*context).scratch, (*context).names, (*context).skb)
    };
    // SAFETY: valid pointers; the connection is that of an `Answer`.
    unsafe {
        let scratch = frame.scratch;
        if judge::pending(scratch) {
            judge::step::<true>(frame.conn, scratch);
            return 0;
        }
        if (*scratch).reply.complete != 0 {
            (*scratch).reply.complete = 0;
            let emit = core::mem::take(&mut (*scratch).ask.emit);
            let answer = frame.conn.cast::<Answer>();
            if emit == 0 {
                return answer::pass(answer, scratch, frame.stream()) as c_long;
            }
            let enforced = answer::deny(answer, scratch, frame.stream(), emit == BEHIND);
            let next = (*answer).conn.http.shared.req_seq;
            (*scratch).cur.head_at = (*scratch).ask.line_at;
            (*answer).conn.http.shared.req_seq = (*scratch).ask.seq;
            frame.request();
            (*answer).conn.http.shared.req_seq = next;
            judge::tell(frame.conn, scratch, enforced);
            answer::tell(answer, scratch);
            (*scratch).cur.head_at = u32::MAX;
            return c_long::from((*answer).conn.fenced != 0);
        }
        if (*scratch).between != 0 {
            return 1;
        }
        (*scratch).between = http1::tick(&mut frame) as u8;
    }
    0
}

/// Frames the `n` bytes of a packet on its way to a server whose denied callers are answered; [`crate::scratch::Reply`] says what
/// came of it.
///
/// # Safety
/// `answer` and `scratch` must be valid, the scratch taken; `skb` the packet of this program.
#[inline(always)]
pub unsafe fn answer(answer: *mut Answer, scratch: *mut Scratch, skb: *mut __sk_buff, n: u32) {
    let Some(names) = NAMES.get_ptr(judge::hosts() * 2) else { return };
    // SAFETY: the caller's promise.
    unsafe {
        (*scratch).response = 0;
        (*scratch).between = 0;
        (*scratch).ask.stage = 0;
        (*scratch).ask.emit = 0;
        (*scratch).reply.complete = 0;
        let mut frame = Frame::<true>::new((&raw mut (*answer).conn).cast(), scratch, names, skb);
        http1::begin(&mut frame, 0, n);
        bpf_loop(MAX_TICKS, answer_step as *const () as *mut c_void, (&raw mut frame).cast(), 0);
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
        let Some(mut frame) = Frame::<false>::begin(conn, scratch, response) else { return };
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
        let Some(mut frame) = Frame::<false>::begin(conn, scratch, true) else { return };
        match http1::eof(&mut frame) {
            http1::Eof::Idle | http1::Eof::Closed => {}
            http1::Eof::Cut => frame.response(response_flag::AT_CLOSE),
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

const _: () = assert!(CREDS == 4 && event::Request::SIZE <= PRE && event::HeadPart::SIZE <= PRE);
