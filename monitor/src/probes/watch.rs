//! When to look for libraries again.
//!
//! Owns: the schedule, without a clock: the time is an argument, and what to do comes out. A library is mapped by the
//! dynamic linker a few milliseconds after exec, or by the program itself at any later time, so each exec is followed
//! by looks at growing distances and a slow sweep over all processes finds what is loaded late. Since a probe covers
//! its inode in every process, all this matters only for the first process that uses a file.
//!
//! ```text
//! exec --5 ms--> look --20 ms--> look --100 ms--> look --500 ms--> look --2 s--> look --> (sweeps only)
//!   exit: forgotten at once        sweep: every 5 s, of processes whose size changed; every minute, of all
//! ```

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

/// Times after exec at which a process is looked at.
const LOOKS: [Duration; 5] = [
    Duration::from_millis(5),
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
];
/// The same while many programs start, as in a build.
const BUSY_LOOKS: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(500)];
/// Processes waiting from which on starting programs are looked at less often.
const BUSY: usize = 256;
/// Most processes that wait; beyond, a sweep is brought forward instead.
const MAX_WAITING: usize = 4096;
/// Distance of sweeps.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// Delay of the sweep that stands in for looks at single processes.
const SWEEP_SOON: Duration = Duration::from_millis(100);
/// Each sweep with a number divisible by this looks at all processes.
const FULL_SWEEP_EVERY: u64 = 12;

/// Something to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Look at one process.
    Process(u32),
    /// Look at the processes whose size changed, or at all of them and at the standard places.
    Sweep {
        /// All of them.
        full: bool,
    },
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    executed: Duration,
    due: Duration,
    looks: &'static [Duration],
}

/// The schedule. Times are distances from any fixed origin.
#[derive(Debug)]
pub struct Watcher {
    queue: BTreeSet<(Duration, u32)>,
    waiting: HashMap<u32, Waiting>,
    sweep_at: Duration,
    sweeps: u64,
}

impl Watcher {
    /// A schedule whose first work is a full sweep.
    pub fn new(now: Duration) -> Self {
        Self { queue: BTreeSet::new(), waiting: HashMap::new(), sweep_at: now, sweeps: 0 }
    }

    /// A process executed a program.
    pub fn executed(&mut self, pid: u32, now: Duration) {
        self.exited(pid);
        if self.waiting.len() >= MAX_WAITING {
            self.sweep_soon(now);
            return;
        }
        let looks = if self.waiting.len() < BUSY { LOOKS.as_slice() } else { BUSY_LOOKS.as_slice() };
        self.schedule(pid, now, looks);
    }

    /// Programs may have started that nobody told of.
    pub fn sweep_soon(&mut self, now: Duration) {
        self.sweep_at = self.sweep_at.min(now + SWEEP_SOON);
    }

    /// A process ended.
    pub fn exited(&mut self, pid: u32) {
        if let Some(waiting) = self.waiting.remove(&pid) {
            self.queue.remove(&(waiting.due, pid));
        }
    }

    /// When [`Self::poll`] will next have work.
    pub fn next_at(&self) -> Duration {
        self.queue.first().map_or(self.sweep_at, |&(due, _)| due.min(self.sweep_at))
    }

    /// The next thing that is due, or `None`. Call it until it says `None`.
    pub fn poll(&mut self, now: Duration) -> Option<Work> {
        if let Some(&(due, pid)) = self.queue.first()
            && due <= now
        {
            self.queue.pop_first();
            if let Some(waiting) = self.waiting.remove(&pid) {
                // A look that is late replaces those that it has overtaken.
                let passed = waiting.looks.iter().take_while(|look| waiting.executed + **look <= now).count();
                self.schedule(pid, waiting.executed, waiting.looks.get(passed..).unwrap_or_default());
            }
            return Some(Work::Process(pid));
        }
        if self.sweep_at <= now {
            let full = self.sweeps.is_multiple_of(FULL_SWEEP_EVERY);
            self.sweeps += 1;
            self.sweep_at = now + SWEEP_EVERY;
            return Some(Work::Sweep { full });
        }
        None
    }

    fn schedule(&mut self, pid: u32, executed: Duration, looks: &'static [Duration]) {
        if let Some(first) = looks.first() {
            let due = executed + *first;
            self.queue.insert((due, pid));
            self.waiting.insert(pid, Waiting { executed, due, looks });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Polls at each millisecond and notes when each process was looked at.
    fn run(watcher: &mut Watcher, from: u64, to: u64) -> Vec<(u64, Work)> {
        (from..=to)
            .flat_map(|now| {
                std::iter::from_fn(|| watcher.poll(ms(now))).map(move |work| (now, work)).collect::<Vec<_>>()
            })
            .collect()
    }

    #[test]
    fn a_process_is_looked_at_five_times_after_exec() {
        let mut watcher = Watcher::new(ms(0));
        assert_eq!(watcher.poll(ms(0)), Some(Work::Sweep { full: true }));
        watcher.executed(7, ms(100));
        assert_eq!(watcher.next_at(), ms(105));
        let looks = run(&mut watcher, 100, 4000);
        let times: Vec<u64> = looks
            .iter()
            .map(|(now, work)| {
                assert_eq!(*work, Work::Process(7));
                *now
            })
            .collect();
        assert_eq!(times, [105, 120, 200, 600, 2100]);
        assert_eq!(watcher.next_at(), ms(5000));
    }

    #[test]
    fn a_late_look_replaces_those_it_overtook_and_exit_ends_them() {
        let mut watcher = Watcher::new(ms(0));
        watcher.poll(ms(0));
        watcher.executed(7, ms(0));
        watcher.executed(8, ms(0));
        assert_eq!(watcher.poll(ms(150)), Some(Work::Process(7)));
        assert_eq!(watcher.poll(ms(150)), Some(Work::Process(8)));
        assert_eq!(watcher.poll(ms(150)), None);
        watcher.exited(8);
        assert_eq!(run(&mut watcher, 151, 3000), [(500, Work::Process(7)), (2000, Work::Process(7))]);
    }

    #[test]
    fn sweeps_come_every_five_seconds_and_are_full_every_minute() {
        let mut watcher = Watcher::new(ms(0));
        let full: Vec<u64> = (0..=130_u64)
            .filter(|second| watcher.poll(Duration::from_secs(*second)) == Some(Work::Sweep { full: true }))
            .collect();
        assert_eq!(full, [0, 60, 120]);
    }

    #[test]
    fn a_storm_of_processes_is_bounded_and_brings_a_sweep_forward() {
        let mut watcher = Watcher::new(ms(0));
        watcher.poll(ms(0));
        for pid in 0..100_000 {
            watcher.executed(pid, ms(1));
        }
        assert_eq!(watcher.waiting.len(), MAX_WAITING);
        assert_eq!(watcher.queue.len(), MAX_WAITING);
        let work = run(&mut watcher, 1, 200);
        assert!(work.contains(&(101, Work::Sweep { full: false })));
        assert!(work.len() <= 2 * MAX_WAITING);
    }
}
