//! Caps that were set at run time and are kept over a restart.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::dir;
use crate::config::{Action, Cap};

/// Name of the file in the state directory.
pub(super) const FILE: &str = "caps.toml";

/// The file.
#[derive(Clone, Debug, Default)]
pub struct CapsFile(PathBuf);

/// What a change at run time says about a cap of the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// Whether it is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<bool>,
    /// What happens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    #[serde(default)]
    cap: Vec<Cap>,
    /// Changes to caps of the configuration, by name.
    #[serde(default)]
    change: BTreeMap<String, Override>,
}

/// Reads the text of the file.
fn parse(text: &str) -> anyhow::Result<Contents> {
    let contents: Contents =
        toml::from_str(text).map_err(|error| anyhow::anyhow!(error.message().to_owned()))?;
    for (at, cap) in contents.cap.iter().enumerate() {
        cap.check().map_err(|(message, help)| anyhow::anyhow!("{message}; {help}"))?;
        let twice = contents.cap.iter().take(at).any(|other| other.name == cap.name);
        anyhow::ensure!(!twice, "there are two caps {:?}", cap.name);
    }
    Ok(contents)
}

/// Whether the text of the file can be understood.
pub(super) fn check(text: &str) -> anyhow::Result<()> {
    parse(text).map(drop)
}

impl CapsFile {
    /// The file in the state directory.
    pub fn new(dir: &Path) -> Self {
        Self(dir.join(FILE))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Kept caps, and kept changes to caps of the configuration.
    ///
    /// # Errors
    /// When the file is there but cannot be read or understood.
    pub fn read(&self) -> anyhow::Result<(Vec<Cap>, BTreeMap<String, Override>)> {
        let text = dir::read(&self.0).with_context(|| self.0.display().to_string())?;
        let contents = parse(&text.unwrap_or_default())
            .with_context(|| format!("{}: correct it or remove it", self.0.display()))?;
        Ok((contents.cap, contents.change))
    }

    /// Replaces the contents.
    ///
    /// # Errors
    /// When the file cannot be written; the old one is then untouched.
    pub fn write(&self, caps: &[Cap], change: &BTreeMap<String, Override>) -> anyhow::Result<()> {
        if caps.is_empty() && change.is_empty() && !self.0.exists() {
            return Ok(());
        }
        let contents = Contents { cap: caps.to_vec(), change: change.clone() };
        let text = toml::to_string(&contents)?;
        super::keep(&self.0, &format!("# Written by weir. Change caps with `weir caps`.\n{text}"))
    }
}
