//! One order for the records of all rings. Knows neither maps nor clocks: rings and the time come in.
//!
//! Owns: the rule that a record is handed on only after every record that was written before its program started. Must
//! not: look into a record beyond its time.
//!
//! Every program writes to the ring of its CPU, so the records of one connection may be in several rings. Let `time(R)` be
//! the time in the record R, read between the start of its program and its being written. Each ring has a *floor*: no
//! record that is still to come out of it was written before. The floor is the place of the last record taken, or the time
//! of the drain that found the ring empty. The *place* of a record is `max(time, floor)`, and records are handed on by it:
//!
//! ```text
//! start(R) <= time(R) <= place(R) <= written(R)            (the floor, too, lies before R was written)
//! ```
//!
//! 1. If A was written before B's program started, A comes first: `place(A) <= written(A) < start(B) <= place(B)`.
//! 2. A is there by then: only records with a place before T are taken, where T was read *before* the rings were looked at:
//!    `written(A) < start(B) <= place(B) < T`, so A was in its ring already.
//! 3. A may be behind a record that has its space but not its bytes yet (its program was interrupted): nothing is known of
//!    what is behind, but that it was written after that ring's floor. So while a ring shows such a record, only records
//!    up to its floor are taken from the others.
//! 4. Places never decrease along a ring, so the order within a ring is kept whatever the clocks do. Across rings the
//!    argument needs clocks that agree to less than it takes one CPU to learn of what another did; `bpf_ktime_get_ns` does.

use monitor_common::event;

use crate::sensor::Drained;

/// What a ring shows first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front<'a> {
    /// Nothing.
    Empty,
    /// A record that is being written.
    Unfinished,
    /// A record.
    Record(&'a [u8]),
}

/// A ring, as the merge needs it.
pub trait Ring {
    /// Shows what was written up to now; what is written later need not be shown before the next call.
    fn look(&mut self);
    /// The oldest record that was not taken.
    fn front(&mut self) -> Front<'_>;
    /// Takes the record that [`Self::front`] showed.
    fn take(&mut self);
    /// Gives the space of what was taken back.
    fn release(&mut self);
}

/// See the module's documentation.
pub struct Merge<R> {
    queues: Vec<Queue<R>>,
}

struct Queue<R> {
    ring: R,
    floor_ns: u64,
    /// Place of the front, `u64::MAX` when there is none.
    place_ns: u64,
    unfinished: bool,
}

impl<R: Ring> Queue<R> {
    /// Finds the place of the front.
    fn rank(&mut self, now_ns: u64) {
        self.unfinished = false;
        self.place_ns = match self.ring.front() {
            Front::Record(record) => event::time(record).unwrap_or(0).max(self.floor_ns),
            Front::Unfinished => {
                self.unfinished = true;
                u64::MAX
            }
            Front::Empty => {
                self.floor_ns = self.floor_ns.max(now_ns);
                u64::MAX
            }
        };
    }
}

impl<R: Ring> Merge<R> {
    /// A merge of these rings.
    pub fn new(rings: impl IntoIterator<Item = R>) -> Self {
        let queue = |ring| Queue { ring, floor_ns: 0, place_ns: u64::MAX, unfinished: false };
        Self { queues: rings.into_iter().map(queue).collect() }
    }

    /// Hands on at most `most` records, in order. `now_ns` must have been read from the records' clock before the call.
    pub fn drain(&mut self, now_ns: u64, most: usize, each: &mut dyn FnMut(&[u8])) -> Drained {
        // taken is what has a place before this
        let mut end_ns = now_ns;
        for queue in &mut self.queues {
            queue.ring.look();
            queue.rank(now_ns);
            if queue.unfinished {
                end_ns = end_ns.min(queue.floor_ns.saturating_add(1));
            }
        }
        let mut records = 0;
        while records < most {
            let (mut first, mut second_ns) = (None, u64::MAX);
            let mut first_ns = end_ns;
            for queue in &mut self.queues {
                if queue.place_ns < first_ns {
                    second_ns = if first.is_some() { first_ns } else { second_ns };
                    first_ns = queue.place_ns;
                    first = Some(queue);
                } else {
                    second_ns = second_ns.min(queue.place_ns);
                }
            }
            let Some(queue) = first else { break };
            while records < most && queue.place_ns < end_ns && queue.place_ns <= second_ns {
                let Front::Record(record) = queue.ring.front() else { break };
                each(record);
                records += 1;
                queue.floor_ns = queue.place_ns;
                queue.ring.take();
                queue.rank(now_ns);
                if queue.unfinished {
                    end_ns = end_ns.min(queue.floor_ns.saturating_add(1));
                }
            }
        }
        let mut all = true;
        for queue in &mut self.queues {
            queue.ring.release();
            all &= !queue.unfinished && queue.place_ns >= now_ns;
        }
        Drained { records, all }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A record that is in a ring: its number, start and time; `done` once its bytes are there.
    #[derive(Clone, Debug)]
    struct Written {
        bytes: Vec<u8>,
        done: bool,
    }

    #[derive(Default)]
    struct Fake {
        records: std::collections::VecDeque<Written>,
        shown: usize,
    }

    impl Ring for Fake {
        fn look(&mut self) {
            self.shown = self.records.len();
        }
        fn front(&mut self) -> Front<'_> {
            match self.records.front() {
                Some(_) if self.shown == 0 => Front::Empty,
                Some(front) if !front.done => Front::Unfinished,
                Some(front) => Front::Record(&front.bytes),
                None => Front::Empty,
            }
        }
        fn take(&mut self) {
            self.records.pop_front();
            self.shown -= 1;
        }
        fn release(&mut self) {}
    }

    fn record(number: usize, time_ns: u64) -> Written {
        let mut bytes = vec![0; event::TIME_AT + 8];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        bytes[event::TIME_AT..].copy_from_slice(&time_ns.to_le_bytes());
        Written { bytes, done: true }
    }

    fn number(bytes: &[u8]) -> usize {
        usize::from_le_bytes(*bytes.first_chunk().unwrap())
    }

    fn rings(contents: &[&[u64]]) -> Merge<Fake> {
        let ring = |times: &&[u64]| Fake {
            records: times.iter().map(|time| record(*time as usize, *time)).collect(),
            shown: 0,
        };
        Merge::new(contents.iter().map(ring))
    }

    fn drained(merge: &mut Merge<Fake>, now_ns: u64, most: usize) -> (Vec<usize>, bool) {
        let mut order = Vec::new();
        let drained = merge.drain(now_ns, most, &mut |record| order.push(number(record)));
        assert_eq!(drained.records, order.len());
        (order, drained.all)
    }

    #[test]
    fn rings_are_merged_by_time_up_to_now() {
        let mut merge = rings(&[&[1, 4, 9], &[2, 3, 10], &[]]);
        assert_eq!(drained(&mut merge, 9, 100), (vec![1, 2, 3, 4], true));
        assert_eq!(drained(&mut merge, 11, 100), (vec![9, 10], true));
        assert_eq!(drained(&mut merge, 12, 100), (vec![], true));
    }

    #[test]
    fn a_ring_keeps_its_own_order_and_the_bound_holds() {
        // 2 began before 5 and was written behind it
        let mut merge = rings(&[&[5, 2, 7], &[3, 6]]);
        assert_eq!(drained(&mut merge, 100, 2), (vec![3, 5], false));
        assert_eq!(drained(&mut merge, 100, 100), (vec![2, 6, 7], true));
    }

    #[test]
    fn what_is_being_written_holds_back_what_may_depend_on_it() {
        let mut merge = rings(&[&[1, 5], &[4, 6]]);
        assert_eq!(drained(&mut merge, 3, 100), (vec![1], true));
        merge.queues[0].ring.records.front_mut().unwrap().done = false;
        assert_eq!(drained(&mut merge, 50, 100), (vec![], false));
        merge.queues[0].ring.records.front_mut().unwrap().done = true;
        assert_eq!(drained(&mut merge, 50, 100), (vec![4, 5, 6], true));
        // found empty at 50: what is written from now on was not there then, so others may go on up to 50
        let mut late = record(40, 40);
        late.done = false;
        merge.queues[0].ring.records.push_back(late);
        merge.queues[1].ring.records.extend([record(45, 45), record(60, 60)]);
        assert_eq!(drained(&mut merge, 70, 100), (vec![45], false));
        merge.queues[0].ring.records.front_mut().unwrap().done = true;
        assert_eq!(drained(&mut merge, 70, 100), (vec![40, 60], true));
    }

    /// A step of a host in which time passes with every step.
    #[derive(Clone, Debug)]
    enum Step {
        /// A program starts and reads the clock, on the CPU with this number.
        Start(usize),
        /// The latest program of that CPU takes its space.
        Reserve(usize),
        /// Some program of that CPU writes its bytes.
        Write(usize),
        /// The daemon reads the clock.
        Clock,
        /// The daemon drains with the clock that it read, at most so many records.
        Drain(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..3usize).prop_map(Step::Start),
            3 => (0..3usize).prop_map(Step::Reserve),
            4 => (0..3usize).prop_map(Step::Write),
            2 => Just(Step::Clock),
            2 => (1..6usize).prop_map(Step::Drain),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

        #[test]
        fn what_was_written_before_a_program_started_comes_first(steps in prop::collection::vec(step(), 0..120)) {
            let mut merge = rings(&[&[], &[], &[]]);
            let mut started: [Vec<u64>; 3] = Default::default();
            // start and end of every record by number; 0 while it is not written
            let (mut starts, mut ends): (Vec<u64>, Vec<u64>) = Default::default();
            let (mut now, mut order, mut total) = (0u64, Vec::new(), 0);
            for (time, step) in (1u64..).zip(steps) {
                match step {
                    Step::Start(cpu) => started[cpu].push(time),
                    Step::Reserve(cpu) => if let Some(start) = started[cpu].pop() {
                        let mut fresh = record(starts.len(), start);
                        fresh.done = false;
                        merge.queues[cpu].ring.records.push_back(fresh);
                        starts.push(start);
                        ends.push(0);
                        total += 1;
                    },
                    Step::Write(cpu) => {
                        let unwritten = merge.queues[cpu].ring.records.iter_mut().rev().find(|one| !one.done);
                        if let Some(one) = unwritten {
                            one.done = true;
                            ends[number(&one.bytes)] = time;
                        }
                    }
                    Step::Clock => now = time,
                    Step::Drain(most) => {
                        merge.drain(now, most, &mut |bytes| order.push(number(bytes)));
                    }
                }
            }
            for queue in &mut merge.queues {
                for one in queue.ring.records.iter_mut().filter(|one| !one.done) {
                    one.done = true;
                    ends[number(&one.bytes)] = 1_000;
                }
            }
            let drained = merge.drain(2_000, usize::MAX, &mut |bytes| order.push(number(bytes)));
            prop_assert!(drained.all);
            prop_assert_eq!(order.len(), total);
            for (at, later) in order.iter().enumerate() {
                for earlier in &order[at + 1..] {
                    // `earlier` was handed on after `later`: it must not have been written before that one started
                    prop_assert!(ends[*earlier] > starts[*later], "{earlier} and {later} of {order:?}");
                }
            }
        }
    }
}
