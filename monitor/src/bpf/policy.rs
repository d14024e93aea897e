//! The tables of caps in the kernel: one map each, written entry by entry.

use std::sync::{Mutex, MutexGuard};

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, PerCpuValues};
use monitor_common::answer::Text;
use monitor_common::cap::{
    self, Bucket, BucketKey, PATH, PathValue, Policy, Rule, ServerKey, Subject, SubjectKey, VERDICTS,
};
use tracing::warn;

use super::maps::{Plain, take};
use super::pins::{self, CapNames, Earlier};
use super::worker::Preparer;
use crate::proof::Change as Proven;
use crate::sensor::{Enforcer, Inherited, Need, NetworkEntry, PathEntry, network_key};
use crate::threads::lock;

// SAFETY: `repr(C)`, integers only, no padding: any bytes are a value and every byte is initialised.
unsafe impl aya::Pod for Plain<Rule> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Text> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Bucket> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<BucketKey> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Subject> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<SubjectKey> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<ServerKey> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Policy> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<[u8; 4 + PATH]> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<[u8; 20]> {}

type Buckets = HashMap<MapData, Plain<BucketKey>, Plain<Bucket>>;

/// The maps.
pub struct Maps {
    policy: Array<MapData, Plain<Policy>>,
    rules: Array<MapData, Plain<Rule>>,
    texts: Array<MapData, Plain<Text>>,
    buckets: Array<MapData, Plain<Bucket>>,
    counts: PerCpuArray<MapData, u64>,
    every: Array<MapData, Plain<Subject>>,
    subjects: HashMap<MapData, Plain<SubjectKey>, Plain<Subject>>,
    accepted: HashMap<MapData, Plain<SubjectKey>, u32>,
    servers: HashMap<MapData, Plain<ServerKey>, u64>,
    each: Buckets,
    unproven: Buckets,
    strangers: Buckets,
    networks: LpmTrie<MapData, Plain<[u8; 20]>, Plain<Subject>>,
    paths: LpmTrie<MapData, Plain<[u8; 4 + PATH]>, PathValue>,
}

impl Maps {
    /// Takes them out of the object.
    pub fn take(ebpf: &mut Ebpf) -> Result<Self> {
        fn map<M: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &str) -> Result<M> {
            M::try_from(take(ebpf, name)?).with_context(|| name.to_owned())
        }
        Ok(Self {
            policy: map(ebpf, "POLICY")?,
            rules: map(ebpf, "RULES")?,
            texts: map(ebpf, "TEXTS")?,
            buckets: map(ebpf, "BUCKETS")?,
            counts: map(ebpf, "CAP_COUNTS")?,
            every: map(ebpf, "EVERY")?,
            subjects: map(ebpf, "SUBJECTS")?,
            accepted: map(ebpf, "ACCEPTED")?,
            servers: map(ebpf, "SERVERS")?,
            each: map(ebpf, "EACH")?,
            unproven: map(ebpf, "UNPROVEN")?,
            strangers: map(ebpf, "STRANGERS")?,
            networks: map(ebpf, "NETWORKS")?,
            paths: map(ebpf, "ACCESS")?,
        })
    }
}

/// See the module's documentation.
pub struct Tables {
    maps: Mutex<Maps>,
    preparer: Preparer,
    /// What is in place.
    prepared: Mutex<Need>,
    /// Where the next daemon finds which cap has which index, if caps are to outlive this one.
    names: Mutex<Option<CapNames>>,
    /// What an earlier daemon kept, until this one's first policy.
    earlier: Mutex<Option<Earlier>>,
}

impl Tables {
    /// Tables over `maps`.
    pub fn new(maps: Maps, preparer: Preparer, names: Option<CapNames>, earlier: Option<Earlier>) -> Self {
        Self {
            maps: Mutex::new(maps),
            preparer,
            prepared: Mutex::default(),
            names: Mutex::new(names),
            earlier: Mutex::new(earlier),
        }
    }

    fn maps(&self) -> MutexGuard<'_, Maps> {
        lock(&self.maps)
    }
}

/// An entry that is to go and is not there has gone. Whether it was there.
fn gone(result: Result<(), MapError>) -> Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(MapError::KeyNotFound) => Ok(false),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => {
            Ok(false)
        }
        Err(other) => Err(other.into()),
    }
}

/// Drops the buckets of a rule.
fn drop_buckets(buckets: &mut Buckets, index: u16) -> Result<()> {
    let of_rule = |key: &Plain<BucketKey>| key.0.rule == u32::from(index);
    let keys: Vec<_> = buckets.keys().filter_map(Result::ok).filter(of_rule).collect();
    for key in keys {
        gone(buckets.remove(&key))?;
    }
    Ok(())
}

fn path_key((space, path): &PathEntry) -> Key<Plain<[u8; 4 + PATH]>> {
    let mut data = [0; 4 + PATH];
    for (to, from) in data.iter_mut().zip(space.to_be_bytes().iter().chain(path)) {
        *to = *from;
    }
    Key::new(32 + 8 * path.len().min(PATH) as u32, Plain(data))
}

impl Enforcer for Tables {
    fn prepare(&self, need: Need) -> Result<()> {
        let mut prepared = lock(&self.prepared);
        if need.and(*prepared) != *prepared {
            self.preparer.prepare(need)?;
            *prepared = need.and(*prepared);
        }
        Ok(())
    }

    fn rule(&self, index: u16, rule: &Rule) -> Result<()> {
        Ok(self.maps().rules.set(u32::from(index), Plain(*rule), 0)?)
    }

    fn text(&self, index: u16, text: &Text) -> Result<()> {
        Ok(self.maps().texts.set(u32::from(index), Plain(*text), 0)?)
    }

    fn every(&self, place: u32, subject: &Subject) -> Result<()> {
        Ok(self.maps().every.set(place, Plain(*subject), 0)?)
    }

    fn subject(&self, key: &SubjectKey, subject: Option<&Subject>) -> Result<()> {
        let map = &mut self.maps().subjects;
        match subject {
            Some(subject) => Ok(map.insert(Plain(*key), Plain(*subject), 0)?),
            None => gone(map.remove(&Plain(*key))).map(drop),
        }
    }

    fn path(&self, path: &PathEntry, value: Option<PathValue>) -> Result<()> {
        let map = &mut self.maps().paths;
        match value {
            Some(value) => Ok(map.insert(&path_key(path), value, 0)?),
            None => gone(map.remove(&path_key(path))).map(drop),
        }
    }

    fn network(&self, network: &NetworkEntry, subject: Option<&Subject>) -> Result<()> {
        let key = network_key(network);
        let mut data = [0; 20];
        for (to, from) in data.iter_mut().zip(key.direction.iter().chain(&key.address)) {
            *to = *from;
        }
        let key = Key::new(key.bits, Plain(data));
        let map = &mut self.maps().networks;
        match subject {
            Some(subject) => Ok(map.insert(&key, Plain(*subject), 0)?),
            None => gone(map.remove(&key)).map(drop),
        }
    }

    fn proven(&self, change: &Proven) -> Result<()> {
        let maps = &mut *self.maps();
        match change {
            Proven::Credential(key, true) => Ok(maps.accepted.insert(Plain(*key), 1, 0)?),
            Proven::Credential(key, false) => gone(maps.accepted.remove(&Plain(*key))).map(drop),
            Proven::End(end, server) => {
                let value = u64::from(server.owner) << 32 | u64::from(server.number);
                Ok(maps.servers.insert(Plain(*end), value, 0)?)
            }
            Proven::NoEnd(end) => gone(maps.servers.remove(&Plain(*end))).map(drop),
        }
    }

    fn policy(&self, policy: &Policy) -> Result<()> {
        let earlier = lock(&self.earlier).take();
        if let Some(earlier) = &earlier {
            earlier.switch_off();
        }
        self.maps().policy.set(0, Plain(*policy), 0)?;
        if let Some(earlier) = earlier {
            earlier.remove();
        }
        Ok(())
    }

    fn inherited(&self) -> Inherited {
        let caps = lock(&self.earlier).as_ref().map(Earlier::caps).unwrap_or_default();
        let accepted = self.maps().accepted.keys().filter_map(Result::ok).map(|key| key.0).collect();
        Inherited { caps, accepted }
    }

    fn name(&self, index: u16, name: &str) {
        if let Some(names) = &mut *lock(&self.names)
            && let Err(error) = names.set(u32::from(index) + 1, pins::padded(name), 0)
        {
            warn!("the bucket of cap {name:?} is not found again after a restart: {error}");
        }
    }

    fn reset(&self, index: u16) -> Result<()> {
        let maps = &mut *self.maps();
        maps.buckets.set(u32::from(index), Plain(Bucket::default()), 0)?;
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
        for verdict in 0..VERDICTS {
            let zeros = PerCpuValues::try_from(vec![0; cpus])?;
            maps.counts.set(u32::from(index) * VERDICTS + verdict, zeros, 0)?;
        }
        drop_buckets(&mut maps.each, index)?;
        drop_buckets(&mut maps.unproven, index)?;
        drop_buckets(&mut maps.strangers, index)
    }

    fn reset_bucket(&self, key: &BucketKey) -> Result<bool> {
        let maps = &mut *self.maps();
        let mut found = false;
        for map in [&mut maps.each, &mut maps.unproven, &mut maps.strangers] {
            found |= gone(map.remove(&Plain(*key)))?;
        }
        Ok(found)
    }

    fn counts(&self, index: u16) -> [u64; VERDICTS as usize] {
        let maps = self.maps();
        let first = u32::from(index) * VERDICTS;
        let mut sums = [0; VERDICTS as usize];
        for (sum, cell) in sums.iter_mut().zip(first..) {
            // single CPUs may be below zero: what one charged another can have given back
            let cells = maps.counts.get(&cell, 0).ok();
            *sum = cells.map_or(0, |cells| cells.iter().fold(0u64, |sum, cell| sum.wrapping_add(*cell)));
        }
        sums
    }

    fn bucket(&self, index: u16) -> Bucket {
        self.maps().buckets.get(&u32::from(index), 0).map(|bucket| bucket.0).unwrap_or_default()
    }

    fn buckets(&self) -> Vec<(BucketKey, Bucket)> {
        let maps = self.maps();
        // one that is proven by now goes on in the first
        let mut all: std::collections::HashMap<_, _> =
            maps.unproven.iter().filter_map(Result::ok).map(|(key, bucket)| (key.0, bucket.0)).collect();
        let others = maps.each.iter().chain(maps.strangers.iter()).filter_map(Result::ok);
        all.extend(others.map(|(key, bucket)| (key.0, bucket.0)));
        all.into_iter().collect()
    }

    fn now_ns(&self) -> u64 {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: a `timespec` to write to.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
        now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
    }
}

const _: () = assert!(size_of::<BucketKey>() == 24 && cap::RULES <= u16::MAX as u32);
