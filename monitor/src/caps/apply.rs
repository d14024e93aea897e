//! Writes the difference between two sets of tables into the kernel side, rules before the subjects that point at them and
//! removals of rules last. Stops at the first thing that the kernel refuses; taking back is the engine's.

use std::collections::{HashMap, HashSet};

use monitor_common::cap::{Rule, Subject, policy_flag};

use super::compile::Tables;
use crate::proof::Proofs;
use crate::sensor::Enforcer;

/// Writes what differs between `old` and `new`. `fresh`: rules whose buckets begin anew; `proofs`: what servers have proven.
///
/// # Errors
/// What the kernel refuses; what was written before stays.
pub(super) fn apply(
    enforcer: &dyn Enforcer,
    old: &Tables,
    new: &Tables,
    fresh: &HashSet<u16>,
    proofs: &Proofs,
) -> anyhow::Result<()> {
    for (index, rule) in &new.rules {
        if fresh.contains(index) {
            enforcer.reset(*index)?;
        }
        if old.rules.get(index) != Some(rule) {
            enforcer.rule(*index, rule)?;
        }
    }
    for (index, text) in &new.texts {
        if old.texts.get(index) != Some(text) {
            enforcer.text(*index, text)?;
        }
    }
    for (place, every) in (0..).zip(&new.every) {
        if old.every.get(place as usize) != Some(every) {
            enforcer.every(place, every)?;
        }
    }
    differences(&old.subjects, &new.subjects, |key, subject: Option<&Subject>| {
        enforcer.subject(key, subject)
    })?;
    for (path, value) in &new.paths {
        if old.paths.get(path) != Some(value) {
            enforcer.path(path, Some(*value))?;
        }
    }
    for path in old.paths.keys().filter(|path| !new.paths.contains_key(*path)) {
        enforcer.path(path, None)?;
    }
    differences(&old.networks, &new.networks, |key, subject| enforcer.network(key, subject))?;
    if new.flags & !old.flags & policy_flag::PROVEN != 0 {
        for change in proofs.all() {
            enforcer.proven(&change)?;
        }
    }
    for index in old.rules.keys().filter(|index| !new.rules.contains_key(index)) {
        enforcer.rule(*index, &Rule::default())?;
    }
    Ok(())
}

/// Calls `set` for every entry that differs.
fn differences<K: Eq + std::hash::Hash, V: PartialEq>(
    old: &HashMap<K, V>,
    new: &HashMap<K, V>,
    set: impl Fn(&K, Option<&V>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    for (key, value) in new {
        if old.get(key) != Some(value) {
            set(key, Some(value))?;
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        set(key, None)?;
    }
    Ok(())
}
