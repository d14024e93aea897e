//! How many requests a second come to each cap: the kernel's counts, looked at about once a second.

use std::collections::{HashMap, VecDeque};

/// Looks that are kept: what ten seconds need, and one more.
const LOOKS: usize = 12;

/// The counts of one moment, by index of the rule.
type Look = (u64, HashMap<u16, u64>);

/// The latest looks, the oldest first.
#[derive(Debug, Default)]
pub struct Rates {
    looks: VecDeque<Look>,
}

impl Rates {
    /// Takes the counts of now.
    pub fn note(&mut self, now_ns: u64, counts: HashMap<u16, u64>) {
        if self.looks.len() >= LOOKS {
            self.looks.pop_front();
        }
        self.looks.push_back((now_ns, counts));
    }

    /// Requests a second since the latest look that is at least `seconds` old, else since the oldest; 0 without any. `count`
    /// is what the rule has counted until now. Counts that began anew in between were 0 a moment ago.
    pub fn per_second(&self, index: u16, count: u64, now_ns: u64, seconds: u64) -> f64 {
        let age = |look: &Look| now_ns.saturating_sub(look.0);
        let known = || self.looks.iter().filter(|look| look.1.contains_key(&index));
        let old = known().rev().find(|look| age(look) >= seconds * 1_000_000_000);
        let Some(look) = old.or_else(|| known().next()).filter(|look| age(look) > 0) else { return 0.0 };
        let before = look.1.get(&index).copied().filter(|before| *before <= count).unwrap_or(0);
        (count - before) as f64 / (age(look) as f64 / 1e9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn rates_look_back_as_far_as_they_say() {
        let mut rates = Rates::default();
        let whole = |rates: &Rates, index, count, seconds| {
            rates.per_second(index, count, 21 * SECOND, seconds).round() as u64
        };
        assert_eq!(whole(&rates, 3, 7, 1), 0);
        // ten a second for twenty seconds, then a hundred in one
        for second in 0..=20 {
            rates.note(second * SECOND, [(3, second * 10)].into());
        }
        assert_eq!(whole(&rates, 3, 300, 1), 100);
        assert_eq!(whole(&rates, 3, 300, 10), 19);
        assert_eq!(whole(&rates, 4, 300, 1), 0, "never looked at");
        assert_eq!(whole(&rates, 3, 5, 1), 5, "reset since");
        assert_eq!(rates.looks.len(), LOOKS);
    }
}
