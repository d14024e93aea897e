//! Connections: where they lead, who uses them, and telling the daemon about both.

use aya_ebpf::helpers::generated::{
    bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid,
    bpf_ktime_get_ns,
};
use monitor_common::cap;
use monitor_common::event::{self, cred, role, transport};
use monitor_common::http1::{Start, phase};
use monitor_common::kernel::{FileKey, ServedKey};
use monitor_common::ledger::Counter;

use crate::maps::{Conn, EXCLUDED, Peer, SERVED, config, told};
use crate::mode::Mode;
use crate::scratch::Scratch;
use crate::{raw, ring};

const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const SOCK_STREAM: u16 = 1;
/// First half of the second word of `::ffff:0:0/96`.
const V4_MAPPED: u64 = 0xffff_0000;

/// Thread of the current call: process in the upper half.
#[inline(always)]
pub fn thread() -> u64 {
    // SAFETY: takes no arguments.
    unsafe { bpf_get_current_pid_tgid() }
}

/// Process of the current call.
#[inline(always)]
pub fn tgid() -> u32 {
    (thread() >> 32) as u32
}

/// Whether the executable of the current process is excluded by configuration. Free while none is.
#[inline(always)]
pub fn is_excluded() -> bool {
    if config!(excluded) == 0 {
        return false;
    }
    EXCLUDED.get_ptr(file()).is_some()
}

/// The executable of the current process.
#[inline(always)]
fn file() -> FileKey {
    let field = |address: u64, offset: u32| raw::kernel::<u64>(address + offset as u64).unwrap_or(0);
    let mm = field(raw::task(), config!(task_mm));
    let inode = field(field(mm, config!(mm_exe_file)), config!(file_inode));
    let device = field(inode, config!(inode_sb));
    FileKey {
        inode: field(inode, config!(inode_number)),
        device: raw::kernel::<u32>(device + config!(sb_dev) as u64).unwrap_or(0),
        pad: 0,
    }
}

/// The same as the key of a cap's subject.
#[inline(always)]
pub fn executable() -> u64 {
    let file = file();
    cap::executable_key(file.inode, file.device)
}

/// Whether a socket is of a kind that can carry HTTP: a stream over IP or a Unix stream.
#[inline(always)]
pub fn can_carry_http(sk: u64) -> bool {
    let family = raw::kernel::<u16>(sk + config!(sock_family) as u64).unwrap_or(0);
    let kind = raw::kernel::<u16>(sk + config!(sock_type) as u64).unwrap_or(0);
    kind == SOCK_STREAM && (family == AF_INET || family == AF_INET6 || family == AF_UNIX)
}

/// Fills in where a socket leads.
///
/// # Safety
/// `peer` must be writable.
#[inline(always)]
pub unsafe fn learn_peer(sk: u64, cookie: u64, peer: *mut Peer) {
    conn_peer(raw::number(sk as *const _), cookie, peer);
}

/// [`learn_peer`] as a function that the verifier checks once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn conn_peer(sk: u64, cookie: u64, peer: *mut Peer) -> u32 {
    if peer.is_null() {
        return 0;
    }
    // SAFETY: the verifier proves that the pointer is what it says.
    unsafe {
        fill_in(sk, cookie, peer);
        // last: others read it where it is, and must not take a half for a whole
        (&raw mut (*peer).known).write_volatile(1);
    }
    0
}

/// Whether a socket is of interest: it can carry HTTP, and nobody said otherwise.
#[inline(always)]
pub fn is_of_interest(sk: u64) -> bool {
    conn_of_interest(raw::number(sk as *const _)) != 0
}

/// [`is_of_interest`], likewise.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn conn_of_interest(sk: u64) -> u32 {
    (can_carry_http(sk) && !is_own(sk) && !is_excluded()) as u32
}

#[inline(always)]
unsafe fn fill_in(sk: u64, cookie: u64, peer: *mut Peer) {
    let family = raw::kernel::<u16>(sk + config!(sock_family) as u64).unwrap_or(0);
    let net = raw::kernel::<u64>(sk + config!(sock_net) as u64).unwrap_or(0);
    // SAFETY: the caller's promise.
    unsafe {
        (*peer).cookie = cookie;
        (*peer).family = family;
        (*peer).device = raw::kernel::<u32>(sk + config!(sock_device) as u64).unwrap_or(0);
        (*peer).netns = raw::kernel::<u32>(net + config!(net_inum) as u64).unwrap_or(0);
        ((&raw mut (*peer).local).cast::<u64>()).write_volatile(0);
        (&raw mut (*peer).local).cast::<u64>().add(1).write_volatile(0);
        (*peer).local_port = 0;
        (*peer).remote_port = 0;
        (*peer).pad = 0;
        (*peer).uid = raw::kernel::<u32>(sk + config!(sock_uid) as u64).unwrap_or(0);
        (*peer).pad2 = 0;
        if family == AF_UNIX {
            let cred = raw::kernel::<u64>(sk + config!(sock_peer_cred) as u64).unwrap_or(0);
            let uid = raw::kernel::<u32>(cred + config!(cred_uid) as u64).unwrap_or(u32::MAX);
            (*peer).remote = [uid as u64 | (peer_pid(sk) as u64) << 32, 0];
            return;
        }
        (*peer).local_port = raw::kernel::<u16>(sk + config!(sock_num) as u64).unwrap_or(0);
        (*peer).remote_port = raw::kernel::<u16>(sk + config!(sock_dport) as u64).unwrap_or(0).swap_bytes();
        if family == AF_INET6 {
            (*peer).local = raw::kernel::<[u64; 2]>(sk + config!(sock_saddr6) as u64).unwrap_or([0; 2]);
            (*peer).remote = raw::kernel::<[u64; 2]>(sk + config!(sock_daddr6) as u64).unwrap_or([0; 2]);
        } else {
            let local = raw::kernel::<u32>(sk + config!(sock_saddr) as u64).unwrap_or(0);
            let remote = raw::kernel::<u32>(sk + config!(sock_daddr) as u64).unwrap_or(0);
            (*peer).local = [0, V4_MAPPED | (local as u64) << 32];
            (*peer).remote = [0, V4_MAPPED | (remote as u64) << 32];
        }
    }
}

/// Process at the other end of a Unix socket (of a client: the process that listens), as `SO_PEERCRED` tells it.
#[inline(always)]
pub fn peer_pid(sk: u64) -> u32 {
    let pid = raw::kernel::<u64>(sk + config!(sock_peer_pid) as u64).unwrap_or(0);
    if pid == 0 {
        return 0;
    }
    raw::kernel::<u32>(pid + config!(pid_nr) as u64).unwrap_or(0)
}

/// Whether a socket is plain TCP, so that `struct tcp_sock` is behind it.
#[inline(always)]
pub fn is_tcp(sk: u64) -> bool {
    const TCP: u16 = 6;
    raw::kernel::<u16>(sk + config!(sock_protocol) as u64).unwrap_or(0) == TCP
}

/// Bytes that the process has taken from a TCP socket so far, and one more once it was told of the FIN: that has a sequence
/// number, too.
#[inline(always)]
fn taken(sk: u64) -> i64 {
    let received = raw::kernel::<u64>(sk + config!(tcp_received) as u64).unwrap_or(0);
    let next = raw::kernel::<u32>(sk + config!(tcp_rcv_nxt) as u64).unwrap_or(0);
    let copied = raw::kernel::<u32>(sk + config!(tcp_copied_seq) as u64).unwrap_or(0);
    received.wrapping_sub(next.wrapping_sub(copied) as u64) as i64
}

/// Whether what looks like a request is the middle of an upload that began before Weir: more than these `n` bytes went this way,
/// and nothing ever came back. (In a later upload of a connection that is as old, the look-alike cannot be told; its response
/// corrects the framing.)
#[inline(always)]
pub fn is_in_first_upload(sk: u64, n: u32, receives: bool) -> bool {
    conn_in_first_upload(raw::number(sk as *const _), n, receives as u32) != 0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn conn_in_first_upload(sk: u64, n: u32, receives: u32) -> u32 {
    if !is_tcp(sk) {
        return 0;
    }
    if receives != 0 {
        let sent = raw::kernel::<u64>(sk + config!(tcp_sent) as u64).unwrap_or(1);
        // one more is the FIN
        return (sent == 0 && taken(sk) > n as i64 + 1) as u32;
    }
    let received = raw::kernel::<u64>(sk + config!(tcp_received) as u64).unwrap_or(0);
    (received == 0 && written(sk) > n as u64 + 2) as u32
}

/// Sequence numbers of a TCP socket that its process has used so far: its bytes, the SYN of a connection that it made, and the FIN
/// once it has ended its side. So there are up to two more of them than bytes.
#[inline(always)]
fn written(sk: u64) -> u64 {
    let next = raw::kernel::<u32>(sk + config!(tcp_write_seq) as u64).unwrap_or(0);
    let una = raw::kernel::<u32>(sk + config!(tcp_snd_una) as u64).unwrap_or(0);
    let acked = raw::kernel::<u64>(sk + config!(tcp_acked) as u64).unwrap_or(0);
    acked + next.wrapping_sub(una) as u64
}

/// A connection that was taken up with a response gets `n` bytes of requests. When nothing was sent before them, they are the
/// request of that response: another thread read the response before this call's own end. It gets the response's number.
///
/// # Safety
/// `conn` must be the connection of `sk`.
#[inline(always)]
pub unsafe fn number_late_request(conn: *mut Conn, sk: u64, n: u32) {
    // SAFETY: the caller's promise.
    unsafe {
        if (*conn).joined != 0
            && (*conn).http.shared.req_seq == 0
            && is_tcp(sk)
            && written(sk).wrapping_sub(n as u64) <= 2
        {
            (*conn).http.shared.req_seq = u32::MAX;
        }
    }
}

/// Whether the `n` bytes that were received are the first ones of their connection.
#[inline(always)]
pub fn is_beginning(sk: u64, n: u32) -> bool {
    conn_is_beginning(raw::number(sk as *const _), n) != 0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn conn_is_beginning(sk: u64, n: u32) -> u32 {
    (is_tcp(sk) && taken(sk) <= n as i64 + 1) as u32
}

/// Whether this is the daemon's own traffic, or a client of its control socket. Told by process: ports and addresses are anybody's.
/// (What scrapes its metrics is a client like any other.)
#[inline(always)]
fn is_own(sk: u64) -> bool {
    if tgid() == config!(own_tgid) {
        return true;
    }
    let family = raw::kernel::<u16>(sk + config!(sock_family) as u64).unwrap_or(0);
    family == AF_UNIX && peer_pid(sk) == config!(own_tgid)
}

/// Whether a server has answered in HTTP at this end of `sk`: what comes in there is HTTP, whatever it looks like.
#[inline(always)]
pub fn serves_http(sk: u64) -> bool {
    conn_serves_http(raw::number(sk as *const _)) != 0
}

/// What a buffer begins that `sk` sends or receives: where HTTP is served, servers take more than what looks like it.
#[inline(always)]
pub fn start(sk: u64, address: u64, n: u32, receives: bool) -> Start {
    raw::known(conn_start(raw::number(sk as *const _), address, n, receives as u32))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn conn_start(sk: u64, address: u64, n: u32, receives: u32) -> u32 {
    let start = raw::start(address, n);
    let other = start == Start::No || start == Start::Response;
    if other && receives != 0 && conn_serves_http(sk) != 0 { Start::Request as u32 } else { start as u32 }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn conn_serves_http(sk: u64) -> u32 {
    let net = raw::kernel::<u64>(sk + config!(sock_net) as u64).unwrap_or(0);
    let key = ServedKey {
        address: local_address(sk),
        netns: raw::kernel::<u32>(net + config!(net_inum) as u64).unwrap_or(0),
        uid: raw::kernel::<u32>(sk + config!(sock_uid) as u64).unwrap_or(0),
        port: raw::kernel::<u16>(sk + config!(sock_num) as u64).unwrap_or(0) as u64,
    };
    SERVED.get_ptr(key).is_some() as u32
}

/// The server of `conn` has answered in HTTP.
///
/// # Safety
/// `conn` must be valid.
#[inline(always)]
pub unsafe fn has_served(conn: *mut Conn) {
    // SAFETY: the caller's promise.
    unsafe {
        if (*conn).served == 0 && (*conn).role == role::INBOUND {
            (*conn).served = 1;
            conn_end(conn, 1);
        }
    }
}

/// Whether a server has answered in HTTP at the end of `conn`.
///
/// # Safety
/// `conn` must be valid.
#[inline(always)]
pub unsafe fn serves_http_to(conn: *mut Conn) -> bool {
    conn_end(conn, 0) != 0
}

/// Looks the end of a connection up in `SERVED`, where `learn` puts it in. 1 when it was there.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn conn_end(conn: *mut Conn, learn: u32) -> u32 {
    if conn.is_null() {
        return 0;
    }
    // SAFETY: the verifier proves that the pointer is what it says.
    let key = unsafe {
        let peer = &raw const (*conn).peer;
        if (*peer).local_port == 0 {
            return 0;
        }
        ServedKey {
            address: (*peer).local,
            netns: (*peer).netns,
            uid: (*peer).uid,
            port: (*peer).local_port as u64,
        }
    };
    if SERVED.get_ptr(key).is_some() {
        return 1;
    }
    if learn != 0 {
        let _ = SERVED.insert(key, 1, 0);
    }
    0
}

/// Sets up a new plaintext connection; its memory is zero.
///
/// # Safety
/// `conn` must be writable.
#[inline(always)]
pub unsafe fn open(conn: *mut Conn, sk: u64, cookie: u64, role: u8) {
    // SAFETY: the caller's promise.
    unsafe {
        learn_peer(sk, cookie, &raw mut (*conn).peer);
        (*conn).id = cookie;
        (*conn).transport = if (*conn).peer.family == AF_UNIX { transport::UNIX } else { transport::TCP };
        (*conn).role = role;
        (*conn).client = client_key(&raw const (*conn).peer);
        if role == role::INBOUND {
            let served = conn_end(conn, 0) as u8;
            (*conn).served = served;
            (*conn).http.req.proven = served;
        }
    }
}

/// A second framing of the requests of `conn`, which is between two of them, goes on from here.
///
/// # Safety
/// Both must be valid.
#[inline(always)]
pub unsafe fn go_on(ahead: *mut Conn, conn: *mut Conn) {
    // SAFETY: the caller's promise.
    unsafe {
        (*ahead).http.req.phase = phase::START;
        (*ahead).http.req.carry = 0;
        (*ahead).http.req.open = 0;
        (*ahead).http.req.proven = 1;
        (*ahead).http.shared = (*conn).http.shared;
    }
}

/// The local address of an IP socket, as in [`Peer`].
#[inline(always)]
pub fn local_address(sk: u64) -> [u64; 2] {
    let family = raw::kernel::<u16>(sk + config!(sock_family) as u64).unwrap_or(0);
    if family == AF_INET6 {
        return raw::kernel::<[u64; 2]>(sk + config!(sock_saddr6) as u64).unwrap_or([0; 2]);
    }
    let local = raw::kernel::<u32>(sk + config!(sock_saddr) as u64).unwrap_or(0);
    [0, V4_MAPPED | (local as u64) << 32]
}

/// A connection that begins with a response: it answers a request that went by before, so the next response is number 0.
///
/// # Safety
/// `conn` must be writable.
#[inline(always)]
pub unsafe fn join(conn: *mut Conn) {
    // SAFETY: the caller's promise.
    unsafe {
        (*conn).joined = 1;
        (*conn).http.shared.resp_seq = u32::MAX;
    }
}

/// Whether a call that receives (or else sends) moves responses of a connection.
///
/// # Safety
/// `conn` must be valid.
#[inline(always)]
pub unsafe fn is_response(conn: *mut Conn, receives: bool) -> bool {
    // SAFETY: the caller's promise.
    unsafe { ((*conn).role == role::INBOUND) != receives }
}

/// Whether nothing was complete on a connection so far, and what comes now (`response`) is what was taken for its responses.
///
/// # Safety
/// `conn` must be valid.
#[inline(always)]
pub unsafe fn is_unproven(conn: *mut Conn, response: bool) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let shared = &raw const (*conn).http.shared;
        response && (*shared).req_seq == 0 && (*shared).resp_seq == 0 && (*conn).joined == 0
    }
}

/// Key of requests without a credential: the remote address, mixed (a collision would only matter when records are
/// lost; the daemon keeps addresses themselves).
///
/// # Safety
/// `peer` must be readable.
#[inline(always)]
pub unsafe fn client_key(peer: *const Peer) -> u64 {
    // SAFETY: the caller's promise.
    let ([a, b], family) = unsafe { ((*peer).remote, (*peer).family) };
    // a Unix peer is its user
    let (a, b) = if family == AF_UNIX { (a & 0xffff_ffff, 0) } else { (a, b) };
    cap::client_key([a, b])
}

/// Key of the network that a client stands for: what buckets of clients are told apart by.
///
/// # Safety
/// `conn` must be valid, its peer known.
#[inline(always)]
pub unsafe fn network_key(conn: *const Conn) -> u64 {
    // SAFETY: the caller's promise.
    let (remote, family) = unsafe { ((*conn).peer.remote, (*conn).peer.family) };
    if family != AF_INET6 || remote[0] == 0 {
        // SAFETY: the caller's promise.
        return unsafe { (*conn).client };
    }
    cap::client_key(cap::client_network(remote))
}

/// Tells the daemon about a connection and the process that uses it, when it does not know yet.
///
/// # Safety
/// `conn` and `scratch` must be valid.
#[inline(always)]
pub unsafe fn announce<M: Mode>(conn: *mut Conn, scratch: *mut Scratch) {
    // a packet has no process
    let tgid = if M::PACKETS { 0 } else { tgid() };
    // SAFETY: the caller's promise.
    unsafe {
        if (*conn).told & told::CONN != 0 && (M::PACKETS || (*conn).tgid == tgid) {
            return;
        }
        (*conn).told |= told::CONN | told::SOMETHING;
        (*conn).tgid = tgid;
        let peer = &raw const (*conn).peer;
        // VERIFIER(6.12): "combined stack size of 2 calls is 528": not built on the stack
        let record = &raw mut (*scratch).record;
        record.write(event::Conn {
            head: ring::head(event::Conn::KIND, event::Conn::SIZE as u32),
            conn: (*conn).id,
            ts_ns: ring::now(scratch),
            cookie: (*peer).cookie,
            cgroup: if M::PACKETS { 0 } else { bpf_get_current_cgroup_id() },
            start_ns: if M::PACKETS { 0 } else { raw::process_start(raw::task()) },
            local: core::mem::transmute::<[u64; 2], [u8; 16]>((*peer).local),
            remote: core::mem::transmute::<[u64; 2], [u8; 16]>((*peer).remote),
            comm: [0; 16],
            netns: (*peer).netns,
            tgid,
            uid: if M::PACKETS { 0 } else { bpf_get_current_uid_gid() as u32 },
            local_port: (*peer).local_port,
            remote_port: (*peer).remote_port,
            family: (*peer).family,
            role: (*conn).role,
            transport: (*conn).transport,
            peer_known: (*peer).known,
            joined: (*conn).joined,
            pad: [0; 18],
        });
        if !M::PACKETS {
            bpf_get_current_comm((&raw mut (*record).comm).cast(), 16);
        }
        ring::send(&*record, Counter::LostState);
    }
}

/// Tells the daemon to forget a connection, if it knows of it.
///
/// # Safety
/// `conn` must be valid.
#[inline(always)]
pub unsafe fn tell_end(conn: *mut Conn) {
    // SAFETY: the caller's promise.
    unsafe {
        if (*conn).told == 0 {
            return;
        }
        (*conn).told = 0;
        let record = event::Close {
            head: ring::head(event::Close::KIND, event::Close::SIZE as u32),
            conn: (*conn).id,
            ts_ns: bpf_ktime_get_ns(),
            req_seq: (*conn).http.shared.req_seq,
            resp_seq: (*conn).http.shared.resp_seq,
        };
        ring::send(&record, Counter::LostState);
    }
}

/// Which counter a request belongs to.
#[inline(always)]
pub fn total(side: u8) -> Counter {
    if side == role::OUTBOUND { Counter::RequestsOutbound } else { Counter::RequestsInbound }
}

/// Key of the identity that a request without credentials is counted for.
pub const ANONYMOUS: u32 = cred::NONE as u32;
