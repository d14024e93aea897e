//! What the host is and allows: the kernel, the rights of this process, and what the daemon itself uses.
//!
//! Owns reading these facts. Must not judge them for people: that is the doctor's.

mod usage;

use std::fs;

pub use usage::{Usage, usage};

/// Where the kernel publishes its types.
pub const BTF: &str = "/sys/kernel/btf/vmlinux";

/// Numbers from `linux/capability.h`, and what each is for. `true`: nothing works without it.
pub const CAPABILITIES: &[(u32, &str, bool, &str)] = &[
    (39, "CAP_BPF", true, "load programs"),
    (38, "CAP_PERFMON", true, "attach to tracepoints and libraries"),
    (12, "CAP_NET_ADMIN", true, "use socket storage and cgroup hooks"),
    (19, "CAP_SYS_PTRACE", false, "find TLS libraries in other users' processes"),
    (2, "CAP_DAC_READ_SEARCH", false, "read executables and libraries of other users"),
];
/// Stands for `CAP_BPF`, `CAP_PERFMON` and more.
const SYS_ADMIN: u32 = 21;

/// The effective capabilities of this process as a bit mask.
pub fn effective() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

/// Capabilities that are missing: `(without which nothing works, without which less is seen)`.
pub fn missing(mask: u64) -> (Vec<&'static str>, Vec<&'static str>) {
    let has = |bit: u32| mask >> bit & 1 == 1;
    let lacks = |(bit, ..): &&(u32, &str, bool, &str)| !(has(*bit) || (*bit >= 38 && has(SYS_ADMIN)));
    let names = |wanted: bool| {
        let rows = CAPABILITIES.iter().filter(lacks).filter(move |(_, _, hard, _)| *hard == wanted);
        rows.map(|(_, name, ..)| *name).collect()
    };
    (names(true), names(false))
}

/// The capabilities without which the daemon cannot start, if any are missing.
pub fn missing_capabilities() -> Option<String> {
    let (hard, _) = missing(effective());
    (!hard.is_empty()).then(|| hard.join(", "))
}

/// What is wrong with the kernel's type information, if anything is.
pub fn missing_btf() -> Option<String> {
    fs::File::open(BTF).err().map(|error| format!("{BTF}: {error}"))
}

/// Release of the running kernel.
pub fn release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// Major, minor and patch level of a release such as `6.12.41+deb13-amd64`; missing parts are 0.
pub fn version(release: &str) -> (u32, u32, u32) {
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next())
}
