#![no_main]

#[path = "../../monitor-common/tests/support/mod.rs"]
mod support;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| support::path::check(bytes));
