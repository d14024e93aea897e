//! Weir's daemon and CLI.
pub mod view;
