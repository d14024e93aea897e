//! What a denied caller is answered: a whole response, composed by the daemon for each cap, in which the kernel side fills in
//! the numbers.
//!
//! A number stands right-aligned in a field of [`DIGITS`] bytes: blanks in front of a field value mean nothing in HTTP, and in
//! the parameter of `RateLimit`, which takes no blanks, it has zeros in front.

use core::mem::size_of;

/// Most bytes of a response.
pub const BYTES: usize = 512;
/// Bytes of a number.
pub const DIGITS: usize = 7;
/// Most that a number can be.
pub const MOST: u64 = 9_999_999;
/// Values of a field that says whether the connection goes on: as long as each other.
pub const STAYS: [u8; 10] = *b"keep-alive";
/// See [`STAYS`].
pub const ENDS: [u8; 10] = *b"close     ";
/// Most responses that wait on one connection.
pub const WAITING: u32 = 32;

/// A response, or all zeros. Offsets are from its first byte; 0 for a number that it does not have.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Text {
    /// Bytes of it.
    pub len: u16,
    /// Bytes of its head; the body follows.
    pub head: u16,
    /// Status code.
    pub status: u16,
    /// Seconds until the next request is admitted, blanks in front.
    pub retry_at: u16,
    /// The same, zeros in front.
    pub reset_at: u16,
    /// Length of the body.
    pub length_at: u16,
    /// [`STAYS`] or [`ENDS`].
    pub connection_at: u16,
    /// Zero.
    pub pad: u16,
    /// The response.
    pub bytes: [u8; BYTES],
}

const _: () = assert!(size_of::<Text>() == 16 + BYTES);

impl Text {
    /// No response.
    pub const NONE: Self = Self {
        len: 0,
        head: 0,
        status: 0,
        retry_at: 0,
        reset_at: 0,
        length_at: 0,
        connection_at: 0,
        pad: 0,
        bytes: [0; BYTES],
    };
}

impl core::fmt::Debug for Text {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Text").field("status", &self.status).field("len", &self.len).finish_non_exhaustive()
    }
}

/// Writes `n`, at most [`MOST`], to `to`, with `fill` in front of it.
#[inline(always)]
pub fn digits(to: &mut [u8; DIGITS], n: u64, fill: u8) {
    let mut rest = if n > MOST { MOST } else { n };
    let mut at = DIGITS;
    while at > 0 {
        at -= 1;
        // the last digit of zero is written, too
        to[at] = if rest == 0 && at + 1 < DIGITS { fill } else { b'0' + (rest % 10) as u8 };
        rest /= 10;
    }
}

/// Seconds to wait for `wait_ns`, rounded up: a caller that comes back then is admitted.
#[inline(always)]
pub fn seconds(wait_ns: u64) -> u64 {
    wait_ns.div_ceil(1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_right_aligned_and_never_too_long() {
        let mut field = [0; DIGITS];
        for (n, blanks, zeros) in [
            (0, "      0", "0000000"),
            (7, "      7", "0000007"),
            (10, "     10", "0000010"),
            (1_000_000, "1000000", "1000000"),
            (u64::MAX, "9999999", "9999999"),
        ] {
            digits(&mut field, n, b' ');
            assert_eq!(field, blanks.as_bytes());
            digits(&mut field, n, b'0');
            assert_eq!(field, zeros.as_bytes());
        }
        assert_eq!([seconds(0), seconds(1), seconds(1_000_000_000), seconds(1_000_000_001)], [0, 1, 1, 2]);
    }
}
