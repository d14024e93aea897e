//! `package`: a Debian package of the released daemon.
//!
//! Owns which file goes where; the files themselves are in `packaging/`. `dpkg-deb` is the only tool it needs.

mod trial;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cargo, process, setup, workspace};

/// Arguments of `package`.
#[derive(clap::Args)]
pub struct Args {
    /// Also install, remove and purge the package on a throw-away copy of this system, as root.
    #[arg(long)]
    check: bool,
}

/// Version of every crate of the workspace, and of the package.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Files of `packaging/` and their places.
const FILES: &[(&str, &str, u32)] = &[
    ("packaging/weir.service", "lib/systemd/system/weir.service", 0o644),
    ("packaging/sysusers.conf", "usr/lib/sysusers.d/weir.conf", 0o644),
    ("packaging/weir.toml", "etc/weir/weir.toml", 0o640),
    ("LICENSE-MIT", "usr/share/doc/weir/LICENSE-MIT", 0o644),
    ("LICENSE-APACHE", "usr/share/doc/weir/LICENSE-APACHE", 0o644),
    ("LICENSE-GPL", "usr/share/doc/weir/LICENSE-GPL", 0o644),
];
/// Files that belong to the administrator once installed.
const CONFIGURATION: &str = "/etc/weir/weir.toml\n";
/// Completions that the daemon prints itself, by shell.
const COMPLETIONS: &[(&str, &str)] = &[
    ("bash", "usr/share/bash-completion/completions/weir"),
    ("zsh", "usr/share/zsh/vendor-completions/_weir"),
    ("fish", "usr/share/fish/vendor_completions.d/weir.fish"),
];
/// Scripts that dpkg runs.
const SCRIPTS: &[&str] = &["postinst", "prerm", "postrm"];

/// The task itself.
pub fn run(args: &Args) -> Result<()> {
    if process::find("dpkg-deb").is_none() {
        bail!("dpkg-deb is missing: packages are built on Debian and its relatives (package dpkg)");
    }
    setup::ensure(setup::Tier::Build)?;
    cargo::build()?;
    let package = build()?;
    eprintln!("package: {}", package.display());
    if args.check { trial::run(&package) } else { Ok(()) }
}

fn build() -> Result<PathBuf> {
    let folder = workspace::target().join("package");
    let tree = folder.join("tree");
    let _ = fs::remove_dir_all(&tree);
    let root = workspace::root();
    check_configuration(&root.join("packaging/weir.toml"))?;
    let weir = tree.join("usr/bin/weir");
    put(&workspace::weir(), &weir, 0o755)?;
    process::run(Command::new("strip").arg("--strip-unneeded").arg(&weir))?;
    for (from, to, mode) in FILES {
        put(&root.join(from), &tree.join(to), *mode)?;
    }
    for (shell, to) in COMPLETIONS {
        let text = process::output(Command::new(&weir).args(["completions", shell]))?;
        if text.is_empty() {
            bail!("weir prints no completions for {shell}");
        }
        write(&tree.join(to), text.as_bytes(), 0o644)?;
    }
    let architecture = process::output(Command::new("dpkg").arg("--print-architecture"))?;
    let control = fs::read_to_string(root.join("packaging/debian/control"))?
        .replace("@VERSION@", VERSION)
        .replace("@ARCHITECTURE@", architecture.trim())
        .replace("@SIZE@", &kibibytes(&tree)?.to_string())
        .replace("@GLIBC@", &needed_glibc(&fs::read(&weir)?).context("weir names no version of glibc")?);
    write(&tree.join("DEBIAN/control"), control.as_bytes(), 0o644)?;
    write(&tree.join("DEBIAN/conffiles"), CONFIGURATION.as_bytes(), 0o644)?;
    for script in SCRIPTS {
        put(&root.join("packaging/debian").join(script), &tree.join("DEBIAN").join(script), 0o755)?;
    }
    let package = folder.join(format!("weir_{VERSION}_{}.deb", architecture.trim()));
    process::output(
        Command::new("dpkg-deb").args(["--root-owner-group", "--build"]).arg(&tree).arg(&package),
    )?;
    Ok(package)
}

/// The shipped file, as it is and with every default written out, must be a valid configuration.
fn check_configuration(file: &Path) -> Result<()> {
    let text = fs::read_to_string(file)?;
    let explicit = workspace::target().join("package/explicit.toml");
    write(&explicit, uncommented(&text).as_bytes(), 0o644)?;
    for file in [file, &explicit] {
        process::output(Command::new(workspace::weir()).args(["config", "check", "--config"]).arg(file))?;
    }
    Ok(())
}

/// Makes settings of lines such as `#key = value`; prose has a blank after its `#`.
fn uncommented(text: &str) -> String {
    let lines = text.lines().map(|line| match line.strip_prefix('#') {
        Some(setting) if !setting.starts_with(' ') => setting,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Highest version of glibc whose symbols `program` refers to.
fn needed_glibc(program: &[u8]) -> Option<String> {
    const PREFIX: &[u8] = b"GLIBC_2.";
    let places = program.windows(PREFIX.len()).enumerate().filter(|(_, window)| *window == PREFIX);
    let minors = places.filter_map(|(at, _)| {
        let digits = program.get(at + PREFIX.len()..)?.iter().take_while(|byte| byte.is_ascii_digit());
        digits.take(3).map(|digit| char::from(*digit)).collect::<String>().parse::<u32>().ok()
    });
    minors.max().map(|minor| format!("2.{minor}"))
}

fn put(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    write(to, &bytes, mode)
}

fn write(to: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let folder = to.parent().context("a file has a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for dir in folder.ancestors().take_while(|dir| dir.starts_with(workspace::target().join("package/tree")))
    {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
    }
    fs::write(to, bytes).with_context(|| format!("cannot write {}", to.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode))?;
    Ok(())
}

fn kibibytes(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let data = entry.metadata()?;
        sum += if data.is_dir() { kibibytes(&entry.path())? } else { data.len().div_ceil(1024) };
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_uncommented_and_prose_is_not() {
        assert_eq!(uncommented("# prose\n#key = 1\n[a]\n#[[b]]"), "# prose\nkey = 1\n[a]\n[[b]]");
    }

    #[test]
    fn the_highest_version_counts() {
        assert_eq!(needed_glibc(b"..GLIBC_2.4\0GLIBC_2.34\0GLIBC_2.2.5\0"), Some("2.34".into()));
        assert_eq!(needed_glibc(b"static"), None);
    }
}
