//! Decides about a request whose head is complete: caps and access levels, as `monitor_common::cap` describes them.
//!
//! ```text
//! begin -> SUBJECT per subject -> EVERY -> PATH per byte -> ROUTES -> ACCESS per level -> ASK per rule --> end
//!          what is configured     for every  only if asked for                          \ one refuses /
//!          for this one, and      one of a                                       REFUND what was charged
//!          whether it is proven   kind
//! ```
//! A decision is a walk in small steps, each one call of the `bpf_loop` callback that also runs the framing: the verifier sees
//! each step once, whatever the number of rules, and nothing is nested. All of its state is in [`Ask`].
//!
//! Which buckets those are says `monitor_common::charge`. They are charged one by one while they admit; when one refuses, what was charged is given back. In between another
//! request may be refused that had been admitted a moment later, never the other way round.

#![allow(
    clippy::needless_borrows_for_generic_args,
    reason = "a key or value that is passed by value is copied to the stack"
)]

mod path;

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::generated::{bpf_get_current_cgroup_id, bpf_ktime_get_ns};
use aya_ebpf::maps::lpm_trie::Key;
use monitor_common::cap::{
    Bucket, EXCEPT, RULES_EACH, Rule, ServerKey, Subject, SubjectKey, VERDICTS, action, of_client,
    policy_flag, reason, scope, server, subject, subject_flag, verdict,
};
use monitor_common::charge;
use monitor_common::event::{self, CREDS, cred, enforced, role, transport};
use monitor_common::gcra::{self, Answer};
use monitor_common::http1::{Stream, flag};
use monitor_common::ledger::Counter;

use crate::hooks::fence;
use crate::maps::{
    ACCEPTED, BUCKETS, CAP_COUNTS, Conn, EACH, EVERY, NETWORKS, NetworkData, OVER, POLICY, RULES, SERVERS,
    STRANGERS, SUBJECTS, UNPROVEN, count,
};
use crate::mode::Mode;
use crate::raw::{self, opaque};
use crate::scratch::{self, Ask, SUBJECTS_EACH, Scratch, TODO, Todo, todo};
use crate::{conn, ring};

pub use path::keep;

/// What comes next. [`Ask::at`] counts within a stage.
mod stage {
    pub const IDLE: u32 = 0;
    pub const SUBJECT: u32 = 1;
    pub const PATH: u32 = 2;
    pub const ACCESS: u32 = 3;
    pub const ROUTES: u32 = 7;
    pub const ASK: u32 = 4;
    pub const REFUND: u32 = 5;
    pub const END: u32 = 6;
    pub const EVERY: u32 = 8;
    /// As `REFUND`, of one entry.
    pub const UNDO: u32 = 9;
}

/// Bit of an entry of [`Ask::access`]: what it refuses is only counted.
pub const SHADOW_LEVEL: u32 = 1 << 31;

/// Places in [`Ask::subjects`]. The network comes first: it says what its addresses stand for. The client comes behind the
/// credentials: they may be exceptions to its rules.
const NETWORK: usize = 0;
const CREDENTIAL: usize = 1;
const CLIENT: usize = CREDENTIAL + CREDS;
const CGROUP: usize = CLIENT + 1;
const EXECUTABLE: usize = CGROUP + 1;
const _: () = assert!(EXECUTABLE + 1 == SUBJECTS_EACH);
/// Masks of indices, which the verifier must see on the register that is used.
const SUBJECT_MASK: u32 = SUBJECTS_EACH as u32 - 1;
const TODO_MASK: u32 = TODO as u32 - 1;
/// How long after a denial somebody is taken to be over a cap.
const OVER_NS: u64 = 10_000_000_000;
/// `SubjectKey::kind` of a place that nobody takes.
const NOBODY: u32 = u32::MAX;

/// A bucket that was never used. Read-only data: a map value.
static NEW_BUCKET: Bucket = Bucket { tat: 0, admitted: 0, refused: 0 };

/// Whether there is anything to decide: one load while there is not.
#[inline(always)]
fn policy() -> Option<u32> {
    let policy = POLICY.get_ptr(0)?;
    // SAFETY: a map value that the daemon writes.
    let flags = unsafe { core::ptr::read_volatile(&raw const (*policy).flags) };
    (flags & policy_flag::ON != 0).then_some(flags)
}

/// `policy_flag`s, none while there is nothing to decide.
///
/// VERIFIER(6.1): "`R2 !read_ok`": the flags of [`policy`] in a condition are looked at before it is known that there are any.
#[inline(always)]
fn flags() -> u32 {
    policy().unwrap_or(0)
}

/// Whether outbound requests may be denied: they are framed before they leave.
#[inline(always)]
pub fn is_early() -> bool {
    flags() & policy_flag::EARLY != 0
}

/// Whether inbound requests are decided about before the server has them: always where access levels deny, else while somebody
/// is over a cap. One load while neither is so.
#[inline(always)]
pub fn is_gated() -> bool {
    let flags = flags();
    if flags & policy_flag::LEVELS != 0 {
        return true;
    }
    // SAFETY: one word; the helper takes no arguments.
    flags & policy_flag::GATE != 0
        && OVER.get_ptr(0).is_some_and(|over| unsafe {
            let until = core::ptr::read_volatile(over);
            until != 0 && bpf_ktime_get_ns() < until
        })
}

/// 1 when caps tell destination hosts apart, so that they are fingerprinted.
#[inline(always)]
pub fn hosts() -> u32 {
    u32::from(flags() & policy_flag::HOSTS != 0)
}

/// Whether packets are decided about: there are caps or access levels that deny, and none that asks for a process.
#[inline(always)]
pub fn is_answering() -> bool {
    flags() & (policy_flag::GATE | policy_flag::LEVELS) != 0
}

/// Whether what is denied stays denied without the daemon.
#[inline(always)]
pub fn outlives() -> bool {
    flags() & policy_flag::KEEP != 0
}

/// Whether the daemon is alive, or its lease has not run out.
#[inline(always)]
pub fn is_in_force(now: u64) -> bool {
    POLICY.get_ptr(0).is_some_and(|policy| {
        // SAFETY: a map value that the daemon writes.
        let (alive, lease) = unsafe { ((*policy).alive_ns, (*policy).lease_ns) };
        alive == 0 || now < alive.wrapping_add(lease)
    })
}

/// A request's head is complete: begins a decision if there is anything to decide.
///
/// # Safety
/// The pointers must be valid.
#[inline(always)]
pub unsafe fn begin<M: Mode>(conn: *mut Conn, scratch: *mut Scratch, stream: *const Stream, line_at: u32) {
    let Some(flags) = policy() else { return };
    // SAFETY: the caller's promise.
    unsafe {
        let before_the_gate = ((*conn).http.shared.req_seq.wrapping_sub((*conn).judged) as i32) < 0;
        if (*conn).fenced != 0 || (!M::PACKETS && before_the_gate) {
            return;
        }
        if !is_in_force(ring::now(scratch)) {
            count(Counter::NotInForce, 1);
            return;
        }
        let ask = &raw mut (*scratch).ask;
        let direction = (*conn).role as u32;
        (*ask).flags = flags;
        (*ask).direction = direction;
        (*ask).method = (*stream).method as u32;
        (*ask).seq = (*conn).http.shared.req_seq;
        (*ask).number = (*ask).seq;
        (*ask).at = 0;
        (*ask).rules = 0;
        (*ask).levels = 0;
        (*ask).line_at = line_at;
        (*ask).shipped = (*stream).shipped;
        (*ask).worst = 0;
        (*ask).reason = 0;
        (*ask).wait_ns = 0;
        (*ask).proxy = 0;
        (*ask).presented = 0;
        (*ask).proven = 0;
        (*ask).server = 0;
        (*ask).owner = 0;
        (*ask).routes = 0;
        (*ask).host = (*stream).host;
        // peers that are not known must not share a bucket: nobody is charged for another
        let client = if (*conn).peer.known == 0 { (*conn).id } else { (*conn).client };
        let client = SubjectKey { value: client, kind: subject::CLIENT, direction };
        let bucket = if (*conn).peer.known == 0 { client.value } else { conn::network_key(conn) };
        let nobody = SubjectKey { value: 0, kind: NOBODY, direction };
        (*ask).client = SubjectKey { value: bucket, ..client };
        let network = flags & policy_flag::NETWORKS != 0 && (*conn).peer.known != 0;
        (*ask).subjects[NETWORK] = if network { client } else { nobody };
        let mut at = 0;
        while at < CREDS {
            let kind = (*stream).cred[at] as u32;
            (*ask).subjects[CREDENTIAL + at] =
                if kind == 0 { nobody } else { SubjectKey { value: (*stream).fp[at], kind, direction } };
            at += 1;
        }
        // the other end of an outbound connection is nobody's client
        (*ask).subjects[CLIENT] = if direction == role::INBOUND as u32 { client } else { nobody };
        let (mut cgroup, mut executable) = (nobody, nobody);
        // a packet has no process
        if !M::PACKETS && flags & policy_flag::WORKLOADS != 0 {
            cgroup = SubjectKey { value: bpf_get_current_cgroup_id(), kind: subject::CGROUP, direction };
            executable = SubjectKey { value: conn::executable(), kind: subject::EXECUTABLE, direction };
        }
        (*ask).subjects[CGROUP] = cgroup;
        (*ask).subjects[EXECUTABLE] = executable;
        (*ask).stage = stage::SUBJECT;
        let denies =
            if direction == role::OUTBOUND as u32 { policy_flag::EARLY } else { policy_flag::DENIES };
        let unframed = flags & policy_flag::UNFRAMED_DENIED != 0
            && direction == role::INBOUND as u32
            && flag::is_ambiguous((*stream).flags);
        if unframed || ((*stream).more != 0 && flags & denies != 0) {
            (*ask).worst = 1 + action::DENY as u32;
            (*ask).reason = if unframed { reason::FRAMING } else { reason::CREDENTIALS } as u32;
            (*ask).whose = CLIENT as u32;
            (*ask).by = 0;
            (*ask).stage = stage::END;
        }
    }
}

/// Whether bytes that cannot be framed are refused: where they are, HTTP is served, and its caller is to blame. What is lost behind a
/// request that servers disagree about is decided about with that request.
///
/// # Safety
/// The pointers must be valid.
#[inline(always)]
pub unsafe fn is_refused(conn: *mut Conn, stream: *const Stream) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let proven = (*stream).proven != 0 || (*conn).http.shared.req_seq != 0;
        proven && !flag::is_ambiguous((*stream).flags) && is_to_blame(conn, stream)
    }
}

/// Whether the caller of a connection pays for what is not framed: such ones are denied, and no bytes of it went by unseen.
#[inline(always)]
unsafe fn is_to_blame(conn: *const Conn, stream: *const Stream) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        (*conn).role == role::INBOUND
            && (*conn).fenced == 0
            && (*conn).blind == 0
            && (*conn).joined == 0
            && (*stream).flags & flag::CUT == 0
            && flags() & policy_flag::UNFRAMED_DENIED != 0
    }
}

/// Whether a request that was not framed is charged.
///
/// # Safety
/// `conn` must be valid.
#[inline(always)]
pub unsafe fn charges_unframed(conn: *const Conn) -> bool {
    // SAFETY: the caller's promise.
    let fenced = unsafe { (*conn).fenced } != 0;
    let flags = flags();
    !fenced && flags != 0 && flags & policy_flag::UNFRAMED_FREE == 0
}

/// The path of the request that is decided about was not seen: it reads as none that anything is granted for.
///
/// # Safety
/// `scratch` must be valid.
#[inline(always)]
pub unsafe fn has_no_line(scratch: *mut Scratch) {
    // SAFETY: the caller's promise.
    unsafe { (*scratch).ask.shipped = u32::MAX }
}

/// A request that was not framed was counted: its connection is fenced where such ones are denied, unless bytes of it went by unseen.
///
/// # Safety
/// The pointers must be valid.
#[inline(always)]
pub unsafe fn unframed(conn: *mut Conn, scratch: *mut Scratch, stream: *const Stream) {
    // SAFETY: the caller's promise.
    unsafe {
        if !is_to_blame(conn, stream) || !is_in_force(ring::now(scratch)) {
            return;
        }
        let seq = (*conn).http.shared.req_seq;
        let direction = (*conn).role as u32;
        let enforced = cut(conn, seq);
        let said = Said {
            who: SubjectKey { value: (*conn).client, kind: subject::CLIENT, direction },
            wait_ns: 0,
            seq,
            rule: 0,
            action: action::DENY,
            reason: reason::FRAMING,
            enforced,
        };
        report(conn, scratch, &said);
    }
}

/// Whether a decision is in progress; [`step`] goes on with it.
///
/// # Safety
/// `scratch` must be valid.
#[inline(always)]
pub unsafe fn pending(scratch: *mut Scratch) -> bool {
    // SAFETY: the caller's promise.
    unsafe { core::ptr::read_volatile(&raw const (*scratch).ask.stage) != stage::IDLE }
}

/// One step of the decision.
///
/// # Safety
/// The pointers must be valid.
#[inline(always)]
pub unsafe fn step<M: Mode>(conn: *mut Conn, scratch: *mut Scratch) {
    // SAFETY: the caller's promise.
    unsafe {
        let ask = &raw mut (*scratch).ask;
        match core::ptr::read_volatile(&raw const (*ask).stage) {
            stage::SUBJECT => of_subject(conn, scratch, ask),
            stage::PATH => self::path::of_byte::<M>(conn, scratch, ask),
            stage::ACCESS => self::path::of_level(scratch, ask),
            stage::ROUTES => self::path::of_routes(scratch, ask),
            stage::EVERY => of_every(ask),
            stage::ASK | stage::REFUND | stage::UNDO => {
                of_rule(scratch, ask);
                all_asked(ask);
            }
            _ => end::<M>(conn, scratch, ask),
        }
    }
}

/// What is configured for the next subject.
#[inline(always)]
unsafe fn of_subject(conn: *mut Conn, scratch: *mut Scratch, ask: *mut Ask) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut at = (*ask).at & SUBJECT_MASK;
        // most requests have a credential and a client: the other places cost no turn of their own
        let mut passed = 0;
        while passed < SUBJECTS_EACH as u32 - 1 {
            let kind = (*ask).subjects[opaque(at) as usize & SUBJECT_MASK as usize].kind;
            if kind != NOBODY || at as usize + 1 >= SUBJECTS_EACH {
                break;
            }
            (*ask).access[opaque(at) as usize & SUBJECT_MASK as usize] = 0;
            at += 1;
            passed = opaque(passed + 1);
        }
        (*ask).at = at + 1;
        if at as usize + 1 == SUBJECTS_EACH {
            // the last one is dealt with below
            (*ask).at = 0;
            (*ask).stage =
                if (*ask).flags & policy_flag::EACH == 0 { after_subjects(ask) } else { stage::EVERY };
            (*scratch).path.begin();
        }
        let key = &(*ask).subjects[opaque(at) as usize & SUBJECT_MASK as usize];
        (*ask).access[opaque(at) as usize & SUBJECT_MASK as usize] = 0;
        if key.kind == NOBODY {
            return;
        }
        let found = if at as usize == NETWORK {
            network_key(conn, key.direction, &raw mut (*ask).network);
            NETWORKS.get(&(*ask).network).map_or(core::ptr::null(), core::ptr::from_ref)
        } else {
            SUBJECTS.get_ptr(key).unwrap_or(core::ptr::null())
        };
        if judge_subject(ask, found.cast_mut(), at, OPEN) == 0 {
            return;
        }
        let proof = if is_proven(conn, ask, at) { PROVEN } else { STRANGER };
        judge_subject(ask, found.cast_mut(), at, proof);
    }
}

/// Proofs of [`judge_subject`]: not known, proven, not proven.
const OPEN: u32 = 0;
const PROVEN: u32 = 1;
const STRANGER: u32 = 2;

/// Takes what is configured for the subject at a place, null for nothing. 1 when nothing was taken, since it has to be proven first.
/// A global function, which the verifier checks once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn judge_subject(ask: *mut Ask, found: *mut Subject, at: u32, proof: u32) -> u32 {
    if ask.is_null() {
        return 0;
    }
    // SAFETY: the verifier proves that the pointers are what they say.
    unsafe {
        let mut flags = subject_flag::CLAIMED;
        if !found.is_null() {
            flags = (*found).flags;
        }
        let mut charged = charge::OWN;
        let place = at.wrapping_sub(CREDENTIAL as u32);
        if place < CREDS as u32 {
            (*ask).presented |= 1 << (place & 31);
            // a configured secret is nobody's guess
            let claimed = flags & subject_flag::CLAIMED != 0;
            if claimed && proof == OPEN && (*ask).flags & policy_flag::PROVEN != 0 {
                return 1;
            }
            if !claimed || proof == PROVEN {
                (*ask).proven |= 1 << (place & 31);
                if claimed && (*ask).owner != 0 {
                    charged = charge::OWN | charge::OWNER;
                }
            } else {
                charged = charge::STRANGERS;
            }
        }
        if found.is_null() {
            return 0;
        }
        if charged & charge::OWN != 0 {
            if flags & subject_flag::EXEMPT != 0 {
                (*ask).stage = stage::IDLE;
                return 0;
            }
            if flags & subject_flag::PROXY != 0 {
                (*ask).proxy = 1;
            }
            // the access level of an address is for requests without a credential that is proven
            if (*found).access != 0 && !(at as usize == CLIENT && (*ask).proven != 0) {
                let shadow = if flags & subject_flag::ACCESS_SHADOW != 0 { SHADOW_LEVEL } else { 0 };
                (*ask).access[opaque(at) as usize & SUBJECT_MASK as usize] = (*found).access | shadow;
                (*ask).levels = 1;
            }
        }
        judge_list(ask, found, at, charged)
    }
}

/// Whether the credential at a place is proven at this server.
#[inline(always)]
unsafe fn is_proven(conn: *mut Conn, ask: *mut Ask, at: u32) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        if (*ask).direction == role::OUTBOUND as u32 {
            return true; // a local program's own
        }
        if (*ask).server == 0 {
            let peer = &raw const (*conn).peer;
            (*ask).server_key =
                ServerKey { address: (*peer).local, netns: (*peer).netns, port: (*peer).local_port as u32 };
            let found = SERVERS.get_ptr(&(*ask).server_key).map_or(server::ANY as u64, |found| *found);
            (*ask).server = found as u32;
            (*ask).owner = (found >> 32) as u32;
        }
        let key = (*ask).subjects[opaque(at) as usize & SUBJECT_MASK as usize];
        let value =
            if key.kind == cred::AWS as u32 { of_client(key.value, (*ask).client.value) } else { key.value };
        (*ask).proof = SubjectKey { value, kind: key.kind, direction: (*ask).server };
        ACCEPTED.get_ptr(&(*ask).proof).is_some()
    }
}

/// What comes behind the subjects.
#[inline(always)]
unsafe fn after_subjects(ask: *const Ask) -> u32 {
    // SAFETY: the caller's promise.
    if unsafe { (*ask).flags } & policy_flag::PATHS == 0 { stage::ASK } else { stage::PATH }
}

/// What is configured for every credential and every client: one credential pays, and the client for whatever it presents.
#[inline(always)]
unsafe fn of_every(ask: *mut Ask) {
    // SAFETY: the caller's promise.
    unsafe {
        (*ask).stage = after_subjects(ask);
        let first = ((*ask).direction.wrapping_sub(1) & 1) * 2;
        let payer = judge_payer(ask);
        let found = EVERY.get_ptr(first).unwrap_or(core::ptr::null());
        judge_list(ask, found.cast_mut(), payer & 0xff, payer >> 8);
        // the address of a proxy is nobody's
        if (*ask).direction == role::INBOUND as u32 && (*ask).proxy == 0 {
            let found = EVERY.get_ptr(first + 1).unwrap_or(core::ptr::null());
            judge_list(ask, found.cast_mut(), CLIENT as u32, charge::OWN);
        }
    }
}

/// Place of the credential that pays, and above it what it is charged to; 0 for none. A global function, which the verifier checks
/// once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn judge_payer(ask: *mut Ask) -> u32 {
    if ask.is_null() {
        return 0;
    }
    // SAFETY: the verifier proves that the pointer is what it says.
    let (presented, proven) = unsafe { ((*ask).presented, (*ask).proven) };
    let payer = charge::payer(presented, proven);
    if payer == charge::NOBODY {
        return 0;
    }
    (CREDENTIAL as u32 + payer) | charge::of_payer(proven >> (payer & 31) & 1 != 0) << 8
}

/// Lists the rules of a subject, and which of their buckets (`charge`) are asked. A global function, which the verifier checks
/// once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn judge_list(ask: *mut Ask, found: *mut Subject, at: u32, charged: u32) -> u32 {
    if ask.is_null() || found.is_null() || charged == 0 {
        return 0;
    }
    // SAFETY: the verifier proves that the pointers are what they say.
    unsafe {
        // in memory, so that the ways through the loop meet again
        (*ask).charged = charged;
        let mut i = 0;
        while i < RULES_EACH {
            let rule = (*found).rules[i];
            i += 1;
            if rule == 0 {
                break;
            }
            let charged = core::ptr::read_volatile(&raw const (*ask).charged);
            // an exception stays one: the bit is far above the number of rules
            if charged & charge::STRANGERS != 0 && rule & EXCEPT == 0 {
                list(ask, rule, at, todo::STRANGERS);
            }
            let charged = core::ptr::read_volatile(&raw const (*ask).charged);
            if charged & charge::OWN != 0 {
                // bits of one are those of the other
                let behind = (charged & charge::STRANGERS) as u8 * (todo::BEHIND / charge::STRANGERS as u8);
                let owner = (charged & charge::OWNER) as u8 * (todo::OWNER / charge::OWNER as u8);
                let state = behind | owner;
                list(ask, rule, at, state);
            }
        }
    }
    0
}

/// Adds an entry.
#[inline(always)]
unsafe fn list(ask: *mut Ask, rule: u16, at: u32, state: u8) {
    // SAFETY: the caller's promise.
    unsafe {
        let n = (*ask).rules;
        if n < TODO as u32 {
            (*ask).todo[opaque(n) as usize & TODO_MASK as usize] =
                Todo { rule: rule - 1, subject: at as u8, state };
            (*ask).rules = n + 1;
        }
    }
}

/// The address of a connection's peer, in full.
#[inline(always)]
unsafe fn network_key(conn: *mut Conn, direction: u32, key: *mut Key<NetworkData>) {
    // SAFETY: the caller's promise; 4 and twice 8 bytes of an array of 20.
    unsafe {
        let [high, low] = (*conn).peer.remote;
        let to = (&raw mut (*key).data).cast::<u8>();
        (&raw mut (*key).prefix_len).write_unaligned(160);
        to.cast::<u32>().write_unaligned(direction.to_be());
        to.add(4).cast::<u64>().write_unaligned(high);
        to.add(12).cast::<u64>().write_unaligned(low);
    }
}

/// Maps of buckets, as [`judge_key`] says.
mod bucket_of {
    pub const RULE: u32 = 0;
    pub const EACH: u32 = 1;
    pub const UNPROVEN: u32 = 2;
    pub const STRANGERS: u32 = 3;
}

/// Makes the key of the bucket of the entry at `at`, whose rule has `kind`, and says in which map it is. A global function, which the
/// verifier checks once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn judge_key(ask: *mut Ask, at: u32, kind: u32) -> u32 {
    if ask.is_null() {
        return bucket_of::RULE;
    }
    // SAFETY: the verifier proves that the pointer is what it says.
    unsafe {
        let todo = (*ask).todo[opaque(at) as usize & TODO_MASK as usize];
        let strangers = todo.state & todo::STRANGERS != 0;
        let key = &raw mut (*ask).bucket;
        (*key).rule = todo.rule as u32;
        (*key).pad = 0;
        (*key).subject = (*ask).client;
        if strangers || kind == scope::EACH_CLIENT as u32 {
            return bucket_of::STRANGERS;
        }
        if kind == scope::EACH_CREDENTIAL as u32 {
            (*key).subject = (*ask).subjects[opaque(todo.subject as u32) as usize & SUBJECT_MASK as usize];
            let place = (todo.subject as u32).wrapping_sub(CREDENTIAL as u32) & 31;
            return if (*ask).proven >> place & 1 != 0 { bucket_of::EACH } else { bucket_of::UNPROVEN };
        }
        if todo.state & todo::OWNER == 0 {
            return bucket_of::RULE;
        }
        (*key).subject.value = (*ask).owner as u64;
        (*key).subject.kind = subject::OWNER;
        bucket_of::EACH
    }
}

/// The bucket of an entry. Null when there is none and none can be made.
#[inline(always)]
unsafe fn bucket(ask: *mut Ask, at: u32, rule: u32, kind: u8) -> *mut Bucket {
    let mut of = judge_key(ask, at, kind as u32);
    if of == bucket_of::RULE {
        return BUCKETS.get_ptr_mut(rule).unwrap_or(core::ptr::null_mut());
    }
    // SAFETY: the caller's promise.
    unsafe {
        // VERIFIER(6.1): "combined stack size of 3 calls is 544": keys are not built on the stack
        let key = &(*ask).bucket;
        if of == bucket_of::EACH {
            if let Some(known) = EACH.get_ptr_mut(key) {
                return known;
            }
            // goes on with what it had before it was proven
            let made = match UNPROVEN.get_ptr(key) {
                Some(before) => EACH.insert(key, &*before, BPF_NOEXIST as u64),
                None => EACH.insert(key, &NEW_BUCKET, BPF_NOEXIST as u64),
            };
            if made.is_ok() {
                return EACH.get_ptr_mut(key).unwrap_or(core::ptr::null_mut());
            }
            of = bucket_of::UNPROVEN; // there is no room
        }
        if of == bucket_of::UNPROVEN {
            if let Some(known) = UNPROVEN.get_ptr_mut(key) {
                return known;
            }
            let _ = UNPROVEN.insert(key, &NEW_BUCKET, BPF_NOEXIST as u64);
            return UNPROVEN.get_ptr_mut(key).unwrap_or(core::ptr::null_mut());
        }
        if let Some(known) = STRANGERS.get_ptr_mut(key) {
            return known;
        }
        let _ = STRANGERS.insert(key, &NEW_BUCKET, BPF_NOEXIST as u64);
        STRANGERS.get_ptr_mut(key).unwrap_or(core::ptr::null_mut())
    }
}

/// What [`judge_entry`] says of an entry.
mod entry {
    /// It is not asked.
    pub const PASS: u32 = 1;
    /// Another bucket of the same rule is asked behind it.
    pub const FIRST: u32 = 2;
    /// That one is this, and the first was charged.
    pub const AFTER: u32 = 4;
    /// What was charged is given back.
    pub const BACK: u32 = 8;
}

/// What its rule and the other entries say of the one at `at`: bits of [`entry`]. A global function, which the verifier
/// checks once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn judge_entry(ask: *mut Ask, rule: *mut Rule, at: u32) -> u32 {
    if ask.is_null() || rule.is_null() || at >= TODO as u32 {
        return entry::PASS;
    }
    // SAFETY: the verifier proves that the pointer is what it says.
    unsafe {
        let all = &raw const (*ask).todo;
        let of = |at: u32| (*all)[opaque(at) as usize & TODO_MASK as usize];
        let place = &raw const (*ask).todo[opaque(at) as usize & TODO_MASK as usize];
        let this = *place;
        let (route, kind) = ((*rule).route, (*rule).scope);
        if (*rule).on == 0
            || (route != 0 && (*ask).routes >> ((route - 1) & 63) & 1 == 0)
            || ((*rule).host != 0 && (*rule).host != (*ask).host)
        {
            return entry::PASS;
        }
        let strangers = this.state & todo::STRANGERS;
        // who only claims a name is a stranger unless something is proven
        if strangers != 0 && charge::of_member(true, (*ask).proven) == 0 {
            return entry::PASS;
        }
        let mut bits = 0;
        if this.state & todo::BEHIND != 0 {
            let first = of(at.wrapping_sub(1)).state;
            if first & todo::REFUSED != 0 {
                return entry::PASS;
            }
            if first & todo::CHARGED != 0 {
                bits = entry::AFTER;
            }
        }
        let next = of(at + 1);
        if strangers != 0 && at + 1 < (*ask).rules && next.state & todo::BEHIND != 0 {
            bits |= entry::FIRST;
        }
        // the credentials of a role charge it once; a client's requests may be exceptions
        let sought = if kind == scope::EACH_CLIENT { EXCEPT } else { 0 };
        // what differs between the ways to here is left in memory: the loop is walked once
        (*ask).said = bits;
        (*ask).sought = sought as u32 | this.rule as u32;
        let mut i = 0;
        while i < TODO as u32 {
            if i >= opaque(at) {
                break;
            }
            let other = of(i);
            let same = core::ptr::read_volatile(&raw const (*place).state) ^ other.state;
            if other.rule as u32 == core::ptr::read_volatile(&raw const (*ask).sought)
                && same & todo::STRANGERS == 0
            {
                return entry::PASS;
            }
            i = opaque(i + 1);
        }
        core::ptr::read_volatile(&raw const (*ask).said)
    }
}

/// Goes on when every rule was asked; most requests are through then.
#[inline(always)]
unsafe fn all_asked(ask: *mut Ask) {
    // SAFETY: the caller's promise.
    unsafe {
        let at = core::ptr::read_volatile(&raw const (*ask).at);
        if at < (*ask).rules && at < TODO as u32 {
            return;
        }
        let refunded = core::ptr::read_volatile(&raw const (*ask).stage) == stage::REFUND;
        (*ask).at = 0;
        let worst = core::ptr::read_volatile(&raw const (*ask).worst);
        (*ask).stage = if worst > action::DENY as u32 && !refunded {
            stage::REFUND
        } else if worst > 1 + action::OBSERVE as u32 {
            stage::END
        } else {
            stage::IDLE
        };
    }
}

/// Asks the next rule, or gives back what it was charged: a denied request consumes nothing.
#[inline(always)]
unsafe fn of_rule(scratch: *mut Scratch, ask: *mut Ask) {
    // SAFETY: the caller's promise.
    unsafe {
        let at = (*ask).at;
        if at >= (*ask).rules || at >= TODO as u32 {
            return;
        }
        let todo = (*ask).todo[opaque(at) as usize & TODO_MASK as usize];
        (*ask).at = at + 1;
        let mut said = 0;
        if (*ask).stage != stage::ASK {
            said = entry::BACK;
        }
        if (*ask).stage == stage::UNDO {
            (*ask).at = at + 2; // the one behind was asked
            (*ask).stage = stage::ASK;
        }
        if said & entry::BACK != 0 && todo.state & todo::CHARGED == 0 {
            return;
        }
        // there is none behind an exception
        let Some(rule) = RULES.get_ptr(todo.rule as u32) else { return };
        said |= judge_entry(ask, rule.cast_mut(), at);
        if said & entry::PASS != 0 {
            return;
        }
        (*ask).said = said;
        let bucket = bucket(ask, at, todo.rule as u32, (*rule).scope);
        if bucket.is_null() {
            count(Counter::NoBucket, 1);
            return;
        }
        judge_bucket(ask, bucket, rule.cast_mut(), at, ring::now(scratch));
    }
}

/// Asks a bucket for the entry at `at`, or gives back to it. A global function, which the verifier checks once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn judge_bucket(ask: *mut Ask, bucket: *mut Bucket, rule: *mut Rule, at: u32, now: u64) -> u32 {
    if ask.is_null() || bucket.is_null() || rule.is_null() {
        return 0;
    }
    // SAFETY: the verifier proves that the pointers are what they say.
    unsafe {
        let place = &raw mut (*ask).todo[opaque(at) as usize & TODO_MASK as usize];
        let (todo, said, what) = (*place, (*ask).said, (*rule).action);
        let strangers = todo.state & todo::STRANGERS != 0;
        let limit = if strangers { (*rule).strangers } else { (*rule).limit };
        if said & entry::BACK != 0 {
            (*place).state = todo.state & !todo::CHARGED;
            raw::atomic_add(&raw mut (*bucket).tat, limit.interval_ns.wrapping_neg());
            raw::atomic_add(&raw mut (*bucket).admitted, u64::MAX);
            if said & entry::FIRST == 0 {
                tally(todo.rule, verdict::ALLOW, u64::MAX);
            }
            return 0;
        }
        let tat = core::ptr::read_volatile(&raw const (*bucket).tat);
        match gcra::ask(&limit, tat, now) {
            Answer::Admit(next) => {
                if (*ask).worst > action::DENY as u32 {
                    return 0; // denied already: nothing is charged
                }
                if !raw::atomic_swap(&raw mut (*bucket).tat, tat, next) {
                    (*ask).at = at; // another CPU was first: asked again
                    return 0;
                }
                if what == action::DENY && next > now + limit.tolerance_ns / 2 {
                    is_close(ask, now);
                }
                raw::atomic_add(&raw mut (*bucket).admitted, 1);
                (*place).state = todo.state | todo::CHARGED;
                // one that two buckets of a rule admit is counted once
                if said & entry::FIRST == 0 {
                    tally(todo.rule, verdict::ALLOW, 1);
                }
            }
            Answer::Refuse(wait) => {
                raw::atomic_add(&raw mut (*bucket).refused, 1);
                (*place).state = todo.state | todo::REFUSED;
                let grave = 1 + what as u32;
                if what == action::DENY {
                    is_close(ask, now);
                } else {
                    let verdict = if what == action::SHADOW { verdict::SHADOW } else { verdict::OBSERVE };
                    tally(todo.rule, verdict, 1);
                    if said & entry::AFTER != 0 {
                        // what only counts uses up nothing that it refuses
                        (*ask).at = at - 1;
                        (*ask).stage = stage::UNDO;
                    }
                }
                if grave > (*ask).worst || (grave == (*ask).worst && wait > (*ask).wait_ns) {
                    (*ask).worst = grave;
                    (*ask).wait_ns = wait;
                    (*ask).reason = reason::CAP as u32;
                    (*ask).by = todo.rule as u32;
                    (*ask).whose = if strangers { CLIENT as u32 } else { todo.subject as u32 };
                }
            }
        }
    }
    0
}

/// Somebody is close to a cap, or over it: for a while requests are decided about before the server has them.
#[inline(always)]
unsafe fn is_close(ask: *const Ask, now: u64) {
    // SAFETY: the caller's promise.
    if unsafe { (*ask).direction } == role::INBOUND as u32
        && let Some(over) = OVER.get_ptr_mut(0)
    {
        // SAFETY: a map value.
        unsafe { core::ptr::write_volatile(over, now + OVER_NS) }
    }
}

/// Counts a request of a rule.
#[inline(always)]
pub fn tally(rule: u16, verdict: u32, n: u64) {
    if let Some(cell) = CAP_COUNTS.get_ptr_mut(rule as u32 * VERDICTS + verdict) {
        // SAFETY: this CPU's cell of an array that lives as long as the program.
        unsafe { *cell = (*cell).wrapping_add(n) }
    }
}

/// The decision is made: enforces and reports it.
#[inline(always)]
unsafe fn end<M: Mode>(conn: *mut Conn, scratch: *mut Scratch, ask: *mut Ask) {
    // SAFETY: the caller's promise.
    unsafe {
        (*ask).stage = stage::IDLE;
        let worst = (*ask).worst;
        if worst <= 1 + action::OBSERVE as u32 {
            return;
        }
        let mut enforced = enforced::NOT;
        if worst > action::DENY as u32 {
            if (*conn).fenced != 0 {
                return; // what was not framed is cut already
            }
            if (*ask).reason == reason::CAP as u32 {
                tally((*ask).by as u16, verdict::DENY, 1);
            }
            if M::PACKETS {
                (*ask).emit = 1; // the request itself is reported first
                return;
            }
            enforced = cut(conn, (*ask).seq);
        } else if M::PACKETS {
            (*ask).seq = (*ask).number; // the server's framing will report the request
        }
        tell(conn, scratch, enforced);
    }
}

/// Fences the connection of request `seq`, which was denied. One of `enforced`.
///
/// # Safety
/// `conn` must be valid.
#[inline(always)]
pub unsafe fn cut(conn: *mut Conn, seq: u32) -> u8 {
    // SAFETY: the caller's promise.
    unsafe {
        (*conn).fenced = 1;
        (*conn).denied = seq;
        let socket = (*conn).peer.cookie != 0 && (*conn).transport != transport::UNIX;
        if socket && fence::set((*conn).peer.cookie) {
            return enforced::FENCED;
        }
        count(Counter::NotEnforced, 1);
        enforced::NOT
    }
}

/// A request that is not asked about is charged to nobody: its verdict names the client.
///
/// # Safety
/// The pointers must be valid.
#[inline(always)]
pub unsafe fn nobody_else(conn: *mut Conn, ask: *mut Ask) {
    // SAFETY: the caller's promise.
    unsafe {
        let direction = (*conn).role as u32;
        (*ask).subjects[CLIENT] = SubjectKey { value: (*conn).client, kind: subject::CLIENT, direction };
        (*ask).whose = CLIENT as u32;
    }
}

/// Reports what was decided last.
///
/// # Safety
/// The pointers must be valid.
#[inline(always)]
pub unsafe fn tell(conn: *mut Conn, scratch: *mut Scratch, enforced: u8) {
    // SAFETY: the caller's promise.
    unsafe {
        let ask = &raw mut (*scratch).ask;
        let who = (*ask).subjects[opaque((*ask).whose) as usize & SUBJECT_MASK as usize];
        let said = Said {
            who,
            wait_ns: (*ask).wait_ns,
            seq: (*ask).seq,
            rule: (*ask).by,
            action: ((*ask).worst - 1) as u8,
            reason: (*ask).reason as u8,
            enforced,
        };
        report(conn, scratch, &said);
    }
}

/// What a verdict says.
struct Said {
    who: SubjectKey,
    wait_ns: u64,
    seq: u32,
    rule: u32,
    action: u8,
    reason: u8,
    enforced: u8,
}

/// Sends the record of a verdict.
#[inline(always)]
unsafe fn report(conn: *mut Conn, scratch: *mut Scratch, said: &Said) {
    // SAFETY: the caller's promise.
    unsafe {
        let peer = &raw const (*conn).peer;
        // VERIFIER(6.12): "combined stack size of 2 calls is 528": not built on the stack
        let record = &raw mut (*scratch).verdict;
        record.write(event::Verdict {
            head: ring::head(event::Verdict::KIND, event::Verdict::SIZE as u32),
            // a request that the server gets is reported as one of its connection
            conn: if said.action == action::DENY { (*conn).id } else { event::server_conn((*conn).id) },
            ts_ns: ring::now(scratch),
            cookie: (*peer).cookie,
            value: said.who.value,
            wait_ns: said.wait_ns,
            local: core::mem::transmute::<[u64; 2], [u8; 16]>((*peer).local),
            remote: core::mem::transmute::<[u64; 2], [u8; 16]>((*peer).remote),
            seq: said.seq,
            subject: said.who.kind,
            netns: (*peer).netns,
            rule: said.rule,
            tgid: (*conn).tgid,
            local_port: (*peer).local_port,
            remote_port: (*peer).remote_port,
            family: (*peer).family,
            pad: [0; 6],
            device: (*peer).device,
            action: said.action,
            reason: said.reason,
            role: (*conn).role,
            enforced: said.enforced,
        });
        ring::send(&*record, Counter::LostVerdict);
    }
}

/// The socket under a connection that was denied has become known, before anything left it.
///
/// # Safety
/// `conn` must be valid and fenced, its peer known.
#[inline(always)]
pub unsafe fn fence_late(conn: *mut Conn) {
    // SAFETY: the caller's promise.
    unsafe {
        if !fence::set((*conn).peer.cookie) {
            return;
        }
        count(Counter::NotEnforced, u64::MAX); // it is, after all
        let Some(scratch) = scratch::take() else { return };
        let said = Said {
            who: SubjectKey { value: 0, kind: NOBODY, direction: role::OUTBOUND as u32 },
            wait_ns: 0,
            seq: (*conn).denied,
            rule: 0,
            action: action::DENY,
            reason: reason::SOCKET,
            enforced: enforced::FENCED,
        };
        report(conn, scratch, &said);
        scratch::release(scratch);
    }
}
