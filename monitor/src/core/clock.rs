//! From the kernel's clocks to wall time.

use std::time::{Duration, SystemTime};

/// One instant on three clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockBase {
    /// `CLOCK_MONOTONIC` in ns: the clock of the records.
    pub monotonic_ns: u64,
    /// `CLOCK_BOOTTIME` in ns: the clock of process starts.
    pub boot_ns: u64,
    /// Wall time.
    pub wall: SystemTime,
}

impl ClockBase {
    /// Wall time of a record.
    pub fn wall(&self, monotonic_ns: u64) -> SystemTime {
        shift(self.wall, self.monotonic_ns, monotonic_ns)
    }

    /// Wall time of a process start.
    pub fn wall_of_boot(&self, boot_ns: u64) -> SystemTime {
        shift(self.wall, self.boot_ns, boot_ns)
    }

    /// RFC 3339 with microseconds.
    pub fn text(time: SystemTime) -> String {
        // humantime refuses what no calendar of four digits holds
        let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
        humantime::format_rfc3339_micros(time.clamp(SystemTime::UNIX_EPOCH, last)).to_string()
    }
}

fn shift(wall: SystemTime, base_ns: u64, ns: u64) -> SystemTime {
    let distance = Duration::from_nanos(base_ns.abs_diff(ns));
    let shifted = if ns >= base_ns { wall.checked_add(distance) } else { wall.checked_sub(distance) };
    shifted.unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_get_wall_time() {
        let base = ClockBase {
            monotonic_ns: 5_000_000_000,
            boot_ns: 9_000_000_000,
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        };
        assert_eq!(ClockBase::text(base.wall(6_500_000_000)), "2023-11-14T22:13:21.500000Z");
        assert_eq!(ClockBase::text(base.wall_of_boot(8_000_000_000)), "2023-11-14T22:13:19.000000Z");
        assert_eq!(ClockBase::text(base.wall(u64::MAX)).len(), 27);
    }
}
