//! Heads that arrive in parts, put together within bounds.

/// Longest head that is put together: as many bytes as the kernel side sends.
const HEAD_BYTES: usize = 256 << 10;
/// Most bytes of all unfinished heads together.
const TOTAL_BYTES: usize = 16 << 20;

/// Bytes that unfinished heads hold.
#[derive(Debug, Default)]
pub struct Budget {
    held: usize,
    refused: u64,
}

impl Budget {
    /// Parts that found no room.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    fn take(&mut self, bytes: usize) -> bool {
        let fits = self.held + bytes <= TOTAL_BYTES;
        if fits {
            self.held += bytes;
        } else {
            self.refused += 1;
        }
        fits
    }
}

/// The parts of one head, in order, without gaps.
#[derive(Debug, Default)]
pub struct Parts {
    seq: u32,
    bytes: Vec<u8>,
    /// A part is missing, or there was no room.
    broken: bool,
}

impl Parts {
    /// Adds a part of the head of request `seq` that starts at offset `from`.
    pub fn add(&mut self, seq: u32, from: u32, part: &[u8], budget: &mut Budget) {
        if self.seq != seq || from == 0 {
            self.clear(budget);
            self.seq = seq;
        }
        self.broken |= from as usize != self.bytes.len();
        if self.broken || self.bytes.len() + part.len() > HEAD_BYTES || !budget.take(part.len()) {
            self.broken = true;
            return;
        }
        self.bytes.extend_from_slice(part);
    }

    /// The head of request `seq` as far as it is there without a gap, and whether it is all there.
    pub fn head(&self, seq: u32) -> (&[u8], bool) {
        if self.seq == seq { (&self.bytes, !self.broken) } else { (&[], false) }
    }

    /// Drops the bytes, and gives the memory back.
    pub fn clear(&mut self, budget: &mut Budget) {
        budget.held = budget.held.saturating_sub(self.bytes.len());
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_join_and_gaps_end_the_head() {
        let (mut parts, mut budget) = (Parts::default(), Budget::default());
        parts.add(3, 0, b"GET / ", &mut budget);
        parts.add(3, 6, b"HTTP/1.1\r\n", &mut budget);
        assert_eq!(parts.head(3), (&b"GET / HTTP/1.1\r\n"[..], true));
        assert_eq!(parts.head(4), (&b""[..], false));
        parts.add(3, 20, b"lost before", &mut budget);
        assert_eq!(parts.head(3), (&b"GET / HTTP/1.1\r\n"[..], false));
        parts.add(4, 0, b"PUT", &mut budget);
        assert_eq!(parts.head(4), (&b"PUT"[..], true));
        parts.clear(&mut budget);
        assert_eq!(budget.held, 0);
    }

    #[test]
    fn memory_is_bounded() {
        let (mut budget, block) = (Budget::default(), vec![b'x'; 64 << 10]);
        let mut all: Vec<Parts> = (0..400).map(|_| Parts::default()).collect();
        for parts in &mut all {
            for at in 0..8 {
                parts.add(0, at << 16, &block, &mut budget);
            }
            assert!(parts.bytes.len() <= HEAD_BYTES);
        }
        assert!(budget.held <= TOTAL_BYTES && budget.refused() > 0);
        for parts in &mut all {
            parts.clear(&mut budget);
        }
        assert_eq!(budget.held, 0);
    }
}
