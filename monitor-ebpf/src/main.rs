//! Weir's kernel side: hooks that see the bytes of socket calls and TLS-library calls, frame them as HTTP/1 with the code
//! of `monitor-common`, count per identity and hand records to the daemon.
//!
//! Hooks are thin: they find (connection, direction, user buffer, length) and call [`framing`]. Every map and load-time
//! value is declared in [`maps`], every raw read of kernel or user memory is in [`raw`], the ring buffer is written in
//! [`ring`] only.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]
#![allow(
    clippy::not_unsafe_ptr_arg_deref,
    reason = "pointers come from helpers; the verifier proves each access"
)]
#![allow(clippy::needless_pass_by_value, reason = "the macros hand programs their context by value")]

mod answer;
mod conn;
mod framing;
mod hooks;
mod judge;
mod maps;
mod mode;
mod packet;
mod raw;
mod ring;
mod scratch;

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
