//! Connections and what is going on on them.
//!
//! Owns: the bounded table of connections, the reassembly of heads that arrive in parts, and the pairing of requests
//! with responses by their number. Must not: decide who a request is charged to, or count.

mod connection;
mod parts;
mod shape;

pub use connection::{Connection, Connections, Judged, Outstanding, Paired};
pub use parts::{Budget, Parts};
pub use shape::{Context, Shape};
