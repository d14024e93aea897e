//! Fences: nothing leaves a socket whose request was denied, and nothing more comes in, until the daemon has destroyed it.
//!
//! A FIN is dropped like everything else: only the reset that the daemon's destruction of the socket causes tells the peer. Answers
//! to earlier requests of the connection that are still unsent are cut, too.
//!
//! `cgroup_skb` on the root of cgroup v2 (checked on 6.18): sees each packet of each socket with the network header first. While
//! no fence was ever set, a packet costs one load.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::bpf_get_socket_cookie;
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;

use crate::maps::{FENCED, FENCES};
use crate::packet::segment;
use crate::raw;

/// Verdicts of a packet.
const PASS: i32 = 1;
const DROP: i32 = 0;
/// Flag in byte 13 of a TCP header.
const RST: u8 = 4;

/// Fences a socket. Takes effect with its next packet, on every CPU. False when it could not be.
#[inline(always)]
pub fn set(cookie: u64) -> bool {
    if FENCED.insert(cookie, 1, 0).is_err() {
        return false;
    }
    if let Some(fences) = FENCES.get_ptr_mut(0) {
        // SAFETY: a map value, shared between CPUs.
        unsafe { raw::atomic_add(fences, 1) }
    }
    true
}

/// Whether the packet belongs to a socket with a fence.
#[inline(always)]
fn is_fenced(ctx: &SkBuffContext) -> bool {
    // SAFETY: one word; the helper takes the packet of this program.
    unsafe {
        if FENCES.get_ptr(0).is_none_or(|fences| core::ptr::read_volatile(fences) == 0) {
            return false;
        }
        FENCED.get_ptr(bpf_get_socket_cookie(ctx.as_ptr())).is_some()
    }
}

/// Leaving: only the reset that tells the peer.
#[cgroup_skb]
pub fn fence_out(ctx: SkBuffContext) -> i32 {
    if !is_fenced(&ctx) {
        return PASS;
    }
    match segment(&ctx) {
        Some(segment) if segment.len == 0 && segment.flags & RST != 0 => PASS,
        _ => DROP,
    }
}

/// Coming in: nothing that the program could read.
#[cgroup_skb]
pub fn fence_in(ctx: SkBuffContext) -> i32 {
    if !is_fenced(&ctx) {
        return PASS;
    }
    match segment(&ctx) {
        Some(segment) if segment.len == 0 => PASS,
        _ => DROP,
    }
}
