//! Weir's daemon and CLI.
pub mod bpf;
pub mod config;
pub mod core;
pub mod identity;
pub mod parser;
pub mod probes;
pub mod rates;
pub mod route;
pub mod tracker;
pub mod view;
pub mod workload;
