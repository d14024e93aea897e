//! What `xtask bench` compares Weir with. Never loaded by the daemon.
//!
//! - *empty*: hooks that return at once: what attaching costs by itself;
//! - *copy*: socket storage, registers and a copy of both user buffers: the floor of any tool that reads the bytes;
//! - *conventional*: a record with the first bytes for every event, with the default wake-up; for TLS, entry and return
//!   probes at the exported symbols. That is how the well-known tools of this kind are built.

use aya_ebpf::bindings::BPF_SK_STORAGE_GET_F_CREATE;
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::bpf_probe_read_user;
use aya_ebpf::macros::{btf_tracepoint, map, uprobe, uretprobe};
use aya_ebpf::maps::{HashMap, RingBuf};
use aya_ebpf::programs::{BtfTracePointContext, ProbeContext, RetProbeContext};
use monitor_common::http1::{PRE, clamp};

use crate::conn::thread;
use crate::maps::{MARKS, storage};
use crate::raw::{self, Found};
use crate::scratch;

/// Bytes of the buffer in a conventional record.
const CAPTURE: usize = 512;

#[map]
static BENCH_RING: RingBuf = RingBuf::with_byte_size(16 << 20, 0);
#[map]
static BENCH_CALLS: HashMap<u64, u64> = HashMap::with_max_entries(16_384, 0);

/// Copies the call's buffer into the scratch.
#[inline(always)]
fn copy(sk: *mut c_void, ret: i32) {
    if ret <= 0 || storage::<u64>((&raw const MARKS).cast(), sk, BPF_SK_STORAGE_GET_F_CREATE).is_null() {
        return;
    }
    let Some(scratch) = scratch::take() else { return };
    // SAFETY: this CPU's scratch; the copy is bounded by the window.
    unsafe {
        let buffers = raw::buffers(scratch, ret as u32);
        if buffers.found == Found::User {
            let window = (&raw mut (*scratch).window).cast::<u8>().add(PRE);
            bpf_probe_read_user(window.cast(), clamp(buffers.first), buffers.address as *const c_void);
        }
        scratch::release(scratch);
    }
}

/// A conventional record: the first bytes of the buffer, with a wake-up.
#[inline(always)]
fn record(address: u64, n: u32) {
    let Some(mut entry) = BENCH_RING.reserve::<[u8; CAPTURE]>(0) else { return };
    let n = if n > CAPTURE as u32 { CAPTURE as u32 } else { n };
    // SAFETY: at most `CAPTURE` bytes into an entry of that size.
    unsafe { bpf_probe_read_user(entry.as_mut_ptr().cast(), n, address as *const c_void) };
    entry.submit(0);
}

#[inline(always)]
fn record_call(ret: i32) {
    if ret <= 0 {
        return;
    }
    let Some(scratch) = scratch::take() else { return };
    // SAFETY: this CPU's scratch.
    unsafe {
        let buffers = raw::buffers(scratch, ret as u32);
        if buffers.found == Found::User {
            record(buffers.address, buffers.first);
        }
        scratch::release(scratch);
    }
}

/// `sock_recv_length`, nothing done.
#[btf_tracepoint(function = "sock_recv_length")]
pub fn empty_recv(_ctx: BtfTracePointContext) -> i32 {
    0
}

/// `sock_send_length`, nothing done.
#[btf_tracepoint(function = "sock_send_length")]
pub fn empty_send(_ctx: BtfTracePointContext) -> i32 {
    0
}

/// `sock_recv_length`, the buffer copied.
#[btf_tracepoint(function = "sock_recv_length")]
pub fn copy_recv(ctx: BtfTracePointContext) -> i32 {
    copy(ctx.arg(0), ctx.arg(1));
    0
}

/// `sock_send_length`, the buffer copied.
#[btf_tracepoint(function = "sock_send_length")]
pub fn copy_send(ctx: BtfTracePointContext) -> i32 {
    copy(ctx.arg(0), ctx.arg(1));
    0
}

/// `sock_recv_length`, a record each.
#[btf_tracepoint(function = "sock_recv_length")]
pub fn record_recv(ctx: BtfTracePointContext) -> i32 {
    record_call(ctx.arg(1));
    0
}

/// `sock_send_length`, a record each.
#[btf_tracepoint(function = "sock_send_length")]
pub fn record_send(ctx: BtfTracePointContext) -> i32 {
    record_call(ctx.arg(1));
    0
}

/// `SSL_read` or `SSL_write` begins.
#[uprobe]
pub fn record_tls_enter(ctx: ProbeContext) -> u32 {
    if let Some(buffer) = ctx.arg::<u64>(1) {
        let _ = BENCH_CALLS.insert(thread(), buffer, 0);
    }
    0
}

/// `SSL_read` or `SSL_write` returns.
#[uretprobe]
pub fn record_tls_return(ctx: RetProbeContext) -> u32 {
    let thread = thread();
    let Some(buffer) = BENCH_CALLS.get_ptr(thread) else { return 0 };
    // SAFETY: a map value.
    let buffer = unsafe { *buffer };
    let _ = BENCH_CALLS.remove(thread);
    let result = ctx.ret::<u64>() as i32;
    if result > 0 {
        record(buffer, result as u32);
    }
    0
}
