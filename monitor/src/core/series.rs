//! Series for `/metrics`, made at each scrape; the sums are exact.

use std::collections::HashMap;

use super::views::version;
use super::{ByDirection, Core};
use crate::identity::Kind;
use crate::route::{BUCKETS_NS, Route};
use crate::view::Direction;

/// One series of `weir_http_requests_total`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestSeries {
    /// Direction.
    pub direction: Direction,
    /// Method label.
    pub method: &'static str,
    /// Route template; `_lost` for requests that were counted in the kernel only.
    pub route: String,
    /// Status code, 0 without an answer, [`crate::route::OTHER_STATUS`] beyond the bound.
    pub status: u16,
    /// `1.0` or `1.1`, empty when not known.
    pub version: &'static str,
    /// Requests.
    pub requests: u64,
}

/// One series of the duration histogram.
#[derive(Clone, Debug, PartialEq)]
pub struct DurationSeries {
    /// Direction.
    pub direction: Direction,
    /// Method label.
    pub method: &'static str,
    /// Route template.
    pub route: String,
    /// Answered requests by [`BUCKETS_NS`], not cumulative; the last bucket is open.
    pub buckets: [u64; BUCKETS_NS.len() + 1],
    /// Sum of the durations in seconds.
    pub sum: f64,
    /// Bytes of requests.
    pub request_bytes: u64,
    /// Bytes of responses.
    pub response_bytes: u64,
}

/// One series of `weir_identity_requests_total`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentitySeries {
    /// Direction.
    pub direction: Direction,
    /// Identity string.
    pub identity: String,
    /// Kind.
    pub kind: &'static str,
    /// Requests.
    pub requests: u64,
}

impl Core {
    /// Series of `weir_http_requests_total`: their sum is [`super::Summary::finished`] plus [`super::Summary::lost`].
    pub fn request_series(&self) -> Vec<RequestSeries> {
        let mut series: HashMap<(Direction, &'static str, &str, u16, bool), u64> = HashMap::new();
        for route in self.routes.iter() {
            for code in &route.codes {
                let key = (route.direction, route.method.label(), &*route.template, code.status, code.v10);
                *series.entry(key).or_default() += code.requests;
            }
        }
        let counted =
            series.into_iter().map(|((direction, method, route, status, v10), requests)| RequestSeries {
                direction,
                method,
                route: route.to_owned(),
                status,
                version: version(v10),
                requests,
            });
        let lost = [(Direction::Inbound, self.lost.inbound), (Direction::Outbound, self.lost.outbound)];
        let lost = lost.into_iter().filter(|(_, requests)| *requests > 0).map(|(direction, requests)| {
            RequestSeries {
                direction,
                method: "_OTHER",
                route: "_lost".to_owned(),
                status: 0,
                version: "",
                requests,
            }
        });
        counted.chain(lost).collect()
    }

    /// Series of the duration histogram and of the bytes, one for each direction, method and route.
    pub fn duration_series(&self) -> Vec<DurationSeries> {
        let mut series: HashMap<(Direction, &'static str, &str), DurationSeries> = HashMap::new();
        let empty = |route: &Route| DurationSeries {
            direction: route.direction,
            method: route.method.label(),
            route: route.template.to_string(),
            buckets: [0; BUCKETS_NS.len() + 1],
            sum: 0.0,
            request_bytes: 0,
            response_bytes: 0,
        };
        for route in self.routes.iter().filter(|route| route.tally.requests() > 0) {
            let key = (route.direction, route.method.label(), &*route.template);
            let one = series.entry(key).or_insert_with(|| empty(route));
            for (mine, theirs) in one.buckets.iter_mut().zip(route.buckets) {
                *mine += theirs;
            }
            one.sum += route.sum_ns as f64 / 1e9;
            let (request_bytes, response_bytes) = route.tally.bytes();
            one.request_bytes = one.request_bytes.saturating_add(request_bytes);
            one.response_bytes = one.response_bytes.saturating_add(response_bytes);
        }
        series.into_values().collect()
    }

    /// Series of `weir_identity_requests_total`: the named ones and the `limit` heaviest by themselves, the rest as
    /// `other`. Their sum is [`super::Summary::finished`] plus [`super::Summary::lost`].
    pub fn identity_series(&self, limit: usize) -> Vec<IdentitySeries> {
        let mut rest = ByDirection {
            inbound: self.finished.inbound + self.lost.inbound,
            outbound: self.finished.outbound + self.lost.outbound,
        };
        let mut series: HashMap<(Direction, Kind, String), u64> = HashMap::new();
        let named = self.named_rows().map(|(row, name)| (row, name.to_owned()));
        let plain = self.unnamed_rows(limit).map(|row| (row, row.id.text(row.label.as_deref())));
        for (row, identity) in named.chain(plain) {
            *rest.get_mut(row.id.direction) -= row.tally.requests();
            *series.entry((row.id.direction, row.id.kind, identity)).or_default() += row.tally.requests();
        }
        for (direction, requests) in
            [(Direction::Inbound, rest.inbound), (Direction::Outbound, rest.outbound)]
        {
            if requests > 0 {
                *series.entry((direction, Kind::Other, "other".to_owned())).or_default() += requests;
            }
        }
        let series = series.into_iter();
        series
            .map(|((direction, kind, identity), requests)| {
                let kind = kind.label();
                IdentitySeries { direction, identity, kind, requests }
            })
            .collect()
    }
}
