//! `test`: everything that proves Weir, in the order in which it fails fastest.
//!
//! The daemon is built once, as it is released: its unit tests, the integration tests and the virtual machines use that
//! build. `monitor-common` is tested with overflow checks, because its arithmetic meets hostile bytes first.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{cargo, setup, vm};

/// Arguments of `test`.
#[derive(clap::Args)]
pub struct Args {
    /// Use fewer requests.
    #[arg(long)]
    quick: bool,
    /// Leave out the virtual machines with the kernels 6.1 and 6.12.
    #[arg(long)]
    host_only: bool,
    /// Only tests whose name contains this; leaves out the virtual machines.
    filter: Option<String>,
}

/// The task itself. Every part runs, so that one report shows all that is wrong.
pub fn run(args: &Args) -> Result<()> {
    setup::ensure(setup::Tier::Servers)?;
    let start = Instant::now();
    let mut counts = Counts::default();
    let filter = args.filter.as_deref();
    let checked = &["test", "--locked", "--package", "monitor-common", "--package", "xtask"][..];
    counts.part("with overflow checks", checked, filter, &[])?;
    let requests = [("WEIR_TEST_REQUESTS", "10000")];
    let environment = if args.quick { &requests[..] } else { &[] };
    let released = &[
        "test",
        "--release",
        "--locked",
        "--package",
        "monitor",
        "--lib",
        "--test",
        "corpus",
        "--test",
        "integration",
    ][..];
    counts.part("as released", released, filter, environment)?;
    if !args.host_only && args.filter.is_none() {
        match setup::ensure(setup::Tier::Test) {
            Ok(()) => counts.machines(),
            Err(error) => {
                eprintln!("SKIPPED (1): the virtual machines cannot be set up: {error:#}");
                counts.skipped += 1;
            }
        }
    }
    counts.close(start)
}

/// What the test runners said.
#[derive(Default)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
    skipped: u64,
    broken: Vec<String>,
}

impl Counts {
    /// Runs cargo with `args` and adds up the result lines, passing everything on.
    fn part(
        &mut self,
        name: &str,
        args: &[&str],
        filter: Option<&str>,
        environment: &[(&str, &str)],
    ) -> Result<()> {
        eprintln!("test: {name}");
        let mut command = cargo::cargo();
        command.args(args).arg("--no-fail-fast").args(filter).envs(environment.iter().copied());
        self.watch(name, &mut command)
    }

    fn watch(&mut self, name: &str, command: &mut Command) -> Result<()> {
        let mut child =
            command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {name}"))?;
        let output = child.stdout.take().context("no output")?;
        for line in BufReader::new(output).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            eprintln!("{line}");
            self.read(&line);
        }
        if !child.wait()?.success() {
            self.broken.push(name.to_owned());
        }
        Ok(())
    }

    fn machines(&mut self) {
        for kernel in setup::kernels::ALL {
            match vm::test(kernel, &mut |line| self.read(line)) {
                Ok(()) => {}
                Err(error) => {
                    eprintln!("error: {error:#}");
                    self.broken.push(format!("kernel {}", kernel.name));
                }
            }
        }
    }

    /// Adds a line such as `test result: ok. 12 passed; 0 failed; 1 ignored; ...`.
    fn read(&mut self, line: &str) {
        if line.contains("SKIPPED (") {
            self.skipped += 1;
        }
        let Some((_, result)) = line.split_once("test result: ") else { return };
        for part in result.split(['.', ';']) {
            let Some((number, what)) = part.trim().split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }

    fn close(&self, start: Instant) -> Result<()> {
        let Self { passed, failed, ignored, skipped, broken } = self;
        let took = start.elapsed().as_secs();
        let verdict = if broken.is_empty() && *failed == 0 { "ok" } else { "FAILED" };
        eprintln!(
            "\ntest result: {verdict}. {passed} passed; {failed} failed; {ignored} ignored; {skipped} skipped; \
             finished in {} min {:02} s",
            took / 60,
            took % 60
        );
        if verdict != "ok" {
            bail!("failed: {}", broken.join(", "));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_added_up() {
        let mut counts = Counts::default();
        counts.read(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.10s",
        );
        counts.read("[6.1] test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out");
        counts.read("SKIPPED (1): node is not installed");
        counts.read("test harness::reads_numbers ... ok");
        assert_eq!((counts.passed, counts.failed, counts.ignored, counts.skipped), (15, 2, 1, 1));
    }
}
