//! Caps and access levels: from what is configured to what the kernel side applies.
//!
//! Owns: the compilation of roles and caps into the kernel's tables ([`compile`]), and the engine that keeps those tables
//! up to date while caps, names, workloads and accepted credentials change. Must not touch a map itself: that is the
//! [`Enforcer`](crate::sensor::Enforcer)'s.

mod apply;
mod compile;
mod engine;
mod rates;
mod rows;
mod subjects;
mod text;

pub use engine::{Change, Effective, Engine};
pub use subjects::Resolver;
