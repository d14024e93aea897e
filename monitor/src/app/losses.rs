//! The kernel's ledger in words.

use monitor_common::ledger::Counter;

use crate::view::LossRow;

/// Counters that stand for something not seen or not delivered, as stage and reason.
const LOSSES: &[(Counter, &str, &str)] = &[
    (Counter::LostRequest, "ring", "request"),
    (Counter::LostResponse, "ring", "response"),
    (Counter::LostState, "ring", "connection"),
    (Counter::LostHeadPart, "ring", "head part"),
    (Counter::LostProcess, "ring", "process"),
    (Counter::Desync, "hook", "framing not followed"),
    (Counter::UncoveredCall, "hook", "system call not covered"),
    (Counter::Fault, "hook", "user memory not readable"),
    (Counter::Nested, "hook", "nested on one CPU"),
    (Counter::Truncated, "hook", "buffer larger than the bound"),
    (Counter::NoState, "state", "no memory for a connection"),
    (Counter::Overflow, "state", "too many requests outstanding"),
    (Counter::IdentityOverflow, "state", "no room for an identity"),
    (Counter::LostTlsCall, "tls", "call without its entry"),
    (Counter::NoTlsState, "tls", "no room for a connection"),
    (Counter::LostVerdict, "ring", "verdict"),
    (Counter::NotInForce, "caps", "not decided: no sign of life of the daemon"),
    (Counter::NotEnforced, "caps", "denied without effect: socket not known"),
    (Counter::NoBucket, "caps", "no room for a bucket"),
];

/// Counters that are worth knowing and no loss.
const OBSERVED: &[(Counter, &str)] = &[
    (Counter::NotHttp, "sockets without HTTP"),
    (Counter::TlsSockets, "sockets with TLS"),
    (Counter::TlsCalls, "TLS calls"),
    (Counter::Joined, "requests on connections joined in the middle"),
    (Counter::Unframed, "requests that were not framed"),
    (Counter::FramedAgain, "framing found again"),
];

/// A counter of the ledger.
pub fn count(ledger: &[u64], counter: Counter) -> u64 {
    ledger.get(counter as usize).copied().unwrap_or_default()
}

/// All losses, zeros included.
pub fn rows(ledger: &[u64]) -> Vec<LossRow> {
    LOSSES
        .iter()
        .map(|(counter, stage, reason)| LossRow {
            stage: (*stage).into(),
            reason: (*reason).into(),
            count: count(ledger, *counter),
        })
        .collect()
}

/// What else was observed.
pub fn observed(ledger: &[u64]) -> Vec<(String, u64)> {
    OBSERVED.iter().map(|(counter, what)| ((*what).to_owned(), count(ledger, *counter))).collect()
}
