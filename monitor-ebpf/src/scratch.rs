//! One CPU's working memory, and who holds it.

use aya_ebpf::maps::lpm_trie::Key;
use monitor_common::cap::{BucketKey, ServerKey, SubjectKey};
use monitor_common::event;
use monitor_common::http1::{self, Cur};
use monitor_common::ledger::Counter;
use monitor_common::path::Path;

use crate::maps::{ANSWER_SCRATCH, GATE_SCRATCH, IOVS, NetworkData, SCRATCH, count};

/// One CPU's working memory.
#[repr(C)]
pub struct Scratch {
    /// 1 while a hook uses it.
    pub busy: u32,
    /// 1 while the call belongs to the responses.
    pub response: u32,
    /// Iovecs left after the current one.
    pub iov_left: u32,
    /// [`Conn::again`] of a connection that begins with this call.
    pub again: u8,
    /// 1 between two segments of a call.
    pub between: u8,
    /// Index in the map of those who answer.
    pub which: u8,
    /// Zero.
    pub pad: u8,
    /// Address of the next iovec that was not copied yet.
    pub iov: u64,
    /// Iovecs copied, and how many of them were used: one copy of four costs what one of one does.
    pub iovs: [[u64; 2]; IOVS],
    /// Number of iovecs in `iovs`.
    pub iovs_copied: u32,
    /// Those of them that were used.
    pub iovs_used: u32,
    /// Bytes of the call left after the current segment.
    pub bytes_left: u64,
    /// Bytes in front that were framed before.
    pub skip: u64,
    /// Time of this call, 0 until somebody asks.
    pub now: u64,
    /// Address of the segment that was looked up last.
    pub address: u64,
    /// Framing cursor.
    pub cur: Cur,
    /// The decision in progress.
    pub ask: Ask,
    /// Its record is built here.
    pub verdict: event::Verdict,
    /// What becomes of the bytes of a packet whose connection is answered.
    pub reply: Reply,
    /// Its record is built here.
    pub due: event::Due,
    /// Its record is built here.
    pub answered: event::Response,
    /// The path of the request that is decided about.
    pub path: Path,
    /// A connection's record is built here.
    pub record: event::Conn,
    /// A record is built here in front of window bytes.
    pub window: [u8; http1::PRE + http1::WIN + http1::SLACK],
    /// The verifier bounds a copy out of the window by its largest start plus its largest length.
    pub tail: [u8; 8192],
}

/// Most subjects that one request is charged to: its network, its credentials, its client, its workload in two forms.
pub const SUBJECTS_EACH: usize = 8;
/// Most rules that one request is charged to.
pub const TODO: usize = 32;

/// One decision: which caps a request is charged to and what they say. See [`crate::judge`].
#[repr(C)]
pub struct Ask {
    /// What comes next, 0 when there is nothing to decide.
    pub stage: u32,
    /// Index in the current stage.
    pub at: u32,
    /// Rules in `todo`.
    pub rules: u32,
    /// 1 when access levels must grant.
    pub levels: u32,
    /// Where in the window the request line begins, or what follows the bytes that were shipped.
    pub line_at: u32,
    /// Bytes of the head that were shipped: their beginning is in `LINES`.
    pub shipped: u32,
    /// 1 when the request was denied and has to be reported.
    pub emit: u32,
    /// `policy_flag`s of this decision.
    pub flags: u32,
    /// `role` of the connection.
    pub direction: u32,
    /// `method` of the request.
    pub method: u32,
    /// Number of the request.
    pub seq: u32,
    /// Its number as the server's framing counts, where that leaves out those that were denied.
    pub number: u32,
    /// Gravest action so far plus one: 0 while everything admits.
    pub worst: u32,
    /// The rule that said so, or the access level's number.
    pub by: u32,
    /// Whose rule that is: index in `subjects`.
    pub whose: u32,
    /// One of `reason`.
    pub reason: u32,
    /// 1 when the address stands for many clients.
    pub proxy: u32,
    /// A bit for each credential that the request has.
    pub presented: u32,
    /// A bit for each of them that is proven here.
    pub proven: u32,
    /// What was said of the entry that is asked: `judge::entry`.
    pub said: u32,
    /// Rule that is looked for among the entries.
    pub sought: u32,
    /// What the rules that are listed charge: `charge`.
    pub charged: u32,
    /// Number of the server, 0 until somebody asks.
    pub server: u32,
    /// Its owner, 0 for none.
    pub owner: u32,
    /// Longest wait of the rules that refused as gravely.
    pub wait_ns: u64,
    /// The client, whose bucket is charged for itself and for strangers.
    pub client: SubjectKey,
    /// Who is asked.
    pub subjects: [SubjectKey; SUBJECTS_EACH],
    /// Access level of each that must grant, 0 for none; `judge::SHADOW_LEVEL` is a bit of it.
    pub access: [u32; SUBJECTS_EACH],
    /// Rules to ask.
    pub todo: [Todo; TODO],
    /// Key of the bucket that is asked.
    pub bucket: BucketKey,
    /// Key of the proof that is asked for.
    pub proof: SubjectKey,
    /// Key of the server that is asked for.
    pub server_key: ServerKey,
    /// Key of the network that is asked.
    pub network: Key<NetworkData>,
    /// Fingerprint of the destination host, 0 when not known.
    pub host: u64,
    /// Bits of the routes that the path falls under.
    pub routes: u64,
}

/// A rule that is asked.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Todo {
    /// Its index.
    pub rule: u16,
    /// For whom: index in [`Ask::subjects`].
    pub subject: u8,
    /// Bits of [`todo`].
    pub state: u8,
}

/// Bits of [`Todo::state`].
pub mod todo {
    /// The bucket is that of the client's strangers.
    pub const STRANGERS: u8 = 1;
    /// The entry in front is this rule's, for the strangers: what it refuses is not asked again.
    pub const BEHIND: u8 = 2;
    /// The bucket was charged.
    pub const CHARGED: u8 = 4;
    /// The bucket refused.
    pub const REFUSED: u8 = 8;
    /// The bucket is that of the server's owner.
    pub const OWNER: u8 = 16;
}

/// [`Reply::first`]: the server gets everything.
pub const NOTHING: u32 = u32::MAX;

/// Bytes of a connection that is answered, on their way to the server. See [`crate::hooks::answer`].
#[repr(C)]
pub struct Reply {
    /// The first byte that the server does not get, or [`NOTHING`].
    pub first: u32,
    /// Where the head that was completed last began; negative: in an earlier packet.
    pub head_at: u32,
    /// 1 when a head is complete and not dealt with yet.
    pub complete: u32,
    /// 1 when the beginning of a denied head was given to the server.
    pub split: u32,
    /// Denied requests.
    pub denied: u32,
    /// Whether denied callers can be answered: 0 not asked yet, else one of `able`.
    pub able: u32,
    /// 1 when the connection ends with its answer.
    pub last: u32,
    /// Bytes to fill with `fill` from `at` on.
    pub left: u32,
    /// See `left`.
    pub at: u32,
    /// See `left`.
    pub fill: u32,
    /// Number of the next request as the server's framing counts.
    pub number: u32,
    /// Zero.
    pub pad: u32,
    /// A bit for each denied request that is a HEAD.
    pub heads: u64,
    /// The socket.
    pub sk: u64,
    /// What goes to the pair of sockets that turns it into responses.
    pub token: [u64; 2],
    /// What it stands in the place of.
    pub saved: [u64; 2],
    /// A number is written here.
    pub field: [u8; 8],
}

/// As [`take`], for the answers: a task that is interrupted by packets holds one, too.
#[inline(always)]
pub fn take_to_answer() -> Option<*mut Scratch> {
    let first = ANSWER_SCRATCH.get_ptr_mut(0)?;
    // SAFETY: this CPU's entry.
    let busy = unsafe { core::ptr::read_volatile(&raw const (*first).busy) != 0 };
    let scratch = hold(if busy { ANSWER_SCRATCH.get_ptr_mut(1)? } else { first })?;
    // SAFETY: taken above.
    unsafe { (*scratch).which = busy as u8 };
    Some(scratch)
}

/// Takes this CPU's working memory. `None` when another hook holds it (counted: its bytes are lost).
#[inline(always)]
pub fn take() -> Option<*mut Scratch> {
    hold(SCRATCH.get_ptr_mut(0)?)
}

/// As [`take`], for the packet hooks: they can interrupt the others.
#[inline(always)]
pub fn take_at_gate() -> Option<*mut Scratch> {
    hold(GATE_SCRATCH.get_ptr_mut(0)?)
}

#[inline(always)]
fn hold(scratch: *mut Scratch) -> Option<*mut Scratch> {
    // SAFETY: this CPU's entry; a nested hook sees `busy` and leaves.
    unsafe {
        if core::ptr::read_volatile(&raw const (*scratch).busy) != 0 {
            count(Counter::Nested, 1);
            return None;
        }
        core::ptr::write_volatile(&raw mut (*scratch).busy, 1);
        (*scratch).now = 0;
        (*scratch).skip = 0;
    }
    Some(scratch)
}

/// Gives the working memory back.
///
/// # Safety
/// `scratch` must come from [`take`].
#[inline(always)]
pub unsafe fn release(scratch: *mut Scratch) {
    // SAFETY: the caller's promise.
    unsafe { core::ptr::write_volatile(&raw mut (*scratch).busy, 0) }
}
