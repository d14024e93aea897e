//! Which top-level module of a crate names which other one: every path in the source, not only `use` declarations.
//! Code under `#[cfg(test)]` is passed over: tests may look at anything.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::lexer::{Kind, Token, tokens};

/// Where an edge was found first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// File, relative to the root of the workspace.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: usize,
}

/// The top-level modules of a crate and what they name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edges {
    /// Every top-level module.
    pub modules: BTreeSet<String>,
    /// Where the first module of a pair names the second.
    pub uses: BTreeMap<(String, String), Place>,
}

/// Reads a crate from its root file, `lib.rs` or `main.rs`. `read` returns a file's text.
pub fn of_crate(root: &Path, read: &dyn Fn(&Path) -> Option<String>) -> Result<Edges> {
    let mut walk = Walk { read, named: Vec::new(), modules: BTreeSet::new() };
    let dir = root.parent().unwrap_or(Path::new(""));
    walk.file(root, dir, &[])?;
    let Walk { named, modules, .. } = walk;
    let mut uses = BTreeMap::new();
    for (from, to, place) in named {
        if from != to && modules.contains(&to) {
            uses.entry((from, to)).or_insert(place);
        }
    }
    Ok(Edges { modules, uses })
}

struct Walk<'a> {
    read: &'a dyn Fn(&Path) -> Option<String>,
    /// Module, the name behind the path to the crate's root, place.
    named: Vec<(String, String, Place)>,
    modules: BTreeSet<String>,
}

impl Walk<'_> {
    /// `dir`: where the files of child modules are. `path`: names of the modules around.
    fn file(&mut self, file: &Path, dir: &Path, path: &[String]) -> Result<()> {
        let source = (self.read)(file).with_context(|| format!("cannot read {}", file.display()))?;
        self.tokens(&tokens(&source), file, dir, path)
    }

    fn tokens(&mut self, tokens: &[Token], file: &Path, dir: &Path, path: &[String]) -> Result<()> {
        let mut at = 0;
        let (mut is_test, mut other_file) = (false, None);
        while let Some(token) = tokens.get(at) {
            let rest = tokens.get(at..).unwrap_or_default();
            if let Some(attribute) = attribute(rest) {
                is_test |= is_cfg_test(attribute);
                other_file = path_of(attribute).or(other_file);
                at += attribute.len();
                continue;
            }
            if std::mem::take(&mut is_test) {
                at += item(rest);
                other_file = None;
                continue;
            }
            if token.ident() == Some("mod")
                && let Some(name) = rest.get(1).and_then(Token::ident)
                && let Some(body) = rest.get(2).filter(|next| next.is(';') || next.is('{'))
            {
                let inner = [path, &[name.to_owned()]].concat();
                if path.is_empty() {
                    self.modules.insert(name.to_owned());
                }
                if body.is(';') {
                    self.child(name, other_file.take(), file, dir, &inner)?;
                    at += 3;
                } else {
                    let length = item(rest);
                    let body = rest.get(3..length - 1).unwrap_or_default();
                    self.tokens(body, file, &dir.join(name), &inner)?;
                    at += length;
                }
                continue;
            }
            other_file = None;
            let follows_path = at.checked_sub(1).and_then(|before| tokens.get(before));
            if follows_path.is_none_or(|before| before.kind != Kind::Colons) {
                self.path(rest, file, path);
            }
            at += 1;
        }
        Ok(())
    }

    fn child(
        &mut self,
        name: &str,
        other: Option<String>,
        parent: &Path,
        dir: &Path,
        path: &[String],
    ) -> Result<()> {
        if let Some(other) = other {
            let file = parent.with_file_name(other);
            let dir = file.parent().unwrap_or(Path::new("")).to_owned();
            return self.file(&file, &dir, path);
        }
        let inner = dir.join(name);
        let flat = dir.join(format!("{name}.rs"));
        let file = if (self.read)(&flat).is_some() { flat } else { inner.join("mod.rs") };
        self.file(&file, &inner, path)
    }

    /// Notes what a path that begins here names below the crate's root.
    fn path(&mut self, tokens: &[Token], file: &Path, path: &[String]) {
        let Some(from) = path.first() else { return };
        let Some(first) = tokens.first() else { return };
        let mut at = match first.ident() {
            Some("crate") => 1,
            Some("super") => {
                let is_super = |step: &usize| {
                    let (colons, word) = (tokens.get(2 * step - 1), tokens.get(2 * step));
                    colons.is_some_and(|token| token.kind == Kind::Colons)
                        && word.and_then(Token::ident) == Some("super")
                };
                let levels = 1 + (1..=path.len()).take_while(is_super).count();
                if levels != path.len() {
                    return;
                }
                2 * levels - 1
            }
            _ => return,
        };
        if tokens.get(at).is_none_or(|token| token.kind != Kind::Colons) {
            return;
        }
        at += 1;
        let mut note = |token: &Token| {
            if let Some(name) = token.ident() {
                let place = Place { file: file.to_owned(), line: token.line };
                self.named.push((from.clone(), name.to_owned(), place));
            }
        };
        match tokens.get(at) {
            Some(group) if group.is('{') => {
                let group = tokens.get(at..).unwrap_or_default();
                let mut depth = 0_usize;
                for (number, token) in group.iter().take(item(group)).enumerate() {
                    match token.kind {
                        Kind::Punct('{') => depth += 1,
                        Kind::Punct('}') => depth -= 1,
                        _ => {}
                    }
                    let before = number.checked_sub(1).and_then(|before| group.get(before));
                    if depth == 1 && before.is_some_and(|before| before.is('{') || before.is(',')) {
                        note(token);
                    }
                }
            }
            Some(token) => note(token),
            None => {}
        }
    }
}

/// The tokens of the attribute that begins here.
fn attribute(tokens: &[Token]) -> Option<&[Token]> {
    let open = match tokens {
        [hash, open, ..] if hash.is('#') && open.is('[') => 1,
        [hash, bang, open, ..] if hash.is('#') && bang.is('!') && open.is('[') => 2,
        _ => return None,
    };
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.kind {
            Kind::Punct('[') => depth += 1,
            Kind::Punct(']') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return tokens.get(..=at);
        }
    }
    None
}

fn is_cfg_test(attribute: &[Token]) -> bool {
    let words: Vec<_> = attribute.iter().filter_map(Token::ident).collect();
    words == ["cfg", "test"]
}

/// The file that a `#[path = "..."]` names.
fn path_of(attribute: &[Token]) -> Option<String> {
    let mut named = attribute.iter().skip_while(|token| token.ident() != Some("path"));
    named.find_map(|token| match &token.kind {
        Kind::Text(text) => Some(text.clone()),
        _ => None,
    })
}

/// How many tokens the item that begins here has, attributes of its own included: up to its `;` or its closing brace.
fn item(tokens: &[Token]) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match token.kind {
            Kind::Punct('{' | '(' | '[') => depth += 1,
            Kind::Punct(')' | ']') => depth = depth.saturating_sub(1),
            Kind::Punct('}') => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            Kind::Punct(';') if depth == 0 => return at + 1,
            _ => {}
        }
    }
    tokens.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(files: &[(&str, &str)]) -> Vec<String> {
        let read = |path: &Path| {
            let found = files.iter().find(|(name, _)| Path::new(name) == path);
            found.map(|(_, text)| (*text).to_owned())
        };
        let edges = of_crate(Path::new("src/lib.rs"), &read).unwrap();
        let shown = |((from, to), place): (&(String, String), &Place)| {
            format!("{from}>{to} {}:{}", place.file.display(), place.line)
        };
        edges.uses.iter().map(shown).collect()
    }

    const ROOT: (&str, &str) = ("src/lib.rs", "pub mod a;\nmod b;\nmod c;\n");

    #[test]
    fn every_kind_of_path_counts() {
        let a = "use crate::{b::{X, crate_c}, c};\nmod deep;\n";
        let deep =
            "fn f() {\n  println!(\"{}\", super::super::b::y());\n  crate::c::z();\n}\nuse super::own;";
        let b = "macro_rules! m { () => { $crate::c::x() } }\nuse super::a;\nuse std::crate_a;";
        assert_eq!(
            edges(&[ROOT, ("src/a/mod.rs", a), ("src/a/deep.rs", deep), ("src/b.rs", b), ("src/c.rs", "")]),
            ["a>b src/a/mod.rs:1", "a>c src/a/mod.rs:1", "b>a src/b.rs:2", "b>c src/b.rs:1"]
        );
        assert_eq!(
            edges(&[
                ROOT,
                ("src/a.rs", "mod deep;"),
                ("src/a/deep.rs", deep),
                ("src/b.rs", ""),
                ("src/c.rs", "")
            ]),
            ["a>b src/a/deep.rs:2", "a>c src/a/deep.rs:3"]
        );
    }

    #[test]
    fn inline_modules_deepen_what_super_means() {
        let a = "mod x { use super::b; mod y { use super::super::super::c; } }";
        assert_eq!(edges(&[ROOT, ("src/a.rs", a), ("src/b.rs", ""), ("src/c.rs", "")]), ["a>c src/a.rs:1"]);
    }

    #[test]
    fn tests_comments_and_own_names_do_not_count() {
        let a = "//! [`crate::b`]\n#[cfg(test)]\nuse crate::b;\n#[cfg(test)]\n#[path = \"t.rs\"]\nmod tests;\n\
                 #[cfg(test)]\nmod more { use crate::c; }\nuse crate::a::own;\npub(crate) fn f() {}\n\
                 #[cfg(not(test))]\nuse crate::c;\n";
        assert_eq!(edges(&[ROOT, ("src/a.rs", a), ("src/b.rs", ""), ("src/c.rs", "")]), ["a>c src/a.rs:12"]);
    }

    #[test]
    fn a_module_may_be_in_a_file_that_is_named() {
        let a = "#[path = \"elsewhere.rs\"]\nmod inner;";
        assert_eq!(
            edges(&[
                ROOT,
                ("src/a.rs", a),
                ("src/elsewhere.rs", "\nuse crate::b;"),
                ("src/b.rs", ""),
                ("src/c.rs", "")
            ]),
            ["a>b src/elsewhere.rs:2"]
        );
    }

    #[test]
    fn a_missing_file_is_an_error() {
        let read = |path: &Path| (path == Path::new("src/lib.rs")).then(|| "mod gone;".to_owned());
        assert!(of_crate(Path::new("src/lib.rs"), &read).is_err());
    }
}
