//! What the kernel and this process's rights allow.

use std::fs;

use super::{fail, pass, warn};
use crate::host::{self, BTF, CAPABILITIES, effective, missing, missing_btf, version};
use crate::view::CheckRow;

pub fn capabilities() -> CheckRow {
    let (hard, soft) = missing(effective());
    if !hard.is_empty() {
        return fail(
            "capabilities",
            format!("missing {}", hard.join(", ")),
            "run as root, or give the service these capabilities",
        );
    }
    if !soft.is_empty() {
        let why: Vec<_> = CAPABILITIES.iter().filter(|row| soft.contains(&row.1)).map(|row| row.3).collect();
        return warn(
            "capabilities",
            format!("missing {} to {}", soft.join(", "), why.join(", ")),
            "run as root, or give the service these capabilities",
        );
    }
    pass("capabilities", "all present")
}

pub fn btf() -> CheckRow {
    match missing_btf() {
        None => pass("BTF", BTF),
        Some(why) => fail("BTF", why, "use a kernel built with CONFIG_DEBUG_INFO_BTF=y and mount sysfs"),
    }
}

pub fn release() -> CheckRow {
    let release = host::release();
    match version(&release) {
        version if version >= (6, 1, 0) => pass("kernel", release),
        version if version >= (5, 17, 0) => warn("kernel", release, "tested from 6.1 on; it may work"),
        _ => fail("kernel", release, "needs Linux 5.17 for bpf_loop, and is tested from 6.1 on"),
    }
}

pub fn lockdown() -> CheckRow {
    let path = "/sys/kernel/security/lockdown";
    let Ok(text) = fs::read_to_string(path) else {
        return pass("lockdown", "not told (securityfs is not mounted)");
    };
    let mode = text.split(['[', ']']).nth(1).unwrap_or("unknown").to_owned();
    if mode == "confidentiality" {
        return fail(
            "lockdown",
            mode,
            "boot with lockdown=integrity or without: the kernel refuses to read data",
        );
    }
    pass("lockdown", mode)
}

/// Whether the kernel's types have this name.
fn has_type(name: &str) -> bool {
    let wanted = [b"\0", name.as_bytes(), b"\0"].concat();
    fs::read(BTF).is_ok_and(|types| types.windows(wanted.len()).any(|window| window == wanted))
}

pub fn socket_hook() -> CheckRow {
    if has_type("btf_trace_sock_recv_length") && has_type("btf_trace_sock_send_length") {
        return pass("socket hook", "tp_btf on sock_recv_length and sock_send_length");
    }
    if has_type("sock_recvmsg") || has_type("tcp_recvmsg") {
        return pass("socket hook", "fexit (this kernel has no sock_recv_length tracepoint)");
    }
    fail("socket hook", "neither tracepoints nor functions to hook", "use Linux 6.3 or later with BTF")
}

pub fn jit() -> CheckRow {
    match fs::read_to_string("/proc/sys/net/core/bpf_jit_enable") {
        Ok(value) if value.trim() == "0" => {
            warn("BPF compiler", "off: programs are interpreted", "sysctl net.core.bpf_jit_enable=1")
        }
        Ok(_) => pass("BPF compiler", "on"),
        Err(_) => pass("BPF compiler", "not told"),
    }
}

pub fn uprobes() -> CheckRow {
    let path = "/sys/bus/event_source/devices/uprobe/type";
    match fs::read_to_string(path) {
        Ok(_) => pass("uprobes", "perf events"),
        Err(error) => warn(
            "uprobes",
            format!("{path}: {error}"),
            "TLS is not seen; use a kernel with CONFIG_UPROBE_EVENTS=y",
        ),
    }
}

pub fn return_probes() -> CheckRow {
    match crate::probes::kernel::uretprobe_hazard(&host::release()) {
        Some(why) => warn(
            "return probes",
            format!("{why}: none are used"),
            "upgrade the kernel; libraries without another place to read results are not seen",
        ),
        None => pass("return probes", "safe on this kernel"),
    }
}
