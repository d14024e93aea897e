//! Fences.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::macros::map;
use aya_ebpf::maps::LruHashMap;

#[map]
static FENCED: LruHashMap<u64, u32> = LruHashMap::with_max_entries(16_384, 0);

/// Fences a socket.
#[inline(always)]
pub fn set(cookie: u64) {
    let _ = FENCED.insert(cookie, 1, BPF_ANY as u64);
}
