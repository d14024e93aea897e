//! What the kernel side decided about requests, and what servers decided about credentials.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use monitor_common::cap::{SubjectKey, action, reason};
use monitor_common::event::{Verdict, cred, role};

use super::caps::Refusal;
use super::{ByDirection, Core};
use crate::proof::Answered;
use crate::route::{self, RouteRef};
use crate::tracker::{Judged, Shape};
use crate::view::Direction;

/// Most decisions of servers that wait to be taken.
const WAITING: usize = 4_096;

/// How long it is taken for known how a route answers callers without credentials.
const TOLD_NS: u64 = 600 * 1_000_000_000;

/// Denied requests by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Denials {
    /// Over a cap.
    pub cap: ByDirection,
    /// Outside an access level.
    pub access: ByDirection,
    /// More credentials than are told apart.
    pub credentials: ByDirection,
    /// Bytes that cannot be framed.
    pub framing: ByDirection,
}

/// Most verdicts that wait for their request.
const EARLY: usize = 1_024;

/// A credential that a server has accepted, and what it claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// As the kernel knows it.
    pub key: SubjectKey,
    /// The identity that it stands for (`jwt:alice@issuer`); empty when it claims nobody.
    pub identity: String,
    /// Its kind.
    pub kind: String,
    /// Claimed issuer.
    pub issuer: String,
    /// Claimed subject or user.
    pub subject: String,
}

/// What a server has answered to a credential, or to a caller without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its answer; `None` of an outbound request, whose caller's credentials are its own.
    pub answered: Option<Answered>,
    /// What the credential claims, if it claims anything and the answer was good.
    pub claim: Option<Accepted>,
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Verdicts {
    /// Names of caps by rule.
    pub names: HashMap<u32, Arc<str>>,
    pub denials: Denials,
    /// The latest refusal of each cap, by rule.
    pub refusals: HashMap<u32, Refusal>,
    /// Counted up when answers mean more than when they were told: they are told again.
    pub generation: u32,
    pub seen: Vec<Seen>,
    /// Routes whose answers to callers without credentials were told, and when that began.
    told: (HashSet<(Arc<str>, RouteRef, bool)>, u64),
    /// Verdicts of packets come before the server's framing has reported the request: connection, number, verdict.
    pub early: VecDeque<(u64, u32, Judged)>,
}

impl Verdicts {
    /// What was decided about a request before it was reported.
    pub fn before(&mut self, conn: u64, seq: u32) -> Option<Judged> {
        let at = self.early.iter().position(|(of, number, _)| *of == conn && *number == seq)?;
        self.early.remove(at).map(|(.., judged)| judged)
    }
}

impl Core {
    /// Takes the names of caps by rule.
    pub fn set_caps(&mut self, names: HashMap<u32, Arc<str>>) {
        // another cap may have taken the place of one that is gone
        let before = std::mem::replace(&mut self.verdicts.names, names);
        let names = &self.verdicts.names;
        self.verdicts
            .refusals
            .retain(|rule, _| names.contains_key(rule) && names.get(rule) == before.get(rule));
    }

    /// Answers that were told before are told again when this is another number.
    pub fn tell_again(&mut self, generation: u32) {
        self.verdicts.generation = generation;
    }

    /// Denied requests so far.
    pub fn denials(&self) -> Denials {
        self.verdicts.denials
    }

    /// What servers have answered since the last call.
    pub fn take_answers(&mut self) -> Vec<Seen> {
        std::mem::take(&mut self.verdicts.seen)
    }

    /// A request was refused, or would have been.
    pub(super) fn verdict(&mut self, verdict: &Verdict) {
        if verdict.reason == reason::SOCKET {
            return;
        }
        let direction = if verdict.role == role::OUTBOUND { Direction::Outbound } else { Direction::Inbound };
        if verdict.action == action::DENY {
            let denials = &mut self.verdicts.denials;
            let counter = match verdict.reason {
                reason::ACCESS => &mut denials.access,
                reason::CREDENTIALS => &mut denials.credentials,
                reason::FRAMING => &mut denials.framing,
                _ => &mut denials.cap,
            };
            *counter.get_mut(direction) += 1;
        }
        let judged = Judged { action: verdict.action, reason: verdict.reason, rule: verdict.rule };
        let connection = self.connections.get_mut(verdict.conn);
        let shape = connection.and_then(|connection| connection.judge(verdict.seq, judged)).map(Arc::clone);
        if verdict.reason == reason::CAP {
            let key = SubjectKey {
                value: verdict.value,
                kind: verdict.subject,
                direction: u32::from(verdict.role),
            };
            let refusal = Refusal { ts_ns: verdict.ts_ns, key, shape: shape.clone() };
            self.verdicts.refusals.insert(verdict.rule, refusal);
        }
        if let Some(shape) = shape {
            self.audit(&shape, judged);
            return;
        }
        if self.verdicts.early.len() >= EARLY {
            self.verdicts.early.pop_front();
        }
        self.verdicts.early.push_back((verdict.conn, verdict.seq, judged));
    }

    pub(super) fn audit(&self, shape: &Shape, judged: Judged) {
        tracing::debug!(
            target: "audit",
            verdict = word(judged.action),
            reason = reason_word(judged.reason),
            cap = self.verdicts.names.get(&judged.rule).filter(|_| judged.reason == reason::CAP).map(|name| &**name),
            identity = self.names.show(&shape.id, shape.label.as_deref()),
            peer = shape.peer.text(),
            workload = &*shape.workload,
            method = &*shape.method_text,
            path = &*shape.path,
            "request refused"
        );
    }

    /// Name of a cap by the rule of a verdict; empty for other reasons.
    pub(super) fn cap_name(&self, judged: Judged) -> String {
        let name = self.verdicts.names.get(&judged.rule).filter(|_| judged.reason == reason::CAP);
        name.map(ToString::to_string).unwrap_or_default()
    }

    /// A server has answered: it has taken the credentials, or rejected them, or neither. Told once for each shape, and to callers
    /// without credentials once for each route.
    pub(super) fn judged_by_server(&mut self, shape: &Shape, status: u16) {
        let good = match status {
            200..=399 => true,
            401 | 403 => false,
            _ => return,
        };
        let said = (self.verdicts.generation << 2) | (1 + u32::from(good));
        if shape.server_said.load(Ordering::Relaxed) == said || self.verdicts.seen.len() >= WAITING {
            return;
        }
        shape.server_said.store(said, Ordering::Relaxed);
        let nothing = shape.presented.iter().all(|(_, kind)| *kind == 0);
        if nothing && (shape.direction == Direction::Outbound || self.is_told(shape, good)) {
            return;
        }
        let claim = if good { self.claim(shape) } else { None };
        let answered = (shape.direction == Direction::Inbound).then(|| self.answered(shape, good));
        if answered.is_some() || claim.is_some() {
            self.verdicts.seen.push(Seen { answered, claim });
        }
    }

    /// Whether it is known how a route answers callers without credentials; from now on it is.
    fn is_told(&mut self, shape: &Shape, good: bool) -> bool {
        let (told, since) = &mut self.verdicts.told;
        if told.len() >= WAITING || self.now_ns.saturating_sub(*since) > TOLD_NS {
            told.clear();
            *since = self.now_ns;
        }
        !told.insert((Arc::clone(&shape.workload), shape.route, good))
    }

    fn answered(&self, shape: &Shape, good: bool) -> Answered {
        let process = shape.process.and_then(|process| self.processes.get(process));
        let route = self.routes.get(shape.route).map(|route| &*route.template);
        let route = route.filter(|route| ![route::OTHER, route::UNKNOWN].contains(route));
        Answered {
            end: shape.end,
            server: process
                .map(|process| format!("{} {} {}", process.workload, shape.end.port, process.user).into())
                .unwrap_or_default(),
            route: route.map(|route| format!("{} {route}", shape.method.label()).into()).unwrap_or_default(),
            path: shape.path.clone(),
            network: shape.network,
            presented: shape.presented,
            good,
        }
    }

    /// What a credential of a request claims.
    fn claim(&mut self, shape: &Shape) -> Option<Accepted> {
        let (value, kind) = *shape.presented.iter().find(|(_, kind)| *kind == cred::AUTHORIZATION)?;
        let claim = self.claims.claimed(value)?;
        let way = match shape.direction {
            Direction::Inbound => role::INBOUND,
            Direction::Outbound => role::OUTBOUND,
        };
        Some(Accepted {
            key: SubjectKey { value, kind: u32::from(kind), direction: u32::from(way) },
            identity: format!("{}:{}", claim.kind.label(), claim.label.text),
            kind: claim.kind.label().to_owned(),
            issuer: claim.label.issuer.to_string(),
            subject: claim.label.subject.to_string(),
        })
    }
}

/// The word for an action.
pub(super) fn word(number: u8) -> &'static str {
    match number {
        action::DENY => "deny",
        action::SHADOW => "shadow",
        _ => "allow",
    }
}

/// The word for a reason.
pub(super) fn reason_word(number: u8) -> &'static str {
    match number {
        reason::CAP => "cap",
        reason::ACCESS => "access",
        reason::CREDENTIALS => "credentials",
        reason::FRAMING => "framing",
        _ => "",
    }
}
