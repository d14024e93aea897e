//! Kernels for the virtual machines: Debian's packages, unpacked under the target folder and never installed.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::apt;
use crate::{process, workspace};

/// A kernel that Weir is tested on.
pub struct Kernel {
    /// Its version, as the command line names it.
    pub name: &'static str,
    /// Package of Debian 12 that always depends on the newest build of it.
    meta: &'static str,
}

/// The oldest kernel that is supported, and the newest that Debian 12 has.
pub const ALL: &[Kernel] = &[
    Kernel { name: "6.1", meta: "linux-image-cloud-amd64" },
    Kernel { name: "6.12", meta: "linux-image-6.12-cloud-amd64" },
];

impl Kernel {
    /// Folder with the image as `vmlinuz` and the modules as `modules`.
    pub fn dir(&self) -> PathBuf {
        workspace::vm().join(format!("kernel-{}", self.name))
    }

    /// The image that boots.
    pub fn image(&self) -> PathBuf {
        self.dir().join("vmlinuz")
    }

    /// Whether it has been fetched.
    pub fn is_there(&self) -> bool {
        self.image().exists()
    }
}

/// Downloads and unpacks `kernel`. It appears complete or not at all.
pub fn fetch(kernel: &Kernel) -> Result<()> {
    // The lists may never have been fetched.
    let package = newest(kernel).or_else(|_| apt::update().and_then(|()| newest(kernel)))?;
    eprintln!("setup: fetching {package}");
    let partial = workspace::vm().join(format!("partial-{}", kernel.name));
    let _ = fs::remove_dir_all(&partial);
    fs::create_dir_all(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
    apt::download(&package, &partial)?;
    let archives = fs::read_dir(&partial)?.filter_map(Result::ok).map(|entry| entry.path());
    let archive = archives.into_iter().find(|path| path.extension().is_some_and(|ext| ext == "deb"));
    let archive = archive.with_context(|| format!("no archive of {package} was downloaded"))?;
    process::run(Command::new("dpkg-deb").arg("--extract").arg(&archive).arg(&partial))?;
    fs::remove_file(&archive)?;
    let release = package.trim_start_matches("linux-image-").trim_end_matches("-unsigned");
    fs::rename(partial.join(format!("boot/vmlinuz-{release}")), partial.join("vmlinuz"))?;
    fs::rename(partial.join(format!("lib/modules/{release}")), partial.join("modules"))?;
    let _ = fs::remove_dir_all(kernel.dir());
    fs::rename(&partial, kernel.dir())?;
    Ok(())
}

fn newest(kernel: &Kernel) -> Result<String> {
    let prefix = format!("linux-image-{}.", kernel.name);
    apt::dependency(kernel.meta, &prefix)
}
