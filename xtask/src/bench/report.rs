//! From slots to the table, and to JSON.

use anyhow::Result;
use serde::Serialize;

use super::stats::{Estimate, estimate};
use super::variant::Variant;

/// What one slot measured.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// What was attached.
    pub variant: Variant,
    /// In which round.
    pub round: u32,
    /// Server's time per request in microseconds.
    pub server_us: f64,
    /// Load generator's time per request in microseconds.
    pub client_us: f64,
    /// Requests per second.
    pub per_second: f64,
    /// 99th percentile of the latency in microseconds.
    pub p99_us: f64,
    /// Daemon's time per request in microseconds.
    pub daemon_us: Option<f64>,
    /// Events that the daemon reports as lost.
    pub lost: Option<f64>,
}

/// One variant under one load. Comparisons are with the `off` slot of the same round.
#[derive(Debug, Serialize)]
pub struct Row {
    variant: &'static str,
    server_us_per_request: Option<Estimate>,
    server_us_added: Option<Estimate>,
    throughput_per_second: Option<Estimate>,
    throughput_kept: Option<Estimate>,
    p99_latency_us: Option<Estimate>,
    client_us_per_request: Option<Estimate>,
    over_observing: Option<Difference>,
    daemon_us_per_request: Option<Estimate>,
    events_lost: Option<f64>,
}

/// What a variant takes more per request than Weir that only observes, in the same round.
#[derive(Debug, Serialize)]
pub struct Difference {
    server_us: Estimate,
    /// With the load generator's time, which a packet that comes in may be charged to.
    both_ends_us: Estimate,
}

/// One load.
#[derive(Debug, Serialize)]
pub struct Section {
    workload: &'static str,
    rows: Vec<Row>,
    /// Cost of Weir as a multiple of the copy floor of the same run.
    weir_to_copy_floor: Option<f64>,
    /// Throughput that Weir leaves as a multiple of what the conventional build leaves.
    weir_to_conventional: Option<f64>,
}

/// The whole run.
#[derive(Debug, Serialize)]
pub struct Report {
    kernel: String,
    processors: usize,
    /// Whether the kernel timed every run of every program meanwhile, which makes them all look dearer.
    bpf_statistics: bool,
    rounds: u32,
    seconds_per_slot: u32,
    sections: Vec<Section>,
}

impl Section {
    /// Evaluates the samples of one load.
    pub fn new(workload: &'static str, variants: &[Variant], samples: &[Sample]) -> Self {
        let rows = variants.iter().map(|variant| Row::new(*variant, samples)).collect::<Vec<_>>();
        let find = |variant: Variant| rows.iter().find(|row| row.variant == variant.name());
        let added = |variant| Some(find(variant)?.server_us_added?.median);
        let kept = |variant| Some(find(variant)?.throughput_kept?.median);
        let ratio = |over: Option<f64>, under: Option<f64>| {
            over.zip(under).map(|(over, under)| over / under).filter(|ratio| ratio.is_finite())
        };
        let weir_to_copy_floor = ratio(added(Variant::Weir), added(Variant::Copy));
        let weir_to_conventional = ratio(kept(Variant::Weir), kept(Variant::Conventional));
        Self { workload, rows, weir_to_copy_floor, weir_to_conventional }
    }
}

impl Row {
    fn new(variant: Variant, samples: &[Sample]) -> Self {
        let own = || samples.iter().filter(|sample| sample.variant == variant);
        let of = |variant: Variant, round| {
            samples.iter().find(|sample| sample.variant == variant && sample.round == round)
        };
        let off = |round| of(Variant::Off, round);
        let each =
            |value: &dyn Fn(&Sample) -> Option<f64>| estimate(&own().filter_map(value).collect::<Vec<_>>());
        let compared = |value: &dyn Fn(&Sample, &Sample) -> f64| {
            (variant != Variant::Off)
                .then(|| each(&|sample| Some(value(sample, off(sample.round)?))))
                .flatten()
        };
        let over = |value: &dyn Fn(&Sample) -> f64| {
            each(&|sample| Some(value(sample) - value(of(variant.base()?, sample.round)?)))
        };
        let server = over(&|sample| sample.server_us);
        let both = over(&|sample| sample.server_us + sample.client_us);
        Self {
            variant: variant.name(),
            server_us_per_request: each(&|sample| Some(sample.server_us)),
            server_us_added: compared(&|sample, off| sample.server_us - off.server_us),
            throughput_per_second: each(&|sample| Some(sample.per_second)),
            throughput_kept: compared(&|sample, off| sample.per_second / off.per_second),
            p99_latency_us: each(&|sample| Some(sample.p99_us)),
            client_us_per_request: each(&|sample| Some(sample.client_us)),
            over_observing: server
                .zip(both)
                .map(|(server_us, both_ends_us)| Difference { server_us, both_ends_us }),
            daemon_us_per_request: each(&|sample| sample.daemon_us),
            events_lost: own().filter_map(|sample| sample.lost).reduce(|sum, lost| sum + lost),
        }
    }

    fn cells(&self) -> [String; CELLS] {
        [
            self.variant.to_owned(),
            plain(self.server_us_per_request, 2),
            ranged(self.server_us_added, 2),
            plain(self.throughput_per_second, 0),
            ranged(self.throughput_kept, 3),
            plain(self.p99_latency_us, 0),
            plain(self.client_us_per_request, 2),
            plain(self.daemon_us_per_request, 2),
            self.events_lost.map_or_else(|| "-".into(), |lost| format!("{lost:.0}")),
        ]
    }
}

impl Row {
    fn said_over_observing(&self) -> Option<String> {
        let Difference { server_us, both_ends_us } = self.over_observing.as_ref()?;
        Some(format!(
            "  {} takes {} us per request more than observing alone on the server, {} us on both ends",
            self.variant,
            ranged(Some(*server_us), 2),
            ranged(Some(*both_ends_us), 2)
        ))
    }
}

impl Report {
    /// Adds what the figures depend on.
    pub fn new(rounds: u32, seconds_per_slot: u32, sections: Vec<Section>) -> Self {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let processors = std::thread::available_parallelism().map_or(0, usize::from);
        let statistics = std::fs::read_to_string("/proc/sys/kernel/bpf_stats_enabled").unwrap_or_default();
        Self {
            kernel: kernel.trim().to_owned(),
            processors,
            bpf_statistics: statistics.trim() == "1",
            rounds,
            seconds_per_slot,
            sections,
        }
    }

    /// For machines.
    pub fn json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// For people.
    pub fn table(&self) -> String {
        let Self { kernel, processors, bpf_statistics, rounds, seconds_per_slot, sections } = self;
        let mut lines = vec![format!(
            "kernel {kernel}, {processors} processors, {rounds} rounds, slots of {seconds_per_slot} s; \
             medians [95% interval]"
        )];
        if *bpf_statistics {
            lines.push(
                "kernel.bpf_stats_enabled is 1: every run of a program costs more than it does without"
                    .into(),
            );
        }
        for section in sections {
            lines.push(format!("\n{}", section.workload));
            lines.push(line(&HEAD.map(Into::into)));
            lines.extend(section.rows.iter().map(|row| line(&row.cells())));
            lines.extend(section.rows.iter().filter_map(Row::said_over_observing));
            if let Some(ratio) = section.weir_to_copy_floor {
                lines.push(format!("  weir costs {ratio:.2} x the copy floor"));
            }
            if let Some(ratio) = section.weir_to_conventional {
                lines.push(format!(
                    "  weir leaves {ratio:.2} x the throughput that the conventional build leaves"
                ));
            }
        }
        lines.join("\n") + "\n"
    }
}

/// Columns of the table.
const CELLS: usize = 9;
const HEAD: [&str; CELLS] = [
    "attached",
    "us/request",
    "added us",
    "request/s",
    "throughput kept",
    "p99 us",
    "client us",
    "daemon us",
    "lost",
];

fn line(cells: &[String; CELLS]) -> String {
    let [name, rest @ ..] = cells;
    let widths = [10, 21, 10, 22, 8, 10, 10, 6];
    let cells = rest.iter().zip(widths).map(|(cell, width)| format!(" {cell:>width$}"));
    format!("  {name:<18}{}", cells.collect::<String>())
}

fn plain(estimate: Option<Estimate>, digits: usize) -> String {
    estimate.map_or_else(|| "-".into(), |estimate| format!("{:.digits$}", estimate.median))
}

fn ranged(estimate: Option<Estimate>, digits: usize) -> String {
    estimate.map_or_else(
        || "-".into(),
        |Estimate { median, low, high }| format!("{median:.digits$} [{low:.digits$}, {high:.digits$}]"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(variant: Variant, round: u32, server_us: f64, per_second: f64) -> Sample {
        Sample {
            variant,
            round,
            server_us,
            client_us: 1.0,
            per_second,
            p99_us: 1.0,
            daemon_us: None,
            lost: None,
        }
    }

    #[test]
    fn a_round_is_compared_with_its_own_off_slot() {
        let samples = [
            sample(Variant::Off, 0, 5.0, 100.0),
            sample(Variant::Weir, 0, 6.0, 95.0),
            sample(Variant::Off, 1, 9.0, 50.0),
            sample(Variant::Weir, 1, 10.0, 47.5),
        ];
        let section = Section::new("x", &[Variant::Off, Variant::Weir], &samples);
        let weir = &section.rows[1];
        assert!((weir.server_us_added.unwrap().median - 1.0).abs() < 1e-9);
        assert!((weir.throughput_kept.unwrap().median - 0.95).abs() < 1e-9);
        assert!(section.rows[0].server_us_added.is_none());
        assert!(section.weir_to_copy_floor.is_none());
        assert!(weir.over_observing.is_none());
    }

    #[test]
    fn caps_are_compared_with_observing_alone() {
        let mut samples = [
            sample(Variant::Off, 0, 5.0, 100.0),
            sample(Variant::ServerOnly, 0, 6.0, 95.0),
            sample(Variant::Caps, 0, 6.25, 94.0),
        ];
        samples[2].client_us = 1.5;
        let section = Section::new("x", &[Variant::Off, Variant::Caps], &samples);
        let over = section.rows[1].over_observing.as_ref().unwrap();
        assert!((over.server_us.median - 0.25).abs() < 1e-9);
        assert!((over.both_ends_us.median - 0.75).abs() < 1e-9);
        assert!(section.rows[0].over_observing.is_none());
    }
}
