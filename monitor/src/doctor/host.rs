//! What is mounted, and the clock.

use std::fs;

use super::{pass, warn};
use crate::view::CheckRow;

/// First mount point of a file system of this type.
fn mounted(kind: &str) -> Option<String> {
    let mounts = procfs::process::Process::myself().ok()?.mountinfo().ok()?;
    mounts
        .into_iter()
        .find(|mount| mount.fs_type == kind)
        .map(|mount| mount.mount_point.display().to_string())
}

pub fn cgroups() -> CheckRow {
    match mounted("cgroup2") {
        Some(at) => pass("cgroup2", at),
        None => warn(
            "cgroup2",
            "not mounted: units of processes that end at once are not known",
            "mount -t cgroup2 none /sys/fs/cgroup/unified",
        ),
    }
}

pub fn bpffs() -> CheckRow {
    pass(
        "bpffs",
        mounted("bpf").unwrap_or_else(|| "not mounted, weir mounts it for on_exit = \"keep\"".into()),
    )
}

pub fn tracefs() -> CheckRow {
    pass("tracefs", mounted("tracefs").unwrap_or_else(|| "not mounted, not needed".into()))
}

pub fn clock() -> CheckRow {
    let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    match fs::read_to_string(path).map(|name| name.trim().to_owned()) {
        Ok(name) if matches!(name.as_str(), "hpet" | "acpi_pm" | "refined-jiffies" | "jiffies") => {
            warn("clock", format!("{name} is slow to read"), "use tsc or the clock of the hypervisor")
        }
        Ok(name) => pass("clock", name),
        Err(_) => pass("clock", "not told"),
    }
}
