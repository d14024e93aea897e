//! The state directory: the installation key, names and caps given on the command line.

mod caps;
mod dir;
mod key;
mod names;
mod proven;

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

pub use caps::{CapsFile, Override};
pub use dir::StateDir;
pub use key::{fingerprint, load_or_create_key, read_key};
pub use names::Names;
pub use proven::ProvenFile;

/// Replaces a file as a whole: a reader sees the old or the new one. What somebody has put in the place of the new one meanwhile is
/// neither followed nor written.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let fresh = path.with_extension("new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    Ok(())
}

/// The same of a file whose last good copy is kept beside it.
fn keep(path: &Path, text: &str) -> anyhow::Result<()> {
    replace(path, text)?;
    let good = path.with_extension("good");
    if let Err(error) = replace(&good, text) {
        tracing::warn!("{}: {error:#}", good.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_in_the_place_of_a_new_file_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (victim, path) = (dir.path().join("victim"), dir.path().join("caps.toml"));
        fs::write(&victim, "kept").unwrap();
        std::os::unix::fs::symlink(&victim, path.with_extension("new")).unwrap();
        replace(&path, "written").unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "kept");
        assert_eq!(fs::read_to_string(&path).unwrap(), "written");
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
    }
}
