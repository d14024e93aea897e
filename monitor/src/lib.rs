//! Weir's daemon and CLI.
pub mod config;
pub mod view;
