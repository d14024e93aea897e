//! From roles and caps to the tables of `monitor_common::cap`. Pure: the same inputs give the same tables.

use std::collections::{BTreeMap, HashMap, HashSet};

use ipnet::IpNet;
use monitor_common::answer::Text;
use monitor_common::cap::{
    self, EXCEPT, PathValue, RULES_EACH, Rule, Subject, SubjectKey, policy_flag, scope, space, subject_flag,
};
use monitor_common::event::cred;
use monitor_common::http1::method;
use monitor_common::{path, siphash};

use super::subjects::{Resolver, number};
use super::text;
use crate::config::{Action, Cap, Each, Enforce, Role, is_workload};
use crate::core::Accepted;
use crate::sensor::{NetworkEntry, PathEntry};
use crate::view::Direction;

/// What tables are made from.
pub struct Inputs<'a> {
    /// Roles.
    pub roles: &'a [Role],
    /// Caps with the index of their rule, and whether they are in force.
    pub caps: &'a [(u16, &'a Cap, bool)],
    /// What is never denied.
    pub enforce: &'a Enforce,
    /// Addresses that stand for many clients.
    pub proxies: &'a [IpNet],
    /// Names and carriers.
    pub resolver: &'a Resolver,
    /// Credentials that a server has accepted and whose claims are known.
    pub accepted: &'a [Accepted],
    /// The key of fingerprints.
    pub key: [u64; 2],
}

/// The kernel's tables.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tables {
    /// Rules by index.
    pub rules: BTreeMap<u16, Rule>,
    /// What denied callers are answered, by rule, and behind the last rule for access levels.
    pub texts: BTreeMap<u16, Text>,
    /// `EVERY`.
    pub every: [Subject; 4],
    /// Single subjects.
    pub subjects: HashMap<SubjectKey, Subject>,
    /// Paths.
    pub paths: BTreeMap<PathEntry, PathValue>,
    /// Networks.
    pub networks: HashMap<NetworkEntry, Subject>,
    /// Subjects by rule.
    pub members: BTreeMap<u16, u64>,
    /// `policy_flag`s.
    pub flags: u32,
    /// Something may be denied: fences are needed.
    pub denies: bool,
}

/// Adds rules and flags to a subject.
fn add(subject: &mut Subject, more: &Subject, names: &dyn Fn(u16) -> String) -> Result<(), String> {
    for rule in more.rules.into_iter().take_while(|rule| *rule != 0) {
        if subject.rules.contains(&rule) {
            continue;
        }
        let Some(free) = subject.rules.iter_mut().find(|slot| **slot == 0) else {
            let taken =
                subject.rules.iter().map(|rule| names((rule & !EXCEPT) - 1)).collect::<Vec<_>>().join(", ");
            return Err(format!(
                "more than {RULES_EACH} caps for one subject ({taken}, {}): remove one, or give them different members",
                names((rule & !EXCEPT) - 1)
            ));
        };
        *free = rule;
    }
    if more.access != 0 {
        if subject.access != 0 && subject.access != more.access {
            return Err(
                "one identity is a member of two roles with `access`: put what it may do into one of them"
                    .into(),
            );
        }
        subject.access = more.access;
    }
    subject.flags |= more.flags;
    Ok(())
}

fn of_rule(index: u16) -> Subject {
    let mut subject = Subject::default();
    subject.rules[0] = index + 1;
    subject
}

fn is_credential(key: &SubjectKey) -> bool {
    (1..u32::from(cred::COOKIE) + 8).contains(&key.kind)
}

/// Whether nobody can present this who was not given it: the fingerprint of an AWS key id is that of a public name.
fn is_secret(key: &SubjectKey) -> bool {
    is_credential(key) && key.kind != u32::from(cred::AWS)
}

/// Bit of a method in the value of an access level.
fn method_bit(name: &str) -> PathValue {
    let number = match name {
        "GET" => method::GET,
        "POST" => method::POST,
        "PUT" => method::PUT,
        "HEAD" => method::HEAD,
        "DELETE" => method::DELETE,
        "OPTIONS" => method::OPTIONS,
        "PATCH" => method::PATCH,
        "CONNECT" => method::CONNECT,
        _ => method::OTHER,
    };
    // who may GET may ask for the head of it
    let head = if number == method::GET { 1 << method::HEAD } else { 0 };
    1 << number | head
}

/// Whether `text` matches `pattern`, in which `*` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices()
                .map(|(at, _)| at)
                .chain([rest.len()])
                .any(|at| rest.get(at..).is_some_and(|rest| matches(after, rest)))
        }),
    }
}

/// Whether an accepted credential is a member of a role by what it claims.
pub(super) fn claims(role: &Role, one: &Accepted) -> bool {
    role.kind.as_deref() == Some(&*one.kind)
        && role.issuer.as_deref().is_none_or(|pattern| matches(pattern, &one.issuer))
        && role.subject.as_deref().is_none_or(|pattern| matches(pattern, &one.subject))
}

struct Compiler<'a> {
    inputs: &'a Inputs<'a>,
    tables: Tables,
    networks: HashMap<NetworkEntry, Subject>,
    /// Credentials that are configured by what is secret: they are nobody's guess.
    secrets: HashSet<SubjectKey>,
}

/// Makes the tables.
///
/// # Errors
/// What cannot be done, for whoever wrote the configuration.
pub fn compile(inputs: &Inputs<'_>) -> Result<Tables, String> {
    let mut compiler =
        Compiler { inputs, tables: Tables::default(), networks: HashMap::new(), secrets: HashSet::new() };
    let routes = compiler.routes()?;
    compiler.access()?;
    compiler.caps(&routes)?;
    compiler.exempt()?;
    compiler.proxies()?;
    compiler.nest()?;
    Ok(compiler.finish())
}

impl<'a> Compiler<'a> {
    /// A role that a cap names.
    fn role(&self, cap: &Cap, name: &str) -> Result<&'a Role, String> {
        let role = self.inputs.roles.iter().find(|role| role.name == name);
        role.ok_or_else(|| format!("cap {:?}: there is no role {name:?}", cap.name))
    }

    fn name(&self, index: u16) -> String {
        let found = self.inputs.caps.iter().find(|(known, ..)| *known == index);
        found.map_or_else(|| index.to_string(), |(_, cap, _)| cap.name.clone())
    }

    fn add(&mut self, key: SubjectKey, more: &Subject) -> Result<(), String> {
        let mut subject = self.tables.subjects.get(&key).copied().unwrap_or_default();
        add(&mut subject, more, &|index| self.name(index))?;
        self.tables.subjects.insert(key, subject);
        Ok(())
    }

    fn add_network(&mut self, entry: NetworkEntry, more: &Subject) -> Result<(), String> {
        let mut subject = self.networks.get(&entry).copied().unwrap_or_default();
        add(&mut subject, more, &|index| self.name(index))?;
        self.networks.insert(entry, subject);
        Ok(())
    }

    /// The keys of an identity. Those that are found without what others have claimed are secrets.
    fn keys(&mut self, name: &str, direction: Direction) -> Vec<SubjectKey> {
        let Inputs { resolver, accepted, .. } = self.inputs;
        self.secrets.extend(resolver.keys(name, direction, &[]).into_iter().filter(is_secret));
        resolver.keys(name, direction, accepted)
    }

    /// The keys of a role's members, without its networks.
    fn members(&mut self, role: &Role, direction: Direction) -> Vec<SubjectKey> {
        let accepted = self.inputs.accepted;
        let named: Vec<_> = role.identities.iter().flat_map(|name| self.keys(name, direction)).collect();
        let named = named.into_iter();
        let claimed = accepted.iter().filter(|one| claims(role, one));
        named.chain(claimed.map(|one| SubjectKey { direction: number(direction), ..one.key })).collect()
    }

    /// Bits of the route prefixes of caps. The value of a longer prefix includes those of the shorter ones.
    fn routes(&mut self) -> Result<BTreeMap<Vec<u8>, u8>, String> {
        let prefixes = self.inputs.caps.iter().filter_map(|(_, cap, _)| cap.route.as_deref());
        let prefixes: std::collections::BTreeSet<_> =
            prefixes.map(|prefix| prefix.to_ascii_lowercase().into_bytes()).collect();
        if prefixes.len() > cap::ROUTES {
            return Err(format!("more than {} different routes in caps: use fewer", cap::ROUTES));
        }
        let bits: BTreeMap<_, _> = prefixes.into_iter().zip(1u8..).collect();
        for key in bits.keys().flat_map(|prefix| beginnings(prefix)) {
            let above = bits.iter().filter(|(prefix, _)| is_beginning_under(&key, prefix));
            let value = above.fold(0, |value, (_, bit)| value | 1 << (bit - 1));
            self.tables.paths.insert((space::ROUTES, key), value);
        }
        Ok(bits)
    }

    /// Access levels: a number for each role that has one.
    fn access(&mut self) -> Result<(), String> {
        for (role, level) in self.inputs.roles.iter().zip(1u32..) {
            if role.access.is_empty() {
                continue;
            }
            for key in role.access.iter().flat_map(|grant| beginnings(grant.prefix.as_bytes())) {
                let above =
                    role.access.iter().filter(|grant| is_beginning_under(&key, grant.prefix.as_bytes()));
                let value = above.fold(0, |value, other| {
                    let methods = other.methods.iter().fold(0, |value, name| value | method_bit(name));
                    value | if other.methods.is_empty() { cap::ALL_METHODS } else { methods }
                });
                self.tables.paths.insert((level, key), value);
            }
            let flags = if role.access_action == Action::Deny { 0 } else { subject_flag::ACCESS_SHADOW };
            if flags == 0 {
                self.tables.denies = true;
                self.tables.flags |= policy_flag::GATE | policy_flag::LEVELS | policy_flag::DENIES;
            }
            let subject = Subject { access: level, flags, ..Subject::default() };
            for key in self.members(role, Direction::Inbound) {
                self.add(key, &subject)?;
            }
            for network in &role.networks {
                self.add_network((number(Direction::Inbound), network.0), &subject)?;
            }
        }
        Ok(())
    }

    fn caps(&mut self, routes: &BTreeMap<Vec<u8>, u8>) -> Result<(), String> {
        for (index, cap, on) in self.inputs.caps {
            let direction = cap.direction();
            let limit = cap.limit().ok_or_else(|| format!("cap {:?}: the rate is not possible", cap.name))?;
            let route =
                cap.route.as_ref().and_then(|prefix| routes.get(prefix.to_ascii_lowercase().as_bytes()));
            let host = cap.host.as_ref().map_or(0, |host| siphash::host(self.inputs.key, host.as_bytes()));
            let scope = match cap.each {
                Some(Each::Credential) => scope::EACH_CREDENTIAL,
                Some(Each::Client) => scope::EACH_CLIENT,
                None => scope::ONE,
            };
            let strangers = cap.limit_of_strangers().unwrap_or(limit);
            let rule = Rule {
                limit,
                strangers,
                host,
                route: route.copied().unwrap_or(0),
                scope,
                action: cap.action.number(),
                on: u8::from(*on),
                pad: 0,
            };
            self.tables.rules.insert(*index, rule);
            self.tables.texts.insert(*index, text::over_cap(cap));
            if *on && cap.action == Action::Deny {
                self.tables.denies = true;
                self.tables.flags |= match direction {
                    Direction::Outbound => policy_flag::EARLY,
                    Direction::Inbound => policy_flag::GATE | policy_flag::DENIES,
                };
            }
            self.flag(cap);
            let subject = of_rule(*index);
            let mut members = 0;
            if let Some(name) = &cap.role {
                let role = self.role(cap, name)?;
                for key in self.members(role, direction) {
                    self.add(key, &subject)?;
                    members += 1;
                }
                for network in &role.networks {
                    self.add_network((number(direction), network.0), &subject)?;
                    members += 1;
                }
            } else if let Some(name) = &cap.identity {
                for key in self.keys(name, direction) {
                    self.add(key, &subject)?;
                    members += 1;
                }
            } else if let Some(workload) = &cap.workload {
                for key in self.inputs.resolver.workload(workload, direction) {
                    self.add(key, &subject)?;
                    members += 1;
                }
            } else if let Some(each) = cap.each {
                let place = (number(direction) as usize - 1) * 2 + usize::from(each == Each::Client);
                let mut every = self.tables.every.get(place).copied().unwrap_or_default();
                add(&mut every, &subject, &|index| self.name(index))?;
                if let Some(slot) = self.tables.every.get_mut(place) {
                    *slot = every;
                }
            }
            self.tables.members.insert(*index, members);
            if *on {
                self.exceptions(*index, cap)?;
            }
        }
        Ok(())
    }

    /// Members of the roles that a cap for each client leaves alone.
    fn exceptions(&mut self, index: u16, cap: &Cap) -> Result<(), String> {
        let mut subject = Subject::default();
        subject.rules[0] = (index + 1) | EXCEPT;
        for name in cap.excepted().flatten() {
            let role = self.role(cap, name)?;
            for key in self.members(role, cap.direction()) {
                self.add(key, &subject)?;
            }
            for network in &role.networks {
                self.add_network((number(cap.direction()), network.0), &subject)?;
            }
        }
        Ok(())
    }

    fn flag(&mut self, cap: &Cap) {
        for (flag, is_set) in [
            (policy_flag::WORKLOADS, cap.workload.is_some()),
            (policy_flag::ROUTES, cap.route.is_some()),
            (policy_flag::EACH, cap.each.is_some()),
            (policy_flag::HOSTS, cap.host.is_some()),
        ] {
            if is_set {
                self.tables.flags |= flag;
            }
        }
    }

    fn exempt(&mut self) -> Result<(), String> {
        let exempt = Subject { flags: subject_flag::EXEMPT, ..Subject::default() };
        for text in &self.inputs.enforce.exempt {
            if text.starts_with('/') {
                let keys = beginnings(text.as_bytes());
                self.tables.paths.extend(keys.map(|key| ((space::EXEMPT, key), 1)));
                self.tables.flags |= policy_flag::EXEMPT_PATHS;
                continue;
            }
            let network =
                text.parse::<IpNet>().ok().or_else(|| Some(text.parse::<std::net::IpAddr>().ok()?.into()));
            for direction in [Direction::Inbound, Direction::Outbound] {
                if let Some(network) = network {
                    self.add_network((number(direction), network), &exempt)?;
                } else if is_workload(text) {
                    self.tables.flags |= policy_flag::WORKLOADS;
                    for key in self.inputs.resolver.workload(text, direction) {
                        self.add(key, &exempt)?;
                    }
                } else {
                    for key in self.keys(text, direction) {
                        self.add(key, &exempt)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn proxies(&mut self) -> Result<(), String> {
        if self.tables.flags & policy_flag::EACH == 0 {
            return Ok(());
        }
        let proxy = Subject { flags: subject_flag::PROXY, ..Subject::default() };
        for network in self.inputs.proxies {
            self.add_network((number(Direction::Inbound), *network), &proxy)?;
        }
        Ok(())
    }

    /// A longer network includes what is configured for those around it: the kernel looks at the longest only.
    fn nest(&mut self) -> Result<(), String> {
        for (entry, own) in &self.networks {
            let mut subject = *own;
            for (other, more) in &self.networks {
                if other.0 == entry.0 && other.1 != entry.1 && other.1.contains(&entry.1) {
                    add(&mut subject, more, &|index| self.name(index))?;
                }
            }
            self.tables.networks.insert(*entry, subject);
        }
        Ok(())
    }

    fn finish(mut self) -> Tables {
        let tables = &mut self.tables;
        if !tables.networks.is_empty() {
            tables.flags |= policy_flag::NETWORKS;
        }
        if tables.flags & policy_flag::WORKLOADS != 0 {
            // a packet does not say which process it is for
            tables.flags &= !(policy_flag::GATE | policy_flag::LEVELS);
        }
        if !tables.paths.is_empty() {
            tables.flags |= policy_flag::PATHS;
        }
        tables.texts.insert(cap::RULES as u16, text::outside_access());
        let limits = tables.rules.values().any(|rule| rule.on != 0);
        let levels = tables.paths.keys().any(|(space, _)| *space < space::EXEMPT);
        if limits || levels {
            tables.flags |= policy_flag::ON;
        } else {
            tables.flags = 0;
        }
        if tables.flags == 0 {
            return self.tables;
        }
        for (key, subject) in &mut tables.subjects {
            if is_credential(key) && !self.secrets.contains(key) {
                subject.flags |= subject_flag::CLAIMED;
                tables.flags |= policy_flag::PROVEN;
            }
        }
        if tables.flags & policy_flag::EACH != 0 {
            tables.flags |= policy_flag::PROVEN;
        }
        self.tables
    }
}

/// What the path trie holds for a prefix.
fn beginnings(prefix: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    path::ends(prefix).iter().map(move |end| [prefix, end].concat())
}

/// Whether every path that begins so falls under a prefix.
fn is_beginning_under(beginning: &[u8], prefix: &[u8]) -> bool {
    path::is_under(beginning.strip_suffix(&[path::END]).unwrap_or(beginning), prefix)
}

#[cfg(test)]
#[path = "compile_tests.rs"]
mod tests;
