//! Reading what callers sent: request heads, credentials' public parts, proxy headers, and the one escaping that every
//! caller-controlled string passes before it is shown.
//!
//! Owns: bytes to borrowed slices and bounded strings. Must not: keep a credential, do I/O, panic, or allocate in
//! proportion to anything that is not bounded here. Nothing in here decides policy.

pub mod authorization;
pub mod escape;
pub mod forwarded;
pub mod head;
pub mod query;
mod random;

pub use random::looks_random;
