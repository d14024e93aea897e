//! Every map and every load-time value of the kernel side.

use aya_ebpf::bindings::{BPF_F_NO_PREALLOC, bpf_map_type::BPF_MAP_TYPE_TASK_STORAGE};
use aya_ebpf::btf_maps::{self, ArrayOfMaps, SkStorage};
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::bpf_sk_storage_get;
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::lpm_trie::{Key, LpmTrie};
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray};
use monitor_common::cap::{self, Bucket, BucketKey, Policy, Rule, Subject, SubjectKey};
use monitor_common::event;
use monitor_common::http1::{self, Cur, Names};
use monitor_common::kernel::{Config, FileKey, IdentityCount, IdentityKey, RINGS_MAX, TlsKey};
use monitor_common::ledger::Counter;
use monitor_common::path::{self, Path};

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
    /// Zero.
    pub pad: [u8; 5],
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
    /// Zero.
    pub pad: [u8; 3],
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

/// Bits of [`Conn::told`].
pub mod told {
    /// A `Conn` record for the current process and peer.
    pub const CONN: u8 = 1;
    /// Anything at all: the daemon waits for the end.
    pub const SOMETHING: u8 = 2;
}

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
    /// Zero.
    pub pad: [u8; 2],
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
    /// Framing cursor.
    pub cur: Cur,
    /// The decision in progress.
    pub ask: Ask,
    /// Its record is built here.
    pub verdict: event::Verdict,
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
    /// 1 when the request has a credential that is known here.
    pub known: u32,
    /// Longest wait of the rules that refused as gravely.
    pub wait_ns: u64,
    /// Who is asked in its place where a credential is a stranger's.
    pub client: SubjectKey,
    /// Who is asked.
    pub subjects: [SubjectKey; SUBJECTS_EACH],
    /// Access level of each that must grant, 0 for none; [`crate::judge::SHADOW_LEVEL`] is a bit of it.
    pub access: [u32; SUBJECTS_EACH],
    /// Rules to ask.
    pub todo: [Todo; TODO],
    /// Key of the bucket that is asked.
    pub bucket: BucketKey,
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
    /// 1 once its bucket was charged.
    pub charged: u8,
}

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

/// `NetworkKey` without its length.
pub type NetworkData = [u8; 20];
/// `PathKey` without its length.
pub type PathData = [u8; 4 + cap::PATH];
/// Key of `ACCESS`.
pub type PathKey = Key<PathData>;
/// Bytes of a value of `LINES`: a copy is bounded by its largest start plus its largest length.
pub const LINE_BYTES: usize = 2 * path::LINE as usize;

/// Judgement of sockets without plaintext HTTP.
#[btf_map]
pub static MARKS: SkStorage<Mark> = SkStorage::new();
/// Plaintext HTTP connections; lives and dies with the socket.
#[btf_map]
pub static CONNS: SkStorage<Conn> = SkStorage::new();
/// Inbound plaintext connections as the packets show them, ahead of [`CONNS`]; see [`crate::hooks::gate`].
#[btf_map]
pub static GATES: SkStorage<Conn> = SkStorage::new();
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
/// What there is to decide.
#[map]
pub static POLICY: Array<Policy> = Array::with_max_entries(1, 0);
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
/// Credentials that a server has accepted.
#[map]
pub static ACCEPTED: HashMap<SubjectKey, u32> = HashMap::with_max_entries(cap::EACH, BPF_F_NO_PREALLOC);
/// Buckets of accepted credentials.
#[map]
pub static EACH: HashMap<BucketKey, Bucket> = HashMap::with_max_entries(cap::EACH, BPF_F_NO_PREALLOC);
/// Buckets of client addresses.
#[map]
pub static STRANGERS: LruHashMap<BucketKey, Bucket> = LruHashMap::with_max_entries(cap::STRANGERS, 0);
/// What is configured for networks: direction, address.
#[map]
pub static NETWORKS: LpmTrie<NetworkData, Subject> = LpmTrie::with_max_entries(16_384, BPF_F_NO_PREALLOC);
/// Granted methods by role and path, routes of caps, exempt paths.
#[map]
pub static ACCESS: LpmTrie<PathData, cap::PathValue> = LpmTrie::with_max_entries(16_384, BPF_F_NO_PREALLOC);
/// Beginnings of heads that arrive in pieces, by connection.
#[map]
pub static LINES: LruHashMap<u64, [u8; LINE_BYTES]> = LruHashMap::with_max_entries(2_048, 0);
/// The value to insert.
#[map]
pub static ZERO_LINE: Array<[u8; LINE_BYTES]> = Array::with_max_entries(1, 0);
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
