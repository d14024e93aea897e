//! The direction of dependencies inside the crates: which top-level module may name which, as `xtask/modules.txt` says,
//! and no cycle.

mod edges;
mod lexer;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::workspace;
use edges::Edges;

/// The table, relative to the root of the workspace.
const TABLE: &str = "xtask/modules.txt";

/// Checks every crate of the table.
pub fn check() -> Result<()> {
    let root = workspace::root();
    let text = fs::read_to_string(root.join(TABLE)).context(TABLE)?;
    let mut faults = Vec::new();
    for section in table(&text)? {
        let read = |path: &Path| fs::read_to_string(root.join(path)).ok();
        let edges = edges::of_crate(&section.root, &read)?;
        faults.extend(section.faults(&edges));
        if section.may_cycle {
            for cycle in cycles(&edges) {
                eprintln!("note: {}: {}", section.root.display(), cycle.join(" -> "));
            }
        }
    }
    if !faults.is_empty() {
        bail!("modules depend on each other as they should not:\n{}", faults.join("\n"));
    }
    Ok(())
}

/// What the table says about one crate.
#[derive(Debug, PartialEq, Eq)]
struct Section {
    root: PathBuf,
    /// Cycles are only reported.
    may_cycle: bool,
    allowed: BTreeMap<String, BTreeSet<String>>,
}

/// Reads the table.
fn table(text: &str) -> Result<Vec<Section>> {
    let mut sections: Vec<Section> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        if let Some(head) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            let (root, may_cycle) = match head.split_once(' ') {
                Some((root, "may-cycle")) => (root, true),
                None => (head, false),
                Some(_) => bail!("{TABLE}:{number}: write [FILE] or [FILE may-cycle]"),
            };
            sections.push(Section { root: root.into(), may_cycle, allowed: BTreeMap::new() });
            continue;
        }
        let (Some(section), Some((module, uses))) = (sections.last_mut(), line.split_once(':')) else {
            bail!("{TABLE}:{number}: write `module: what it may use`, below a [FILE]");
        };
        let uses = uses.split_whitespace().map(str::to_owned).collect();
        if section.allowed.insert(module.trim().to_owned(), uses).is_some() {
            bail!("{TABLE}:{number}: `{module}` has a line already");
        }
    }
    Ok(sections)
}

impl Section {
    fn faults(&self, edges: &Edges) -> Vec<String> {
        let mut faults = Vec::new();
        for module in edges.modules.iter().filter(|module| !self.allowed.contains_key(*module)) {
            faults.push(format!("{TABLE}: `{module}` is new: add a line `{module}:` with what it may use"));
        }
        for ((from, to), place) in &edges.uses {
            let Some(allowed) = self.allowed.get(from) else { continue };
            if !allowed.contains(to) {
                faults.push(format!(
                    "{}:{}: `{from}` names `{to}`: move what both need below them, or hand it in from above; if the \
                     direction is right, add `{to}` to the line `{from}:` of {TABLE}",
                    place.file.display(),
                    place.line
                ));
            }
        }
        for (from, allowed) in &self.allowed {
            if !edges.modules.contains(from) {
                faults.push(format!("{TABLE}: there is no module `{from}` any more: remove its line"));
                continue;
            }
            for to in allowed.iter().filter(|to| !edges.uses.contains_key(&(from.clone(), (*to).clone()))) {
                faults.push(format!(
                    "{TABLE}: `{from}` does not name `{to}` any more: remove it from the line `{from}:`"
                ));
            }
        }
        if !self.may_cycle {
            for cycle in cycles(edges) {
                let steps = cycle.windows(2).filter_map(|step| {
                    let [from, to] = step else { return None };
                    let place = edges.uses.get(&(from.clone(), to.clone()))?;
                    Some(format!("  {}:{}: `{from}` names `{to}`", place.file.display(), place.line))
                });
                let steps: Vec<_> = steps.collect();
                faults.push(format!("a cycle; remove one of its edges:\n{}", steps.join("\n")));
            }
        }
        faults
    }
}

/// One cycle for every knot of modules: a shortest one through its first module.
fn cycles(edges: &Edges) -> Vec<Vec<String>> {
    let mut cycles: Vec<Vec<String>> = Vec::new();
    for module in &edges.modules {
        if cycles.iter().flatten().any(|known| known == module) {
            continue;
        }
        cycles.extend(shortest_cycle(module, edges));
    }
    cycles
}

/// The shortest way from a module back to itself.
fn shortest_cycle(module: &str, edges: &Edges) -> Option<Vec<String>> {
    let mut ways = vec![vec![module.to_owned()]];
    let mut seen = BTreeSet::new();
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in &ways {
            let last = way.last()?;
            for (_, to) in edges.uses.keys().filter(|(from, _)| from == last) {
                let next = [way.as_slice(), std::slice::from_ref(to)].concat();
                if to == module {
                    return Some(next);
                }
                if seen.insert(to.clone()) {
                    longer.push(next);
                }
            }
        }
        ways = longer;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use edges::Place;

    fn edges(pairs: &[(&str, &str)]) -> Edges {
        let mut edges = Edges::default();
        for (from, to) in pairs {
            edges.modules.extend([*from, *to].map(str::to_owned));
            let place = Place { file: format!("{from}.rs").into(), line: 7 };
            edges.uses.insert(((*from).into(), (*to).into()), place);
        }
        edges
    }

    fn faults(text: &str, pairs: &[(&str, &str)]) -> Vec<String> {
        table(text).unwrap().remove(0).faults(&edges(pairs))
    }

    #[test]
    fn what_the_table_allows_passes() {
        assert!(
            faults("[lib.rs]\na: b c # both\nb: c\n\nc:\n", &[("a", "b"), ("a", "c"), ("b", "c")]).is_empty()
        );
    }

    #[test]
    fn an_edge_that_is_not_allowed_is_named_with_its_place_and_a_way_out() {
        let found = faults("[lib.rs]\na: b\nb:\n", &[("a", "b"), ("b", "a")]);
        assert!(found[0].starts_with("b.rs:7: `b` names `a`: "), "{found:?}");
        assert!(found[0].contains("add `a` to the line `b:`"), "{found:?}");
    }

    #[test]
    fn the_table_stays_true() {
        let found = faults("[lib.rs]\na: b c\nb:\ngone: a\n", &[("a", "b"), ("c", "b")]);
        assert!(found.iter().any(|fault| fault.contains("`c` is new")), "{found:?}");
        assert!(found.iter().any(|fault| fault.contains("`a` does not name `c` any more")), "{found:?}");
        assert!(found.iter().any(|fault| fault.contains("no module `gone`")), "{found:?}");
        assert_eq!(found.len(), 3, "{found:?}");
    }

    #[test]
    fn a_cycle_is_a_fault_even_if_the_table_allows_its_edges() {
        let pairs = [("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")];
        let text = "a: b\nb: c\nc: a\nd: a\n";
        let found = faults(&format!("[lib.rs]\n{text}"), &pairs);
        assert_eq!(found.len(), 1, "{found:?}");
        for step in ["`a` names `b`", "`b` names `c`", "`c` names `a`"] {
            assert!(found[0].contains(step), "{found:?}");
        }
        assert!(faults(&format!("[lib.rs may-cycle]\n{text}"), &pairs).is_empty());
        assert_eq!(cycles(&edges(&pairs)), [["a", "b", "c", "a"]]);
    }

    #[test]
    fn a_broken_table_is_an_error() {
        for broken in ["a: b", "[lib.rs]\na b", "[lib.rs]\na:\na:", "[lib.rs sometimes]"] {
            assert!(table(broken).is_err(), "{broken}");
        }
    }
}
