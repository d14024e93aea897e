//! Packets as `cgroup_skb` programs see them: the network header comes first.

use aya_ebpf::programs::SkBuffContext;

/// Protocol number.
const TCP: u8 = 6;

/// A TCP packet.
pub struct Segment {
    /// Of its first byte.
    pub sequence: u32,
    /// Flags of the TCP header.
    pub flags: u8,
    /// Where its bytes are in the packet.
    pub offset: u32,
    /// How many there are.
    pub len: u32,
}

/// The packet's TCP header; `None` for what is no plain TCP packet (IPv6 extension headers). A later fragment of IPv4 reads as
/// whatever its bytes are: TCP does not send any.
#[inline(always)]
pub fn segment(ctx: &SkBuffContext) -> Option<Segment> {
    let first: u8 = ctx.load(0).ok()?;
    let (protocol, header): (u8, usize) = if first >> 4 == 4 {
        (ctx.load(9).ok()?, (first & 15) as usize * 4)
    } else {
        (ctx.load(6).ok()?, 40)
    };
    if protocol != TCP {
        return None;
    }
    let sequence: u32 = ctx.load(header + 4).ok()?;
    let words: u8 = ctx.load(header + 12).ok()?;
    let flags: u8 = ctx.load(header + 13).ok()?;
    let offset = header as u32 + (words >> 4) as u32 * 4;
    Some(Segment { sequence: u32::from_be(sequence), flags, offset, len: ctx.len().saturating_sub(offset) })
}
