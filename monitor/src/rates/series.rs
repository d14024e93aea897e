//! Counts per tick over the last 60 ticks, stored only where they are not zero: an identity seen once costs a few
//! bytes, a busy one half a kilobyte.

use std::collections::VecDeque;

/// Ticks that are kept besides the current one.
const SPAN: u32 = 60;

/// Counts per tick (a second, or a minute). Ticks never go back: what arrives late counts for the current tick.
#[derive(Clone, Debug, Default)]
pub struct Series {
    tick: u32,
    count: u32,
    /// Earlier ticks that are not zero, oldest first.
    past: VecDeque<(u32, u32)>,
}

impl Series {
    /// Adds `count` at `tick`.
    pub fn add(&mut self, tick: u32, count: u32) {
        if tick > self.tick {
            self.advance(tick);
        }
        self.count = self.count.saturating_add(count);
    }

    fn advance(&mut self, tick: u32) {
        if self.count > 0 {
            self.past.push_back((self.tick, self.count));
        }
        self.tick = tick;
        self.count = 0;
        while self.past.front().is_some_and(|(old, _)| *old < tick.saturating_sub(SPAN)) {
            self.past.pop_front();
        }
    }

    /// Sum over the ticks `from..=to`.
    pub fn sum(&self, from: u32, to: u32) -> u64 {
        let inside = |tick: u32| (from..=to).contains(&tick);
        let past: u64 =
            self.past.iter().filter(|(tick, _)| inside(*tick)).map(|(_, count)| u64::from(*count)).sum();
        past + if inside(self.tick) { u64::from(self.count) } else { 0 }
    }

    /// Frees memory when nothing in here can count any more at `tick`.
    pub fn expire(&mut self, tick: u32) {
        if !self.past.is_empty() && self.past.back().is_none_or(|(old, _)| *old < tick.saturating_sub(SPAN)) {
            self.past = VecDeque::new();
        }
    }

    /// Adds all counts of `other` at their ticks.
    pub fn merge(&mut self, other: &Self) {
        if other.tick > self.tick {
            self.advance(other.tick);
        }
        for &(tick, count) in other.past.iter().chain([&(other.tick, other.count)]) {
            if tick == self.tick {
                self.count = self.count.saturating_add(count);
                continue;
            }
            if count == 0 || tick < self.tick.saturating_sub(SPAN) {
                continue;
            }
            match self.past.binary_search_by_key(&tick, |(old, _)| *old) {
                Ok(at) => {
                    if let Some((_, mine)) = self.past.get_mut(at) {
                        *mine = mine.saturating_add(count);
                    }
                }
                Err(at) => self.past.insert(at, (tick, count)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sums_equal_a_plain_log(mut ticks in proptest::collection::vec((0u32..200, 1u32..5, any::<bool>()), 1..100)) {
            ticks.sort_unstable();
            let (mut one, mut two) = (Series::default(), Series::default());
            for (tick, count, first) in &ticks {
                if *first { one.add(*tick, *count) } else { two.add(*tick, *count) }
            }
            one.merge(&two);
            let last = ticks.last().unwrap().0;
            for from in last.saturating_sub(SPAN)..=last {
                let want: u64 = ticks.iter().filter(|(tick, ..)| *tick >= from).map(|(_, count, _)| u64::from(*count)).sum();
                prop_assert_eq!(one.sum(from, last), want);
            }
            prop_assert!(one.past.len() <= SPAN as usize + 1);
        }
    }
}
