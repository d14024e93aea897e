//! Routes: which template a request belongs to, and the counts of each.
//!
//! Owns: configured patterns, the templating heuristic, the bounded table of routes and the per-code counts that
//! `/metrics` needs. Must not: keep a query, or grow with the variety of paths, hosts, methods or codes.

mod method;
mod template;

pub use method::Method;
pub use template::template;

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;
use lru::LruCache;

use crate::parser::escape::escape;
use crate::rates::{Sample, Tally};
use crate::view::Direction;

/// Upper bounds of the duration histogram in ns: OpenTelemetry's buckets for HTTP durations. The last bucket is open.
pub const BUCKETS_NS: [u64; 14] = [
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    75_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    750_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    7_500_000_000,
    10_000_000_000,
];
/// Status that stands for all codes beyond the bound of one route.
pub const OTHER_STATUS: u16 = u16::MAX;
/// Most distinct (status, version) pairs counted apart on one route.
const CODES: usize = 48;
/// Paths whose route is remembered.
const CACHED: usize = 16_384;
/// Longest host that is kept.
const HOST_CHARS: usize = 128;
/// Route of what does not fit in the table.
pub const OTHER: &str = "_other";
/// Route of requests whose path was not seen.
pub const UNKNOWN: &str = "_unknown";
/// Route of requests that were not framed.
pub const UNFRAMED: &str = "_unframed";

/// Counts of one (status, version) pair of a route.
#[derive(Clone, Copy, Debug)]
pub struct Code {
    /// Status code, 0 without an answer, [`OTHER_STATUS`] beyond the bound.
    pub status: u16,
    /// HTTP/1.0.
    pub v10: bool,
    /// Requests.
    pub requests: u64,
}

/// One route: a template in one direction with one method, and for outbound the host.
#[derive(Clone, Debug)]
pub struct Route {
    /// Direction.
    pub direction: Direction,
    /// Method.
    pub method: Method,
    /// Host as named by the request, escaped; empty for inbound.
    pub host: Arc<str>,
    /// Template.
    pub template: Arc<str>,
    /// The latest workload that served or called it.
    pub workload: Option<Arc<str>>,
    /// Counts by status and version.
    pub codes: Vec<Code>,
    /// Requests by duration, by [`BUCKETS_NS`]; answered requests only.
    pub buckets: [u64; BUCKETS_NS.len() + 1],
    /// Sum of the durations of answered requests, in ns.
    pub sum_ns: u64,
    /// Totals.
    pub tally: Tally,
    configured: bool,
    generation: u32,
}

/// Index and generation of a route: stays valid when the route is folded, and then means `_other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteRef {
    at: u32,
    generation: u32,
}

/// What identifies a route before its template is known.
#[derive(Clone, Copy, Debug, Hash)]
pub struct Asked<'a> {
    /// Direction.
    pub direction: Direction,
    /// Method.
    pub method: Method,
    /// Host of an outbound request.
    pub host: &'a [u8],
    /// Path without query.
    pub path: Path<'a>,
}

/// The path of a request, as far as there is one.
#[derive(Clone, Copy, Debug, Hash)]
pub enum Path<'a> {
    /// It was seen.
    Seen(&'a [u8]),
    /// It was not: the route is [`UNKNOWN`] or [`UNFRAMED`].
    No(&'static str),
}

type Key = (Direction, Method, Arc<str>, Arc<str>);

/// The bounded table of routes.
pub struct Routes {
    patterns: matchit::Router<Arc<str>>,
    table: Vec<Route>,
    index: HashMap<Key, u32, RandomState>,
    cache: LruCache<u64, RouteRef, RandomState>,
    hasher: RandomState,
    limit: usize,
    /// Routes beyond the limit: at most one `_other` and one `_unknown` for each direction and method.
    spare: usize,
    folded: u64,
}

/// Checks that `patterns` are valid and do not contradict each other.
///
/// # Errors
/// The pattern and what is wrong with it.
pub fn validate(patterns: &[String]) -> Result<(), String> {
    let mut router = matchit::Router::new();
    for pattern in patterns {
        router.insert(pattern.as_str(), ()).map_err(|err| format!("route pattern {pattern:?}: {err}"))?;
    }
    Ok(())
}

impl Routes {
    /// An empty table of at most `limit` routes. Patterns that [`validate`] refuses are left out.
    pub fn new(patterns: &[String], limit: usize) -> Self {
        let mut routes = Self {
            patterns: matchit::Router::new(),
            table: Vec::new(),
            index: HashMap::default(),
            cache: LruCache::unbounded_with_hasher(RandomState::default()),
            hasher: RandomState::default(),
            limit,
            spare: 0,
            folded: 0,
        };
        routes.configure(patterns, limit);
        routes
    }

    /// Replaces the patterns; routes that were counted stay.
    pub fn configure(&mut self, patterns: &[String], limit: usize) {
        self.patterns = matchit::Router::new();
        for pattern in patterns {
            // what `validate` refuses, the configuration refused before
            let _ = self.patterns.insert(pattern.as_str(), Arc::from(pattern.as_str()));
        }
        self.limit = limit;
        self.cache.clear();
    }

    /// The route of a request, created when it is new and there is room.
    pub fn find(&mut self, asked: &Asked<'_>) -> RouteRef {
        let hash = self.hasher.hash_one(asked);
        if let Some(found) = self.cache.get(&hash).copied()
            && self.get(found).is_some()
        {
            return found;
        }
        let found = self.resolve(asked);
        if self.cache.len() >= CACHED {
            self.cache.pop_lru();
        }
        self.cache.put(hash, found);
        found
    }

    fn resolve(&mut self, asked: &Asked<'_>) -> RouteRef {
        let (template, configured) = match asked.path {
            Path::No(why) => (Arc::from(why), true),
            Path::Seen(path) => {
                let pattern = std::str::from_utf8(path).ok().and_then(|path| self.patterns.at(path).ok());
                match pattern {
                    Some(found) => (Arc::clone(found.value), true),
                    None => (Arc::from(template(path)), false),
                }
            }
        };
        if template.starts_with('_') {
            return self.spare(asked.direction, asked.method, template);
        }
        let host = Arc::from(escape(asked.host, HOST_CHARS).to_ascii_lowercase());
        let key = (asked.direction, asked.method, host, template);
        if let Some(at) = self.index.get(&key) {
            return self.reference(*at);
        }
        if self.table.len() - self.spare < self.limit {
            return self.insert(key, configured);
        }
        match self.worthless() {
            Some(at) => self.replace(at, key, configured),
            None => self.spare(asked.direction, asked.method, Arc::from(OTHER)),
        }
    }

    fn spare(&mut self, direction: Direction, method: Method, template: Arc<str>) -> RouteRef {
        let key = (direction, method, Arc::from(""), template);
        if let Some(at) = self.index.get(&key) {
            return self.reference(*at);
        }
        self.spare += 1;
        self.insert(key, true)
    }

    /// A route that never led anywhere (only refused or unanswered requests), which a scanner leaves behind: the one
    /// with the fewest requests.
    fn worthless(&self) -> Option<u32> {
        let led_nowhere = |route: &Route| {
            let [_, upgraded, ok, moved, _, failed] = route.tally.status();
            !route.configured && upgraded + ok + moved + failed == 0
        };
        let routes = self.table.iter().enumerate().filter(|(_, route)| led_nowhere(route));
        routes.min_by_key(|(_, route)| route.tally.requests()).map(|(at, _)| at as u32)
    }

    fn insert(&mut self, key: Key, configured: bool) -> RouteRef {
        let at = self.table.len() as u32;
        self.table.push(Route {
            direction: key.0,
            method: key.1,
            host: Arc::clone(&key.2),
            template: Arc::clone(&key.3),
            workload: None,
            codes: Vec::new(),
            buckets: [0; BUCKETS_NS.len() + 1],
            sum_ns: 0,
            tally: Tally::default(),
            configured,
            generation: 0,
        });
        self.index.insert(key, at);
        self.reference(at)
    }

    /// Folds the route at `at` into `_other` and gives its place to `key`.
    fn replace(&mut self, at: u32, key: Key, configured: bool) -> RouteRef {
        let fresh = self.insert(key.clone(), configured);
        // the new route is last; swapping keeps the table dense
        let Some(mut new) = self.table.pop() else { return fresh };
        let Some(old) = self.table.get_mut(at as usize) else { return fresh };
        new.generation = old.generation + 1;
        std::mem::swap(old, &mut new);
        self.index.insert(key, at);
        self.index.remove(&(new.direction, new.method, Arc::clone(&new.host), Arc::clone(&new.template)));
        self.folded += 1;
        let other = self.spare(new.direction, new.method, Arc::from(OTHER));
        if let Some(other) = self.get_mut(other) {
            other.absorb(&new);
        }
        self.reference(at)
    }

    fn reference(&self, at: u32) -> RouteRef {
        RouteRef { at, generation: self.table.get(at as usize).map_or(0, |route| route.generation) }
    }

    /// The route, `None` when it was folded.
    pub fn get(&self, route: RouteRef) -> Option<&Route> {
        self.table.get(route.at as usize).filter(|found| found.generation == route.generation)
    }

    fn get_mut(&mut self, route: RouteRef) -> Option<&mut Route> {
        self.table.get_mut(route.at as usize).filter(|found| found.generation == route.generation)
    }

    /// Counts a finished request. A route that was folded meanwhile is counted as `_other`.
    pub fn charge(
        &mut self,
        route: RouteRef,
        (direction, method): (Direction, Method),
        sample: &Sample,
        v10: bool,
        workload: &Arc<str>,
    ) {
        let route =
            if self.get(route).is_some() { route } else { self.spare(direction, method, Arc::from(OTHER)) };
        if let Some(route) = self.get_mut(route) {
            route.add(sample, v10, workload);
        }
    }

    /// All routes, in order of their appearance.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.table.iter()
    }

    /// Routes that were folded into `_other` to make room.
    pub fn folded(&self) -> u64 {
        self.folded
    }

    /// Frees what is older than any rate looks back.
    pub fn expire(&mut self, second: u32) {
        for route in &mut self.table {
            route.tally.expire(second);
        }
    }
}

impl Route {
    fn add(&mut self, sample: &Sample, v10: bool, workload: &Arc<str>) {
        self.tally.add(sample);
        self.count(sample.status, v10, 1);
        if sample.status != 0 {
            let bucket = BUCKETS_NS.partition_point(|bound| *bound < sample.latency_ns);
            if let Some(count) = self.buckets.get_mut(bucket) {
                *count += 1;
            }
            self.sum_ns = self.sum_ns.saturating_add(sample.latency_ns);
        }
        if !self.workload.as_ref().is_some_and(|known| Arc::ptr_eq(known, workload)) {
            self.workload = Some(Arc::clone(workload));
        }
    }

    fn count(&mut self, status: u16, v10: bool, requests: u64) {
        let full = self.codes.len() >= CODES;
        if let Some(code) = self.codes.iter_mut().find(|code| code.status == status && code.v10 == v10) {
            code.requests += requests;
        } else if full && status != OTHER_STATUS {
            self.count(OTHER_STATUS, v10, requests);
        } else {
            self.codes.push(Code { status, v10, requests });
        }
    }

    fn absorb(&mut self, other: &Self) {
        self.tally.merge(&other.tally);
        for code in &other.codes {
            self.count(code.status, code.v10, code.requests);
        }
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets) {
            *mine += theirs;
        }
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(path: &str) -> Asked<'_> {
        Asked {
            direction: Direction::Inbound,
            method: Method::new(b"GET"),
            host: b"",
            path: Path::Seen(path.as_bytes()),
        }
    }

    fn hit(routes: &mut Routes, path: &str, status: u16) {
        let found = routes.find(&ask(path));
        let sample = Sample { second: 1, status, ..Sample::default() };
        routes.charge(found, (Direction::Inbound, Method::new(b"GET")), &sample, false, &Arc::from("exe:/x"));
    }

    fn count(routes: &Routes, template: &str) -> u64 {
        routes.iter().filter(|route| &*route.template == template).map(|route| route.tally.requests()).sum()
    }

    #[test]
    fn patterns_come_before_the_heuristic() {
        let mut routes = Routes::new(&["/v1/users/{name}".to_owned(), "/static/{*rest}".to_owned()], 10);
        for path in ["/v1/users/alice", "/v1/users/bob", "/static/a/b", "/v1/orders/7"] {
            hit(&mut routes, path, 200);
        }
        assert_eq!(count(&routes, "/v1/users/{name}"), 2);
        assert_eq!(count(&routes, "/static/{*rest}"), 1);
        assert_eq!(count(&routes, "/v1/orders/{id}"), 1);
        assert!(validate(&["/a/{b}".to_owned(), "/a/{c}".to_owned()]).unwrap_err().contains("/a/{c}"));
    }

    #[test]
    fn a_scanner_cannot_crowd_out_real_routes_and_totals_stay() {
        let mut routes = Routes::new(&[], 20);
        for at in 0..1000 {
            hit(&mut routes, &format!("/scan-{at}-x"), 404);
        }
        hit(&mut routes, "/real", 200);
        for at in 0..1000 {
            hit(&mut routes, &format!("/more-{at}-x"), 404);
        }
        hit(&mut routes, "/real", 200);
        assert_eq!(count(&routes, "/real"), 2);
        assert!(routes.iter().count() <= 20 + 2);
        assert_eq!(routes.iter().map(|route| route.tally.requests()).sum::<u64>(), 2002);
        let codes: u64 = routes.iter().flat_map(|route| &route.codes).map(|code| code.requests).sum();
        assert_eq!(codes, 2002);
    }

    #[test]
    fn real_routes_beyond_the_bound_are_other() {
        let mut routes = Routes::new(&[], 5);
        for at in 0..50 {
            hit(&mut routes, &format!("/page-{at}-x"), 200);
        }
        assert_eq!(count(&routes, OTHER), 45);
    }

    #[test]
    fn codes_of_a_route_are_bounded() {
        let mut routes = Routes::new(&[], 5);
        for status in 100..900 {
            hit(&mut routes, "/", status);
        }
        let route = routes.iter().next().unwrap();
        assert!(route.codes.len() <= CODES + 2);
        assert_eq!(route.codes.iter().map(|code| code.requests).sum::<u64>(), 800);
    }
}
