//! Weir's daemon and CLI.
pub mod config;
pub mod probes;
pub mod view;
