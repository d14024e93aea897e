//! Caps in words: whose a bucket is, who was denied last and when. The kernel knows credentials by fingerprint and clients by a
//! hash of their address; who that is, only the identities tell.

use std::collections::HashMap;
use std::sync::Arc;

use monitor_common::cap::{SubjectKey, subject};
use monitor_common::event::{cred, role};

use super::Core;
use crate::address::Peer;
use crate::identity::{Id, Kind};
use crate::tracker::Shape;
use crate::view::{CapRow, Direction};

/// A cap as it is shown, and what only the core can put into words.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// The row; its buckets are named by fingerprint.
    pub row: CapRow,
    /// Its rule.
    pub index: u16,
    /// Whose its buckets are, in their order.
    pub fullest: Vec<SubjectKey>,
}

/// The latest refusal of a cap.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    /// When, ns.
    pub ts_ns: u64,
    /// Who was charged.
    pub key: SubjectKey,
    /// The request, when it was seen.
    pub shape: Option<Arc<Shape>>,
}

/// Clients by the kernel's key.
type Clients = HashMap<u64, Option<Peer>>;

impl Core {
    /// Puts caps into words. Looks through the identities when clients have buckets: only for who looks at it.
    pub fn describe_caps(&self, shown: Vec<Shown>) -> Vec<CapRow> {
        let refusals = &self.verdicts.refusals;
        let keys = shown.iter().flat_map(|one| &one.fullest);
        let refused = shown.iter().filter_map(|one| refusals.get(&u32::from(one.index)));
        let keys = keys.chain(refused.map(|refusal| &refusal.key));
        let clients =
            self.clients(keys.filter(|key| key.kind == subject::CLIENT).map(|key| (key.value, None)));
        let row = |one: Shown| {
            let mut row = one.row;
            for (bucket, key) in row.buckets.iter_mut().zip(&one.fullest) {
                if let Some(name) = self.subject(key, &clients) {
                    bucket.identity = name;
                }
            }
            row.top = Vec::new();
            for bucket in &row.buckets {
                // a name stands for its fullest bucket
                if !row.top.iter().any(|(name, _)| *name == bucket.identity) {
                    row.top.push((bucket.identity.clone(), bucket.used));
                }
            }
            row.who = match row.scope.strip_prefix("identity ") {
                Some(identity) => format!("identity {}", self.named(identity)),
                None => row.scope.clone(),
            };
            if let Some(refusal) = refusals.get(&u32::from(one.index)) {
                row.last_denied = self.time(refusal.ts_ns);
                row.last_denied_identity = self.refused(refusal, &clients);
            }
            row
        };
        shown.into_iter().map(row).collect()
    }

    /// Forgets the latest refusal of a cap: its counts begin anew.
    pub fn forget_refusal(&mut self, index: u16) {
        self.verdicts.refusals.remove(&u32::from(index));
    }

    /// Fills in who the wanted clients are.
    fn clients(&self, wanted: impl Iterator<Item = (u64, Option<Peer>)>) -> Clients {
        let mut clients: Clients = wanted.collect();
        let mut left = clients.len();
        for peer in self.identities.iter().flat_map(|row| &row.peers) {
            if left == 0 {
                break;
            }
            let Some(place) = peer.client_key().and_then(|key| clients.get_mut(&key)) else { continue };
            if place.replace(*peer).is_none() {
                left -= 1;
            }
        }
        clients
    }

    /// A subject of the kernel side as `weir identities` shows it; `None` when nobody knows.
    fn subject(&self, key: &SubjectKey, clients: &Clients) -> Option<String> {
        let way =
            if key.direction == u32::from(role::OUTBOUND) { Direction::Outbound } else { Direction::Inbound };
        let kinds: &[Kind] = match u8::try_from(key.kind).ok()? {
            cred::AUTHORIZATION => &[Kind::Bearer, Kind::Jwt, Kind::Basic, Kind::ApiKey],
            cred::AWS => &[Kind::Aws],
            cred::HEADER..cred::QUERY => &[Kind::ApiKey],
            cred::QUERY..cred::COOKIE => &[Kind::QueryKey],
            cred::COOKIE..32 => &[Kind::Cookie],
            _ if key.kind == subject::CLIENT => {
                let peer = clients.get(&key.value).copied().flatten()?;
                let id = match (peer.ip(), peer.uid()) {
                    (Some(ip), _) => Id::client(way, ip),
                    (_, Some(uid)) => Id::local_user(way, uid),
                    _ => return None,
                };
                return Some(self.names.show(&id, None));
            }
            _ => return None,
        };
        let ids = || kinds.iter().map(|kind| Id::credential(way, *kind, key.value));
        if let Some(name) = ids().find_map(|id| self.names.get(&id).map(ToOwned::to_owned)) {
            return Some(name);
        }
        if let Some(claim) = self.claims.peek_accepted(key.value) {
            return Some(self.names.show(&claim.id(way), Some(&claim.label)));
        }
        ids().find(|id| self.identities.get(id).is_some()).map(|id| id.text(None))
    }

    /// The configured name of an identity string, or the name that a server has accepted; else itself.
    fn named(&self, identity: &str) -> String {
        let Some(id) = Id::parse(identity, &self.prints) else { return identity.to_owned() };
        if let Some(name) = self.names.get(&id) {
            return name.to_owned();
        }
        let claim = id.fingerprint().filter(|_| id.may_be_named());
        match claim.and_then(|fingerprint| self.claims.peek_accepted(fingerprint)) {
            Some(claim) => self.names.show(&claim.id(id.direction), Some(&claim.label)),
            None => identity.to_owned(),
        }
    }

    fn refused(&self, refusal: &Refusal, clients: &Clients) -> String {
        let Refusal { key, shape, .. } = refusal;
        let is_workload = matches!(key.kind, subject::CGROUP | subject::EXECUTABLE);
        match shape {
            Some(shape) if is_workload => format!("workload:{}", shape.workload),
            Some(shape) => self
                .subject(key, clients)
                .unwrap_or_else(|| self.names.show(&shape.id, shape.label.as_deref())),
            None => self.subject(key, clients).unwrap_or_default(),
        }
    }
}
