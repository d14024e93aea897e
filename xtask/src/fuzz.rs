//! `fuzz`: searches for bytes that break what reads bytes of others, with libFuzzer.
//!
//! Owns: how the targets in `fuzz/` are built (by the workspace's own compiler; nothing unstable is needed), where their
//! findings go and what is said about them. What must hold is said by the checks of the crates, whose tests replay
//! `fuzz/corpus`; nothing is written there.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cargo, process, setup, workspace};

/// Only what is built for it is instrumented: build scripts and macros are not, since a target is named.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// Edge counters, the table of their places and traced comparisons, as libFuzzer wants them, and all checks on.
const FLAGS: [&str; 8] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions=yes",
    "-Coverflow-checks=yes",
];
/// Longest inputs in bytes where fewer than libFuzzer's own 4096 do: one byte a read makes framing slow.
const SHORT: [(&str, u32); 3] = [("framing", 1024), ("siphash", 1024), ("reference", 64)];
/// Seconds after which one input is a finding.
const TIMEOUT: u32 = 10;
/// Lines of the log that a finding shows, and characters of each.
const SHOWN: (usize, usize) = (8, 400);

/// Arguments of `fuzz`.
#[derive(clap::Args)]
pub struct Args {
    /// Only this target.
    target: Option<String>,
    /// Seconds for each target.
    #[arg(long, default_value_t = 600)]
    seconds: u32,
}

/// The task itself. Every target runs, so that one report shows all findings.
pub fn run(args: &Args) -> Result<()> {
    let all = targets()?;
    let chosen = match &args.target {
        Some(name) if all.contains(name) => vec![name.clone()],
        Some(name) => bail!("no target {name:?}; there are {}", all.join(", ")),
        None => all,
    };
    build()?;
    let mut found = Vec::new();
    for name in chosen {
        if let Some(finding) = fuzz(&name, args.seconds)? {
            found.push(finding);
        }
    }
    if !found.is_empty() {
        bail!("{} found something\n\n{}", found.len(), found.join("\n\n"));
    }
    Ok(())
}

/// Names of the targets: the files in `fuzz/fuzz_targets`.
fn targets() -> Result<Vec<String>> {
    let folder = workspace::root().join("fuzz/fuzz_targets");
    let files = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let names = files.filter_map(|file| Some(file.ok()?.path().file_stem()?.to_str()?.to_owned()));
    let mut names: Vec<_> = names.collect();
    names.sort();
    Ok(names)
}

fn folder() -> PathBuf {
    workspace::target().join("fuzz")
}

fn build() -> Result<()> {
    setup::ensure(setup::Tier::Build)?;
    if process::find("c++").is_none() {
        bail!("`c++` is missing: libFuzzer is written in C++ (Debian: g++)");
    }
    let mut build = cargo::cargo();
    build.args(["build", "--release", "--locked", "--manifest-path", "fuzz/Cargo.toml", "--target", TRIPLE]);
    build.arg("--target-dir").arg(folder());
    process::run(build.env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}")))
}

/// Runs one target and prints what it did; returns what to do about a finding.
fn fuzz(name: &str, seconds: u32) -> Result<Option<String>> {
    let program = folder().join(TRIPLE).join("release").join(name);
    let [corpus, artifacts] = ["corpus", "artifacts"].map(|kind| folder().join(kind).join(name));
    for folder in [&corpus, &artifacts] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let log = folder().join(format!("{name}.log"));
    let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut command = Command::new(&program);
    command.current_dir(workspace::root()).env("RUST_BACKTRACE", "0").stderr(output);
    command.arg(format!("-max_total_time={seconds}")).arg(format!("-timeout={TIMEOUT}"));
    command.arg(format!("-artifact_prefix={}/", artifacts.display())).arg("-print_final_stats=1");
    if let Some((_, bytes)) = SHORT.iter().find(|(short, _)| *short == name) {
        command.arg(format!("-max_len={bytes}"));
    }
    // New inputs go to the first folder; the others are only read.
    command.arg(&corpus);
    let committed = Path::new("fuzz/corpus").join(name);
    if workspace::root().join(&committed).is_dir() {
        command.arg(&committed);
    }
    let status = command.status().with_context(|| format!("cannot start {}", program.display()))?;
    let said = fs::read(&log).with_context(|| format!("cannot read {}", log.display()))?;
    let said = String::from_utf8_lossy(&said);
    let Outcome { executions, coverage, features, artifact } = Outcome::read(&said);
    let verdict = if status.success() { "no finding" } else { "FINDING" };
    eprintln!(
        "fuzz: {name:<9} {executions:>11} executions, coverage {coverage}, features {features}: {verdict}"
    );
    if status.success() {
        return Ok(None);
    }
    let Some(artifact) = artifact else {
        bail!("{name} ended with {status}\n{}", reason(&said));
    };
    Ok(Some(format!(
        "{name}: {}\nreproduce it with\n  {} {artifact}\nmend it, and copy that file to {} under a name that says what it shows",
        reason(&said),
        program.display(),
        committed.display(),
    )))
}

/// What went wrong, as the log says it first.
fn reason(log: &str) -> String {
    let from = log.lines().position(|line| line.contains("panicked at") || line.contains("ERROR: libFuzzer"));
    let lines = log.lines().skip(from.unwrap_or_default()).take(SHOWN.0);
    lines.map(|line| line.chars().take(SHOWN.1).collect()).collect::<Vec<String>>().join("\n")
}

/// What a log says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    executions: u64,
    /// Edges that were reached.
    coverage: u64,
    /// Edges with how often, and comparisons.
    features: u64,
    /// The input that is a finding.
    artifact: Option<String>,
}

impl Outcome {
    /// Reads lines such as `#12 DONE   cov: 355 ft: 491 corp: 13/741b` and `stat::number_of_executed_units: 12`.
    fn read(log: &str) -> Self {
        let mut outcome = Self::default();
        for line in log.lines() {
            let mut words = line.split_whitespace();
            while let Some(word) = words.next() {
                let number = match word {
                    "stat::number_of_executed_units:" => &mut outcome.executions,
                    "cov:" => &mut outcome.coverage,
                    "ft:" => &mut outcome.features,
                    _ => continue,
                };
                if let Some(value) = words.next().and_then(|value| value.parse().ok()) {
                    *number = value;
                }
            }
            if let Some((_, path)) = line.split_once("Test unit written to ") {
                outcome.artifact = Some(path.trim().to_owned());
            }
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_read() {
        let log = "#22\tINITED cov: 355 ft: 491 corp: 13/741b exec/s: 0 rss: 27Mb\n\
                   #92549\tDONE   cov: 432 ft: 1042 corp: 258/13568b lim: 132 exec/s: 13221 rss: 28Mb\n\
                   stat::number_of_executed_units: 92549\n";
        let read = Outcome::read(log);
        assert_eq!(read, Outcome { executions: 92_549, coverage: 432, features: 1042, artifact: None });
        let log = "artifact_prefix='a/'; Test unit written to a/crash-1\n";
        assert_eq!(Outcome::read(log).artifact.as_deref(), Some("a/crash-1"));
    }

    #[test]
    fn every_target_is_declared() {
        let manifest = fs::read_to_string(workspace::root().join("fuzz/Cargo.toml")).unwrap();
        let targets = targets().unwrap();
        for name in &targets {
            assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
        }
        assert!(SHORT.iter().all(|(name, _)| targets.iter().any(|known| known == name)));
    }
}
