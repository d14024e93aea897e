//! One of the kernel's ring buffers, mapped.
//!
//! aya's reader shows one record at a time and none behind a record that is being written, and does not tell that from an
//! empty ring; the merge must know. It also gives space back record by record, which costs the writer a cache line each.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use anyhow::{Context as _, Result, ensure};
use aya::maps::MapData;

use super::mapping::Mapping;
use super::merge::{Front, Ring};

/// Header of a record (`struct bpf_ringbuf_hdr`, `kernel/bpf/ringbuf.c`): length and flags, then the kernel's own word.
const HEADER: usize = 8;
/// `BPF_RINGBUF_BUSY_BIT`.
const BUSY: u32 = 1 << 31;
/// `BPF_RINGBUF_DISCARD_BIT`.
const DISCARD: u32 = 1 << 30;

/// See the module's documentation.
pub struct MappedRing {
    /// The page with the reader's position.
    consumer: Mapping,
    /// The page with the writer's position, then the bytes, twice, so that a record at the end is in one piece.
    producer: Mapping,
    page: usize,
    size: usize,
    /// Position up to which records were taken.
    taken: usize,
    /// Position up to which space was given back.
    released: usize,
    /// Position up to which records were written when it was last looked.
    written: usize,
    /// Bytes of the record at `taken`, as last shown.
    front: usize,
}

impl MappedRing {
    /// Maps a ring of `size` bytes of data. The map may be closed afterwards.
    ///
    /// # Errors
    /// When the kernel does not let it be mapped.
    pub fn new(map: &MapData, size: usize) -> Result<Self> {
        ensure!(size.is_power_of_two(), "a ring of {size} bytes: the kernel takes powers of two only");
        // SAFETY: takes no pointers.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page = usize::try_from(page).context("the size of a page")?;
        let consumer = Mapping::new(map, 0, page, libc::PROT_READ | libc::PROT_WRITE)?;
        let producer = Mapping::new(map, page, page + 2 * size, libc::PROT_READ)?;
        let mut ring = Self { consumer, producer, page, size, taken: 0, released: 0, written: 0, front: 0 };
        ring.taken = position(&ring.consumer).load(Ordering::Acquire);
        (ring.released, ring.written) = (ring.taken, ring.taken);
        Ok(ring)
    }

    /// Address of the record at `taken`, header included, and how many bytes of the mapping follow it.
    fn at(&self) -> (NonNull<u8>, usize) {
        let offset = self.page + (self.taken & (self.size - 1));
        // SAFETY: within the mapping, which is a page and twice `size` long.
        (unsafe { self.producer.start.add(offset) }, self.producer.length - offset)
    }
}

impl Ring for MappedRing {
    fn look(&mut self) {
        self.written = position(&self.producer).load(Ordering::Acquire);
    }

    fn front(&mut self) -> Front<'_> {
        loop {
            if self.taken == self.written {
                return Front::Empty;
            }
            let (start, room) = self.at();
            // SAFETY: records are aligned to 8 and shorter than the ring, so a header at any of them is inside the mapping;
            // the kernel sets it with a full barrier once the record's bytes are there.
            let header = unsafe { start.cast::<AtomicU32>().as_ref() }.load(Ordering::Acquire);
            if header & BUSY != 0 {
                return Front::Unfinished;
            }
            self.front = (header & !DISCARD) as usize;
            if header & DISCARD != 0 {
                self.take();
                continue;
            }
            let length = self.front.min(room - HEADER);
            // SAFETY: inside the mapping; the kernel does not change a record that is complete until its space is given back,
            // which `take` and `release` do, and those need `self` when this borrow is over.
            return Front::Record(unsafe { std::slice::from_raw_parts(start.add(HEADER).as_ptr(), length) });
        }
    }

    fn take(&mut self) {
        self.taken = self.taken.wrapping_add((self.front + HEADER).next_multiple_of(8));
        // seldom, since the writer reads the position each time, but before the ring runs full
        if self.taken.wrapping_sub(self.released) >= self.size / 8 {
            self.release();
        }
    }

    fn release(&mut self) {
        if self.released != self.taken {
            self.released = self.taken;
            position(&self.consumer).store(self.taken, Ordering::Release);
        }
    }
}

/// The position at the start of a mapping.
fn position(mapping: &Mapping) -> &AtomicUsize {
    // SAFETY: both kinds of mapping begin with a page that begins with a position (an aligned `unsigned long`), and the
    // mapping lives as long as the borrow of it.
    unsafe { mapping.start.cast().as_ref() }
}
