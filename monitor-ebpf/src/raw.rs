//! Every raw read: kernel structures at offsets from BTF, the current system call's registers, user memory.

use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::{
    bpf_get_current_task_btf, bpf_probe_read_kernel, bpf_probe_read_user, bpf_task_pt_regs,
};
use core::mem::{MaybeUninit, size_of};
use monitor_common::http1::{self, Start, plausible_with};

use crate::maps::{IOVS, config};
use crate::scratch::Scratch;

/// Reads a value at a kernel address; `None` when the address is not readable.
#[inline(always)]
pub fn kernel<T: Copy>(address: u64) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    let size = size_of::<T>() as u32;
    // SAFETY: the helper writes `size` bytes to `value`, and checks the address itself.
    let result = unsafe { bpf_probe_read_kernel(value.as_mut_ptr().cast(), size, address as *const c_void) };
    // SAFETY: the helper fills the value even when it fails (with zeros); callers use integers and arrays only.
    if result == 0 { Some(unsafe { value.assume_init() }) } else { None }
}

/// Reads a value of the current process; `None` when its page is not readable.
#[inline(always)]
pub fn user<T: Copy>(address: u64) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    let size = size_of::<T>() as u32;
    // SAFETY: as in `kernel`.
    let result = unsafe { bpf_probe_read_user(value.as_mut_ptr().cast(), size, address as *const c_void) };
    // SAFETY: as in `kernel`.
    if result == 0 { Some(unsafe { value.assume_init() }) } else { None }
}

/// The address that a pointer of the kernel holds, as a number: what is a function of its own takes no such pointers.
#[inline(always)]
pub fn number(pointer: *const c_void) -> u64 {
    let mut place = pointer as u64;
    let mut value = 0u64;
    // SAFETY: 8 bytes from one local value to another. What a helper writes is a number for the verifier.
    unsafe {
        bpf_probe_read_kernel((&raw mut value).cast(), 8, (&raw mut place).cast_const().cast());
    }
    value
}

/// The first bytes of a buffer of `n`, at most 8, as a word; 0 where they cannot be read.
#[inline(always)]
pub fn first_word(address: u64, n: u32) -> u64 {
    if n >= 8 {
        return user::<u64>(address).unwrap_or(0);
    }
    let mut word = 0u64;
    let mut i = 0;
    while i < 7 {
        if i < n {
            word |= (user::<u8>(address + i as u64).unwrap_or(0) as u64) << (i * 8);
        }
        i += 1;
    }
    word
}

/// Keeps a mask in place that the compiler could prove to be without effect: the verifier does not follow such proofs.
#[inline(always)]
pub fn opaque(x: u32) -> u32 {
    #[cfg(target_arch = "bpf")]
    {
        let mut y = x;
        // SAFETY: copies a register to itself; touches no memory, stack or flags.
        unsafe { core::arch::asm!("{0} = {0}", inout(reg) y, options(pure, nomem, nostack)) };
        y
    }
    #[cfg(not(target_arch = "bpf"))]
    x
}

/// A length from 1 to `most`, a power of two, with both bounds on the very register that is used.
///
/// VERIFIER(6.1): "invalid access to map value, size=0": a comparison with 0 does not reach the copy that is passed on.
#[inline(always)]
pub fn some(n: u32, most: u32) -> u32 {
    (opaque(n.wrapping_sub(1)) & (most - 1)) + 1
}

/// The current task as an address.
#[inline(always)]
pub fn task() -> u64 {
    // SAFETY: takes no arguments.
    unsafe { bpf_get_current_task_btf() as u64 }
}

/// Start of the process that `task` belongs to, ns since boot; 0 when unreadable.
#[inline(always)]
pub fn process_start(task: u64) -> u64 {
    let leader = kernel::<u64>(task + config!(task_group_leader) as u64).unwrap_or(0);
    kernel::<u64>(leader + config!(task_start) as u64).unwrap_or(0)
}

/// Where a call's bytes are in the process. A plain structure: an enum would leave parts of it uninitialised, which the
/// verifier does not let a program spill.
#[derive(Clone, Copy)]
pub struct Buffers {
    /// Which of the three it is.
    pub found: Found,
    /// Length of the first segment. What follows is in the scratch.
    pub first: u32,
    /// Address of the first segment.
    pub address: u64,
}

/// See [`Buffers`].
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Found {
    /// The bytes are in user memory.
    User,
    /// The bytes never were in user memory (sendfile, splice).
    Unseen,
    /// The system call is not one whose arguments are known.
    Uncovered,
}

impl Buffers {
    const UNSEEN: Self = Self { found: Found::Unseen, first: 0, address: 0 };
    const UNCOVERED: Self = Self { found: Found::Uncovered, first: 0, address: 0 };
    #[inline(always)]
    fn user(address: u64, first: u32) -> Self {
        Self { found: Found::User, first, address }
    }
}

/// `pt_regs` of x86-64 as words.
mod reg {
    pub const RDX: usize = 12;
    pub const RSI: usize = 13;
    pub const ORIG_RAX: usize = 15;
    pub const CS: usize = 17;
}

/// `struct user_msghdr`: `msg_iov` and `msg_iovlen` (x86-64 ABI, include/linux/socket.h).
const MSGHDR_IOV: u64 = 16;

/// Finds the user buffer of the current system call, which moves `len` bytes, of which
/// [`Scratch::skip`] are passed over. Works because the registers of the call
/// are still on the task's stack when the socket hook runs: no entry hook is needed.
///
/// # Safety
/// `scratch` must be this CPU's working memory.
#[inline(always)]
pub unsafe fn buffers(scratch: *mut Scratch, len: u32) -> Buffers {
    // SAFETY: the helper returns the current task's registers, which the verifier lets a program read.
    let regs = unsafe { bpf_task_pt_regs(bpf_get_current_task_btf().cast()) } as *const u64;
    // SAFETY: within `struct pt_regs`.
    let (number, rsi, rdx, cs) =
        unsafe { (*regs.add(reg::ORIG_RAX), *regs.add(reg::RSI), *regs.add(reg::RDX), *regs.add(reg::CS)) };
    // 64-bit user code: other code segments use other system call numbers
    if cs != 0x33 {
        return Buffers::UNCOVERED;
    }
    // SAFETY: the caller's promise.
    unsafe {
        (*scratch).iov_left = 0;
        (*scratch).bytes_left = 0;
    }
    // SAFETY: the caller's promise.
    let skip = unsafe { passed_over(scratch) };
    match number {
        // read, write, sendto, recvfrom
        0 | 1 | 44 | 45 => Buffers::user(rsi.wrapping_add(skip as u64), len.wrapping_sub(skip)),
        // readv, writev, preadv2, pwritev2
        19 | 20 | 327 | 328 => {
            // SAFETY: the caller's promise.
            unsafe { segments(scratch, rsi, rdx, len) }
        }
        // sendmsg, recvmsg
        46 | 47 => match user::<[u64; 2]>(rsi + MSGHDR_IOV) {
            // SAFETY: the caller's promise.
            Some([iov, count]) => unsafe { segments(scratch, iov, count, len) },
            None => Buffers::UNCOVERED,
        },
        // sendfile, splice, tee, vmsplice
        40 | 275 | 276 | 278 => Buffers::UNSEEN,
        _ => Buffers::UNCOVERED,
    }
}

/// What a buffer begins like: [`monitor_common::http1::Start`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn start_of(address: u64, n: u32) -> u32 {
    let word = if n >= 8 { user::<u64>(address).unwrap_or(0) } else { short_word(address, n) };
    start_of_word(word, n)
}

/// The first `n` bytes at `address`, fewer than 8.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn short_word(address: u64, n: u32) -> u64 {
    first_word(address, if n > 7 { 7 } else { n })
}

/// [`http1::plausible`] as a function that the verifier checks once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn start_of_word(word: u64, n: u32) -> u32 {
    plausible_with(word, n, |word, n| token_run(word, n) != 0) as u32
}

/// [`http1::token_run`], likewise.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn token_run(word: u64, n: u32) -> u32 {
    http1::token_run(word, n) as u32
}

/// What a buffer begins like.
#[inline(always)]
pub fn start(address: u64, n: u32) -> Start {
    known(start_of(address, n))
}

/// What the first bytes of a packet look like.
#[inline(always)]
pub fn start_in_word(word: u64, n: u32) -> Start {
    known(start_of_word(word, n))
}

/// The [`Start`] of a number.
#[inline(always)]
pub fn known(start: u32) -> Start {
    match start {
        1 => Start::Request,
        2 => Start::Response,
        3 => Start::Tls,
        4 => Start::Http2,
        _ => Start::No,
    }
}

/// Bytes in front of the call's that were framed before. Loaded afresh, so that the verifier does not tell calls with such bytes
/// from those without: it would walk the framing twice.
///
/// # Safety
/// `scratch` must be this CPU's working memory.
#[inline(always)]
pub unsafe fn passed_over(scratch: *mut Scratch) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { core::ptr::read_volatile(&raw const (*scratch).skip) as u32 }
}

/// First segment of an iovec array; the rest goes to the scratch.
#[inline(always)]
unsafe fn segments(scratch: *mut Scratch, iov: u64, count: u64, len: u32) -> Buffers {
    let n = first_segment(scratch, iov, count, len);
    if n == 0 {
        return Buffers::UNCOVERED;
    }
    // SAFETY: the caller's promise.
    Buffers::user(unsafe { (*scratch).address }, n)
}

/// [`segments`] as a function that the verifier checks once: the length; the address is in the scratch.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn first_segment(scratch: *mut Scratch, iov: u64, count: u64, len: u32) -> u32 {
    if scratch.is_null() {
        return 0;
    }
    // SAFETY: the verifier proves that the pointer is what it says.
    unsafe {
        (*scratch).iov = iov;
        (*scratch).iov_left = if count > 1024 { 1024 } else { count as u32 };
        (*scratch).bytes_left = len as u64;
        (*scratch).iovs_copied = 0;
        (*scratch).iovs_used = 0;
    }
    // empty segments in front are rare; eight of them are skipped
    let mut i = 0;
    while i < 8 {
        let n = segment_next(scratch);
        if n != 0 {
            return n;
        }
        i += 1;
    }
    0
}

/// Whether the call has no segment left.
///
/// # Safety
/// `scratch` must be this CPU's working memory.
#[inline(always)]
pub unsafe fn is_through(scratch: *mut Scratch) -> bool {
    // SAFETY: the caller's promise.
    unsafe { (*scratch).bytes_left == 0 || (*scratch).iov_left == 0 }
}

/// The next segment of the call: address and length, which may be 0.
///
/// # Safety
/// `scratch` must be this CPU's working memory.
#[inline(always)]
pub unsafe fn next_segment(scratch: *mut Scratch) -> (u64, u32) {
    let n = segment_next(scratch);
    // SAFETY: the caller's promise.
    unsafe { ((*scratch).address, n) }
}

#[inline(always)]
unsafe fn next_of(scratch: *mut Scratch) -> (u64, u32) {
    // SAFETY: the caller's promise.
    unsafe {
        let left = (*scratch).bytes_left;
        if is_through(scratch) {
            return (0, 0);
        }
        if (*scratch).iovs_used >= (*scratch).iovs_copied && !copy_iovecs(scratch) {
            (*scratch).bytes_left = 0;
            return (0, 0);
        }
        let [address, length] = (*scratch).iovs[(*scratch).iovs_used as usize & (IOVS - 1)];
        (*scratch).iovs_used += 1;
        (*scratch).iov_left -= 1;
        let n = if length > left { left } else { length };
        (*scratch).bytes_left = left - n;
        let skip = (*scratch).skip;
        let over = if skip > n { n } else { skip };
        (*scratch).skip = skip - over;
        (address + over, (n - over) as u32)
    }
}

/// [`next_segment`] as a function that the verifier checks once: the length; the address is in the scratch.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn segment_next(scratch: *mut Scratch) -> u32 {
    if scratch.is_null() {
        return 0;
    }
    // SAFETY: the verifier proves that the pointer is what it says.
    unsafe {
        let (address, n) = next_of(scratch);
        (*scratch).address = address;
        n
    }
}

/// Copies the next iovecs, as many as there are and fit; whether they could be read.
#[inline(always)]
unsafe fn copy_iovecs(scratch: *mut Scratch) -> bool {
    // SAFETY: this CPU's working memory; at most `IOVS` iovecs are copied to where as many fit.
    unsafe {
        let left = (*scratch).iov_left;
        let n = if left > IOVS as u32 { IOVS as u32 } else { left };
        let to = (&raw mut (*scratch).iovs).cast();
        let bytes = n * size_of::<[u64; 2]>() as u32;
        if bpf_probe_read_user(to, bytes, (*scratch).iov as *const c_void) != 0 {
            return false;
        }
        (*scratch).iov += bytes as u64;
        (*scratch).iovs_copied = n;
        (*scratch).iovs_used = 0;
        true
    }
}

/// The socket behind a file descriptor of the current process, `None` when it is no socket.
#[inline(always)]
pub fn socket_of_fd(fd: u32) -> Option<u64> {
    let files = kernel::<u64>(task() + config!(task_files) as u64)?;
    let table = kernel::<u64>(files + config!(files_fdt) as u64)?;
    let max = kernel::<u32>(table + config!(fdtable_max) as u64)?;
    if fd >= max {
        return None;
    }
    let array = kernel::<u64>(table + config!(fdtable_fd) as u64)?;
    let file = kernel::<u64>(array + fd as u64 * 8)?;
    if file == 0 {
        return None;
    }
    let socket = kernel::<u64>(file + config!(file_private) as u64)?;
    // a socket points back at its file; nothing else has that file's address there
    if kernel::<u64>(socket + config!(socket_file) as u64)? != file {
        return None;
    }
    kernel::<u64>(socket + config!(socket_sk) as u64)
}

/// Adds to a value that other CPUs change as well; `n` may be negative. The BPF target's core library has no atomics for it.
///
/// # Safety
/// `cell` must be writable and aligned.
#[inline(always)]
pub unsafe fn atomic_add(cell: *mut u64, n: u64) {
    #[cfg(target_arch = "bpf")]
    // SAFETY: the caller's promise; one instruction that changes `cell` only.
    unsafe {
        core::arch::asm!("lock *(u64 *)({cell} + 0) += {n}", cell = in(reg) cell, n = in(reg) n);
    }
    #[cfg(not(target_arch = "bpf"))]
    // SAFETY: the caller's promise.
    unsafe {
        *cell = (*cell).wrapping_add(n);
    }
}

/// Replaces `old` by `new`; false when another CPU was first.
///
/// # Safety
/// `cell` must be writable and aligned.
#[inline(always)]
pub unsafe fn atomic_swap(cell: *mut u64, old: u64, new: u64) -> bool {
    #[cfg(target_arch = "bpf")]
    // SAFETY: the caller's promise; one instruction that changes `cell` and r0 only.
    unsafe {
        let found: u64;
        core::arch::asm!("r0 = cmpxchg_64({cell} + 0, r0, {new})", cell = in(reg) cell, new = in(reg) new,
            inlateout("r0") old => found);
        found == old
    }
    #[cfg(not(target_arch = "bpf"))]
    // SAFETY: the caller's promise.
    unsafe {
        let same = *cell == old;
        if same {
            *cell = new;
        }
        same
    }
}
