//! The drain thread: empties the rings into the core, reads the kernel's counters, and gives the sensor its slots.
//!
//! Nothing else may hold it up: it takes the core's lock for one drain at a time and never waits for a client.

use std::sync::Arc;
use std::time::{Duration, Instant};

use monitor_common::event::{Verdict, enforced};
use monitor_common::ledger::Counter;
use sd_notify::NotifyState;
use tokio::sync::watch;

use super::daemon::{Daemon, Kernel};
use super::every::Every;
use super::{clock, losses, priority};
use crate::core::KernelCounts;
use crate::enforce::Destroyer;
use crate::sensor::{DRAIN_MAX, Drained, Sensor};
use crate::workload::Procfs;

/// Longest pause between two drains, to which pauses double while there is nothing to drain. Nothing is lost by it: the rings
/// hold what comes in between, and requests are decided about in the kernel.
const LONGEST_PAUSE: Duration = Duration::from_millis(25);
/// Time between two looks at the kernel's counters and hooks.
const LOOK: Duration = Duration::from_millis(100);
/// The same while there is nothing to drain: reading the counters is most of what a daemon at rest does.
const LOOK_AT_REST: Duration = Duration::from_millis(500);
/// Time between two readings of what is costly to read: run times.
const STATISTICS: Duration = Duration::from_secs(5);
/// Time between two readings of the clocks, which are stepped now and then.
const CLOCKS: Duration = Duration::from_mins(1);
/// Most pieces of one drain, so that discovery and the watchdog get their turn under any load.
const PIECES: usize = 16;
/// Longest time that the last drain goes on while records keep coming.
const LAST_DRAIN: Duration = Duration::from_millis(500);

/// See the module's documentation.
pub struct Drain {
    /// In front of the sensor: while the last connections are ended, they are still fenced.
    destroyer: Destroyer,
    sensor: Box<dyn Sensor>,
    daemon: Arc<Daemon>,
    interval: Duration,
    facts: Procfs,
    kernel: Kernel,
    reconciled: u64,
}

impl Drain {
    /// A drain of `sensor` every `interval`.
    pub fn new(
        sensor: Box<dyn Sensor>,
        daemon: Arc<Daemon>,
        interval: Duration,
        destroyer: Destroyer,
    ) -> Self {
        let (facts, kernel) = (Procfs::new(), Kernel::default());
        Self { sensor, daemon, interval, facts, kernel, destroyer, reconciled: 0 }
    }

    /// Drains until `shutdown`, then once more, and lets the sensor go.
    ///
    /// # Errors
    /// When the kernel side cannot be read any more.
    pub fn run(mut self, shutdown: &watch::Receiver<bool>) -> anyhow::Result<()> {
        priority::hurry();
        let watchdog = sd_notify::watchdog_enabled().map(|period| period / 3);
        let mut look = Every::new(LOOK);
        let mut statistics = Every::new(STATISTICS);
        let mut clocks = Every::new(CLOCKS);
        let mut alive = watchdog.map(Every::new);
        let mut pause = self.interval;
        while !*shutdown.borrow() {
            let now = Instant::now();
            let rests = pause >= LONGEST_PAUSE;
            let period = if rests { LOOK_AT_REST } else { LOOK };
            let counts = if look.due_after(now, period) { Some(self.counts()?) } else { None };
            let records = self.drain(counts.as_ref());
            if counts.is_some() {
                if statistics.due(now) {
                    self.kernel.programs = self.sensor.program_stats();
                }
                self.publish();
            }
            if clocks.due(now) {
                self.daemon.core().set_clock(clock::base());
            }
            if alive.as_mut().is_some_and(|alive| alive.due(now)) {
                let _ = sd_notify::notify(&[NotifyState::Watchdog]);
            }
            pause = if records > 0 { self.interval } else { next_pause(pause) };
            std::thread::sleep(pause);
        }
        let deadline = Instant::now() + LAST_DRAIN;
        while self.drain(None) > 0 && Instant::now() < deadline {}
        let counts = self.counts()?;
        self.drain(Some(&counts));
        self.publish();
        Ok(())
    }

    /// The kernel's counts, read before a drain; per identity only when a request record was lost.
    fn counts(&mut self) -> anyhow::Result<KernelCounts> {
        self.kernel.ledger = self.sensor.ledger()?;
        let count = |counter| losses::count(&self.kernel.ledger, counter);
        let lost_requests = count(Counter::LostRequest);
        let identities =
            if lost_requests > self.reconciled { self.sensor.identity_counts() } else { Vec::new() };
        self.reconciled = lost_requests;
        Ok(KernelCounts {
            inbound: count(Counter::RequestsInbound),
            outbound: count(Counter::RequestsOutbound),
            lost_requests,
            identities,
        })
    }

    /// Empties the rings in bounded pieces, so that clients get their turn at the core in between. The counts are compared
    /// only after all that was written before the drain was taken: everything that they count has then been delivered or
    /// lost.
    fn drain(&mut self, counts: Option<&KernelCounts>) -> usize {
        let mut total = 0;
        for _ in 0..PIECES {
            let drained = self.piece(counts);
            total += drained.records;
            if drained.records < DRAIN_MAX {
                break;
            }
            std::thread::yield_now();
        }
        self.daemon.progress().drained();
        total
    }

    fn piece(&mut self, counts: Option<&KernelCounts>) -> Drained {
        let Self { sensor, daemon, facts, destroyer, .. } = self;
        let mut core = daemon.core();
        let drained = sensor.drain(clock::monotonic_ns(), &mut |record| {
            if record.first() == Some(&Verdict::KIND)
                && let Some((verdict, _)) = Verdict::from_bytes(record)
                && daemon.denies()
            {
                match verdict.enforced {
                    enforced::FENCED => destroyer.destroy(&verdict),
                    enforced::FENCED_BLOCKING => {
                        destroyer.destroy(&verdict);
                        daemon.cannot_answer(verdict.local_port);
                    }
                    enforced::ANSWERED_LAST => destroyer.destroy_later(&verdict),
                    _ => {}
                }
            }
            core.event(record, facts);
        });
        core.tick(clock::monotonic_ns());
        if let Some(counts) = counts
            && drained.all
        {
            core.reconcile(counts);
        }
        drained
    }

    fn publish(&mut self) {
        self.kernel.hooks = self.sensor.hooks();
        self.kernel.ready = self.sensor.ready();
        self.kernel.trouble = self.sensor.trouble();
        self.kernel.ended = self.destroyer.counts().rows();
        self.kernel.socket_hook = self.sensor.socket_hook().to_owned();
        self.daemon.publish(self.kernel.clone());
    }
}

/// The pause after one that brought nothing. One that was configured longer than [`LONGEST_PAUSE`] stays.
fn next_pause(pause: Duration) -> Duration {
    pause.max((pause * 2).min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_never_shrink() {
        let millis = |ms| Duration::from_millis(ms);
        assert_eq!(next_pause(millis(5)), millis(10));
        assert_eq!(next_pause(millis(20)), millis(25));
        assert_eq!(next_pause(millis(25)), millis(25));
        assert_eq!(next_pause(millis(100)), millis(100));
    }
}
