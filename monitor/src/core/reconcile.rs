//! Requests whose record the ring buffer had no room for: the kernel counted them by identity, so they are charged to
//! whom they belong, late but exactly once.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use foldhash::fast::RandomState;
use monitor_common::event::{Request, cred, role};

use super::Core;
use crate::identity::{Id, Kind};
use crate::tracker::Shape;
use crate::view::Direction;

/// Keys that are followed: as many as the kernel side's map holds.
const KEYS: usize = 131_072;

/// One of the kernel's exact per-identity counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelIdentity {
    /// Fingerprint of the first credential, or of the remote address (`Request::client`) when there is none.
    pub fp: u64,
    /// One of `event::cred`.
    pub cred: u8,
    /// One of `event::role`.
    pub role: u8,
    /// Requests.
    pub requests: u64,
}

/// What the kernel side counted, read *before* the drain that preceded [`Core::reconcile`]: every record that was
/// written before the reading has then been delivered.
#[derive(Clone, Debug, Default)]
pub struct KernelCounts {
    /// `ledger::Counter::RequestsInbound`.
    pub inbound: u64,
    /// `ledger::Counter::RequestsOutbound`.
    pub outbound: u64,
    /// `ledger::Counter::LostRequest`.
    pub lost_requests: u64,
    /// Per-identity counters. May be left empty while `lost_requests` has not changed.
    pub identities: Vec<KernelIdentity>,
}

type Key = (u64, u8, u8);

#[derive(Clone, Debug)]
struct Count {
    key: Key,
    /// Request records that arrived.
    delivered: u64,
    /// Lost ones that were charged.
    charged: u64,
    /// Who they are charged to; `None` when several identities share the key.
    id: Option<Id>,
}

/// Request records delivered, by the kernel's key.
#[derive(Default)]
pub(super) struct Delivered {
    counts: Vec<Count>,
    index: HashMap<Key, u32, RandomState>,
    /// Some keys are not followed, so a key that is not here may have been delivered.
    overflow: bool,
    /// Lost requests that were charged.
    charged: u64,
}

impl Delivered {
    /// Takes note of a delivered request record.
    pub fn count(&mut self, record: &Request, shape: &Shape) {
        let [number, ..] = record.cred;
        let [print, ..] = record.fp;
        // the kernel side keys by what the record says, not by what the daemon finds out
        let fp = if number == cred::NONE { record.client } else { print };
        let key = (fp, number, record.role);
        let hint = shape.kernel.load(Ordering::Relaxed);
        if let Some(count) = self.counts.get_mut(hint as usize).filter(|count| count.key == key) {
            count.delivered += 1;
            return;
        }
        let at = match self.index.get(&key) {
            Some(at) => *at,
            None if self.counts.len() >= KEYS => {
                self.overflow = true;
                return;
            }
            None => {
                let at = self.counts.len() as u32;
                self.counts.push(Count { key, delivered: 0, charged: 0, id: Some(shape.id) });
                self.index.insert(key, at);
                at
            }
        };
        shape.kernel.store(at, Ordering::Relaxed);
        if let Some(count) = self.counts.get_mut(at as usize) {
            count.delivered += 1;
            if number != cred::NONE {
                // the same credential, perhaps under its accepted name by now
                count.id = Some(shape.id);
            } else if count.id != Some(shape.id) {
                count.id = None;
            }
        }
    }
}

impl Core {
    /// Charges requests that the kernel side counted and could not deliver.
    pub fn reconcile(&mut self, kernel: &KernelCounts) {
        let mut missing = kernel.lost_requests.saturating_sub(self.kernel.charged);
        if missing == 0 {
            return;
        }
        for counted in &kernel.identities {
            let Some((id, lost)) = self.kernel.lost(counted, missing) else { continue };
            missing -= lost;
            self.charge_lost(id, lost);
        }
        // nothing is on its way: what no key explains belongs to nobody in particular
        let settled = kernel.inbound + kernel.outbound == self.delivered.sum() + kernel.lost_requests;
        if settled {
            for (direction, produced) in
                [(Direction::Inbound, kernel.inbound), (Direction::Outbound, kernel.outbound)]
            {
                let known = *self.delivered.get_mut(direction) + *self.lost.get_mut(direction);
                let lost = produced.saturating_sub(known).min(missing);
                missing -= lost;
                self.kernel.charged += lost;
                self.charge_lost(Id::other(direction), lost);
            }
        }
    }

    fn charge_lost(&mut self, id: Id, lost: u64) {
        if lost > 0 {
            *self.lost.get_mut(id.direction) += lost;
            self.identities.charge_lost(&id, self.second(), lost);
        }
    }
}

impl Delivered {
    /// Who the lost requests of a key belong to, and how many of at most `missing` they are.
    fn lost(&mut self, counted: &KernelIdentity, missing: u64) -> Option<(Id, u64)> {
        let direction = if counted.role == role::OUTBOUND { Direction::Outbound } else { Direction::Inbound };
        let key = (counted.fp, counted.cred, counted.role);
        let unfollowed = self.overflow || self.counts.len() >= KEYS;
        let known = self.index.get(&key).and_then(|at| self.counts.get_mut(*at as usize));
        let (id, lost) = match known {
            Some(count) => {
                let lost = counted.requests.saturating_sub(count.delivered + count.charged).min(missing);
                count.charged += lost;
                (count.id.unwrap_or(Id::other(direction)), lost)
            }
            None if unfollowed => return None,
            None => {
                // never delivered: the number of the carrier says the kind, except for `Authorization`
                let id = match counted.cred {
                    cred::AWS => Id::credential(direction, Kind::Aws, counted.fp),
                    cred::QUERY..cred::COOKIE => Id::credential(direction, Kind::QueryKey, counted.fp),
                    cred::COOKIE.. => Id::credential(direction, Kind::Cookie, counted.fp),
                    _ => Id::other(direction),
                };
                let lost = counted.requests.min(missing);
                let at = self.counts.len() as u32;
                self.counts.push(Count { key, delivered: 0, charged: lost, id: Some(id) });
                self.index.insert(key, at);
                (id, lost)
            }
        };
        self.charged += lost;
        (lost > 0).then_some((id, lost))
    }
}
