//! The path of a request that is decided about: its bytes, the routes of caps, exempt paths and access levels.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use monitor_common::cap::{action, policy_flag, reason, space};
use monitor_common::http1::{PRE, WIN};
use monitor_common::path::{self, Reading};

use super::{SHADOW_LEVEL, SUBJECT_MASK, flags, stage};
use crate::maps::{ACCESS, Conn, LINES, PathKey, ZERO_LINE};
use crate::mode::Mode;
use crate::raw::opaque;
use crate::scratch::{Ask, SUBJECTS_EACH, Scratch};

/// Reads the next byte of the request line.
#[inline(always)]
pub(super) unsafe fn of_byte<M: Mode>(conn: *mut Conn, scratch: *mut Scratch, ask: *mut Ask) {
    // SAFETY: the caller's promise.
    unsafe {
        let path = &mut (*scratch).path;
        let at = (*ask).at;
        (*ask).at = at + 1;
        let idle = (*ask).rules == 0 && (*ask).levels == 0;
        if idle || path.flags & path::flag::DONE != 0 || at >= path::LINE {
            path.finish();
            if (*ask).shipped != 0 {
                let _ = LINES.remove(line_of::<M>(conn));
            }
            (*ask).at = 0;
            (*ask).stage = if idle { stage::IDLE } else { stage::ROUTES };
            return;
        }
        let shipped = (*ask).shipped;
        let byte = if at < shipped {
            // what was not kept reads as a byte that no target has
            match LINES.get_ptr(line_of::<M>(conn)) {
                Some(line) if (*line).request == (*ask).seq => {
                    (*line).bytes[opaque(at) as usize & (path::LINE as usize - 1)]
                }
                _ => 0,
            }
        } else {
            let offset = (*ask).line_at.wrapping_add(at.wrapping_sub(shipped));
            let window = (&raw const (*scratch).window).cast::<u8>().add(PRE);
            *window.add(opaque(offset) as usize & (WIN - 1))
        };
        path.step(byte);
    }
}

/// Key of the line that is kept for a connection, wherever it is kept or read: packets and calls each have their own.
#[inline(always)]
unsafe fn line_of<M: Mode>(conn: *mut Conn) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { (*conn).id | (M::PACKETS as u64) << 62 }
}

/// Keeps the beginning of a head that leaves the window before it is complete.
///
/// # Safety
/// The pointers must be valid; `n` bytes at `bytes` readable.
#[inline(always)]
pub unsafe fn keep<M: Mode>(conn: *mut Conn, shipped: u32, bytes: *const u8, n: u32) {
    const MOST: u32 = path::LINE - 1;
    if shipped > MOST || flags() & policy_flag::PATHS == 0 {
        return;
    }
    // SAFETY: the caller's promise.
    unsafe {
        let id = line_of::<M>(conn);
        if shipped == 0
            && let Some(zero) = ZERO_LINE.get_ptr(0)
        {
            let _ = LINES.insert(id, &*zero, 0);
        }
        let Some(line) = LINES.get_ptr_mut(id) else { return };
        let request = (*conn).http.shared.req_seq;
        if shipped == 0 {
            (*line).request = request;
        }
        if (*line).request != request {
            return; // its own beginning was not kept
        }
        let n = opaque(if n > MOST { MOST } else { n }) & MOST;
        let to = (&raw mut (*line).bytes).cast::<u8>().add(opaque(shipped) as usize & MOST as usize);
        bpf_probe_read_kernel(to.cast(), n, bytes.cast());
    }
}

/// What the path trie says of a reading in a space; 0 where nothing is configured.
#[inline(always)]
unsafe fn value(reading: *mut Reading, space: u32, bits: u32) -> u64 {
    // SAFETY: the caller's promise; a reading is a key of the trie.
    unsafe {
        (*reading).space = space.to_be_bytes();
        (*reading).bits = 32 + bits;
        ACCESS.get(&*reading.cast::<PathKey>()).copied().unwrap_or(0)
    }
}

/// Exempt paths, and the routes of caps.
#[inline(always)]
pub(super) unsafe fn of_routes(scratch: *mut Scratch, ask: *mut Ask) {
    // SAFETY: the caller's promise.
    unsafe {
        let path = &raw mut (*scratch).path;
        let (raw, normal, flags) = ((*path).raw_bits(), (*path).normal_bits(), (*path).flags);
        (*ask).stage = if (*ask).levels == 0 { stage::ASK } else { stage::ACCESS };
        if (*ask).flags & policy_flag::EXEMPT_PATHS != 0 {
            let raw = value(&raw mut (*path).raw, space::EXEMPT, raw);
            let normal = value(&raw mut (*path).normal, space::EXEMPT, normal);
            if path::exempt(raw != 0, normal != 0, flags) {
                (*ask).stage = stage::IDLE;
                return;
            }
        }
        if (*ask).flags & policy_flag::ROUTES != 0 {
            let raw = value(&raw mut (*path).raw_lower, space::ROUTES, raw);
            let normal = value(&raw mut (*path).normal_lower, space::ROUTES, normal);
            (*ask).routes = path::routes(raw, normal, flags);
        }
    }
}

/// Asks the next access level.
#[inline(always)]
pub(super) unsafe fn of_level(scratch: *mut Scratch, ask: *mut Ask) {
    // SAFETY: the caller's promise.
    unsafe {
        let at = (*ask).at;
        if at >= SUBJECTS_EACH as u32 {
            (*ask).at = 0;
            // refused here, no cap is charged
            (*ask).stage = if (*ask).worst > action::DENY as u32 { stage::END } else { stage::ASK };
            return;
        }
        (*ask).at = at + 1;
        let level = (*ask).access[opaque(at) as usize & SUBJECT_MASK as usize];
        if level == 0 {
            return;
        }
        let number = level & !SHADOW_LEVEL;
        let path = &raw mut (*scratch).path;
        let (raw, normal, flags) = ((*path).raw_bits(), (*path).normal_bits(), (*path).flags);
        let raw = value(&raw mut (*path).raw, number, raw);
        let normal = value(&raw mut (*path).normal, number, normal);
        if path::grants(raw, normal, flags, (*ask).method as u8) {
            return;
        }
        let what = if level == number { action::DENY } else { action::SHADOW };
        if 1 + what as u32 > (*ask).worst {
            (*ask).worst = 1 + what as u32;
            (*ask).reason = reason::ACCESS as u32;
            (*ask).by = number;
            (*ask).whose = at;
        }
    }
}
