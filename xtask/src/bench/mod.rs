//! `bench`: what observing costs the observed program.
//!
//! Method: a closed loop of 32 keep-alive connections on an nginx with one worker. In every round each variant has one
//! slot, in an order that rotates from round to round, so that a drift of the machine meets all of them alike. A round
//! compares a variant only with the `off` slot of the same round; the report is the median over the rounds with its
//! bootstrap interval. The `off again` row shows the noise: an effect counts only outside of it.
//!
//! With `--caps` the block is another one: what caps add to plaintext requests that are allowed. The variants with caps are
//! compared with the slot of the same round in which Weir observed the server and nothing was capped; the load's own credential
//! is one of 10,000 capped ones ([`caps`]), and its requests must all have been charged to the cap. Packets are judged
//! where they come in, which on loopback is the sender's time: the difference is given for the server and for both ends.

mod caps;
mod cpu;
mod daemon;
mod load;
mod report;
mod stats;
mod variant;

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::{cargo, process, setup, workspace};
use load::{Server, Workload};
use report::Sample;
use variant::Variant;

/// Arguments of `bench`.
#[derive(clap::Args)]
pub struct Args {
    /// Rounds; every variant has one slot in each.
    #[arg(long, default_value_t = 15)]
    rounds: u32,
    /// Seconds of load in a slot.
    #[arg(long, default_value_t = 2)]
    seconds: u32,
    /// Only see that everything works: 2 rounds of 1 second.
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,
    /// What caps add to requests that are allowed, instead of what observing costs.
    #[arg(long)]
    caps: bool,
    /// Print JSON instead of the table.
    #[arg(long)]
    json: bool,
}

/// The task itself.
pub fn run(args: &Args) -> Result<()> {
    setup::ensure(setup::Tier::Servers)?;
    if !process::is_root() {
        bail!("the benchmark attaches to the kernel: it needs root");
    }
    cargo::build()?;
    let (rounds, seconds) = if args.quick { (2, 1) } else { (args.rounds.max(1), args.seconds.max(1)) };
    let (variants, workloads) = if args.caps {
        (Variant::CAPPING, &[Workload::Plain][..])
    } else {
        (Variant::OBSERVING, &Workload::ALL[..])
    };
    let (variants, absent): (Vec<_>, Vec<_>) =
        variants.iter().copied().partition(|variant: &Variant| variant.is_available());
    for variant in absent {
        eprintln!("bench: left out, this build has no such hooks: {}", variant.name());
    }
    let mut sections = Vec::new();
    for &workload in workloads {
        let samples = measure(workload, &variants, rounds, seconds)?;
        sections.push(report::Section::new(workload.name(), &variants, &samples));
    }
    let report = report::Report::new(rounds, seconds, sections);
    let text = if args.json { report.json()? } else { report.table() };
    std::io::stdout().write_all(text.as_bytes()).context("cannot print the report")
}

fn measure(workload: Workload, variants: &[Variant], rounds: u32, seconds: u32) -> Result<Vec<Sample>> {
    let folder = Folder::new(workload)?;
    let mut server = Server::start(workload, &folder.0)?;
    server.load(1).context("the first load, not measured")?;
    let mut samples = Vec::new();
    for round in 0..rounds {
        eprintln!("bench: {}, round {} of {rounds}", workload.name(), round + 1);
        let mut order = variants.to_vec();
        order.rotate_left(round as usize % variants.len());
        for variant in order {
            let sample = slot(&mut server, variant, round, seconds, &folder)
                .with_context(|| format!("{}, {}", workload.name(), variant.name()))?;
            samples.push(sample);
        }
    }
    server.stop()?;
    Ok(samples)
}

fn slot(server: &mut Server, variant: Variant, round: u32, seconds: u32, folder: &Folder) -> Result<Sample> {
    let attached = variant.attach(&folder.0, server.port())?;
    let daemon = attached.daemon();
    let before = daemon.map(daemon::Daemon::on_cpu_ns).transpose()?;
    let run = server.load(seconds)?;
    let after = daemon.map(daemon::Daemon::on_cpu_ns).transpose()?;
    let counter = |name, label| daemon.map(|daemon| daemon.counter(name, label)).transpose();
    let lost = counter("weir_events_lost_total", "")?;
    daemon.map(|daemon| variant.check(daemon, run.requests)).transpose()?;
    attached.detach()?;
    let requests = run.requests as f64;
    Ok(Sample {
        variant,
        round,
        server_us: run.server_ns as f64 / 1e3 / requests,
        client_us: run.client_ns as f64 / 1e3 / requests,
        per_second: run.per_second,
        p99_us: run.p99_us,
        daemon_us: before.zip(after).map(|(before, after)| (after - before) as f64 / 1e3 / requests),
        lost,
    })
}

/// A folder that is removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new(workload: Workload) -> Result<Self> {
        let path = workspace::target().join(format!("bench/{}-{workload:?}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
