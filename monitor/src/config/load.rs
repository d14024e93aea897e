//! Reads and merges: defaults < files < environment < flags.
//!
//! Each file is checked by itself first, so that an error can name its line; then the tables are merged (later files
//! win, lists of tables grow) and read once more as a whole.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::{Config, ConfigErrors, Control, LogLevel, Problem};

/// The main file.
pub const DEFAULT_FILE: &str = "/etc/weir/weir.toml";
/// Files that are read after the main one, in order of their names.
pub const DEFAULT_DIR: &str = "/etc/weir/conf.d";

/// Keys of tables that are lists, which the default configuration does not show.
const LISTED: &[(&str, &[&str])] = &[
    ("identity.name", &["name", "identity"]),
    ("role", &["name", "identities", "kind", "issuer", "subject", "networks", "access", "access_action"]),
    (
        "cap",
        &[
            "name",
            "role",
            "identity",
            "each",
            "except",
            "strangers",
            "workload",
            "direction",
            "route",
            "host",
            "rate",
            "burst",
            "action",
        ],
    ),
    ("listener", &["address", "port", "respond", "guarded"]),
];

/// Where configuration comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// `--config FILE`: replaces the default file and directory.
    pub file: Option<PathBuf>,
}

/// What the environment and flags set; flags have been put over the environment by the caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `WEIR_METRICS_LISTEN`
    pub metrics_listen: Option<SocketAddr>,
    /// `WEIR_CONTROL_SOCKET`
    pub control_socket: Option<PathBuf>,
    /// `WEIR_STATE_DIR`
    pub state_dir: Option<PathBuf>,
    /// `WEIR_LOG`
    pub log_level: Option<LogLevel>,
}

/// Reads the whole configuration.
///
/// # Errors
/// Every problem found, each with its place.
pub fn load(source: &Source, overrides: &Overrides) -> Result<Config, ConfigErrors> {
    let mut problems = Vec::new();
    let mut merged = Table::new();
    let mut read = Vec::new();
    for (path, required) in files(source, &mut problems) {
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => continue,
            Err(error) => {
                problems.push(about(
                    &path,
                    "",
                    format!("cannot be read: {error}"),
                    "check the path and its mode",
                ));
                continue;
            }
        };
        let file = File { path: &path, text: &text };
        match file.read(&mut problems) {
            Some(table) => merge(&mut merged, table),
            None => continue,
        }
        read.push((path, text));
    }
    if !problems.is_empty() {
        return Err(ConfigErrors(problems));
    }
    let mut config = Config::deserialize(merged).map_err(|error| {
        ConfigErrors(vec![Problem {
            file: None,
            line: None,
            key: String::new(),
            message: error.message().to_owned(),
            help: "two files contradict each other".into(),
        }])
    })?;
    apply(&mut config, overrides);
    let problems: Vec<_> = config
        .check()
        .into_iter()
        .map(|(key, message, help)| {
            let place = read.iter().rev().find_map(|(path, text)| {
                let line =
                    File { path, text }.line_of(&key.split('.').map(Step::from).collect::<Vec<_>>())?;
                Some((path.clone(), line))
            });
            let (file, line) = place.map_or((None, None), |(file, line)| (Some(file), Some(line)));
            Problem { file, line, key, message, help }
        })
        .collect();
    if problems.is_empty() { Ok(config) } else { Err(ConfigErrors(problems)) }
}

/// The control socket that a client command uses when none is named: the one of the default configuration when that can
/// be read, else the built-in default. A client must work where the configuration is unreadable or broken.
pub fn control_socket() -> PathBuf {
    load(&Source::default(), &Overrides::default())
        .map_or_else(|_| Control::default().socket, |c| c.control.socket)
}

fn files(source: &Source, problems: &mut Vec<Problem>) -> Vec<(PathBuf, bool)> {
    if let Some(file) = &source.file {
        return vec![(file.clone(), true)];
    }
    let mut files = vec![(PathBuf::from(DEFAULT_FILE), false)];
    match fs::read_dir(DEFAULT_DIR) {
        Ok(dir) => {
            let mut more: Vec<_> = dir.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
            more.retain(|path| path.extension().is_some_and(|ext| ext == "toml"));
            more.sort();
            files.extend(more.into_iter().map(|path| (path, true)));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            problems.push(about(
                Path::new(DEFAULT_DIR),
                "",
                format!("cannot be read: {error}"),
                "check its mode",
            ));
        }
    }
    files
}

fn apply(config: &mut Config, overrides: &Overrides) {
    let Overrides { metrics_listen, control_socket, state_dir, log_level } = overrides.clone();
    if let Some(listen) = metrics_listen {
        config.metrics.listen = listen;
    }
    if let Some(socket) = control_socket {
        config.control.socket = socket;
    }
    if let Some(dir) = state_dir {
        config.state.dir = dir;
    }
    if let Some(level) = log_level {
        config.log.level = level;
    }
}

fn about(path: &Path, key: &str, message: String, help: &str) -> Problem {
    Problem { file: Some(path.to_owned()), line: None, key: key.into(), message, help: help.into() }
}

/// Puts `over` over `base`: tables merge, lists of tables grow, everything else is replaced.
fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(table)) => merge(below, table),
            (Some(Value::Array(below)), Value::Array(list)) if list.iter().all(Value::is_table) => {
                below.extend(list);
            }
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// One step of a path into a document.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

impl From<&str> for Step {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

fn steps(path: &serde_ignored::Path<'_>, into: &mut Vec<Step>) {
    use serde_ignored::Path;
    match path {
        Path::Root => {}
        Path::Seq { parent, index } => {
            steps(parent, into);
            into.push(Step::Index(*index));
        }
        Path::Map { parent, key } => {
            steps(parent, into);
            into.push(Step::Key(key.clone()));
        }
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            steps(parent, into);
        }
    }
}

/// Dotted form without list indices, as the documentation writes keys.
fn dotted(steps: &[Step]) -> String {
    let keys =
        steps.iter().filter_map(|step| if let Step::Key(key) = step { Some(key.as_str()) } else { None });
    keys.collect::<Vec<_>>().join(".")
}

struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    /// The file as a table, or what is wrong with it.
    fn read(&self, problems: &mut Vec<Problem>) -> Option<Table> {
        let before = problems.len();
        match toml::Deserializer::parse(self.text) {
            Ok(deserializer) => {
                let mut unknown = Vec::new();
                let read: Result<Config, _> = serde_ignored::deserialize(deserializer, |path| {
                    let mut at = Vec::new();
                    steps(&path, &mut at);
                    unknown.push(at);
                });
                problems.extend(unknown.iter().map(|at| self.unknown(at)));
                if let Err(error) = read {
                    problems.push(self.broken(&error));
                }
            }
            Err(error) => problems.push(self.broken(&error)),
        }
        if problems.len() > before { None } else { toml::from_str(self.text).ok() }
    }

    fn broken(&self, error: &toml::de::Error) -> Problem {
        let line = error.span().map(|span| self.line(span.start));
        let key = error.span().and_then(|span| self.key_at(span.start)).unwrap_or_default();
        let message = error.message().trim().replace('\n', ", ");
        Problem { file: Some(self.path.to_owned()), line, key, message, help: String::new() }
    }

    fn unknown(&self, at: &[Step]) -> Problem {
        let key = dotted(at);
        let line = self.line_of(at);
        let file = Some(self.path.to_owned());
        let help = match suggestion(&key) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "`weir config show` lists every key".into(),
        };
        Problem { file, line, key, message: "unknown key".into(), help }
    }

    fn line(&self, offset: usize) -> usize {
        self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
    }

    /// Line of the key that `at` leads to.
    fn line_of(&self, at: &[Step]) -> Option<usize> {
        let root = DeTable::parse(self.text).ok()?;
        let mut here: &DeValue<'_> = &DeValue::Table(root.into_inner());
        let mut found = None;
        for step in at {
            here = match (step, here) {
                (Step::Key(key), DeValue::Table(table)) => {
                    let (name, value) = table.iter().find(|(name, _)| name.get_ref() == key)?;
                    found = Some(name.span().start);
                    value.get_ref()
                }
                (Step::Index(index), DeValue::Array(list)) => {
                    let value = list.get(*index)?;
                    found = Some(value.span().start);
                    value.get_ref()
                }
                _ => return None,
            };
        }
        found.map(|offset| self.line(offset))
    }

    /// Dotted key of the value that begins at `offset`.
    fn key_at(&self, offset: usize) -> Option<String> {
        fn search(value: &DeValue<'_>, offset: usize, at: &mut Vec<Step>) -> bool {
            match value {
                DeValue::Table(table) => table.iter().any(|(name, value)| {
                    at.push(Step::Key(name.get_ref().to_string()));
                    let hit = value.span().start == offset
                        || name.span().start == offset
                        || search(value.get_ref(), offset, at);
                    if !hit {
                        at.pop();
                    }
                    hit
                }),
                DeValue::Array(list) => list
                    .iter()
                    .any(|value| value.span().start == offset || search(value.get_ref(), offset, at)),
                _ => false,
            }
        }
        let root = DeTable::parse(self.text).ok()?;
        let mut at = Vec::new();
        search(&DeValue::Table(root.into_inner()), offset, &mut at).then(|| dotted(&at))
    }
}

/// Every key there is, dotted.
fn known() -> Vec<String> {
    fn walk(table: &Table, prefix: &str, into: &mut Vec<String>) {
        for (key, value) in table {
            let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            if let Value::Table(table) = value {
                walk(table, &path, into);
            }
            into.push(path);
        }
    }
    let mut keys: Vec<_> = LISTED
        .iter()
        .flat_map(|(table, keys)| keys.iter().map(move |key| format!("{table}.{key}")))
        .collect();
    if let Ok(table) = Table::try_from(Config::default()) {
        walk(&table, "", &mut keys);
    }
    keys
}

/// The known key that `key` most resembles: by its last part in the same section, else as a whole.
fn suggestion(key: &str) -> Option<String> {
    let leaf = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let parent = |key: &str| key.rsplit_once('.').map_or("", |(parent, _)| parent).to_owned();
    known()
        .into_iter()
        .map(|known| {
            let near = if parent(&known) == parent(key) {
                strsim::jaro_winkler(&leaf(&known), &leaf(key))
            } else if leaf(&known) == leaf(key) {
                0.9
            } else {
                strsim::jaro_winkler(&known, key) - 0.1
            };
            (known, near)
        })
        .filter(|(_, near)| *near > 0.75)
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(known, _)| known)
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
