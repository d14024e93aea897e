//! Every map and every load-time value of the kernel side.

use aya_ebpf::bindings::bpf_map_type::{BPF_MAP_TYPE_SK_STORAGE, BPF_MAP_TYPE_TASK_STORAGE};
use aya_ebpf::bindings::{BPF_F_CLONE, BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::btf_maps::{self, ArrayOfMaps, SkStorage};
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::bpf_sk_storage_get;
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::lpm_trie::{Key, LpmTrie};
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, SockHash};
use monitor_common::answer::Text;
use monitor_common::cap::{self, Bucket, BucketKey, Policy, Rule, ServerKey, Subject, SubjectKey};
use monitor_common::http1::{self, Names};
use monitor_common::kernel::{
    Config, FileKey, IdentityCount, IdentityKey, ListenerKey, RINGS_MAX, ServedKey, TlsKey,
};
use monitor_common::ledger::Counter;
use monitor_common::path;

use crate::scratch::Scratch;

/// Set by the daemon before load; read-only afterwards, so the verifier knows every value.
#[unsafe(no_mangle)]
pub static CONFIG: Config = Config::UNSET;

/// One load-time value: the others are not loaded.
macro_rules! config {
    ($field:ident) => {
        $crate::maps::load_config(&raw const $crate::maps::CONFIG.$field)
    };
}
pub(crate) use config;

/// Loads a word of [`CONFIG`], for [`config!`].
#[inline(always)]
pub fn load_config(word: *const u32) -> u32 {
    // SAFETY: a field of a valid static; volatile because the loader replaces the bytes after compilation.
    unsafe { core::ptr::read_volatile(word) }
}

/// Buffers of a connection that are looked at before it is judged not to carry HTTP. Only the first buffer after a change
/// of direction counts, since only there a head can begin.
pub const CHECKS: u8 = 32;

/// What is known of a socket that carries no plaintext HTTP (yet).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Mark {
    /// One of [`mark`].
    pub state: u8,
    /// Buffers looked at so far.
    pub checks: u8,
    /// Direction of the last call, plus one.
    pub last: u8,
    /// 1 when its denied callers are answered: see [`crate::hooks::answer`].
    pub answered: u8,
    /// 1 when the first bytes that were looked at were the first that came in.
    pub whole: u8,
    /// Zero.
    pub pad: [u8; 3],
}

/// States of a [`Mark`].
pub mod mark {
    /// Not judged yet.
    pub const NEW: u8 = 0;
    /// Never looked at again.
    pub const OPAQUE: u8 = 1;
    /// TLS on the wire, not tied to a TLS library's connection yet.
    pub const TLS: u8 = 2;
    /// TLS on the wire, tied to a TLS library's connection.
    pub const TLS_BOUND: u8 = 3;
}

/// Where a connection leads: filled once, when the connection becomes known.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Peer {
    /// Socket cookie.
    pub cookie: u64,
    /// Local address, as in `event::Conn`.
    pub local: [u64; 2],
    /// Remote address, as in `event::Conn`.
    pub remote: [u64; 2],
    /// Network namespace.
    pub netns: u32,
    /// Local port.
    pub local_port: u16,
    /// Remote port.
    pub remote_port: u16,
    /// Address family.
    pub family: u16,
    /// 1 once filled.
    pub known: u8,
    /// Zero.
    pub pad: u8,
    /// Interface that the socket is bound to, 0 for none.
    pub device: u32,
    /// User whose socket it is.
    pub uid: u32,
    /// Zero.
    pub pad2: u32,
}

/// Everything about one HTTP connection.
#[repr(C)]
pub struct Conn {
    /// Framing of both directions.
    pub http: http1::Conn,
    /// `event::Conn::conn`.
    pub id: u64,
    /// Identity key of requests without a credential.
    pub client: u64,
    /// Time at which the response in progress had its head.
    pub response_ts: u64,
    /// Where it leads.
    pub peer: Peer,
    /// Process of the last announcement.
    pub tgid: u32,
    /// `event::role`.
    pub role: u8,
    /// `event::transport`.
    pub transport: u8,
    /// Joined in the middle.
    pub joined: u8,
    /// What the daemon was told: bits of [`told`].
    pub told: u8,
    /// Requests for which an unknown peer of a TLS connection was looked up.
    pub tries: u8,
    /// 1 when its side was judged for the second time: there is no third.
    pub again: u8,
    /// Of a TLS connection that is not judged yet, as in [`Mark`].
    pub checks: u8,
    /// As in [`Mark`].
    pub last: u8,
    /// 1 once a request was denied: nothing more leaves it, and nothing more is charged.
    pub fenced: u8,
    /// As in [`Mark`].
    pub answered: u8,
    /// 1 once its end is in [`SERVED`].
    pub served: u8,
    /// 1 when bytes of it went by unseen, so that its caller is not to blame for what was not framed.
    pub blind: u8,
    /// Bytes of requests that were framed before they were sent: the next ones that are.
    pub ahead: u32,
    /// Number of the request that was denied.
    pub denied: u32,
    /// Requests below this number were decided about before the server had them.
    pub judged: u32,
    /// Of a gate: sequence number of the next byte.
    pub next: u32,
    /// Of a gate: 1 while it follows the stream.
    pub synced: u32,
    /// Zero.
    pub pad2: u32,
}

/// A connection whose denied callers are answered: [`crate::hooks::answer`].
#[repr(C)]
pub struct Answer {
    /// Its requests, ahead of the server.
    pub conn: Conn,
    /// Requests that the server was given.
    pub given: u64,
    /// Those of them that it has answered.
    pub done: u64,
    /// Denied requests that are not answered yet: how many, and from bit 8 on a bit for each HEAD among them.
    pub waiting: u64,
    /// `struct sock`.
    pub sk: u64,
    /// Until when `leaves` means anything, ns.
    pub leaving_ns: u64,
    /// Sequence number behind the answers that are on their way to the socket.
    pub leaves: u32,
    /// Index in [`TEXTS`].
    pub text: u32,
    /// Seconds to wait.
    pub retry: u32,
    /// Of the latest denial, as in `event::Verdict`.
    pub rule: u32,
    /// See `rule`.
    pub reason: u32,
    /// 1 while the message in progress is kept from the server.
    pub cut: u32,
    /// 1 once the caller was told that the connection ends: nothing more gets through.
    pub last: u32,
    /// Zero.
    pub pad: u32,
}

/// Bits of [`Conn::told`].
pub mod told {
    /// A `Conn` record for the current process and peer.
    pub const CONN: u8 = 1;
    /// Anything at all: the daemon waits for the end.
    pub const SOMETHING: u8 = 2;
}

/// Most connections that are answered at a time.
const ANSWERED_MAX: u32 = 16_384;

/// A TLS call in progress on a thread.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TlsCall {
    /// `SSL *`.
    pub ssl: u64,
    /// Buffer.
    pub buf: u64,
    /// Where the byte count is stored, 0 when it is the result.
    pub out: u64,
    /// 1 while the call runs.
    pub active: u32,
    /// What the site's attach cookie says: [`monitor_common::kernel::tls_site`].
    pub site: u32,
}

/// Iovecs copied at a time: a power of two.
pub const IOVS: usize = 4;

/// BPF task storage, which `aya-ebpf` has no type for.
#[repr(C)]
pub struct TaskStorage<T> {
    r#type: *const [i32; BPF_MAP_TYPE_TASK_STORAGE as usize],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; BPF_F_NO_PREALLOC as usize],
}
// SAFETY: the fields describe the map to the loader; nothing reads them at run time.
unsafe impl<T> Sync for TaskStorage<T> {}
impl<T> TaskStorage<T> {
    const fn new() -> Self {
        use core::ptr::null;
        Self { r#type: null(), key: null(), value: null(), max_entries: null(), map_flags: null() }
    }
}

/// Socket storage that the connections of a listener begin with: a copy of the listener's.
#[repr(C)]
pub struct InheritedStorage<T> {
    r#type: *const [i32; BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; (BPF_F_NO_PREALLOC | BPF_F_CLONE) as usize],
}
// SAFETY: the fields describe the map to the loader; nothing reads them at run time.
unsafe impl<T> Sync for InheritedStorage<T> {}
impl<T> InheritedStorage<T> {
    const fn new() -> Self {
        use core::ptr::null;
        Self { r#type: null(), key: null(), value: null(), max_entries: null(), map_flags: null() }
    }
}

/// `NetworkKey` without its length.
pub type NetworkData = [u8; 20];
/// `PathKey` without its length.
pub type PathData = [u8; 4 + cap::PATH];
/// Key of `ACCESS`.
pub type PathKey = Key<PathData>;
/// The beginning of a head that arrives in pieces.
#[repr(C)]
pub struct Line {
    /// Its bytes. A copy is bounded by its largest start plus its largest length.
    pub bytes: [u8; 2 * path::LINE as usize],
    /// Number of its request: of use for no other.
    pub request: u32,
    /// Zero.
    pub pad: u32,
}

/// Judgement of sockets without plaintext HTTP.
#[btf_map]
pub static MARKS: SkStorage<Mark> = SkStorage::new();
/// Plaintext HTTP connections; lives and dies with the socket.
#[btf_map]
pub static CONNS: SkStorage<Conn> = SkStorage::new();
/// Inbound plaintext connections as the packets show them, ahead of [`CONNS`]; see [`crate::hooks::gate`].
#[btf_map]
pub static GATES: SkStorage<Conn> = SkStorage::new();
/// Connections of the daemon's own listener, which only the daemon fills: packets do not say which process they are for.
#[unsafe(link_section = ".maps")]
#[unsafe(export_name = "OWN")]
pub static OWN: InheritedStorage<u32> = InheritedStorage::new();
/// TLS call in progress per thread; lives and dies with the thread.
#[unsafe(link_section = ".maps")]
#[unsafe(export_name = "CALLS")]
pub static CALLS: TaskStorage<TlsCall> = TaskStorage::new();
/// TLS connections; dropped at `SSL_free`, and by the daemon when the process ends.
#[map]
pub static TLS: HashMap<TlsKey, Conn> = HashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);
/// Sockets under TLS connections, learned from socket calls nested in TLS calls and from the fd setters.
#[map]
pub static TLS_PEERS: HashMap<TlsKey, Peer> = HashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);
/// A zeroed connection: the value to insert.
#[map]
pub static ZERO: Array<Conn> = Array::with_max_entries(1, 0);
/// Working memory.
#[map]
pub static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);
/// Working memory of the packet hooks, which can interrupt the others.
#[map]
pub static GATE_SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);
/// Working memory of the answers.
#[map]
pub static ANSWER_SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(2, 0);
/// Listeners whose denied callers are answered.
#[map]
pub static LISTENERS: HashMap<ListenerKey, u32> = HashMap::with_max_entries(256, BPF_F_NO_PREALLOC);
/// Their connections, by socket cookie. Made in advance: where connections come in bursts, memory made on demand runs out. (The daemon
/// makes it small where nobody is answered.)
#[map]
pub static ANSWERS: HashMap<u64, Answer> = HashMap::with_max_entries(ANSWERED_MAX, 0);
/// The value to insert.
#[map]
pub static ZERO_ANSWER: Array<Answer> = Array::with_max_entries(1, 0);
/// Their sockets, by cookie. Entries go with their socket only: taking one out under traffic breaks the connection.
#[map]
pub static ANSWERED: SockHash<u64> = SockHash::with_max_entries(ANSWERED_MAX, 0);
/// The end of the pair that tokens are sent to.
#[map]
pub static TOKENS_IN: SockHash<u64> = SockHash::with_max_entries(1, 0);
/// The end of the pair that they come out of.
#[map]
pub static TOKENS_OUT: SockHash<u64> = SockHash::with_max_entries(1, 0);
/// Responses by rule, then the one for access levels.
#[map]
pub static TEXTS: Array<Text> = Array::with_max_entries(cap::RULES + 1, 0);
/// Ends of connections at which a server has answered in HTTP.
#[map]
pub static SERVED: LruHashMap<ServedKey, u32> = LruHashMap::with_max_entries(4_096, 0);
/// Time until which somebody is taken to be over a cap.
#[map]
pub static OVER: Array<u64> = Array::with_max_entries(1, 0);
/// Header names and the fingerprint key: for requests, for responses, and for requests while destination hosts matter.
#[map]
pub static NAMES: Array<Names> = Array::with_max_entries(3, 0);
/// Exact requests per identity.
#[map]
pub static IDENTITIES: HashMap<IdentityKey, IdentityCount> =
    HashMap::with_max_entries(131_072, BPF_F_NO_PREALLOC);
/// Which hooks are in place, see [`is_on`].
#[map]
pub static SWITCH: Array<u32> = Array::with_max_entries(1, 0);
/// Executables whose connections are not observed.
#[map]
pub static EXCLUDED: HashMap<FileKey, u32> = HashMap::with_max_entries(256, BPF_F_NO_PREALLOC);
/// Sockets that nothing leaves any more, by cookie.
#[map]
pub static FENCED: LruHashMap<u64, u32> = LruHashMap::with_max_entries(16_384, 0);
/// Fences set so far.
#[map]
pub static FENCES: Array<u64> = Array::with_max_entries(1, 0);
/// What there is to decide. The daemon maps it: its sign of life is a store.
#[map]
pub static POLICY: Array<Policy> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// Caps.
#[map]
pub static RULES: Array<Rule> = Array::with_max_entries(cap::RULES, 0);
/// Buckets of the rules that have one.
#[map]
pub static BUCKETS: Array<Bucket> = Array::with_max_entries(cap::RULES, 0);
/// Requests by rule and verdict.
#[map]
pub static CAP_COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(cap::RULES * cap::VERDICTS, 0);
/// What is configured for every credential and every client of a direction: `(direction - 1) * 2`, clients plus one.
#[map]
pub static EVERY: Array<Subject> = Array::with_max_entries(4, 0);
/// What is configured for single subjects.
#[map]
pub static SUBJECTS: HashMap<SubjectKey, Subject> =
    HashMap::with_max_entries(cap::SUBJECTS, BPF_F_NO_PREALLOC);
/// Credentials that are proven at a server, by its number in the direction's place.
#[map]
pub static ACCEPTED: HashMap<SubjectKey, u32> = HashMap::with_max_entries(cap::EACH, BPF_F_NO_PREALLOC);
/// Servers and their owners by their local end.
#[map]
pub static SERVERS: HashMap<ServerKey, u64> = HashMap::with_max_entries(cap::SERVERS, BPF_F_NO_PREALLOC);
/// Buckets of proven credentials.
#[map]
pub static EACH: HashMap<BucketKey, Bucket> = HashMap::with_max_entries(cap::EACH, BPF_F_NO_PREALLOC);
/// Buckets of other credentials.
#[map]
pub static UNPROVEN: LruHashMap<BucketKey, Bucket> = LruHashMap::with_max_entries(cap::UNPROVEN, 0);
/// Buckets of clients, and of the strangers at each.
#[map]
pub static STRANGERS: LruHashMap<BucketKey, Bucket> = LruHashMap::with_max_entries(cap::STRANGERS, 0);
/// What is configured for networks: direction, address.
#[map]
pub static NETWORKS: LpmTrie<NetworkData, Subject> = LpmTrie::with_max_entries(16_384, BPF_F_NO_PREALLOC);
/// Granted methods by role and path, routes of caps, exempt paths.
#[map]
pub static ACCESS: LpmTrie<PathData, cap::PathValue> = LpmTrie::with_max_entries(16_384, BPF_F_NO_PREALLOC);
/// Beginnings of heads that arrive in pieces, by connection; packets and calls each keep their own.
#[map]
pub static LINES: LruHashMap<u64, Line> = LruHashMap::with_max_entries(2_048, 0);
/// The value to insert.
#[map]
pub static ZERO_LINE: Array<Line> = Array::with_max_entries(1, 0);
/// Counters of `monitor_common::ledger`.
#[map]
pub static LEDGER: PerCpuArray<u64> = PerCpuArray::with_max_entries(Counter::COUNT, 0);
/// Records to the daemon: one ring a CPU, made and put in by the daemon.
#[btf_map]
pub static RINGS: ArrayOfMaps<Ring, RINGS_MAX> = ArrayOfMaps::new();
/// What the rings are like; their size is the daemon's choice.
pub type Ring = btf_maps::RingBuf<u8, 4096>;

/// Storage of a socket in `map`, null when there is none (or none could be made).
#[inline(always)]
pub fn storage<T>(map: *const c_void, sk: *mut c_void, flags: u32) -> *mut T {
    // SAFETY: a socket-storage map and a socket from the hook's context.
    unsafe { bpf_sk_storage_get(map.cast_mut(), sk, core::ptr::null_mut(), flags as u64).cast() }
}

/// The connection of a socket, null when it has none.
#[inline(always)]
pub fn conn_of(sk: *mut c_void) -> *mut Conn {
    storage((&raw const CONNS).cast(), sk, 0)
}

/// Whether new connections are taken up by the hooks of set `number`: 0 for sockets, else one probed TLS library. The daemon
/// counts up once a set is complete: with one direction hooked before the other, a busy connection's requests and
/// responses would be numbered apart for good.
#[inline(always)]
pub fn is_on(number: u32) -> bool {
    // SAFETY: one word, written by the daemon.
    SWITCH.get_ptr(0).is_some_and(|complete| unsafe { core::ptr::read_volatile(complete) } > number)
}

/// Adds to a counter.
#[inline(always)]
pub fn count(counter: Counter, n: u64) {
    if let Some(cell) = LEDGER.get_ptr_mut(counter as u32) {
        // SAFETY: this CPU's cell of an array that lives as long as the program.
        unsafe { *cell = (*cell).wrapping_add(n) }
    }
}
