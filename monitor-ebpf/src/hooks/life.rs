//! The life of sockets and processes.
//!
//! - `tcp_destroy_sock(struct sock *sk)`: the socket is gone; last chance to read its storage.
//! - `sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`.
//! - `sched_process_exit(struct task_struct *p)` (6.18 adds an argument behind it).
//!
//! Checked on 6.1, 6.12 and 6.18.

use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::{
    bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_uid_gid, bpf_get_socket_cookie,
    bpf_ktime_get_ns, bpf_probe_read_kernel_str,
};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use monitor_common::event::{self, Exec};
use monitor_common::ledger::Counter;

use crate::hooks::answer;
use crate::maps::{Conn, GATES, MARKS, Mark, config, conn_of, storage};
use crate::scratch;
use crate::{conn, framing, raw, ring};

/// Longest file name in an `Exec` record.
const NAME: u32 = 255;

/// `tcp_destroy_sock`.
#[btf_tracepoint(function = "tcp_destroy_sock")]
pub fn tcp_destroy(ctx: BtfTracePointContext) -> i32 {
    let sk: *mut c_void = ctx.arg(0);
    let mark = storage::<Mark>((&raw const MARKS).cast(), sk, 0);
    // SAFETY: socket storage.
    if !mark.is_null() && unsafe { (*mark).answered } != 0 {
        // SAFETY: a socket from the hook's context.
        answer::leave(unsafe { bpf_get_socket_cookie(sk) });
    }
    let conn = conn_of(sk);
    if !conn.is_null() {
        // SAFETY: socket storage.
        unsafe { framing::closed(conn) }
        return 0;
    }
    // whose first request was denied: the server never had it
    let gate = storage::<Conn>((&raw const GATES).cast(), sk, 0);
    if !gate.is_null() {
        // SAFETY: socket storage.
        unsafe { conn::tell_end(gate) }
    }
    0
}

/// `sched_process_exec`.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn process_exec(ctx: BtfTracePointContext) -> i32 {
    let task: u64 = ctx.arg(0);
    let binprm: u64 = ctx.arg(2);
    let Some(scratch) = scratch::take() else { return 0 };
    // SAFETY: this CPU's scratch; the record is built at the start of its window.
    unsafe {
        let parent = raw::kernel::<u64>(task + config!(task_parent) as u64).unwrap_or(0);
        let name = raw::kernel::<u64>(binprm + config!(binprm_filename) as u64).unwrap_or(0);
        let record = (&raw mut (*scratch).window).cast::<u8>();
        let read = bpf_probe_read_kernel_str(record.add(Exec::SIZE).cast(), NAME + 1, name as *const c_void);
        let read = if read > 0 { read as u32 - 1 } else { 0 };
        let n = if read > NAME { NAME } else { read };
        let mut fixed = Exec {
            head: ring::head(Exec::KIND, Exec::SIZE as u32 + n),
            start_ns: raw::process_start(task),
            ts_ns: ring::now(scratch),
            cgroup: bpf_get_current_cgroup_id(),
            tgid: conn::tgid(),
            ppid: raw::kernel::<u32>(parent + config!(task_tgid) as u64).unwrap_or(0),
            uid: bpf_get_current_uid_gid() as u32,
            pad: 0,
            comm: [0; 16],
        };
        bpf_get_current_comm((&raw mut fixed.comm).cast(), 16);
        record.cast::<Exec>().write_unaligned(fixed);
        ring::output(record.cast(), Exec::SIZE as u64 + (n & 0xff) as u64, Counter::LostProcess);
        scratch::release(scratch);
    }
    0
}

/// `sched_process_exit`, which runs for every thread: only the last one of a process counts.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn process_exit(ctx: BtfTracePointContext) -> i32 {
    let task: u64 = ctx.arg(0);
    let signal = raw::kernel::<u64>(task + config!(task_signal) as u64).unwrap_or(0);
    if raw::kernel::<u32>(signal + config!(signal_live) as u64).unwrap_or(0) != 0 {
        return 0;
    }
    let record = event::Exit {
        head: ring::head(event::Exit::KIND, event::Exit::SIZE as u32),
        start_ns: raw::process_start(task),
        // SAFETY: takes no arguments.
        ts_ns: unsafe { bpf_ktime_get_ns() },
        tgid: conn::tgid(),
        code: raw::kernel::<u32>(task + config!(task_exit_code) as u64).unwrap_or(0),
    };
    ring::send(&record, Counter::LostProcess);
    0
}
