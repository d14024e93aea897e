//! The beat of enforcement: tells the kernel side that the daemon is alive, on a thread of its own.
//!
//! What denies needs the daemon for its tables only, so what slows the daemon down must not switch caps off: this thread takes no
//! lock, makes no system call but to sleep, and has no handle on anything that others can hold. It certifies that the process
//! runs and that the drain goes on: where the drain makes no progress for [`STUCK`], the daemon is broken beyond what any load does
//! to it, and the lease runs out as it does when the process is stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{clock, priority};
use crate::sensor::Pulse;

/// Time between two beats: a small part of the shortest lease.
const PERIOD: Duration = Duration::from_millis(100);
/// Without any progress of the drain for so long it will not come back.
const STUCK: Duration = Duration::from_secs(30);

/// How far the drain has come, for whoever wants to know, without a lock.
#[derive(Debug)]
pub struct Progress {
    began: Instant,
    /// Milliseconds from `began` to the latest drain, 0 before the first.
    drained: AtomicU64,
    ended: AtomicBool,
}

impl Default for Progress {
    fn default() -> Self {
        Self { began: Instant::now(), drained: AtomicU64::new(0), ended: AtomicBool::new(false) }
    }
}

impl Progress {
    /// The rings were drained just now.
    pub fn drained(&self) {
        self.drained.store((self.age().as_millis() as u64).max(1), Ordering::Relaxed);
    }

    /// Time since the latest drain, `None` before the first.
    pub fn drain_age(&self) -> Option<Duration> {
        match self.drained.load(Ordering::Relaxed) {
            0 => None,
            then => Some(self.age().saturating_sub(Duration::from_millis(then))),
        }
    }

    /// Time since the daemon began.
    pub fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// The daemon ends.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    fn is_stuck(&self) -> bool {
        self.drain_age().unwrap_or_else(|| self.age()) > STUCK
    }
}

/// Beats until the daemon ends.
pub fn run(pulse: &dyn Pulse, progress: &Arc<Progress>) {
    priority::real_time();
    while !progress.ended.load(Ordering::Relaxed) {
        if !progress.is_stuck() {
            pulse.beat(clock::monotonic_ns());
        }
        std::thread::sleep(PERIOD);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_that_is_stuck_ends_the_beat_and_a_slow_one_does_not() {
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        let progress =
            |began, drained| Progress { began, drained: AtomicU64::new(drained), ..Progress::default() };
        assert!(!progress(ago(1), 0).is_stuck(), "no drain so far");
        assert!(progress(ago(40), 0).is_stuck(), "the first drain never came");
        assert!(!progress(ago(100), 75_000).is_stuck(), "slow");
        let stuck = progress(ago(100), 60_000);
        assert!(stuck.is_stuck());
        stuck.drained();
        assert!(!stuck.is_stuck(), "it went on");
    }
}
