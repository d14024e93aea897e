//! Counts per identity, bounded. Beyond the bound this is Space-Saving (Metwally, Agrawal, El Abbadi 2005): a newcomer
//! takes the place of the identity with the lowest rank and inherits that rank, so that whoever is really heavy climbs
//! and stays. Unlike there the counts that are shown are not inherited: what the displaced one had is folded into
//! `other`, so the sum of all rows is always the exact total.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::{Carrier, Id, Kind, Label};
use crate::address::Peer;
use crate::rates::{Sample, Tally};
use crate::view::Direction;

/// Peers and workloads remembered for each identity.
const LATEST: usize = 8;
/// Identities looked at by one call of [`Table::expire`].
const SWEEP: usize = 4096;

/// Where a request came from and what it carried: what is remembered beside the counts.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Name of a named identity.
    pub label: Option<&'a Arc<Label>>,
    /// What carried the credential.
    pub carrier: Carrier,
    /// Fingerprint of the credential, 0 without one.
    pub fingerprint: u64,
    /// Client or destination.
    pub peer: Peer,
    /// Local workload.
    pub workload: &'a Arc<str>,
    /// Time of the request's head in ns.
    pub at_ns: u64,
}

/// One identity in one direction.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Who.
    pub id: Id,
    /// Name, when it is known by one.
    pub label: Option<Arc<Label>>,
    /// What carried the latest credential.
    pub carrier: Carrier,
    /// Fingerprint of the latest credential, 0 without one.
    pub fingerprint: u64,
    /// Peers, the latest first.
    pub peers: Vec<Peer>,
    /// Workloads, the latest first.
    pub workloads: Vec<Arc<str>>,
    /// First request, ns.
    pub first_ns: u64,
    /// Latest request, ns.
    pub last_ns: u64,
    /// Counts.
    pub tally: Tally,
    /// Rank inherited from the identity whose place this one took.
    inherited: u64,
    generation: u32,
}

impl Identity {
    fn new(id: Id, inherited: u64, generation: u32) -> Self {
        Self {
            id,
            label: None,
            carrier: Carrier::NONE,
            fingerprint: 0,
            peers: Vec::new(),
            workloads: Vec::new(),
            first_ns: u64::MAX,
            last_ns: 0,
            tally: Tally::default(),
            inherited,
            generation,
        }
    }

    fn rank(&self) -> u64 {
        self.inherited + self.tally.requests()
    }

    /// Adds what another row counted: both go by the same configured name.
    pub fn absorb(&mut self, other: &Self) {
        self.first_ns = self.first_ns.min(other.first_ns);
        self.last_ns = self.last_ns.max(other.last_ns);
        for peer in other.peers.iter().rev() {
            latest(&mut self.peers, *peer);
        }
        for workload in other.workloads.iter().rev() {
            latest(&mut self.workloads, Arc::clone(workload));
        }
        self.tally.merge(&other.tally);
    }

    fn see(&mut self, seen: &Seen<'_>) {
        self.first_ns = self.first_ns.min(seen.at_ns);
        self.last_ns = self.last_ns.max(seen.at_ns);
        if self.id.kind == Kind::Other {
            return;
        }
        if self.label.is_none() && seen.label.is_some() {
            self.label = seen.label.cloned();
        }
        if seen.fingerprint != 0 {
            self.fingerprint = seen.fingerprint;
            self.carrier = seen.carrier;
        }
        if self.peers.first() != Some(&seen.peer) {
            latest(&mut self.peers, seen.peer);
        }
        if !self.workloads.first().is_some_and(|known| Arc::ptr_eq(known, seen.workload)) {
            latest(&mut self.workloads, Arc::clone(seen.workload));
        }
    }
}

/// Moves `item` to the front of a short list.
fn latest<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if let Some(at) = list.iter().position(|known| *known == item) {
        list.remove(at);
    } else if list.len() >= LATEST {
        list.pop();
    } else {
        list.reserve_exact(1);
    }
    list.insert(0, item);
}

/// The bounded table.
pub struct Table {
    rows: Vec<Identity>,
    index: HashMap<Id, u32, RandomState>,
    /// Every row once, by a rank that is at most its present one; only kept while the table is full.
    lowest: BinaryHeap<Reverse<(u64, u32)>>,
    other: [Identity; 2],
    limit: usize,
    swept: usize,
    displaced: u64,
}

impl Table {
    /// An empty table of at most `limit` identities.
    pub fn new(limit: usize) -> Self {
        Self {
            rows: Vec::new(),
            index: HashMap::default(),
            lowest: BinaryHeap::new(),
            other: [Direction::Inbound, Direction::Outbound]
                .map(|direction| Identity::new(Id::other(direction), 0, 0)),
            limit: limit.clamp(1, u32::MAX as usize),
            swept: 0,
            displaced: 0,
        }
    }

    /// Changes the bound. A lower one holds for newcomers; it does not shrink the table.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit.clamp(1, u32::MAX as usize);
        self.lowest.clear();
    }

    /// Counts a finished request. `hint` is what the last call for this identity returned, or anything.
    pub fn charge(&mut self, id: &Id, hint: u64, seen: &Seen<'_>, sample: &Sample) -> u64 {
        let at = self.place(id, hint);
        if let Some(row) = self.rows.get_mut(at as usize) {
            row.see(seen);
            row.tally.add(sample);
            return u64::from(row.generation) << 32 | u64::from(at);
        }
        let other = self.other_mut(id.direction);
        other.see(seen);
        other.tally.add(sample);
        0
    }

    /// Counts requests of which only the identity is known.
    pub fn charge_lost(&mut self, id: &Id, second: u32, requests: u64) {
        let at = if id.kind == Kind::Other { u32::MAX } else { self.place(id, 0) };
        let direction = id.direction;
        match self.rows.get_mut(at as usize) {
            Some(row) => row.tally.add_lost(second, requests),
            None => self.other_mut(direction).tally.add_lost(second, requests),
        }
    }

    /// Index of the row of `id`, which is made when there is none; `u32::MAX` for `other`.
    fn place(&mut self, id: &Id, hint: u64) -> u32 {
        let hinted = hint as u32;
        if self
            .rows
            .get(hinted as usize)
            .is_some_and(|row| u64::from(row.generation) == hint >> 32 && row.id == *id)
        {
            return hinted;
        }
        if let Some(at) = self.index.get(id) {
            return *at;
        }
        if id.kind == Kind::Other {
            return u32::MAX;
        }
        if self.rows.len() < self.limit {
            let at = self.rows.len() as u32;
            self.rows.push(Identity::new(*id, 0, 0));
            self.index.insert(*id, at);
            self.lowest.clear();
            return at;
        }
        self.displace(id)
    }

    fn displace(&mut self, id: &Id) -> u32 {
        if self.lowest.is_empty() {
            let ranked = self.rows.iter().enumerate().map(|(at, row)| Reverse((row.rank(), at as u32)));
            self.lowest = ranked.collect();
        }
        // ranks only grow: the top is the lowest once its entry is up to date
        let at = loop {
            let Some(mut top) = self.lowest.peek_mut() else { return u32::MAX };
            let Reverse((rank, at)) = *top;
            let now = self.rows.get(at as usize).map_or(rank, Identity::rank);
            if now == rank {
                break at;
            }
            *top = Reverse((now, at));
        };
        let Some(row) = self.rows.get_mut(at as usize) else { return u32::MAX };
        let fresh = Identity::new(*id, row.rank(), row.generation.wrapping_add(1));
        let old = std::mem::replace(row, fresh);
        self.index.remove(&old.id);
        self.index.insert(*id, at);
        self.displaced += 1;
        let other = self.other_mut(old.id.direction);
        other.tally.merge(&old.tally);
        other.first_ns = other.first_ns.min(old.first_ns);
        other.last_ns = other.last_ns.max(old.last_ns);
        at
    }

    fn other_mut(&mut self, direction: Direction) -> &mut Identity {
        let [inbound, outbound] = &mut self.other;
        match direction {
            Direction::Inbound => inbound,
            Direction::Outbound => outbound,
        }
    }

    /// All identities that were ever charged, `other` included.
    pub fn iter(&self) -> impl Iterator<Item = &Identity> {
        self.rows.iter().chain(&self.other).filter(|row| row.tally.requests() > 0)
    }

    /// The `limit` heaviest identities, heaviest first, `other` among them.
    pub fn heaviest(&self, limit: usize) -> Vec<&Identity> {
        let mut rows: Vec<&Identity> = self.iter().collect();
        if limit == 0 {
            return Vec::new();
        }
        if rows.len() > limit {
            rows.select_nth_unstable_by_key(limit - 1, |row| Reverse(row.tally.requests()));
            rows.truncate(limit);
        }
        rows.sort_by_key(|row| Reverse(row.tally.requests()));
        rows
    }

    /// The row of an identity.
    pub fn get(&self, id: &Id) -> Option<&Identity> {
        self.index.get(id).and_then(|at| self.rows.get(*at as usize))
    }

    /// Identities tracked by themselves.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether none is tracked.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Identities that were folded into `other`.
    pub fn displaced(&self) -> u64 {
        self.displaced
    }

    /// Frees what is older than any rate looks back, in some of the rows.
    pub fn expire(&mut self, second: u32) {
        if self.swept >= self.rows.len() {
            self.swept = 0;
        }
        for row in self.rows.iter_mut().skip(self.swept).take(SWEEP) {
            row.tally.expire(second);
        }
        self.swept += SWEEP;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn charge(table: &mut Table, who: u64, hint: u64) -> u64 {
        let workload = Arc::from("exe:/x");
        let seen = Seen {
            label: None,
            carrier: Carrier::NONE,
            fingerprint: who,
            peer: Peer::UNKNOWN,
            workload: &workload,
            at_ns: 5,
        };
        let sample = Sample { second: 1, status: 200, ..Sample::default() };
        table.charge(&Id::credential(Direction::Inbound, Kind::Bearer, who), hint, &seen, &sample)
    }

    fn count(table: &Table, who: u64) -> u64 {
        table
            .get(&Id::credential(Direction::Inbound, Kind::Bearer, who))
            .map_or(0, |row| row.tally.requests())
    }

    #[test]
    fn a_late_heavy_hitter_gets_in_among_strangers() {
        let mut table = Table::new(100);
        for who in 1..=100 {
            for _ in 0..3 {
                charge(&mut table, who, 0);
            }
        }
        for round in 0..1000 {
            charge(&mut table, 10_000 + round, 0);
            charge(&mut table, 7777, 0);
        }
        assert!(count(&table, 7777) > 900, "{}", count(&table, 7777));
        assert_eq!(table.iter().map(|row| row.tally.requests()).sum::<u64>(), 300 + 2000);
        assert_eq!(table.len(), 100);
    }

    #[test]
    fn a_hint_of_a_displaced_row_is_not_believed() {
        let mut table = Table::new(1);
        let hint = charge(&mut table, 1, 0);
        charge(&mut table, 2, hint);
        charge(&mut table, 1, hint);
        assert_eq!((count(&table, 1), count(&table, 2)), (1, 0));
        assert_eq!(table.heaviest(10).iter().map(|row| row.tally.requests()).sum::<u64>(), 3);
    }

    proptest! {
        #[test]
        fn the_sum_of_the_rows_is_the_total(limit in 1usize..20, who in proptest::collection::vec(0u64..60, 0..500)) {
            let mut table = Table::new(limit);
            let mut hint = 0;
            for one in &who { hint = charge(&mut table, *one, hint); }
            prop_assert_eq!(table.iter().map(|row| row.tally.requests()).sum::<u64>(), who.len() as u64);
            prop_assert!(table.len() <= limit);
            prop_assert!(table.index.len() == table.len());
        }
    }
}
