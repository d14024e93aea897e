//! What the kernel side decided about requests, and what servers decided about credentials.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use monitor_common::cap::{SubjectKey, action, reason};
use monitor_common::event::{Verdict, role};

use super::caps::Refusal;
use super::{ByDirection, Core};
use crate::tracker::{Judged, Shape};
use crate::view::Direction;

/// Most decisions of servers that wait to be taken.
const WAITING: usize = 4_096;

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

/// A credential was accepted by a server, or rejected.
pub type Seen = (Accepted, bool);

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Verdicts {
    /// Names of caps by rule.
    pub names: HashMap<u32, Arc<str>>,
    pub denials: Denials,
    /// The latest refusal of each cap, by rule.
    pub refusals: HashMap<u32, Refusal>,
    /// Whether anybody asks which credentials are accepted.
    pub wanted: bool,
    pub seen: Vec<Seen>,
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
    /// Takes the names of caps by rule, and whether it matters which credentials are accepted.
    pub fn set_caps(&mut self, names: HashMap<u32, Arc<str>>, wants_acceptance: bool) {
        // another cap may have taken the place of one that is gone
        let before = std::mem::replace(&mut self.verdicts.names, names);
        let names = &self.verdicts.names;
        self.verdicts
            .refusals
            .retain(|rule, _| names.contains_key(rule) && names.get(rule) == before.get(rule));
        self.verdicts.wanted = wants_acceptance;
    }

    /// Denied requests so far.
    pub fn denials(&self) -> Denials {
        self.verdicts.denials
    }

    /// Which credentials servers have accepted or rejected since the last call.
    pub fn take_acceptance(&mut self) -> Vec<Seen> {
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

    /// A server has answered: it has accepted the credential, or rejected it, or neither. Only requests with a single credential
    /// tell which one was meant.
    pub(super) fn judged_by_server(&mut self, shape: &Shape, status: u16) {
        if !self.verdicts.wanted || shape.kernel_key.1 == 0 || self.verdicts.seen.len() >= WAITING {
            return;
        }
        let accepted = match status {
            200..=399 => true,
            401 | 403 => false,
            _ => return,
        };
        // 0 unknown, 1 rejected, 2 accepted: said once for each shape
        if shape.server_said.swap(1 + u8::from(accepted), Ordering::Relaxed) == 1 + u8::from(accepted) {
            return;
        }
        let (value, kind) = shape.kernel_key;
        let way = match shape.direction {
            Direction::Inbound => role::INBOUND,
            Direction::Outbound => role::OUTBOUND,
        };
        let key = SubjectKey { value, kind: u32::from(kind), direction: u32::from(way) };
        let claim = self.claims.claimed(shape.fingerprint);
        let one = Accepted {
            key,
            identity: claim
                .map(|claim| format!("{}:{}", claim.kind.label(), claim.label.text))
                .unwrap_or_default(),
            kind: claim.map(|claim| claim.kind.label().to_owned()).unwrap_or_default(),
            issuer: claim.map(|claim| claim.label.issuer.to_string()).unwrap_or_default(),
            subject: claim.map(|claim| claim.label.subject.to_string()).unwrap_or_default(),
        };
        self.verdicts.seen.push((one, accepted));
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
