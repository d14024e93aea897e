//! What is remembered of finished requests beyond the latest: enough to replay them against other caps, and no more.
//!
//! ```text
//! entry (16 bytes: time, status, slot) -> slot -> What: identities, client, workload, method, host, path without query
//! ```
//!
//! Requests that differ in nothing but time and status share a [`What`], on whatever connections they came; a [`Shape`] remembers
//! its slot, so that the steady state adds an entry and counts. Bounded in entries and in bytes; the oldest go first. Holds
//! no credential: identities are fingerprints and names, as everywhere.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use foldhash::fast::RandomState;

use super::{Core, Finished};
use crate::address::Peer;
use crate::identity::{Id, Label};
use crate::route::Method;
use crate::tracker::Shape;
use crate::view::{Covered, RecentRecord};

/// Bytes of a path that are kept: as many as caps compare.
const PATH: usize = monitor_common::cap::PATH;
/// Bytes of a [`What`] beside itself and its texts: its slot and index entry (of tables that are half full), and what the
/// allocator adds to two allocations.
const OVERHEAD: usize = 2 * size_of::<Slot>() + 2 * (size_of::<(u64, u32)>() + 1) + 2 * 16;

/// An identity and its name.
type Who = (Id, Option<Arc<Label>>);

/// What requests have in common.
#[derive(Debug)]
struct What {
    who: Who,
    also: Box<[Who]>,
    peer: Peer,
    method: Method,
    workload: Arc<str>,
    /// Host, then path.
    text: Box<str>,
    host_len: usize,
}

/// The part of a path that is kept.
fn kept_path(shape: &Shape) -> &str {
    shape.path.get(..shape.path.floor_char_boundary(PATH)).unwrap_or_default()
}

impl What {
    fn of(shape: &Shape) -> Self {
        let (host, path) = (shape.host(), kept_path(shape));
        Self {
            who: (shape.id, shape.label.clone()),
            also: shape.also.as_slice().into(),
            peer: shape.peer.without_port(),
            method: shape.method,
            workload: Arc::clone(&shape.workload),
            text: [host, path].concat().into(),
            host_len: host.len(),
        }
    }

    /// What [`What::is`] compares. An identity tells its name, so names need not be looked at.
    fn print(shape: &Shape, hasher: &RandomState) -> u64 {
        let mut state = hasher.build_hasher();
        let also = shape.also.iter().map(|(id, _)| id);
        (shape.id, shape.peer.without_port(), shape.method, &*shape.workload).hash(&mut state);
        (shape.host(), kept_path(shape)).hash(&mut state);
        also.for_each(|id| id.hash(&mut state));
        state.finish()
    }

    /// Whether it is of such requests.
    fn is(&self, shape: &Shape) -> bool {
        self.who.0 == shape.id
            && self.peer == shape.peer.without_port()
            && self.method == shape.method
            && self.workload == shape.workload
            && self.host() == shape.host()
            && self.path() == kept_path(shape)
            && self.also.iter().map(|(id, _)| id).eq(shape.also.iter().map(|(id, _)| id))
    }

    fn host(&self) -> &str {
        self.text.get(..self.host_len).unwrap_or_default()
    }

    fn path(&self) -> &str {
        self.text.get(self.host_len..).unwrap_or_default()
    }

    /// Memory that it takes up; its workload is shared with others.
    fn bytes(&self) -> usize {
        let names = std::iter::once(&self.who).chain(&self.also).filter_map(|(_, label)| label.as_ref());
        let names = names
            .map(|label| size_of::<Label>() + label.text.len() + label.issuer.len() + label.subject.len());
        size_of::<Self>() + self.text.len() + size_of_val(&*self.also) + names.sum::<usize>() + OVERHEAD
    }
}

/// A place for a [`What`].
#[derive(Default)]
struct Slot {
    /// `None` when it is free.
    what: Option<Box<What>>,
    print: u64,
    /// Entries that point here.
    entries: u32,
    /// Counted up whenever something else moves in, from 1.
    generation: u32,
}

/// A finished request.
#[derive(Clone, Copy)]
struct Entry {
    ts_ns: u64,
    slot: u32,
    status: u16,
}

/// The requests, numbered from 0 since the start.
pub(super) struct History {
    entries: VecDeque<Entry>,
    /// Number of the oldest one.
    first: u64,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Slots by print. Of two with the same print only one is found again, the other is kept once more.
    index: HashMap<u64, u32, RandomState>,
    /// Bytes of everything.
    bytes: usize,
    most: usize,
    most_bytes: usize,
    /// Every request that began after this is kept, ns.
    complete_ns: u64,
}

impl History {
    /// Of at most `most` requests and `most_bytes`; of none when either is 0. It begins at `now_ns`.
    pub fn new(most: usize, most_bytes: usize, now_ns: u64) -> Self {
        Self {
            entries: VecDeque::new(),
            first: 0,
            slots: Vec::new(),
            free: Vec::new(),
            index: HashMap::default(),
            bytes: 0,
            most,
            most_bytes,
            complete_ns: now_ns,
        }
    }

    /// Changes the bounds.
    pub fn set_limits(&mut self, most: usize, most_bytes: usize, now_ns: u64) {
        if !self.is_on() {
            self.complete_ns = now_ns;
        }
        (self.most, self.most_bytes) = (most, most_bytes);
        self.shrink();
        if !self.is_on() {
            *self = Self { first: self.first, ..Self::new(most, most_bytes, now_ns) };
        }
    }

    /// Whether anything is kept.
    pub fn is_on(&self) -> bool {
        self.most > 0 && self.most_bytes > 0
    }

    /// Takes a finished request.
    pub fn push(&mut self, finished: &Finished) {
        if !self.is_on() {
            return;
        }
        let slot = self.slot(&finished.shape);
        if let Some(slot) = self.slots.get_mut(slot as usize) {
            slot.entries += 1;
        }
        self.entries.push_back(Entry { ts_ns: finished.ts_ns, slot, status: finished.status });
        self.bytes += size_of::<Entry>();
        self.shrink();
    }

    fn slot(&mut self, shape: &Shape) -> u32 {
        let hint = shape.kept.load(Ordering::Relaxed);
        let at = hint as u32;
        let is_there = |slot: &Slot| u64::from(slot.generation) == hint >> 32 && slot.what.is_some();
        if self.slots.get(at as usize).is_some_and(is_there) {
            return at;
        }
        let at = self.place(shape);
        let generation = self.slots.get(at as usize).map_or(0, |slot| slot.generation);
        shape.kept.store(u64::from(generation) << 32 | u64::from(at), Ordering::Relaxed);
        at
    }

    fn place(&mut self, shape: &Shape) -> u32 {
        let print = What::print(shape, self.index.hasher());
        if let Some(at) = self.index.get(&print) {
            let known = self.slots.get(*at as usize).and_then(|slot| slot.what.as_ref());
            if known.is_some_and(|what| what.is(shape)) {
                return *at;
            }
        }
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        if let Some(slot) = self.slots.get_mut(at as usize) {
            let what = What::of(shape);
            self.bytes += what.bytes();
            let generation = slot.generation.wrapping_add(1);
            *slot = Slot { what: Some(what.into()), print, entries: 0, generation };
            self.index.insert(print, at);
        }
        at
    }

    /// Lets the oldest go until the rest fits.
    fn shrink(&mut self) {
        while self.entries.len() > self.most || self.bytes > self.most_bytes {
            let Some(oldest) = self.entries.pop_front() else { return };
            self.first += 1;
            self.bytes -= size_of::<Entry>();
            self.complete_ns = self.complete_ns.max(oldest.ts_ns);
            let Some(slot) = self.slots.get_mut(oldest.slot as usize) else { continue };
            slot.entries -= 1;
            if slot.entries == 0
                && let Some(what) = slot.what.take()
            {
                self.bytes -= what.bytes();
                if self.index.get(&slot.print) == Some(&oldest.slot) {
                    self.index.remove(&slot.print);
                }
                self.free.push(oldest.slot);
            }
        }
    }

    #[cfg(test)]
    pub fn kinds(&self) -> usize {
        self.index.len()
    }

    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }
}

/// A span of the requests that are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// In words.
    pub covered: Covered,
    /// Requests that began before are not in it, ns.
    pub from_ns: u64,
    /// Number of the oldest request that is kept.
    pub first: u64,
    /// Number behind the latest.
    pub end: u64,
}

/// Some of the requests that are kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Remembered {
    /// The requests.
    pub records: Vec<RecentRecord>,
    /// Where to go on.
    pub next: u64,
    /// Requests that have gone in the meantime.
    pub skipped: u64,
}

impl Core {
    /// What is kept of the last `since`, `None` when nothing ever is.
    pub fn span(&self, since: Duration) -> Option<Span> {
        let history = &self.history;
        let since_ns = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        let from_ns = history.complete_ns.max(self.now_ns.saturating_sub(since_ns));
        let covered = || Covered {
            covers_from: self.time(from_ns),
            covers_seconds: self.now_ns.saturating_sub(from_ns) as f64 / 1e9,
            requests: history.entries.iter().filter(|entry| entry.ts_ns >= from_ns).count() as u64,
        };
        history.is_on().then(|| Span {
            covered: covered(),
            from_ns,
            first: history.first,
            end: history.end(),
        })
    }

    /// The requests of a span from number `from` on, of at most `limit` numbers.
    pub fn remembered(&self, span: &Span, from: u64, limit: usize) -> Remembered {
        let history = &self.history;
        let start = from.clamp(history.first, history.end());
        let next = start.saturating_add(limit as u64).min(span.end).min(history.end()).max(start);
        let range = (start - history.first) as usize..(next - history.first) as usize;
        let wanted = history.entries.range(range).filter(|entry| entry.ts_ns >= span.from_ns);
        let records = wanted.filter_map(|entry| self.recall(entry)).collect();
        Remembered { records, next, skipped: start.saturating_sub(from) }
    }

    fn recall(&self, entry: &Entry) -> Option<RecentRecord> {
        let what = self.history.slots.get(entry.slot as usize)?.what.as_ref()?;
        let name = |(id, label): &Who| self.names.show(id, label.as_deref());
        let (id, _) = &what.who;
        Some(RecentRecord {
            time: self.time(entry.ts_ns),
            direction: id.direction,
            identity: name(&what.who),
            kind: id.kind.label().to_owned(),
            also: what.also.iter().map(name).collect(),
            peer: what.peer.text(),
            workload: what.workload.to_string(),
            method: what.method.label().to_owned(),
            host: what.host().to_owned(),
            path: what.path().to_owned(),
            status: entry.status,
        })
    }
}
