//! A part of a map of the kernel side in this process's memory.

use std::os::fd::{AsFd as _, AsRawFd as _};
use std::ptr::NonNull;

use anyhow::{Context as _, Result};
use aya::maps::MapData;

/// A shared mapping of a part of a map. The map may be closed afterwards.
pub struct Mapping {
    /// Its first byte.
    pub start: NonNull<u8>,
    /// Bytes.
    pub length: usize,
}

// SAFETY: memory that belongs to no thread.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps `length` bytes of `map` from `offset` on.
    ///
    /// # Errors
    /// When the kernel does not let it be mapped.
    pub fn new(map: &MapData, offset: usize, length: usize, protection: libc::c_int) -> Result<Self> {
        let offset = libc::off_t::try_from(offset).context("the offset of a mapping")?;
        let fd = map.fd().as_fd().as_raw_fd();
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, fd, offset) };
        if start == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error()).context("mapping a map of the kernel side");
        }
        let start = NonNull::new(start.cast()).context("a map of the kernel side was mapped at address 0")?;
        Ok(Self { start, length })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and nothing refers to it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}
