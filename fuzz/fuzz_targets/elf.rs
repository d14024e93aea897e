#![no_main]

#[path = "../../monitor/tests/support/mod.rs"]
mod support;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| support::elf::check(bytes));
