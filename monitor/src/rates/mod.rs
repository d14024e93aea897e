//! Counting: totals, rates and latency of one identity, process or route.
//!
//! Owns: [`Tally`], the unit of aggregation, cheap to add to (no look-up, no allocation in the steady state) and small
//! while it is idle. Must not: know what it counts, or read a clock.

mod histogram;
mod series;

pub use histogram::Histogram;
pub use series::Series;

use crate::view::{Latency, Rates, Totals};

/// Nanoseconds in a second.
pub const SECOND_NS: u64 = 1_000_000_000;

/// One finished request, as far as counting goes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Second (monotonic) in which it finished.
    pub second: u32,
    /// Status code, 0 without an answer.
    pub status: u16,
    /// Bytes of head and body of the request.
    pub request_bytes: u64,
    /// Bytes of head and body of the response.
    pub response_bytes: u64,
    /// Time to the end of the response in ns; ignored without an answer.
    pub latency_ns: u64,
}

/// Totals of one thing that requests are counted for.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    requests: u64,
    status: [u64; 6],
    request_bytes: u64,
    response_bytes: u64,
    seconds: Series,
    minutes: Series,
    latency: Histogram,
}

impl Tally {
    /// Counts one request.
    pub fn add(&mut self, sample: &Sample) {
        self.requests += 1;
        if let Some(class) = self.status.get_mut(class(sample.status)) {
            *class += 1;
        }
        self.request_bytes = self.request_bytes.saturating_add(sample.request_bytes);
        self.response_bytes = self.response_bytes.saturating_add(sample.response_bytes);
        self.seconds.add(sample.second, 1);
        self.minutes.add(sample.second / 60, 1);
        if sample.status != 0 {
            self.latency.record(sample.latency_ns);
        }
    }

    /// Counts requests of which nothing but their number is known.
    pub fn add_lost(&mut self, second: u32, requests: u64) {
        self.requests += requests;
        self.status[0] += requests;
        let requests = u32::try_from(requests).unwrap_or(u32::MAX);
        self.seconds.add(second, requests);
        self.minutes.add(second / 60, requests);
    }

    /// Adds everything that `other` counted.
    pub fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        for (mine, theirs) in self.status.iter_mut().zip(other.status) {
            *mine += theirs;
        }
        self.request_bytes = self.request_bytes.saturating_add(other.request_bytes);
        self.response_bytes = self.response_bytes.saturating_add(other.response_bytes);
        self.seconds.merge(&other.seconds);
        self.minutes.merge(&other.minutes);
        self.latency.merge(&other.latency);
    }

    /// Requests counted.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Requests by class of status, as in [`Totals::status`].
    pub fn status(&self) -> [u64; 6] {
        self.status
    }

    /// Bytes of requests and of responses.
    pub fn bytes(&self) -> (u64, u64) {
        (self.request_bytes, self.response_bytes)
    }

    /// Frees what is older than any rate looks back.
    pub fn expire(&mut self, second: u32) {
        self.seconds.expire(second);
        self.minutes.expire(second / 60);
    }

    /// Requests per second at `second`, which is not over yet and counts only for the hour.
    pub fn rates(&self, second: u32) -> Rates {
        let over = |seconds: u32| {
            let sum = self.seconds.sum(second.saturating_sub(seconds), second.saturating_sub(1));
            if second == 0 { 0.0 } else { sum as f64 / f64::from(seconds) }
        };
        let minute = second / 60;
        let hour = self.minutes.sum(minute.saturating_sub(59), minute);
        Rates {
            s1: over(1),
            s10: over(10),
            m1: over(60),
            h1: hour as f64 / f64::from(59 * 60 + second % 60 + 1),
        }
    }

    /// The row that is shown.
    pub fn totals(&self, second: u32) -> Totals {
        let at = |share| self.latency.quantile(share).map(|ns| ns / SECOND_NS as f64);
        let latency = match (at(0.5), at(0.95), at(0.99)) {
            (Some(p50), Some(p95), Some(p99)) => Some(Latency { p50, p95, p99 }),
            _ => None,
        };
        Totals {
            requests: self.requests,
            status: self.status,
            request_bytes: self.request_bytes,
            response_bytes: self.response_bytes,
            rates: self.rates(second),
            latency,
        }
    }
}

/// Index into [`Totals::status`]; codes above 599 count as 5xx.
fn class(status: u16) -> usize {
    if status == 0 { 0 } else { usize::from(status / 100).clamp(1, 5) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(second: u32) -> Sample {
        Sample { second, status: 200, request_bytes: 10, response_bytes: 20, latency_ns: 1_000_000 }
    }

    fn near(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-9, "{got} is not {want}");
    }

    #[test]
    fn rates_are_of_complete_seconds() {
        let mut tally = Tally::default();
        for second in 1000..1100 {
            for _ in 0..5 {
                tally.add(&sample(second));
            }
        }
        let rates = tally.rates(1100);
        near(rates.s1, 5.0);
        near(rates.s10, 5.0);
        near(rates.m1, 5.0);
        near(rates.h1, 500.0 / f64::from(59 * 60 + 1100 % 60 + 1));
        near(tally.rates(1105).s1, 0.0);
        near(tally.rates(1105).s10, 2.5);
        near(tally.rates(9000).h1, 0.0);
    }

    #[test]
    fn merging_keeps_sums_and_rates() {
        let (mut one, mut two) = (Tally::default(), Tally::default());
        for second in 0..90 {
            if second % 2 == 0 { &mut one } else { &mut two }.add(&sample(second));
        }
        one.merge(&two);
        assert_eq!(one.requests(), 90);
        near(one.rates(90).m1, 1.0);
        assert_eq!(one.totals(90).status, [0, 0, 90, 0, 0, 0]);
        assert_eq!(one.bytes(), (900, 1800));
    }

    #[test]
    fn classes_cover_every_code() {
        for (status, want) in
            [(0, 0), (1, 1), (101, 1), (200, 2), (304, 3), (404, 4), (599, 5), (999, 5), (65535, 5)]
        {
            assert_eq!(class(status), want);
        }
    }
}
