//! What was produced and what was lost, by stage and reason: per-CPU counters that the kernel side adds to and the
//! daemon reads. Conservation is the invariant: `produced == delivered + lost` for every kind of record.

/// Indices into the per-CPU counter array `LEDGER`. Append only: the daemon and the kernel side are built together, but
/// the order is what a reader of a raw dump sees.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Counter {
    /// Inbound requests whose head was complete, exact even when the ring is full.
    RequestsInbound,
    /// Outbound requests whose head was complete.
    RequestsOutbound,
    /// Records handed to the ring buffer (delivered or still in it).
    Records,
    /// Ring full: a request record.
    LostRequest,
    /// Ring full: a response record.
    LostResponse,
    /// Ring full: a connection, process or close record.
    LostState,
    /// Ring full: a part of a head.
    LostHeadPart,
    /// A stream of a known HTTP connection whose framing could not be followed.
    Desync,
    /// A socket call whose buffer could not be found (`io_uring`, 32-bit system calls, `recvmmsg`).
    UncoveredCall,
    /// The user buffer could not be read.
    Fault,
    /// A hook ran while another held this CPU's window.
    Nested,
    /// The bounded loop ended before the buffer did.
    Truncated,
    /// No memory for connection state.
    NoState,
    /// More requests outstanding on one connection than the framing can pair.
    Overflow,
    /// TLS calls seen (entry).
    TlsCalls,
    /// TLS calls whose thread state was lost between entry and return.
    LostTlsCall,
    /// TLS connection state refused because the map was full.
    NoTlsState,
    /// Per-identity counter refused because the map was full; the request is in the totals.
    IdentityOverflow,
    /// Sockets judged not to carry HTTP.
    NotHttp,
    /// Sockets that carry TLS.
    TlsSockets,
    /// Requests on connections that were joined in the middle.
    Joined,
    /// Ring full: a process record.
    LostProcess,
    /// Requests that nothing was decided about because the daemon gave no sign of life: admitted.
    NotInForce,
    /// Denials that could not be enforced: the socket is not known, or is none that packets go through.
    NotEnforced,
    /// A bucket could not be kept: the request was admitted by its rule.
    NoBucket,
    /// Ring full: a verdict record. The verdict itself was enforced and counted.
    LostVerdict,
    /// Inbound requests that were not framed: answered all the same, or refused. They are in the totals.
    Unframed,
    /// Directions of connections whose framing was lost and found again.
    FramedAgain,
}

impl Counter {
    /// Number of counters; the map has this many entries.
    pub const COUNT: u32 = 32;
}
