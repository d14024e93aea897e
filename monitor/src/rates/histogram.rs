//! Latency distribution: log-linear buckets, eight to an octave (at most 6% wide of the mark), from 1 us to 137 s, kept
//! only from the smallest to the largest that was ever hit.

/// log2 of the buckets in an octave.
const SUB_BITS: u32 = 3;
/// log2 of the lower end in ns: 1.024 us.
const MIN_BITS: u32 = 10;
/// log2 of the upper end in ns: 137 s.
const MAX_BITS: u32 = 37;

/// Counts by latency.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    first: u8,
    counts: Vec<u32>,
}

impl Histogram {
    /// Counts one latency.
    pub fn record(&mut self, ns: u64) {
        self.add(bucket(ns), 1);
    }

    fn add(&mut self, bucket: u8, count: u32) {
        if bucket < self.first || self.counts.is_empty() {
            let grow = if self.counts.is_empty() { 1 } else { usize::from(self.first - bucket) };
            self.counts.reserve_exact(grow);
            self.counts.splice(0..0, std::iter::repeat_n(0, grow));
            self.first = bucket;
        }
        let at = usize::from(bucket - self.first);
        if at >= self.counts.len() {
            self.counts.reserve_exact(at + 1 - self.counts.len());
            self.counts.resize(at + 1, 0);
        }
        let full = match self.counts.get_mut(at) {
            Some(slot) => {
                *slot = slot.saturating_add(count);
                *slot == u32::MAX
            }
            None => false,
        };
        if full {
            // the shape is what matters; a bucket gets here after four thousand million requests
            for slot in &mut self.counts {
                *slot /= 2;
            }
        }
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in (other.first..).zip(&other.counts) {
            if *count > 0 {
                self.add(bucket, *count);
            }
        }
    }

    /// The latency in ns below which the share `share` (0 to 1) of the requests lies; `None` when there are none.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let total: u64 = self.counts.iter().map(|count| u64::from(*count)).sum();
        let rank = (share * total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in (self.first..).zip(&self.counts) {
            seen += u64::from(*count);
            if *count > 0 && seen >= rank {
                return Some(middle(bucket));
            }
        }
        None
    }
}

fn bucket(ns: u64) -> u8 {
    let ns = ns.clamp(1 << MIN_BITS, (1 << MAX_BITS) - 1);
    let octave = ns.ilog2();
    let sub = (ns >> (octave - SUB_BITS)) as u32 & ((1 << SUB_BITS) - 1);
    (((octave - MIN_BITS) << SUB_BITS) + sub) as u8
}

/// Middle of a bucket in ns.
fn middle(bucket: u8) -> f64 {
    let (octave, sub) = (u32::from(bucket) >> SUB_BITS, u32::from(bucket) & ((1 << SUB_BITS) - 1));
    let width = f64::from(1u32 << (MIN_BITS - SUB_BITS)) * f64::from(octave).exp2();
    width * (f64::from((1 << SUB_BITS) + sub) + 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantiles_of_a_ramp_are_near() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        for ms in 1..=1000u64 {
            histogram.record(ms * 1_000_000);
        }
        for (share, want) in [(0.5, 500e6), (0.95, 950e6), (0.99, 990e6)] {
            let got = histogram.quantile(share).unwrap();
            assert!((got / want - 1.0).abs() < 0.07, "{share}: {got}");
        }
    }

    proptest! {
        #[test]
        fn a_value_lies_in_its_bucket(ns: u64, others: Vec<u64>) {
            let inside = ns.clamp(1 << MIN_BITS, (1 << MAX_BITS) - 1) as f64;
            prop_assert!((middle(bucket(ns)) / inside - 1.0).abs() <= 0.0626);
            let (mut one, mut two) = (Histogram::default(), Histogram::default());
            one.record(ns);
            for other in &others { two.record(*other); }
            one.merge(&two);
            prop_assert_eq!(one.counts.iter().sum::<u32>() as usize, others.len() + 1);
        }
    }
}
