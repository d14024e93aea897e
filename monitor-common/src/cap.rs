//! Caps and access levels as the kernel side applies them: what the daemon compiles its configuration into.
//!
//! ```text
//! request head complete -> the subjects it may be charged to: its credentials, its client address, its workload
//!   SERVERS[local end] -> server; ACCEPTED[(value, kind, server)]        is a credential proven here?
//!   SUBJECTS[(value, kind, direction)] -> Subject { rules, access }      what is configured for this very one
//!   EVERY[direction, credential | client] -> Subject                     what is configured for every one of a kind
//!     -> RULES[index]: does it apply (route, host)? -> its buckets ([`crate::charge`]): ask; the tightest answer wins
//!        all admit -> all consume; one refuses -> nothing is consumed, verdict `deny` (or `shadow`)
//!   access: ACCESS[(role, path)] -> methods
//! ```
//!
//! Access levels of several subjects must all grant. More credentials than fit are refused where anything denies, since
//! the one that is charged could be among those that were left out.
//!
//! Buckets: a rule for one subject, a role or a workload has its bucket in the rule's own cell of `BUCKETS`, which nobody can
//! evict. A rule for each credential has one for every credential: in `EACH` for those that are proven (never evicts), in
//! `UNPROVEN` for the others (LRU: what an inventor walks out of it is bounded all the same), from where it goes on once it is
//! proven. The buckets of clients, and those of the strangers at each client, are in `STRANGERS` (LRU).
//!
//! The daemon writes `RULES`, `EVERY`, `SUBJECTS` and `ACCESS`, then `POLICY` last: it switches the new generation on. A rule's
//! index stays the same for as long as a cap of that name exists, so its bucket and counts survive changes of everything else.

use core::mem::size_of;

use crate::gcra::Limit;

/// Most caps.
pub const RULES: u32 = 1024;
/// Most caps that apply to one subject.
pub const RULES_EACH: usize = 8;
/// Most subjects that are configured one by one.
pub const SUBJECTS: u32 = 131_072;
/// Most proven credentials with a bucket of their own.
pub const EACH: u32 = 131_072;
/// Most other credentials with a bucket of their own.
pub const UNPROVEN: u32 = 32_768;
/// Most local ends of servers that are told apart.
pub const SERVERS: u32 = 16_384;
/// Most client addresses with a bucket; the least recently used goes first.
pub const STRANGERS: u32 = 65_536;
/// Most different route prefixes in caps, a bit each.
pub const ROUTES: usize = 64;
/// Most bytes of a path that are compared, once normalised. A longer path matches by its beginning.
pub const PATH: usize = 128;

/// Bit of an entry of [`Subject::rules`]: requests that carry the subject are an exception to this rule.
pub const EXCEPT: u16 = 1 << 15;

/// Kinds of subjects beside those of [`crate::event::cred`].
pub mod subject {
    /// A client address: `value` is [`super::client_key`].
    pub const CLIENT: u32 = 0;
    /// A workload by cgroup: `value` is the cgroup's id.
    pub const CGROUP: u32 = 64;
    /// Owner of a server: `value` is the upper half of its entry in `SERVERS`.
    pub const OWNER: u32 = 66;
    /// A workload by executable: `value` is the inode, see [`super::executable_key`].
    pub const EXECUTABLE: u32 = 65;
}

/// Key of `SUBJECTS`, of `ACCEPTED` (with the server in the direction's place: see [`server`]), and with a rule in front of it of `EACH` and `STRANGERS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubjectKey {
    /// Fingerprint, client key, cgroup or executable.
    pub value: u64,
    /// One of [`crate::event::cred`] or [`subject`].
    pub kind: u32,
    /// One of [`crate::event::role`].
    pub direction: u32,
}

/// Where credentials are proven: numbers in the place of [`SubjectKey::direction`] in `ACCEPTED`.
pub mod server {
    /// At servers that nobody has told apart: `event::role::INBOUND`.
    pub const ANY: u32 = crate::event::role::INBOUND as u32;
}

/// Key of `SERVERS` (the value is the server's number and, above it, its owner's; 0 for one that vouches for the whole host): the
/// local end of an inbound connection, which the kernel side knows whatever it sees of one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ServerKey {
    /// Local address as two words in memory order (IPv4 mapped).
    pub address: [u64; 2],
    /// Network namespace.
    pub netns: u32,
    /// Port.
    pub port: u32,
}

/// What is configured for a subject.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// Indices of its rules plus one; 0 ends the list. With [`EXCEPT`]: a rule for each client that leaves its requests alone.
    pub rules: [u16; RULES_EACH],
    /// Access level, 0 for none: the role's number in `ACCESS`.
    pub access: u32,
    /// [`subject_flag`]s.
    pub flags: u32,
}

/// Flags of [`Subject`].
pub mod subject_flag {
    /// Never denied, never counted against a cap (`[enforce] exempt`).
    pub const EXEMPT: u32 = 1;
    /// Access is only compared: what it would refuse is counted (`access_action = "shadow"` or `"observe"`).
    pub const ACCESS_SHADOW: u32 = 2;
    /// Of a network: its address stands for many clients (a trusted proxy), so rules for each client leave it alone.
    pub const PROXY: u32 = 4;
    /// Of a credential: it is known by a name that is no secret, so what is configured holds only where it is proven.
    pub const CLAIMED: u32 = 8;
}

/// Whether a rule has one bucket or one for each subject.
pub mod scope {
    /// One bucket, in the rule's own cell.
    pub const ONE: u8 = 0;
    /// One for each credential, beside that of its client's strangers.
    pub const EACH_CREDENTIAL: u8 = 1;
    /// One for each client address: for every request of it, whatever that carries, but for the exceptions.
    pub const EACH_CLIENT: u8 = 2;
}

/// What happens when a rule refuses.
pub mod action {
    /// Counted only.
    pub const OBSERVE: u8 = 0;
    /// Counted as what would have been denied.
    pub const SHADOW: u8 = 1;
    /// The request is refused.
    pub const DENY: u8 = 2;
}

/// One cap.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Rate and burst.
    pub limit: Limit,
    /// Those of the strangers at one client.
    pub strangers: Limit,
    /// Fingerprint of the destination host, 0 for any: [`host_print`].
    pub host: u64,
    /// Bit of its route prefix plus one, 0 for any route.
    pub route: u8,
    /// One of [`scope`].
    pub scope: u8,
    /// One of [`action`].
    pub action: u8,
    /// 1 while the rule is in force.
    pub on: u8,
    /// Zero.
    pub pad: u32,
}

/// A bucket. The counts are per bucket; those of the whole rule are in `CAP_COUNTS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Theoretical arrival time, ns of `CLOCK_MONOTONIC`.
    pub tat: u64,
    /// Requests admitted.
    pub admitted: u64,
    /// Requests refused.
    pub refused: u64,
}

/// Key of a bucket in `EACH`, `UNPROVEN` and `STRANGERS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BucketKey {
    /// Who.
    pub subject: SubjectKey,
    /// The rule's index.
    pub rule: u32,
    /// Zero.
    pub pad: u32,
}

/// What happened to the requests that a rule applied to; index in `CAP_COUNTS`: `rule * VERDICTS + verdict`.
pub mod verdict {
    /// Admitted.
    pub const ALLOW: u32 = 0;
    /// Over an `observe` cap.
    pub const OBSERVE: u32 = 1;
    /// Would have been denied.
    pub const SHADOW: u32 = 2;
    /// Denied by this rule. A request that another rule denied is not counted at all: it consumed nothing.
    pub const DENY: u32 = 3;
}
/// Cells of a rule in `CAP_COUNTS`.
pub const VERDICTS: u32 = 4;

/// Why a request was refused.
pub mod reason {
    /// Over a cap.
    pub const CAP: u8 = 1;
    /// Outside its role's access level.
    pub const ACCESS: u8 = 2;
    /// More credentials than are told apart ([`crate::event::CREDS`]): one of them could be anybody's.
    pub const CREDENTIALS: u8 = 3;
    /// None: the socket of a connection that was denied before has become known.
    pub const SOCKET: u8 = 4;
    /// It cannot be framed, or servers disagree on where it ends.
    pub const FRAMING: u8 = 5;
}

/// The only entry of `POLICY`: what there is to decide, so that nothing is looked up for what is not configured.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// [`policy_flag`]s.
    pub flags: u32,
    /// Counted up with every change.
    pub generation: u32,
    /// The daemon's latest sign of life, ns of `CLOCK_MONOTONIC`; 0 switches the check off.
    pub alive_ns: u64,
    /// Age of `alive_ns` from which on nothing is denied any more (`open`: a few seconds; `keep`: the lease).
    pub lease_ns: u64,
}

/// Flags of [`Policy`].
pub mod policy_flag {
    /// There is any rule or access level at all; without it nothing is looked at.
    pub const ON: u32 = 1;
    /// There are rules for workloads.
    pub const WORKLOADS: u32 = 2;
    /// There are rules with route prefixes.
    pub const ROUTES: u32 = 4;
    /// There are networks.
    pub const NETWORKS: u32 = 8;
    /// There are exempt paths.
    pub const EXEMPT_PATHS: u32 = 16;
    /// There are rules or access levels that deny outbound requests: sends are framed before they leave.
    pub const EARLY: u32 = 32;
    /// There are rules for each credential or each client.
    pub const EACH: u32 = 64;
    /// There are rules with destination hosts.
    pub const HOSTS: u32 = 128;
    /// There is anything in `ACCESS`: the beginnings of heads that arrive in pieces are kept.
    pub const PATHS: u32 = 256;
    /// Inbound requests may be denied: while somebody is over a cap they are decided about before the server has them.
    pub const GATE: u32 = 512;
    /// There are access levels that deny: inbound requests are always decided about before the server has them.
    pub const LEVELS: u32 = 1024;
    /// Caps outlive the daemon (`on_exit = "keep"`): what cannot be answered without it is fenced.
    pub const KEEP: u32 = 2048;
    /// There are rules or access levels that deny inbound requests, gated or not.
    pub const DENIES: u32 = 4096;
    /// Inbound bytes that cannot be framed are denied, where it is known that HTTP is served.
    pub const UNFRAMED_DENIED: u32 = 8192;
    /// Inbound requests that were not framed are charged to nobody.
    pub const UNFRAMED_FREE: u32 = 16384;
    /// It matters which credentials are proven: `SERVERS` and `ACCEPTED` are asked.
    pub const PROVEN: u32 = 32_768;
}

/// Key of `ACCESS`: a longest-prefix match on role and path, so the data is the role's number in network order, then the path.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathKey {
    /// Bits of `space` and `path` that count.
    pub bits: u32,
    /// What the path is looked up for, big-endian: a role's number, or one of [`space`].
    pub space: [u8; 4],
    /// The normalised path, then zeros.
    pub path: [u8; PATH],
}

/// Numbers of [`PathKey::space`] that are no role's.
pub mod space {
    /// Route prefixes of caps: the value is a set of bits. The path is in lower case here, so that no spelling escapes a cap.
    pub const ROUTES: u32 = 0xffff_ffff;
    /// Exempt paths: any value. In the case in which they are written: another one is another path to many servers.
    pub const EXEMPT: u32 = 0xffff_fffe;
}

/// Value of the path trie: methods that are granted (bit `1 << method`, see [`crate::http1::method`]), or bits of routes.
pub type PathValue = u64;

/// Every method.
pub const ALL_METHODS: PathValue = u64::MAX;

impl PathKey {
    /// The key of a beginning of paths (see [`crate::path::ends`]), `None` when it is too long. For [`space::ROUTES`] the prefix must be in lower case.
    pub fn prefix(space: u32, prefix: &[u8]) -> Option<Self> {
        let mut key =
            Self { bits: 32 + 8 * prefix.len() as u32, space: space.to_be_bytes(), path: [0; PATH] };
        key.path.get_mut(..prefix.len())?.copy_from_slice(prefix);
        Some(key)
    }
}

/// Key of `NETWORKS`, a longest-prefix match: the address as IPv6 (IPv4 mapped).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkKey {
    /// Bits that count.
    pub bits: u32,
    /// Direction, big-endian.
    pub direction: [u8; 4],
    /// Address.
    pub address: [u8; 16],
}

/// The kernel's key of a client: its address as two words in memory order (IPv4 mapped), mixed. A Unix peer is its user.
/// A collision would only matter for a bucket or a count that two addresses then share.
#[inline(always)]
pub const fn client_key(address: [u64; 2]) -> u64 {
    let [a, b] = address;
    (a.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ b.rotate_left(29)).wrapping_mul(0xD6E8_FEB8_6659_FD93)
}

/// The network that a client stands for: an IPv6 /64 is one household, an IPv4 address (mapped) is itself.
#[inline(always)]
pub const fn client_network([high, low]: [u64; 2]) -> [u64; 2] {
    if high == 0 { [high, low] } else { [high, 0] }
}

/// The key of a public name in `ACCEPTED`: whoever knows it can present it, so it is proven for one client only.
#[inline(always)]
pub const fn of_client(value: u64, client: u64) -> u64 {
    value ^ client.rotate_left(17)
}

/// The kernel's key of an executable: its inode and device, mixed.
#[inline(always)]
pub const fn executable_key(inode: u64, device: u32) -> u64 {
    inode ^ (device as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

const _: () = {
    assert!(size_of::<SubjectKey>() == 16 && size_of::<Subject>() == 24);
    assert!(RULES < EXCEPT as u32);
    assert!(size_of::<Rule>() == 48 && size_of::<Bucket>() == 24 && size_of::<BucketKey>() == 24);
    assert!(size_of::<Policy>() == 24 && size_of::<PathKey>() == 136 && size_of::<NetworkKey>() == 24);
    assert!(size_of::<ServerKey>() == 24);
};
