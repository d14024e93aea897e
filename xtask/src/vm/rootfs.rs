//! The root file system of a virtual machine: programs of this host with the libraries they load.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufWriter;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::cpio::{Archive, Node};
use crate::process;

/// What will be in it, by absolute path.
#[derive(Default)]
pub struct Rootfs {
    entries: BTreeMap<PathBuf, Source>,
}

enum Source {
    Link(String),
    Host(PathBuf),
    Bytes(Vec<u8>),
}

impl Rootfs {
    /// One with the links that a merged `/usr` needs, so that libraries are found under both names.
    pub fn new() -> Self {
        let mut rootfs = Self::default();
        for name in ["/bin", "/sbin", "/lib", "/lib64"] {
            if let Ok(to) = fs::read_link(name) {
                rootfs.entries.insert(name.into(), Source::Link(to.to_string_lossy().into_owned()));
            }
        }
        rootfs
    }

    /// Adds a file with this content.
    pub fn bytes(&mut self, path: impl Into<PathBuf>, bytes: impl Into<Vec<u8>>) {
        self.entries.insert(path.into(), Source::Bytes(bytes.into()));
    }

    /// Adds a file of the host under its own path, following links.
    pub fn file(&mut self, path: &Path) -> Result<()> {
        let inside = inside(path)?;
        self.file_as(path, inside)
    }

    /// Adds a file of the host under another path.
    pub fn file_as(&mut self, path: &Path, inside: PathBuf) -> Result<()> {
        let found = fs::canonicalize(path).with_context(|| format!("{} is not there", path.display()))?;
        self.entries.insert(inside, Source::Host(found));
        Ok(())
    }

    /// Adds a program or library of the host with all that it loads.
    pub fn program(&mut self, path: &Path) -> Result<()> {
        self.file(path)?;
        self.libraries(path)
    }

    /// Adds what `path` loads at its start.
    pub fn libraries(&mut self, path: &Path) -> Result<()> {
        // A script or a static program has none; `ldd` fails for it.
        let Ok(listed) = process::output(Command::new("ldd").arg(path)) else { return Ok(()) };
        for library in listed.split_whitespace().filter(|word| word.starts_with('/')) {
            let library = Path::new(library);
            if !self.entries.contains_key(&inside(library)?) {
                self.file(library)?;
            }
        }
        Ok(())
    }

    /// Adds the folder `path` of the host with everything in it that `wanted` accepts, libraries with what they load.
    pub fn tree(&mut self, path: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<()> {
        for entry in fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))? {
            let path = entry?.path();
            if !wanted(&path) {
                continue;
            }
            if path.is_dir() {
                self.tree(&path, wanted)?;
            } else if path.extension().is_some_and(|ext| ext == "so") {
                self.program(&path)?;
            } else if path.is_file() {
                self.file(&path)?;
            }
        }
        Ok(())
    }

    /// Writes the archive that the kernel unpacks, with the empty folders `folders` beside what was added.
    pub fn write(&self, to: &Path, folders: &[&str]) -> Result<()> {
        let file = File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
        let mut archive = Archive::new(BufWriter::new(file));
        let mut made = std::collections::BTreeSet::new();
        let mut parents = |archive: &mut Archive<_>, path: &Path| -> Result<()> {
            let mut missing = path.ancestors().filter(|dir| *dir != Path::new("/")).collect::<Vec<_>>();
            missing.reverse();
            for dir in missing {
                if made.insert(dir.to_path_buf()) {
                    archive.add(&relative(dir), Node::Folder)?;
                }
            }
            Ok(())
        };
        for folder in folders {
            parents(&mut archive, Path::new(folder))?;
        }
        for (path, source) in &self.entries {
            parents(&mut archive, path.parent().unwrap_or(path))?;
            let name = relative(path);
            match source {
                Source::Link(target) => archive.add(&name, Node::Link(target)),
                Source::Bytes(bytes) => archive.add(&name, Node::File { bytes, program: false }),
                Source::Host(host) => {
                    let bytes = fs::read(host).with_context(|| format!("cannot read {}", host.display()))?;
                    let program = fs::metadata(host)?.permissions().mode() & 0o111 != 0;
                    archive.add(&name, Node::File { bytes: &bytes, program })
                }
            }
            .with_context(|| format!("cannot add {name}"))?;
        }
        archive.finish()?;
        Ok(())
    }
}

/// Path of a host's file with the links in its folders resolved, but its own name kept.
fn inside(path: &Path) -> Result<PathBuf> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        anyhow::bail!("{} is not a file", path.display());
    };
    let folder = fs::canonicalize(folder).with_context(|| format!("{} is not there", folder.display()))?;
    Ok(folder.join(name))
}

fn relative(path: &Path) -> String {
    path.to_string_lossy().trim_start_matches('/').to_owned()
}
