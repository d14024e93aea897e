//! What servers have proven: fingerprints only, kept over a restart.

use std::fs;
use std::path::{Path, PathBuf};

use super::dir;

/// Name of the file in the state directory.
const FILE: &str = "proven";

/// The file.
#[derive(Clone, Debug, Default)]
pub struct ProvenFile(PathBuf);

impl ProvenFile {
    /// The file in the state directory.
    pub fn new(dir: &Path) -> Self {
        Self(dir.join(FILE))
    }

    /// Its text as `read` understands it. What is damaged is set aside and said loudly: callers are proven anew.
    pub fn read<T: Default>(&self, read: impl FnOnce(&str) -> Result<T, String>) -> T {
        let why = match dir::read(&self.0) {
            Ok(None) => return T::default(),
            Ok(Some(text)) => match read(&text) {
                Ok(found) => return found,
                Err(why) => why,
            },
            Err(error) => format!("{error:#}"),
        };
        let aside = self.0.with_extension("damaged");
        let moved = fs::rename(&self.0, &aside);
        tracing::error!(
            "{}: {why}: callers of servers have to be proven anew ({})",
            self.0.display(),
            match moved {
                Ok(()) => format!("it is kept as {}", aside.display()),
                Err(error) => format!("it cannot be set aside: {error}"),
            }
        );
        T::default()
    }

    /// Replaces the contents.
    ///
    /// # Errors
    /// When the file cannot be written; the old one is then untouched.
    pub fn write(&self, text: &str) -> anyhow::Result<()> {
        super::replace(&self.0, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let file = ProvenFile::new(dir.path());
        let parse = |text: &str| text.trim().parse::<u32>().map_err(|error| error.to_string());
        assert_eq!(file.read(parse), 0);
        file.write("7").unwrap();
        assert_eq!(file.read(parse), 7);
        file.write("x").unwrap();
        assert_eq!(file.read(parse), 0);
        assert_eq!(fs::read_to_string(dir.path().join("proven.damaged")).unwrap(), "x");
        assert!(!dir.path().join(FILE).exists());
    }
}
