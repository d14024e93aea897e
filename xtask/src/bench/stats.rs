//! Medians with the interval that resampling gives them.

use serde::Serialize;

/// A median and its 95% bootstrap interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The median.
    pub median: f64,
    /// 2.5th percentile of the medians of resamples.
    pub low: f64,
    /// 97.5th percentile of them.
    pub high: f64,
}

const RESAMPLES: usize = 2000;

/// Estimates the median of `values`; `None` without values. The same values give the same interval.
pub fn estimate(values: &[f64]) -> Option<Estimate> {
    let middle = median(values.to_vec())?;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut medians = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        let sample = (0..values.len()).filter_map(|_| values.get(random.below(values.len())).copied());
        medians.extend(median(sample.collect()));
    }
    medians.sort_by(f64::total_cmp);
    let at = |share: f64| medians.get((share * (medians.len() - 1) as f64).round() as usize).copied();
    Some(Estimate { median: middle, low: at(0.025)?, high: at(0.975)? })
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *values.get(values.len() / 2 - 1)?;
    Some(f64::midpoint(lower, upper))
}

/// xorshift64*: resampling needs no more.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(vec![]), None);
    }

    #[test]
    fn the_interval_holds_the_median_and_narrows() {
        let few = estimate(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        assert!(few.low <= few.median && few.median <= few.high, "{few:?}");
        let many = (0..200).map(|at| 1.0 + f64::from(at % 5)).collect::<Vec<_>>();
        let many = estimate(&many).unwrap();
        assert!(many.high - many.low < few.high - few.low);
        assert_eq!(estimate(&[]), None);
    }
}
