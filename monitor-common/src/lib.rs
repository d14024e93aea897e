//! The contract between Weir's kernel side and its daemon, and all logic that both run.
//!
//! Everything here is pure: bytes, integers and time come in, values go out. No I/O, no allocation, no panics.
#![cfg_attr(not(any(feature = "std", test)), no_std)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod answer;
pub mod cap;
pub mod charge;
pub mod event;
pub mod gcra;
pub mod http1;
pub mod kernel;
pub mod ledger;
pub mod path;
pub mod siphash;
