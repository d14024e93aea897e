//! Turns a [`Snapshot`] into the text exposition format, through one collector of the prometheus crate.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::time::Instant;

use anyhow::Context;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Registry, TextEncoder};

use super::METRICS;
use super::snapshot::{BOUNDS, Snapshot};
use crate::core::Denials;
use crate::view::Direction;

/// The text of one scrape.
///
/// # Errors
/// When the prometheus crate refuses what was collected, which a test rules out.
pub fn render(snapshot: &Snapshot) -> anyhow::Result<String> {
    let began = Instant::now();
    // a private registry per scrape: it holds nothing between scrapes and cannot be added to from elsewhere
    let registry = Registry::new();
    let once = Once { families: Mutex::new(Families::of(snapshot, began)), descs: descs()? };
    registry.register(Box::new(once)).context("registering the collector")?;
    let mut text = String::with_capacity(64 << 10);
    TextEncoder::new().encode_utf8(&registry.gather(), &mut text).context("encoding the metrics")?;
    Ok(text)
}

struct Once {
    families: Mutex<Vec<MetricFamily>>,
    descs: Vec<Desc>,
}

impl Collector for Once {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }
    fn collect(&self) -> Vec<MetricFamily> {
        self.families.lock().map(|mut families| std::mem::take(&mut *families)).unwrap_or_default()
    }
}

fn descs() -> prometheus::Result<Vec<Desc>> {
    let labels = |labels: &str| labels.split(',').filter(|l| !l.is_empty()).map(Into::into).collect();
    let desc = |(name, _, names, help): &(&str, &str, &str, &str)| {
        Desc::new((*name).into(), (*help).into(), labels(names), HashMap::new())
    };
    METRICS.iter().map(desc).collect()
}

/// Builds families in the order and with the words of [`METRICS`].
struct Families(BTreeMap<&'static str, Vec<Metric>>);

impl Families {
    fn of(snapshot: &Snapshot, began: Instant) -> Vec<MetricFamily> {
        let mut all = Self(BTreeMap::new());
        all.requests(snapshot);
        all.ledger(snapshot);
        all.caps(snapshot);
        all.own(snapshot);
        all.gauge("weir_scrape_seconds", &[], began.elapsed().as_secs_f64());
        all.finish()
    }

    fn requests(&mut self, snapshot: &Snapshot) {
        for series in &snapshot.requests {
            let status = series.status.to_string();
            let labels =
                [side(series.direction), &series.method, &series.route, &status, series.version.as_str()];
            self.counter("weir_http_requests_total", &labels, series.count as f64);
        }
        for series in &snapshot.durations {
            let labels = [side(series.direction), &series.method, &series.route];
            self.add("weir_http_request_duration_seconds", &labels, |metric| {
                let mut below = 0;
                let mut buckets = Vec::with_capacity(BOUNDS.len());
                for (bound, count) in BOUNDS.iter().zip(&series.buckets) {
                    below += count;
                    let mut bucket = Bucket::default();
                    bucket.set_upper_bound(*bound);
                    bucket.set_cumulative_count(below);
                    buckets.push(bucket);
                }
                let mut histogram = Histogram::default();
                histogram.set_sample_count(series.buckets.iter().sum());
                histogram.set_sample_sum(series.sum);
                histogram.set_bucket(buckets);
                metric.set_histogram(histogram);
            });
        }
        for series in &snapshot.identities {
            let labels = [side(series.direction), &series.identity, &series.kind];
            self.counter("weir_identity_requests_total", &labels, series.count as f64);
        }
        for (at, direction) in [Direction::Inbound, Direction::Outbound].into_iter().enumerate() {
            let labels = [side(direction)];
            let of = |counts: &[u64; 2]| counts.get(at).copied().unwrap_or_default() as f64;
            self.counter("weir_http_request_bytes_total", &labels, of(&snapshot.request_bytes));
            self.counter("weir_http_response_bytes_total", &labels, of(&snapshot.response_bytes));
            self.gauge("weir_http_requests_outstanding", &labels, of(&snapshot.outstanding));
            self.counter("weir_kernel_requests_total", &labels, of(&snapshot.kernel_requests));
        }
        self.gauge("weir_identities", &[], snapshot.identity_count as f64);
        self.gauge("weir_connections", &[], snapshot.connections as f64);
        self.gauge("weir_routes", &[], snapshot.routes as f64);
    }

    fn caps(&mut self, snapshot: &Snapshot) {
        for cap in &snapshot.caps {
            for (verdict, count) in [
                ("allow", cap.allowed),
                ("observe", cap.observed),
                ("shadow", cap.shadowed),
                ("deny", cap.denied),
            ] {
                self.counter("weir_cap_requests_total", &[&cap.name, verdict], count as f64);
            }
            self.gauge("weir_cap_limit", &[&cap.name], cap.per_second);
            self.gauge("weir_cap_burst", &[&cap.name], cap.burst as f64);
            if cap.top.is_empty() {
                self.gauge("weir_cap_utilization_ratio", &[&cap.name, ""], cap.used);
            }
            for (identity, used) in &cap.top {
                self.gauge("weir_cap_utilization_ratio", &[&cap.name, identity], *used);
            }
        }
        for (result, count) in snapshot.ended.iter().filter(|(result, _)| !result.is_empty()) {
            self.counter("weir_connections_ended_total", &[result], *count as f64);
        }
        let Denials { cap, access, credentials, framing } = snapshot.denials;
        for (reason, counts) in
            [("cap", cap), ("access", access), ("credentials", credentials), ("framing", framing)]
        {
            for (direction, count) in
                [(Direction::Inbound, counts.inbound), (Direction::Outbound, counts.outbound)]
            {
                self.counter("weir_denials_total", &[reason, side(direction)], count as f64);
            }
        }
    }

    fn ledger(&mut self, snapshot: &Snapshot) {
        self.counter("weir_events_total", &["produced"], snapshot.events.produced as f64);
        self.counter("weir_events_total", &["delivered"], snapshot.events.delivered as f64);
        for row in &snapshot.losses {
            self.counter("weir_events_lost_total", &[&row.stage, &row.reason], row.count as f64);
        }
        for (what, count) in &snapshot.observed {
            self.counter("weir_observed_total", &[what], *count as f64);
        }
        // probes of one library in many processes share name and target: one series for all of them
        let mut hooks = BTreeMap::new();
        for hook in &snapshot.hooks {
            let key = (hook.name.as_str(), hook.target.as_str(), hook.mandatory);
            *hooks.entry(key).or_insert(true) &= hook.attached;
        }
        for ((name, target, mandatory), attached) in hooks {
            let labels = [name, target, if mandatory { "true" } else { "false" }];
            self.gauge("weir_hooks", &labels, f64::from(u8::from(attached)));
        }
        let mut programs: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for program in &snapshot.programs {
            let sum = programs.entry(&program.name).or_default();
            *sum = (sum.0 + program.run_ns, sum.1 + program.runs);
        }
        for (name, (run_ns, runs)) in programs {
            self.counter("weir_bpf_run_seconds_total", &[name], run_ns as f64 / 1e9);
            self.counter("weir_bpf_runs_total", &[name], runs as f64);
        }
    }

    fn own(&mut self, snapshot: &Snapshot) {
        let flag = |flag: bool| f64::from(u8::from(flag));
        self.gauge("weir_drain_seconds", &[], snapshot.drain_age);
        self.gauge("weir_degraded", &[], snapshot.degraded as f64);
        self.gauge("weir_ready", &[], flag(snapshot.ready));
        self.gauge("weir_config_last_reload_successful", &[], flag(snapshot.reload_ok));
        self.gauge("weir_build_info", &[&snapshot.version, &snapshot.kernel, &snapshot.socket_hook], 1.0);
        self.gauge("process_start_time_seconds", &[], snapshot.started);
        let usage = crate::host::usage();
        self.gauge("process_resident_memory_bytes", &[], usage.resident_bytes as f64);
        self.counter("process_cpu_seconds_total", &[], usage.cpu_seconds);
        self.gauge("process_open_fds", &[], usage.open_fds as f64);
    }

    fn counter(&mut self, name: &'static str, labels: &[&str], value: f64) {
        self.add(name, labels, |metric| {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        });
    }

    fn gauge(&mut self, name: &'static str, labels: &[&str], value: f64) {
        self.add(name, labels, |metric| {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        });
    }

    fn add(&mut self, name: &'static str, values: &[&str], fill: impl FnOnce(&mut Metric)) {
        let Some((_, _, names, _)) = METRICS.iter().find(|(known, ..)| *known == name) else {
            debug_assert!(false, "{name} is not in METRICS");
            return;
        };
        let names = names.split(',').filter(|name| !name.is_empty());
        let labels = names.zip(values).map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.to_owned());
            pair.set_value(label(value));
            pair
        });
        let mut metric = Metric::from_label(labels.collect());
        fill(&mut metric);
        self.0.entry(name).or_default().push(metric);
    }

    fn finish(mut self) -> Vec<MetricFamily> {
        let family = |(name, kind, _, help): &(&'static str, &str, &str, &str)| {
            let metrics = self.0.remove(name)?;
            let mut family = MetricFamily::default();
            family.set_name((*name).to_owned());
            family.set_help((*help).to_owned());
            family.set_field_type(match *kind {
                "counter" => MetricType::COUNTER,
                "histogram" => MetricType::HISTOGRAM,
                _ => MetricType::GAUGE,
            });
            family.set_metric(metrics);
            Some(family)
        };
        METRICS.iter().filter_map(family).collect()
    }
}

fn side(direction: Direction) -> &'static str {
    match direction {
        Direction::Inbound => "inbound",
        Direction::Outbound => "outbound",
    }
}

/// Most bytes of a label's value.
const LABEL_BYTES: usize = 256;

/// A label's value without control characters and of bounded length; the encoder does the quoting.
fn label(value: &str) -> String {
    let mut clean = crate::output::escape(value);
    if clean.len() > LABEL_BYTES {
        let end = (0..=LABEL_BYTES).rev().find(|at| clean.is_char_boundary(*at)).unwrap_or_default();
        clean.truncate(end);
    }
    clean
}
