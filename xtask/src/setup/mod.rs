//! `setup`: everything that building and testing need, installed once, checked quickly afterwards.
//!
//! Owns the order of the steps and the messages. Installs only on Debian 12, where every package is known;
//! elsewhere it says what to install. It never touches what is already there, and starts no service.

mod apt;
pub mod kernels;
mod linker;
mod needs;
mod python;

use anyhow::{Result, bail};

use needs::Need;
pub use needs::Tier;

/// Arguments of `setup`.
#[derive(clap::Args)]
pub struct Args {
    /// Only what this purpose needs.
    #[arg(long, value_enum, default_value = "test")]
    tier: Tier,
    /// Say what is missing and install nothing.
    #[arg(long)]
    check: bool,
}

/// The task itself.
pub fn run(args: &Args) -> Result<()> {
    if args.check {
        let missing = missing(args.tier);
        if missing.is_empty() {
            eprintln!("setup: complete");
            return Ok(());
        }
        bail!("{}", advice(&missing));
    }
    ensure(args.tier)?;
    eprintln!("setup: complete");
    Ok(())
}

/// Installs what `tier` needs and is not there yet. Silent when there is nothing to do.
pub fn ensure(tier: Tier) -> Result<()> {
    let missing = missing(tier);
    if missing.is_empty() {
        return Ok(());
    }
    if !apt::is_debian_12() {
        bail!("{}", advice(&missing));
    }
    let packages = missing.iter().filter_map(Missing::package).collect::<Vec<_>>();
    if !packages.is_empty() {
        apt::install(&packages)?;
    }
    for missing in &missing {
        match missing {
            Missing::Need(need) if !need.is_met() => {
                bail!("package {} is installed, but {} is still missing", need.package, need.name)
            }
            Missing::Need(_) => {}
            Missing::Linker => linker::install()?,
            Missing::PythonServers => python::install()?,
            Missing::Kernel(kernel) => kernels::fetch(kernel)?,
        }
    }
    Ok(())
}

/// Something that has to be installed.
enum Missing {
    Need(&'static Need),
    Linker,
    PythonServers,
    Kernel(&'static kernels::Kernel),
}

impl Missing {
    fn package(&self) -> Option<&'static str> {
        match self {
            Self::Need(need) => Some(need.package),
            Self::Linker | Self::PythonServers | Self::Kernel(_) => None,
        }
    }
}

fn missing(tier: Tier) -> Vec<Missing> {
    let debian = apt::is_debian_12();
    let needs = needs::ALL.iter().filter(|need| need.tier <= tier && (debian || !need.debian_only));
    let mut missing = needs.filter(|need| !need.is_met()).map(Missing::Need).collect::<Vec<_>>();
    if !linker::is_installed() {
        missing.push(Missing::Linker);
    }
    if tier >= Tier::Servers && !python::is_installed() {
        missing.push(Missing::PythonServers);
    }
    if tier >= Tier::Test {
        missing.extend(kernels::ALL.iter().filter(|kernel| !kernel.is_there()).map(Missing::Kernel));
    }
    missing
}

/// What a person has to install.
fn advice(missing: &[Missing]) -> String {
    let mut lines = vec!["missing:".to_owned()];
    lines.extend(missing.iter().map(|missing| match missing {
        Missing::Need(need) => format!("  {:<20} {} (Debian 12: {})", need.name, need.why, need.package),
        Missing::Linker => {
            format!("  {:<20} links the kernel-side programs ({})", "bpf-linker", linker::COMMAND)
        }
        Missing::PythonServers => {
            format!("  {:<20} servers under test, at {}", "Python packages", python::environment().display())
        }
        Missing::Kernel(kernel) => {
            format!(
                "  {:<20} kernel image for the virtual machine, at {}",
                kernel.name,
                kernel.image().display()
            )
        }
    }));
    let packages = missing.iter().filter_map(Missing::package).collect::<Vec<_>>();
    if apt::is_debian_12() {
        lines.push("`cargo xtask setup`, as root, installs all of it".into());
    } else if !packages.is_empty() {
        lines.push("install these with your package manager, then run the task again".into());
    }
    lines.join("\n")
}
