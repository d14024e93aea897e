//! GCRA, the generic cell rate algorithm: one 64-bit *theoretical arrival time* (TAT) per bucket, in ns.
//!
//! A request at `now` is admitted when `TAT <= now + tolerance`; it then moves the TAT to `max(TAT, now) + interval`. With
//! `tolerance = (burst - 1) * interval` a bucket admits `burst` requests at once and `rate` per second from then on: in any
//! window of W seconds at most `burst + rate * W`. A refused request changes nothing. The interval is rounded up, so that a cap
//! is never exceeded; that costs at most `rate * 1 ns` of it (0.002% at 20,000/s).
//!
//! The arithmetic is here once; the kernel side applies it with a compare-and-swap, so buckets need no lock.

/// Nanoseconds of a second.
const SECOND_NS: u64 = 1_000_000_000;

/// Rate and burst as the bucket needs them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// Time between two requests at the rate, ns.
    pub interval_ns: u64,
    /// How far a bucket may run ahead, ns.
    pub tolerance_ns: u64,
}

impl Limit {
    /// `requests` per `per_ns`, `burst` of them at once. `None` when one of them is 0 or the rate is above one per ns.
    pub const fn new(requests: u64, per_ns: u64, burst: u64) -> Option<Self> {
        if requests == 0 || burst == 0 || per_ns < requests {
            return None;
        }
        let interval_ns = per_ns.div_ceil(requests);
        Some(Self { interval_ns, tolerance_ns: interval_ns.saturating_mul(burst - 1) })
    }

    /// Requests that an idle bucket admits at once.
    pub const fn burst(&self) -> u64 {
        match self.tolerance_ns.checked_div(self.interval_ns) {
            Some(more) => more + 1,
            None => 0,
        }
    }

    /// Requests per second, as configured up to rounding.
    pub const fn per_second(&self) -> f64 {
        if self.interval_ns == 0 { 0.0 } else { SECOND_NS as f64 / self.interval_ns as f64 }
    }
}

/// What a bucket says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Admitted when the TAT becomes this.
    Admit(u64),
    /// Refused; the next request is admitted after so many ns.
    Refuse(u64),
}

/// Asks a bucket with theoretical arrival time `tat` (0 when it was never used) at `now`.
#[inline(always)]
pub const fn ask(limit: &Limit, tat: u64, now: u64) -> Answer {
    let (ahead, overtaken) = tat.overflowing_sub(now.wrapping_add(limit.tolerance_ns));
    if !overtaken && ahead != 0 {
        return Answer::Refuse(ahead);
    }
    let from = if tat > now { tat } else { now };
    Answer::Admit(from.wrapping_add(limit.interval_ns))
}

/// How many requests of the burst are used up, from 0 to `burst`: what is shown as utilisation.
pub const fn used(limit: &Limit, tat: u64, now: u64) -> f64 {
    if limit.interval_ns == 0 || tat <= now {
        return 0.0;
    }
    (tat - now) as f64 / limit.interval_ns as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_burst_then_the_rate() {
        let limit = Limit::new(100, SECOND_NS, 20).unwrap();
        assert_eq!((limit.interval_ns, limit.burst()), (10_000_000, 20));
        let mut tat = 0;
        let mut admitted = 0;
        let start = 5 * SECOND_NS;
        // ten times the rate for ten seconds
        for n in 0..10_000u64 {
            if let Answer::Admit(next) = ask(&limit, tat, start + n * 1_000_000) {
                tat = next;
                admitted += 1;
            }
        }
        // the first comes at 0 s, the last at 9.999 s
        assert_eq!(admitted, 20 + 999);
    }

    #[test]
    fn what_is_refused_says_when_to_come_back() {
        let limit = Limit::new(1, SECOND_NS, 1).unwrap();
        let Answer::Admit(tat) = ask(&limit, 0, 100) else { panic!("an idle bucket admits") };
        let Answer::Refuse(wait) = ask(&limit, tat, 200) else { panic!("a full one refuses") };
        assert_eq!(wait, SECOND_NS - 100);
        assert!(matches!(ask(&limit, tat, 200 + wait), Answer::Admit(_)));
    }

    #[test]
    fn nonsense_is_no_limit() {
        for (requests, per, burst) in [(0, SECOND_NS, 1), (1, SECOND_NS, 0), (2, 1, 1)] {
            assert_eq!(Limit::new(requests, per, burst), None);
        }
        assert!(Limit::new(u64::MAX, u64::MAX, u64::MAX).is_some());
    }

    proptest! {
        /// In no window more than `burst + rate * window`, whatever the arrivals; and never fewer than a bucket of tokens.
        #[test]
        fn never_more_than_the_cap_and_as_many_as_a_token_bucket(
            requests in 1u64..100_000, burst in 1u64..50, gaps in proptest::collection::vec(0u64..50_000_000, 1..300),
        ) {
            let limit = Limit::new(requests, SECOND_NS, burst).unwrap();
            let mut now = SECOND_NS;
            let mut tat = 0;
            let mut tokens = u128::from(burst) * u128::from(limit.interval_ns);
            let full = tokens;
            let mut admitted = Vec::new();
            for gap in gaps {
                now += gap;
                tokens = (tokens + u128::from(gap)).min(full);
                let model = tokens >= u128::from(limit.interval_ns);
                match ask(&limit, tat, now) {
                    Answer::Admit(next) => {
                        prop_assert!(model);
                        tokens -= u128::from(limit.interval_ns);
                        tat = next;
                        admitted.push(now);
                    }
                    Answer::Refuse(wait) => {
                        prop_assert!(!model && wait > 0);
                        let back = matches!(ask(&limit, tat, now + wait), Answer::Admit(_));
                        prop_assert!(back);
                    }
                }
            }
            for (first, from) in admitted.iter().enumerate() {
                for (last, to) in admitted.iter().enumerate().skip(first) {
                    let most = burst + (to - from) / limit.interval_ns;
                    prop_assert!((last - first + 1) as u64 <= most);
                }
            }
        }
    }
}
