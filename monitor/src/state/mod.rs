//! The state directory: the installation key, names and caps given on the command line.

mod caps;
mod key;
mod names;

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

pub use caps::CapsFile;
pub use key::{fingerprint, load_or_create_key, read_key};
pub use names::Names;

/// Replaces a file as a whole: a reader sees the old or the new one.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    Ok(())
}
