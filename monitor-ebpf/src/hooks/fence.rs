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
use crate::raw;

/// Verdicts of a packet.
const PASS: i32 = 1;
const DROP: i32 = 0;
/// Protocol number.
const TCP: u8 = 6;
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

/// TCP flags and whether bytes follow the header; `None` for what is no plain TCP packet (IPv6 extension headers). A later
/// fragment of IPv4 reads as whatever its bytes are: TCP does not send any, and a reset among them would carry no response.
#[inline(always)]
fn tcp(ctx: &SkBuffContext) -> Option<(u8, bool)> {
    let first: u8 = ctx.load(0).ok()?;
    let (protocol, header): (u8, usize) = if first >> 4 == 4 {
        (ctx.load(9).ok()?, (first & 15) as usize * 4)
    } else {
        (ctx.load(6).ok()?, 40)
    };
    if protocol != TCP {
        return None;
    }
    let words: u8 = ctx.load(header + 12).ok()?;
    let flags: u8 = ctx.load(header + 13).ok()?;
    let data = header + (words >> 4) as usize * 4;
    Some((flags, ctx.len() as usize > data))
}

/// Leaving: only the reset that tells the peer.
#[cgroup_skb]
pub fn fence_out(ctx: SkBuffContext) -> i32 {
    if !is_fenced(&ctx) {
        return PASS;
    }
    match tcp(&ctx) {
        Some((flags, false)) if flags & RST != 0 => PASS,
        _ => DROP,
    }
}

/// Coming in: nothing that the program could read.
#[cgroup_skb]
pub fn fence_in(ctx: SkBuffContext) -> i32 {
    if !is_fenced(&ctx) {
        return PASS;
    }
    match tcp(&ctx) {
        Some((_, false)) => PASS,
        _ => DROP,
    }
}
