//! What the daemon serves: the control socket and the metrics endpoint, over one small HTTP server.
//!
//! Must not touch the running daemon except through [`Source`](crate::source::Source).

pub mod control;
mod http;
pub mod metrics;
mod owner;
mod slots;
