//! Answers: on listeners with `respond`, a denied caller gets a response in the server's place, and its connection goes on.
//!
//! ```text
//! answer_join (sock_ops), answer_open (iter/tcp): the listener's connections -> ANSWERED, ANSWERS
//! packet -> answer_in (sk_skb verdict, before the server has it): frames and decides
//!   nothing denied                 -> passes
//!   denied, nothing outstanding    -> overwritten by its response and turned around, when it is long enough
//!                                  -> else a token through a pair of sockets, which answer_out makes into responses
//!   denied behind other requests   -> kept back (line feeds in its place when something in front of it passes); answered when
//!                                     the server has answered those: `served`, a record to the daemon, which sends the token
//!   the rest of a denied message   -> dropped
//! ```
//! What a program leaves of a packet counts as read by the server, so a packet keeps its length: dropping it is fine, growing it
//! is not. Everything behind a denied request that is not answered yet is denied with it, since its answer would overtake.
//!
//! The caller is told that the connection ends, and nothing more gets through, where the server already has the beginning of the
//! denied head, or where the caller waits for the end (`Connection: close`, HTTP/1.0, `Expect`).
//!
//! Only for servers that never wait in a system call: those that do see a wake-up without data and may give up. Theirs are fenced.
//! A socket is never taken out of the map under traffic, which breaks it; without the daemon's sign of life all passes.
//!
//! Runs under the socket's lock, so a connection's state has one writer, but for [`Answer::done`] and [`Answer::waiting`].

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{
    __sk_buff, BPF_NOEXIST, BPF_SK_STORAGE_GET_F_CREATE, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB,
    BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG, sk_action,
};
use aya_ebpf::cty::{c_long, c_void};
use aya_ebpf::helpers::generated::{
    bpf_get_socket_cookie, bpf_ktime_get_ns, bpf_loop, bpf_map_update_elem, bpf_skb_change_tail,
    bpf_skb_load_bytes, bpf_skb_store_bytes, bpf_skc_to_tcp_sock, bpf_sock_ops_cb_flags_set,
};
use aya_ebpf::macros::{sock_ops, stream_verdict};
use aya_ebpf::programs::{SkBuffContext, SockOpsContext};
use monitor_common::answer::{self, BYTES, DIGITS, ENDS, Text, WAITING};
use monitor_common::cap::{RULES, action, reason};
use monitor_common::event::{self, enforced, role};
use monitor_common::http1::{Stream, flag, method, phase};
use monitor_common::kernel::ListenerKey;
use monitor_common::ledger::Counter;

use crate::maps::{
    ANSWERED, ANSWERS, Answer, Conn, LISTENERS, MARKS, Mark, TEXTS, TOKENS_IN, ZERO_ANSWER, config, conn_of,
    count, storage,
};
use crate::scratch::{self, NOTHING, Reply, Scratch};
use crate::{conn, frame, judge, raw, ring};

/// States of `enum` in include/net/tcp_states.h.
const TCP_ESTABLISHED: u8 = 1;
const TCP_CLOSE: u32 = 7;
/// `O_NONBLOCK` of x86-64.
const NONBLOCK: u32 = 0o4000;
/// How long an answer may be on its way to its socket, ns.
const LEAVING_NS: u64 = 100_000_000;
/// Bytes of a token: the cookie twice.
const TOKEN: u32 = 16;
/// Bytes that are filled at a time.
const FILL: u32 = 256;
static BLANKS: [u8; FILL as usize] = [b' '; FILL as usize];
static LINES: [u8; FILL as usize] = [b'\n'; FILL as usize];
/// Key of the only entry of a map.
static ONLY: u64 = 0;

/// Values of [`Reply::able`].
mod able {
    pub const UNKNOWN: u32 = 0;
    pub const YES: u32 = 1;
    pub const NO: u32 = 2;
    pub const BLOCKING: u32 = 3;
}

/// Whether callers of this end of a connection are answered.
#[inline(always)]
fn is_listed(sk: u64) -> bool {
    let port = raw::kernel::<u16>(sk + config!(sock_num) as u64).unwrap_or(0) as u64;
    let mut key = ListenerKey { address: [0; 2], port };
    if LISTENERS.get_ptr(&key).is_some() {
        return true;
    }
    key.address = conn::local_address(sk);
    LISTENERS.get_ptr(&key).is_some()
}

/// Makes the state of a connection; it follows the stream from the next byte on. Null when there is no room.
///
/// # Safety
/// `tcp` must be a TCP socket.
#[inline(always)]
unsafe fn create(tcp: *mut c_void, cookie: u64) -> *mut Answer {
    let none = core::ptr::null_mut();
    let Some(zero) = ZERO_ANSWER.get(0) else { return none };
    if ANSWERS.insert(&cookie, zero, BPF_NOEXIST as u64).is_err() {
        return none;
    }
    let Some(answer) = ANSWERS.get_ptr_mut(&cookie) else { return none };
    // SAFETY: a map value; the caller's promise.
    unsafe {
        conn::open(&raw mut (*answer).conn, tcp as u64, cookie, role::INBOUND);
        (*answer).conn.id = cookie | event::ANSWERED_CONN;
        (*answer).sk = tcp as u64;
    }
    answer
}

/// Says on the socket that it is answered.
#[inline(always)]
fn note(tcp: *mut c_void) {
    let mark = storage::<Mark>((&raw const MARKS).cast(), tcp, BPF_SK_STORAGE_GET_F_CREATE);
    if !mark.is_null() {
        // SAFETY: socket storage.
        unsafe { (*mark).answered = 1 }
    }
}

/// Connections of listeners that answer, from their first byte on.
#[sock_ops]
pub fn answer_join(ctx: SockOpsContext) -> u32 {
    // SAFETY: fields of this program's context; the helpers take what the verifier lets through.
    unsafe {
        let op = ctx.op();
        if op == BPF_SOCK_OPS_STATE_CB as u32 {
            if ctx.arg(1) == TCP_CLOSE {
                leave(bpf_get_socket_cookie(ctx.as_ptr()));
            }
            return 1;
        }
        if op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB as u32 {
            return 1;
        }
        let sk = (*ctx.ops).__bindgen_anon_2.sk;
        if sk.is_null() {
            return 1;
        }
        let tcp: *mut c_void = bpf_skc_to_tcp_sock(sk.cast()).cast();
        if tcp.is_null() || !is_listed(tcp as u64) {
            return 1;
        }
        let mut cookie = bpf_get_socket_cookie(ctx.as_ptr());
        let answer = create(tcp, cookie);
        if answer.is_null() {
            count(Counter::NoState, 1);
            return 1;
        }
        if ANSWERED.update(&mut cookie, &mut *ctx.ops, BPF_NOEXIST as u64).is_err() {
            let _ = ANSWERS.remove(&cookie);
            return 1;
        }
        (*answer).conn.synced = 1;
        note(tcp);
        bpf_sock_ops_cb_flags_set(ctx.ops, ctx.cb_flags() as i32 | BPF_SOCK_OPS_STATE_CB_FLAG as i32);
    }
    1
}

/// A connection ended.
#[inline(always)]
fn leave(cookie: u64) {
    if let Some(answer) = ANSWERS.get_ptr_mut(&cookie) {
        // SAFETY: a map value.
        unsafe { conn::tell_end(&raw mut (*answer).conn) }
        let _ = ANSWERS.remove(&cookie);
    }
}

/// `struct bpf_iter__tcp`.
#[repr(C)]
pub struct IterTcp {
    meta: *mut c_void,
    sk: *mut c_void,
}

/// Connections that were open before: they are followed from a moment on at which nothing is under way. Those that have lost their
/// thread are taken up again.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
pub extern "C" fn answer_open(ctx: *mut IterTcp) -> i32 {
    // SAFETY: this program's context, under the socket's lock.
    unsafe {
        let sk = (*ctx).sk;
        if sk.is_null() {
            return 0;
        }
        let tcp: *mut c_void = bpf_skc_to_tcp_sock(sk).cast();
        if tcp.is_null() {
            return 0;
        }
        let at = tcp as u64;
        let state = raw::kernel::<u8>(at + config!(sock_state) as u64).unwrap_or(0);
        if state != TCP_ESTABLISHED || !is_listed(at) {
            return 0;
        }
        let next = raw::kernel::<u32>(at + config!(tcp_rcv_nxt) as u64).unwrap_or(0);
        let read = raw::kernel::<u32>(at + config!(tcp_copied_seq) as u64).unwrap_or(1);
        if next != read {
            return 0;
        }
        let theirs = conn_of(tcp);
        if theirs.is_null() {
            if raw::kernel::<u64>(at + config!(tcp_received) as u64).unwrap_or(1) != 0 {
                return 0;
            }
        } else if !is_idle(theirs) {
            return 0;
        }
        let cookie = bpf_get_socket_cookie(tcp);
        let mut answer = ANSWERS.get_ptr_mut(&cookie).unwrap_or(core::ptr::null_mut());
        if answer.is_null() {
            answer = create(tcp, cookie);
            if answer.is_null() {
                count(Counter::NoState, 1);
                return 0;
            }
            let map = (&raw const ANSWERED).cast_mut().cast();
            if bpf_map_update_elem(map, (&raw const cookie).cast(), sk, BPF_NOEXIST as u64) != 0 {
                let _ = ANSWERS.remove(&cookie);
                return 0;
            }
        } else if (*answer).conn.synced != 0 || (*answer).last != 0 {
            return 0;
        }
        if !theirs.is_null() {
            conn::go_on(&raw mut (*answer).conn, theirs);
            let number = (*theirs).http.shared.req_seq as u64;
            (*answer).given = number;
            (*answer).done = number;
            (*theirs).answered = 1;
        }
        (*answer).waiting = 0;
        (*answer).cut = 0;
        (*answer).conn.synced = 1;
        note(tcp);
    }
    0
}

/// Whether everything that came in was read and answered.
#[inline(always)]
unsafe fn is_idle(conn: *mut Conn) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let shared = &raw const (*conn).http.shared;
        (*conn).role == role::INBOUND
            && (*shared).opaque == 0
            && (*shared).req_seq == (*shared).resp_seq
            && (*conn).http.req.phase == phase::START
            && (*conn).http.req.carry == 0
            && (*conn).http.resp.phase == phase::START
    }
}

/// The server is given a request. Whether the rest of the packet can be followed.
///
/// # Safety
/// The pointers must be valid.
#[inline(always)]
pub unsafe fn pass(answer: *mut Answer, stream: *const Stream) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        raw::atomic_add(&raw mut (*answer).given, 1);
        // what comes now may be no HTTP any more
        let leaves = (*stream).flags & flag::UPGRADE != 0 || (*stream).method == method::CONNECT;
        if leaves {
            (*answer).conn.synced = 0;
        }
        leaves
    }
}

/// A request is denied. `behind`: because it came behind one. Says how that is enforced.
///
/// # Safety
/// The pointers must be valid, the scratch taken.
#[inline(always)]
pub unsafe fn deny(answer: *mut Answer, scratch: *mut Scratch, stream: *const Stream, behind: bool) -> u8 {
    // SAFETY: the caller's promise.
    unsafe {
        let reply = &raw mut (*scratch).reply;
        let ask = &raw mut (*scratch).ask;
        if behind {
            (*ask).worst = 1 + action::DENY as u32;
            (*ask).by = (*answer).rule;
            (*ask).reason = (*answer).reason;
            (*ask).wait_ns = (*answer).retry as u64 * 1_000_000_000;
        } else {
            (*answer).rule = (*ask).by;
            (*answer).reason = (*ask).reason;
            (*answer).text = if (*ask).reason == reason::CAP as u32 { (*ask).by } else { RULES };
            (*answer).retry = answer::seconds((*ask).wait_ns) as u32;
        }
        if (*reply).able == able::UNKNOWN {
            (*reply).able = ability((*reply).sk);
        }
        if (*reply).able != able::YES || (*reply).denied >= WAITING {
            let enforced = judge::cut(&raw mut (*answer).conn, (*ask).seq);
            let blocking = (*reply).able == able::BLOCKING && enforced == enforced::FENCED;
            return if blocking { enforced::FENCED_BLOCKING } else { enforced };
        }
        if (*reply).first == NOTHING {
            (*reply).first = (*reply).head_at;
            if ((*reply).head_at as i32) < 0 {
                (*reply).first = 0;
                (*reply).split = 1;
            }
        }
        if (*stream).method == method::HEAD {
            (*reply).heads |= 1 << ((*reply).denied & 31);
        }
        (*reply).denied += 1;
        let waits = (*stream).flags & (flag::CONN_CLOSE | flag::V10 | flag::EXPECT) != 0;
        if waits || (*reply).split != 0 {
            (*reply).last = 1;
            return enforced::ANSWERED_LAST;
        }
        enforced::ANSWERED
    }
}

/// Reports the response of a denied request.
///
/// # Safety
/// The pointers must be valid, the scratch taken.
#[inline(always)]
pub unsafe fn tell(answer: *mut Answer, scratch: *mut Scratch) {
    // SAFETY: the caller's promise.
    unsafe {
        if (*answer).conn.fenced != 0 {
            return;
        }
        let Some(text) = TEXTS.get_ptr((*answer).text) else { return };
        let now = ring::now(scratch);
        let record = &raw mut (*scratch).answered;
        record.write(event::Response {
            head: ring::head(event::Response::KIND, event::Response::SIZE as u32),
            conn: (*answer).conn.id,
            ts_head_ns: now,
            ts_end_ns: now,
            body_bytes: ((*text).len - (*text).head) as u64,
            req_body_bytes: 0,
            seq: (*scratch).ask.seq,
            head_len: (*text).head as u32,
            status: (*text).status,
            flags: 0,
            pad: [0; 4],
        });
        ring::send(&*record, Counter::LostResponse);
    }
}

/// Whether a caller can be answered on this socket: its server never waits in a system call, and what was sent so far is taken.
#[inline(always)]
fn ability(sk: u64) -> u32 {
    let field = |address: u64, offset: u32| raw::kernel::<u64>(address + offset as u64).unwrap_or(0);
    let file = field(field(sk, config!(sock_socket)), config!(socket_file));
    let flags = raw::kernel::<u32>(file + config!(file_flags) as u64).unwrap_or(0);
    if flags & NONBLOCK == 0 {
        return able::BLOCKING;
    }
    let unsent = raw::kernel::<u32>(sk + config!(sock_wmem) as u64).unwrap_or(u32::MAX);
    let room = raw::kernel::<u32>(sk + config!(sock_sndbuf) as u64).unwrap_or(0);
    // as sock_writeable() has it: beyond that, answers would pile up
    if unsent < room / 2 { able::YES } else { able::NO }
}

/// Bytes of a listener's connection, before the server has them.
#[stream_verdict]
pub fn answer_in(ctx: SkBuffContext) -> u32 {
    let skb = ctx.skb.skb;
    // SAFETY: the packet of this program.
    unsafe {
        let mut cookie = bpf_get_socket_cookie(ctx.as_ptr());
        let Some(answer) = ANSWERS.get_ptr_mut(&cookie) else { return sk_action::SK_PASS };
        if (*answer).conn.synced == 0 {
            return sk_action::SK_PASS;
        }
        if !judge::is_answering() {
            (*answer).conn.synced = 0;
            return sk_action::SK_PASS;
        }
        let len = (*skb).len;
        if len == 0 {
            return sk_action::SK_PASS;
        }
        if (*answer).last != 0 {
            return sk_action::SK_DROP;
        }
        let Some(scratch) = scratch::take_to_answer() else {
            (*answer).conn.synced = 0;
            return sk_action::SK_PASS;
        };
        let verdict = decide(&ctx, answer, scratch, &mut cookie, len);
        scratch::release(scratch);
        verdict
    }
}

#[inline(always)]
unsafe fn decide(
    ctx: &SkBuffContext,
    answer: *mut Answer,
    scratch: *mut Scratch,
    cookie: &mut u64,
    len: u32,
) -> u32 {
    let skb = ctx.skb.skb;
    // SAFETY: the caller's promise.
    unsafe {
        let reply = &raw mut (*scratch).reply;
        let waits = (*answer).cut != 0 || waiting(answer) != 0 || is_leaving(answer, scratch);
        reply.write(Reply {
            first: if waits { 0 } else { NOTHING },
            head_at: 0,
            complete: 0,
            split: 0,
            denied: 0,
            able: able::UNKNOWN,
            last: 0,
            left: 0,
            at: 0,
            fill: 0,
            heads: 0,
            sk: (*answer).sk,
            token: [*cookie; 2],
            field: [0; 8],
        });
        frame::answer(answer, scratch, skb, len);
        let first = core::ptr::read_volatile(&raw const (*reply).first);
        if (*answer).conn.fenced != 0 {
            (*answer).last = 1;
            return sk_action::SK_DROP;
        }
        if first == NOTHING || (*answer).conn.synced == 0 {
            return sk_action::SK_PASS;
        }
        let stream = &raw const (*answer).conn.http.req;
        let between = (*stream).phase == phase::START && (*stream).carry == 0 && (*stream).open == 0;
        (*answer).cut = !between as u32;
        let denied = core::ptr::read_volatile(&raw const (*reply).denied);
        if denied == 0 {
            return sk_action::SK_DROP;
        }
        (*answer).last = (*reply).last;
        if first > 0 {
            // the line feeds stand in front of whatever the server gets next, which it skips
            hold(answer, reply);
            fill(skb, reply, first, len - first, 1);
            due(answer, scratch);
            return sk_action::SK_PASS;
        }
        let free = waiting(answer) == 0 && outstanding(answer) == 0;
        let Some(text) = TEXTS.get_ptr((*answer).text) else { return sk_action::SK_DROP };
        let whole = (*text).len as u32;
        if free && denied == 1 && (*reply).heads == 0 && len >= whole && write(skb, reply, answer, text, 0, len) {
            fill(skb, reply, whole, len - whole, 0);
            leaves(answer, len);
            return ANSWERED.redirect_skb(ctx, cookie, 0) as u32;
        }
        hold(answer, reply);
        if free && len >= TOKEN {
            let stored = bpf_skb_store_bytes(skb.cast(), 0, (&raw const (*reply).token).cast(), TOKEN, 0);
            if stored == 0 {
                let mut only = ONLY;
                let verdict = TOKENS_IN.redirect_skb(ctx, &mut only, 0) as u32;
                if verdict == sk_action::SK_PASS {
                    return verdict;
                }
            }
        }
        due(answer, scratch);
        sk_action::SK_DROP
    }
}

/// Denied requests that are not answered yet.
#[inline(always)]
unsafe fn waiting(answer: *mut Answer) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { core::ptr::read_volatile(&raw const (*answer).waiting) }
}

/// Requests that the server was given and has not answered.
#[inline(always)]
unsafe fn outstanding(answer: *mut Answer) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        let given = core::ptr::read_volatile(&raw const (*answer).given);
        given.wrapping_sub(core::ptr::read_volatile(&raw const (*answer).done))
    }
}

/// Whether an answer is on its way to the socket, so that another one would overtake it.
#[inline(always)]
unsafe fn is_leaving(answer: *mut Answer, scratch: *mut Scratch) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        if (*answer).leaving_ns == 0 {
            return false;
        }
        let written = raw::kernel::<u32>((*answer).sk + config!(tcp_write_seq) as u64).unwrap_or(0);
        let left = (*answer).leaves.wrapping_sub(written) as i32;
        if left > 0 && ring::now(scratch) < (*answer).leaving_ns {
            return true;
        }
        (*answer).leaving_ns = 0;
        false
    }
}

/// `n` bytes are on their way to the socket.
#[inline(always)]
unsafe fn leaves(answer: *mut Answer, n: u32) {
    // SAFETY: the caller's promise; the helper takes no arguments.
    unsafe {
        let written = raw::kernel::<u32>((*answer).sk + config!(tcp_write_seq) as u64).unwrap_or(0);
        (*answer).leaves = written.wrapping_add(n);
        (*answer).leaving_ns = bpf_ktime_get_ns() + LEAVING_NS;
    }
}

/// The packet's denied requests wait for their answers.
#[inline(always)]
unsafe fn hold(answer: *mut Answer, reply: *const Reply) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut i = 0;
        while i < 8 {
            let before = waiting(answer);
            let n = before & 0xff;
            let heads = (*reply).heads << (8 + (n & 31));
            let after = (before | heads) + (*reply).denied as u64;
            if raw::atomic_swap(&raw mut (*answer).waiting, before, after) {
                return;
            }
            i += 1;
        }
    }
}

/// Asks the daemon for a token when nothing is in front of the answers any more.
#[inline(always)]
unsafe fn due(answer: *mut Answer, scratch: *mut Scratch) {
    // SAFETY: the caller's promise; the helper takes no arguments.
    unsafe {
        if waiting(answer) == 0 || outstanding(answer) != 0 {
            return;
        }
        let record = &raw mut (*scratch).due;
        record.write(event::Due {
            head: ring::head(event::Due::KIND, event::Due::SIZE as u32),
            cookie: (*answer).conn.peer.cookie,
            ts_ns: bpf_ktime_get_ns(),
        });
        ring::send(&*record, Counter::LostState);
    }
}

/// The server has answered a request.
///
/// # Safety
/// The pointers must be valid, the scratch taken.
#[inline(always)]
pub unsafe fn served(conn: *mut Conn, scratch: *mut Scratch) {
    // SAFETY: the caller's promise.
    unsafe {
        if let Some(answer) = ANSWERS.get_ptr_mut(&(*conn).peer.cookie) {
            raw::atomic_add(&raw mut (*answer).done, 1);
            due(answer, scratch);
        }
    }
}

/// It is not known any more what the server has answered: it decides for itself from now on, that is, denied callers are fenced.
///
/// # Safety
/// `conn` must be valid.
#[inline(always)]
pub unsafe fn lost(conn: *mut Conn) {
    // SAFETY: the caller's promise.
    unsafe {
        if let Some(answer) = ANSWERS.get_ptr_mut(&(*conn).peer.cookie) {
            (*answer).conn.synced = 0;
        }
    }
}

/// The server reads a connection: what was decided about it before is not decided again.
///
/// # Safety
/// `conn` must be valid.
#[inline(always)]
pub unsafe fn follow(conn: *mut Conn) {
    // SAFETY: the caller's promise.
    unsafe {
        if let Some(answer) = ANSWERS.get_ptr(&(*conn).peer.cookie) {
            (*conn).judged = core::ptr::read_volatile(&raw const (*answer).given) as u32;
        }
    }
}

/// Whether the caller is a kernel thread, which sends answers.
#[inline(always)]
pub fn is_ours() -> bool {
    raw::kernel::<u64>(raw::task() + config!(task_mm) as u64).unwrap_or(1) == 0
}

/// One step of [`fill`].
unsafe extern "C" fn fill_step(_index: u32, context: *mut c_void) -> c_long {
    // SAFETY: the context is `Filling`.
    unsafe {
        let filling = context.cast::<Filling>();
        let reply = (*filling).reply;
        let left = core::ptr::read_volatile(&raw const (*reply).left);
        if left == 0 {
            return 1;
        }
        let n = judge::opaque(if left > FILL { FILL } else { left });
        if n == 0 || n > FILL {
            return 1;
        }
        let bytes = if (*reply).fill == 0 { BLANKS.as_ptr() } else { LINES.as_ptr() };
        if bpf_skb_store_bytes((*filling).skb.cast(), (*reply).at, bytes.cast(), n, 0) != 0 {
            return 1;
        }
        (*reply).at += n;
        (*reply).left = left - n;
    }
    0
}

/// What [`fill_step`] works on.
struct Filling {
    skb: *mut __sk_buff,
    reply: *mut Reply,
}

/// Fills `n` bytes of a packet with blanks, or with line feeds.
#[inline(always)]
unsafe fn fill(skb: *mut __sk_buff, reply: *mut Reply, at: u32, n: u32, lines: u32) {
    // SAFETY: the caller's promise.
    unsafe {
        if n == 0 {
            return;
        }
        (*reply).at = at;
        (*reply).left = n;
        (*reply).fill = lines;
        let mut filling = Filling { skb, reply };
        // a packet is at most 64 KiB, or 512 KiB where the interface allows it
        bpf_loop(2048, fill_step as *const () as *mut c_void, (&raw mut filling).cast(), 0);
    }
}

/// Writes a response to byte `at` of a packet; `room` bytes are its own. False when the packet cannot be written.
#[inline(always)]
unsafe fn write(
    skb: *mut __sk_buff,
    reply: *mut Reply,
    answer: *mut Answer,
    text: *const Text,
    at: u32,
    room: u32,
) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let len = judge::opaque((*text).len as u32);
        if len == 0 || len > BYTES as u32 {
            return false;
        }
        if bpf_skb_store_bytes(skb.cast(), at, (&raw const (*text).bytes).cast(), len, 0) != 0 {
            return false;
        }
        let retry = (*answer).retry as u64;
        number(skb, reply, at, (*text).retry_at, retry, b' ');
        number(skb, reply, at, (*text).reset_at, retry, b'0');
        number(skb, reply, at, (*text).length_at, (room - (*text).head as u32) as u64, b' ');
        if (*answer).last != 0 {
            let to = at + (*text).connection_at as u32;
            bpf_skb_store_bytes(skb.cast(), to, ENDS_TEXT.as_ptr().cast(), ENDS.len() as u32, 0);
        }
        true
    }
}

static ENDS_TEXT: [u8; 10] = ENDS;

/// Writes a number of a response, if it has that one.
#[inline(always)]
unsafe fn number(skb: *mut __sk_buff, reply: *mut Reply, at: u32, place: u16, n: u64, fill: u8) {
    if place == 0 {
        return;
    }
    // SAFETY: the caller's promise; the field has a byte more than the number.
    unsafe {
        let field = &mut *(&raw mut (*reply).field).cast::<[u8; DIGITS]>();
        answer::digits(field, n, fill);
        bpf_skb_store_bytes(skb.cast(), at + place as u32, field.as_ptr().cast(), DIGITS as u32, 0);
    }
}

/// What [`respond_step`] works on.
struct Responding {
    skb: *mut __sk_buff,
    reply: *mut Reply,
    answer: *mut Answer,
    text: *const Text,
    waiting: u64,
}

/// Writes the next of several responses.
unsafe extern "C" fn respond_step(index: u32, context: *mut c_void) -> c_long {
    // SAFETY: the context is `Responding`.
    unsafe {
        let all = context.cast::<Responding>();
        let reply = (*all).reply;
        let text = (*all).text;
        if index >= (*all).waiting as u32 & 0xff {
            return 1;
        }
        let head = (*all).waiting >> (8 + (index & 31)) & 1 != 0;
        let at = core::ptr::read_volatile(&raw const (*reply).at);
        let len = (*text).len as u32;
        if !write((*all).skb, reply, (*all).answer, text, at, len) {
            return 1;
        }
        // the response to a HEAD says how long the body would be; the next response takes its place
        (*reply).at = at + if head { (*text).head as u32 } else { len };
    }
    0
}

/// A token comes out of the pair of sockets: it becomes the responses to what waits on the connection that it names.
#[stream_verdict]
pub fn answer_out(ctx: SkBuffContext) -> u32 {
    let skb = ctx.skb.skb;
    let mut token = [0u64; 2];
    // SAFETY: the packet of this program, and 16 bytes to read to.
    unsafe {
        if bpf_skb_load_bytes(skb.cast(), 0, (&raw mut token).cast(), TOKEN) != 0 || token[0] != token[1] {
            return sk_action::SK_DROP;
        }
        let Some(answer) = ANSWERS.get_ptr_mut(&token[0]) else { return sk_action::SK_DROP };
        let Some(text) = TEXTS.get_ptr((*answer).text) else { return sk_action::SK_DROP };
        let Some(scratch) = scratch::take_to_answer() else { return sk_action::SK_DROP };
        let verdict = respond(&ctx, answer, text, scratch, &mut token[0]);
        scratch::release(scratch);
        verdict
    }
}

#[inline(always)]
unsafe fn respond(
    ctx: &SkBuffContext,
    answer: *mut Answer,
    text: *const Text,
    scratch: *mut Scratch,
    cookie: &mut u64,
) -> u32 {
    let skb = ctx.skb.skb;
    // SAFETY: the caller's promise.
    unsafe {
        let reply = &raw mut (*scratch).reply;
        let waiting = waiting(answer);
        let n = waiting & 0xff;
        // a token too many finds nothing
        if n == 0 || outstanding(answer) != 0 {
            return sk_action::SK_DROP;
        }
        let whole = (*text).len as u32;
        let bodies = (whole - (*text).head as u32) * (waiting >> 8).count_ones();
        let len = whole * n as u32 - bodies;
        leaves(answer, len);
        if !raw::atomic_swap(&raw mut (*answer).waiting, waiting, 0) {
            due(answer, scratch); // another one came in at this moment
            return sk_action::SK_DROP;
        }
        // room for the last one's body: it is cut off again
        if bpf_skb_change_tail(skb.cast(), whole * (n as u32), 0) != 0 {
            return sk_action::SK_DROP;
        }
        (*reply).at = 0;
        let mut all = Responding { skb, reply, answer, text, waiting };
        bpf_loop(WAITING * 2, respond_step as *const () as *mut c_void, (&raw mut all).cast(), 0);
        if len != whole * n as u32 && bpf_skb_change_tail(skb.cast(), len, 0) != 0 {
            return sk_action::SK_DROP;
        }
        ANSWERED.redirect_skb(ctx, cookie, 0) as u32
    }
}
