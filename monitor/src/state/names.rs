//! Names of identities: those of the configuration, and those given with `weir identity name`, which are kept here.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::dir;
use crate::config::{KINDS, Name, check_name};
use crate::output::NameRow;

/// Name of the file in the state directory.
pub(super) const FILE: &str = "names.toml";
/// Most names that are kept.
const MOST: usize = 10_000;
/// Most bytes of an identity.
const IDENTITY_BYTES: usize = 256;

/// All names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    path: PathBuf,
    /// Identity to name.
    config: BTreeMap<String, String>,
    given: BTreeMap<String, String>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    #[serde(default)]
    names: BTreeMap<String, String>,
}

/// Reads the text of the file.
fn parse(text: &str) -> anyhow::Result<Contents> {
    toml::from_str(text).map_err(|error| anyhow::anyhow!(error.message().to_owned()))
}

/// Whether the text of the file can be understood.
pub(super) fn check(text: &str) -> anyhow::Result<()> {
    parse(text).map(drop)
}

impl Names {
    /// Reads the kept names and puts those of the configuration over them.
    ///
    /// # Errors
    /// When the file is there but cannot be read or understood.
    pub fn load(dir: &Path, config: &[Name]) -> anyhow::Result<Self> {
        let path = dir.join(FILE);
        let text = dir::read(&path).with_context(|| path.display().to_string())?;
        let contents = parse(&text.unwrap_or_default())
            .with_context(|| format!("{}: correct it or remove it", path.display()))?;
        let config = config.iter().map(|entry| (entry.identity.clone(), entry.name.clone())).collect();
        Ok(Self { path, config, given: contents.names })
    }

    /// Identity to name, the configuration's first.
    pub fn merged(&self) -> HashMap<String, String> {
        self.given.clone().into_iter().chain(self.config.clone()).collect()
    }

    /// For `weir identity list`.
    pub fn rows(&self) -> Vec<NameRow> {
        let row = |source: &'static str| {
            move |(identity, name): (&String, &String)| NameRow {
                name: name.clone(),
                identity: identity.clone(),
                source: source.into(),
            }
        };
        let given = self.given.iter().filter(|(identity, _)| !self.config.contains_key(*identity));
        self.config.iter().map(row("config")).chain(given.map(row("state"))).collect()
    }

    /// Gives `identity` a name or takes it away, and writes the file. `identity` may be a name given before. Nothing
    /// has changed when this fails.
    ///
    /// # Errors
    /// Why not, for the caller to read.
    pub fn set(&mut self, identity: &str, name: Option<&str>) -> Result<(), String> {
        if let Some(name) = name {
            check_name(name).map_err(|why| format!("{name:?}: {why}"))?;
        }
        let mut next = self.clone();
        let named = |names: &BTreeMap<String, String>| {
            let of = names.iter().filter(|(key, known)| *known == identity || *key == identity);
            of.map(|(key, _)| key.clone()).collect::<Vec<_>>()
        };
        if !named(&self.config).is_empty() {
            return Err(format!("{identity:?} is named in the configuration: change it there"));
        }
        let mut keys = named(&self.given);
        if keys.is_empty() {
            let kind = identity.split_once(':').map(|(kind, _)| kind);
            let known = kind.is_some_and(|kind| KINDS.contains(&kind) && kind != "other");
            if !known || identity.len() > IDENTITY_BYTES || identity.chars().any(char::is_control) {
                return Err(format!("{identity:?} is no identity: copy it from `weir identities`"));
            }
            if name.is_none() {
                return Err(format!("{identity:?} has no name"));
            }
            keys.push(identity.to_owned());
        }
        for key in keys {
            match name {
                Some(name) => next.given.insert(key, name.to_owned()),
                None => next.given.remove(&key),
            };
        }
        if next.given.len() > MOST {
            return Err(format!("there are {MOST} names already: remove some, or use the configuration"));
        }
        next.write().map_err(|error| format!("{}: {error:#}", self.path.display()))?;
        *self = next;
        Ok(())
    }

    fn write(&self) -> anyhow::Result<()> {
        let contents = Contents { names: self.given.clone() };
        let text = toml::to_string(&contents)?;
        super::keep(
            &self.path,
            &format!("# Written by weir. Change names with `weir identity name`.\n{text}"),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn config() -> Vec<Name> {
        vec![Name { name: "acme".into(), identity: "bearer:0000000000000001".into() }]
    }

    #[test]
    fn names_are_kept_and_can_be_changed_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let mut names = Names::load(dir.path(), &config()).unwrap();
        names.set("api_key:0000000000000002", Some("partner \u{e9}")).unwrap();
        names.set("jwt:\"x\"@y", Some("odd")).unwrap();
        assert_eq!(Names::load(dir.path(), &config()).unwrap(), names);
        names.set("partner \u{e9}", Some("other partner")).unwrap();
        let again = Names::load(dir.path(), &config()).unwrap();
        assert_eq!(again.merged()["api_key:0000000000000002"], "other partner");
        assert_eq!(again.merged().len(), 3);
        assert_eq!(again.rows().iter().filter(|row| row.source == "state").count(), 2);
        names.set("other partner", None).unwrap();
        assert_eq!(Names::load(dir.path(), &[]).unwrap().merged().len(), 1);
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut names = Names::load(dir.path(), &config()).unwrap();
        let before = names.clone();
        for (identity, name, why) in [
            ("bearer:0000000000000001", Some("x"), "configuration"),
            ("acme", Some("x"), "configuration"),
            ("nonsense", Some("x"), "no identity"),
            ("other", Some("x"), "no identity"),
            ("bearer:1", Some("bearer:2"), "unnamed"),
            ("bearer:1", Some("a\nb"), "control"),
            ("bearer:1", None, "no name"),
        ] {
            let error = names.set(identity, name).unwrap_err();
            assert!(error.contains(why), "{identity} {name:?}: {error}");
        }
        assert_eq!(names, before);
        assert!(!dir.path().join(FILE).exists());
    }

    #[test]
    fn a_damaged_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "names = 3").unwrap();
        assert!(format!("{:#}", Names::load(dir.path(), &[]).unwrap_err()).contains("names.toml"));
    }
}
