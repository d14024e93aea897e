//! Caps and roles as they are shown.

use monitor_common::cap::{Bucket, BucketKey, SubjectKey, policy_flag, subject, verdict};
use monitor_common::event::cred;
use monitor_common::gcra::{self, Answer, Limit};

use super::engine::{Effective, Engine};
use super::subjects::{fingerprint, number};
use crate::config::{Cap, Each, Role};
use crate::core::Shown;
use crate::view::{BucketUse, CapExplanation, CapRow, Direction, RoleRow};

/// Most buckets that a row shows.
const TOP: usize = 8;

/// Share of the burst that a bucket has used up.
fn share(limit: &Limit, bucket: &Bucket, now: u64) -> f64 {
    let burst = limit.burst();
    if burst == 0 { 0.0 } else { (gcra::used(limit, bucket.tat, now) / burst as f64).min(1.0) }
}

/// A subject in words: an identity string where that is possible. The kernel does not tell the schemes of `Authorization` apart.
fn text(key: &SubjectKey) -> String {
    let kind = match u8::try_from(key.kind) {
        Ok(cred::AUTHORIZATION) => "bearer",
        Ok(cred::AWS) => "aws",
        Ok(cred::HEADER..cred::QUERY) => "api_key",
        Ok(cred::QUERY..cred::COOKIE) => "query_key",
        Ok(cred::COOKIE..32) => "cookie",
        _ if key.kind == subject::CLIENT => "client",
        _ => "workload",
    };
    format!("{kind}:{:016x}", key.value)
}

/// A client that is shown by the kernel's key, since nobody knows its address.
pub(super) fn unnamed_client(text: &str, direction: Direction) -> Option<SubjectKey> {
    let value = fingerprint(text.strip_prefix("client:")?)?;
    Some(SubjectKey { value, kind: subject::CLIENT, direction: number(direction) })
}

/// The fullest bucket of a rule that has one, or one for each owner of servers.
fn fullest_of(buckets: &[(BucketKey, Bucket)], index: u16, own: Bucket) -> Bucket {
    let of_owners =
        buckets.iter().filter(|(key, _)| key.rule == u32::from(index) && key.subject.kind == subject::OWNER);
    of_owners.map(|(_, bucket)| *bucket).chain([own]).max_by_key(|bucket| bucket.tat).unwrap_or(own)
}

/// Rate and burst of a bucket: those of clients are their strangers', of a cap for credentials.
fn limit_of(cap: &Cap, subject: &SubjectKey) -> Limit {
    let strangers = subject.kind == subject::CLIENT && cap.each != Some(Each::Client);
    if strangers { cap.limit_of_strangers() } else { cap.limit() }.unwrap_or_default()
}

impl Engine {
    /// Every cap.
    pub fn rows(&self) -> Vec<Shown> {
        let proven = self.tables().flags & policy_flag::PROVEN != 0;
        let many = proven || self.caps().iter().any(|one| one.cap.each.is_some());
        let buckets = match self.enforcer() {
            Some(enforcer) if many => enforcer.buckets(),
            _ => Vec::new(),
        };
        self.caps().iter().map(|one| self.row(one, &buckets)).collect()
    }

    fn row(&self, one: &Effective, buckets: &[(BucketKey, Bucket)]) -> Shown {
        let Effective { cap, index, on, source } = one;
        let limit = cap.limit().unwrap_or_default();
        let (mut counts, mut used, mut fullest) = ([0; 4], 0.0, Vec::new());
        let mut rates = [0.0; 2];
        if let Some(enforcer) = self.enforcer() {
            let now = enforcer.now_ns();
            counts = enforcer.counts(*index);
            let sum = counts.iter().sum();
            rates = [1, 10].map(|seconds| self.rates.per_second(*index, sum, now, seconds));
            if cap.each.is_some() {
                let own = buckets.iter().filter(|(key, _)| key.rule == u32::from(*index));
                fullest = own
                    .map(|(key, bucket)| {
                        (key.subject, bucket, share(&limit_of(cap, &key.subject), bucket, now))
                    })
                    .collect();
                fullest.sort_by(|a: &(SubjectKey, &Bucket, f64), b| {
                    b.2.total_cmp(&a.2).then_with(|| (a.0.kind, a.0.value).cmp(&(b.0.kind, b.0.value)))
                });
                fullest.truncate(TOP);
                used = fullest.first().map_or(0.0, |(.., used)| *used);
            } else {
                used = share(&limit, &fullest_of(buckets, *index, enforcer.bucket(*index)), now);
            }
        }
        let count = |verdict: u32| counts.get(verdict as usize).copied().unwrap_or_default();
        let [rate_1s, rate_10s] = rates;
        let bucket = |(key, bucket, used): &(SubjectKey, &Bucket, f64)| BucketUse {
            identity: text(key),
            used: *used,
            admitted: bucket.admitted,
            refused: bucket.refused,
        };
        let row = CapRow {
            name: cap.name.clone(),
            scope: cap.scope(),
            direction: match cap.direction() {
                Direction::Inbound => "inbound".into(),
                Direction::Outbound => "outbound".into(),
            },
            except: cap.except.clone(),
            strangers: cap.strangers.map(|given| given.rate.to_string()).unwrap_or_default(),
            strangers_burst: cap.strangers.map_or(0, |given| given.burst()),
            route: cap.route.clone().unwrap_or_default(),
            host: cap.host.clone().unwrap_or_default(),
            rate: cap.rate.to_string(),
            per_second: cap.rate.per_second(),
            burst: cap.burst(),
            action: cap.action.label().into(),
            enabled: *on,
            source: (*source).into(),
            members: self.tables().members.get(index).copied().unwrap_or_default(),
            allowed: count(verdict::ALLOW),
            observed: count(verdict::OBSERVE),
            shadowed: count(verdict::SHADOW),
            denied: count(verdict::DENY),
            used,
            rate_1s,
            rate_10s,
            buckets: fullest.iter().map(bucket).collect(),
            ..CapRow::default()
        };
        Shown { row, index: *index, fullest: fullest.into_iter().map(|(key, ..)| key).collect() }
    }

    /// Every role.
    pub fn role_rows(&self) -> Vec<RoleRow> {
        let caps = self.caps();
        let row = |role: &Role| {
            let mut members = role.identities.clone();
            if let Some(kind) = &role.kind {
                let subject = role.subject.as_deref().unwrap_or("*");
                let issuer = role.issuer.as_ref().map(|issuer| format!("@{issuer}")).unwrap_or_default();
                members.push(format!("{kind}:{subject}{issuer}"));
            }
            members.extend(role.networks.iter().map(|network| network.0.to_string()));
            let of_role = caps.iter().filter(|one| one.cap.role.as_ref() == Some(&role.name));
            RoleRow {
                name: role.name.clone(),
                members,
                access: role.access.iter().map(ToString::to_string).collect(),
                access_action: role.access_action.label().into(),
                caps: of_role.map(|one| one.cap.name.clone()).collect(),
            }
        };
        self.roles().iter().map(row).collect()
    }

    /// What limits an identity.
    pub fn explain(&mut self, identity: &str) -> Vec<CapExplanation> {
        let accepted = self.claims().to_vec();
        let mut rows = Vec::new();
        let keys = |engine: &Self, name: &str, direction| engine.resolver().keys(name, direction, &accepted);
        // what only a claim can tell has no key before it is accepted
        let claimed = |engine: &Self, direction| {
            let kinds = ["jwt:", "basic:"];
            let names = engine.resolver().identities(identity);
            keys(engine, identity, direction).is_empty()
                && names.iter().any(|name| kinds.iter().any(|kind| name.starts_with(kind)))
        };
        let is_member = |engine: &Self, role: &Role, direction| {
            let own = keys(engine, identity, direction);
            let listed = role.identities.iter().any(|name| {
                name == identity
                    || engine
                        .resolver()
                        .identities(name)
                        .iter()
                        .any(|one| engine.resolver().identities(identity).contains(one))
                    || keys(engine, name, direction).iter().any(|key| own.contains(key))
            });
            let claims = role.kind.as_ref().is_some_and(|kind| {
                engine
                    .resolver()
                    .identities(identity)
                    .iter()
                    .any(|name| name.starts_with(&format!("{kind}:")))
            });
            listed || claims
        };
        let decided = |late: bool| {
            if late {
                (
                    "kernel, where the credential is proven".to_owned(),
                    "those before a guarded route has answered it with 2xx or 3xx (and some milliseconds): they are strangers'"
                        .to_owned(),
                )
            } else {
                ("kernel".to_owned(), "none".to_owned())
            }
        };
        for role in self.roles().iter().filter(|role| !role.access.is_empty()) {
            if is_member(self, role, Direction::Inbound) {
                let (decided, may_pass) = decided(role.kind.is_some() || claimed(self, Direction::Inbound));
                rows.push(CapExplanation {
                    cap: format!("access of role {}", role.name),
                    scope: format!("role {}", role.name),
                    limit: role.access.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
                    action: role.access_action.label().into(),
                    decided,
                    may_pass,
                    used: None,
                    next_in: None,
                });
            }
        }
        let buckets = self.enforcer().map(|enforcer| enforcer.buckets()).unwrap_or_default();
        for one in self.caps().iter().filter(|one| one.on) {
            let cap = &one.cap;
            let direction = cap.direction();
            let own = keys(self, identity, direction);
            let role = cap.role.as_ref().and_then(|name| self.roles().iter().find(|role| role.name == *name));
            let applies = match (role, &cap.identity, &cap.workload, cap.each) {
                (Some(role), ..) => is_member(self, role, direction),
                (_, Some(name), ..) => {
                    name == identity || keys(self, name, direction).iter().any(|key| own.contains(key))
                }
                (_, _, Some(workload), _) => {
                    identity == workload || identity.strip_prefix("workload:") == Some(workload)
                }
                // a client for what its strangers do together
                (.., Some(Each::Credential)) => !identity.starts_with("workload:"),
                // whatever a client presents, its requests count; but which client it is that presents this, nobody knows
                (.., Some(Each::Client)) => identity.starts_with("client:"),
                _ => false,
            };
            if !applies {
                continue;
            }
            let late = role.is_some_and(|role| role.kind.is_some()) || claimed(self, direction);
            let (decided, may_pass) = decided(late);
            let strangers = cap.each == Some(Each::Credential) && identity.starts_with("client:");
            let limit = if strangers { cap.limit_of_strangers() } else { cap.limit() }.unwrap_or_default();
            let bucket = match (self.enforcer(), cap.each) {
                (None, _) => None,
                (Some(enforcer), None) => Some(fullest_of(&buckets, one.index, enforcer.bucket(one.index))),
                (Some(_), Some(_)) => buckets
                    .iter()
                    .find(|(key, _)| key.rule == u32::from(one.index) && own.contains(&key.subject))
                    .map(|(_, bucket)| *bucket),
            };
            let now = self.enforcer().map_or(0, |enforcer| enforcer.now_ns());
            let next_in = bucket.map(|bucket| match gcra::ask(&limit, bucket.tat, now) {
                Answer::Admit(_) => 0.0,
                Answer::Refuse(wait) => wait as f64 / 1e9,
            });
            rows.push(CapExplanation {
                cap: cap.name.clone(),
                scope: if strangers { format!("strangers of {}", cap.scope()) } else { cap.scope() },
                limit: match cap.strangers {
                    _ if !strangers => format!("{}, burst {}", cap.rate, cap.burst()),
                    Some(given) => format!("{}, burst {}", given.rate, given.burst()),
                    None => format!("10 times {}, burst {}", cap.rate, limit.burst()),
                },
                action: cap.action.label().into(),
                decided,
                may_pass,
                used: bucket.map(|bucket| share(&limit, &bucket, now)),
                next_in,
            });
        }
        rows
    }
}
