//! Map values as the daemon reads them.

use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;
use aya::maps::{Array, ArrayOfMaps, HashMap, Map, MapData, SkStorage};
use monitor_common::http1::Names;
use monitor_common::kernel::{Config, FileKey, IdentityCount, IdentityKey, RINGS_MAX, TlsKey};

use super::merge::Merge;
use super::ring::MappedRing;

/// Smallest ring: some records of the longest kind.
const RING_MIN: u32 = 32 << 10;
/// Size of a ring that nothing writes to: a page.
pub const UNUSED_RING: u32 = 4096;

/// A `repr(C)` value of integers without padding, shared with the kernel side.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain<T>(pub T);

// SAFETY: `repr(C)`, integers only, no padding: any bytes are a value and every byte is initialised.
unsafe impl aya::Pod for Plain<Config> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<IdentityKey> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<IdentityCount> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<TlsKey> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Names> {}

// SAFETY: as above.
unsafe impl aya::Pod for Plain<FileKey> {}

/// The executable at `path` as the kernel side knows it; `None` when there is no such file.
pub fn file_key(path: &Path) -> Option<FileKey> {
    let meta = std::fs::metadata(path).ok()?;
    let device = libc::major(meta.dev()) << 20 | libc::minor(meta.dev());
    Some(FileKey { inode: meta.ino(), device, pad: 0 })
}

/// Installs the executables that are not observed.
pub fn set_excluded(ebpf: &mut Ebpf, files: &[FileKey]) -> Result<()> {
    let map = ebpf.map_mut("EXCLUDED").context("the kernel side has no map EXCLUDED")?;
    let mut excluded: HashMap<_, Plain<FileKey>, u32> = HashMap::try_from(map)?;
    for file in files {
        excluded.insert(Plain(*file), 1, 0)?;
    }
    Ok(())
}

/// State of a TLS connection: the daemon only deletes entries, so it knows the size and nothing else.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct TlsConn([u64; CONN_WORDS]);

/// Size of the kernel side's `Conn` in words: the framing and what stands around it.
const CONN_WORDS: usize = (size_of::<monitor_common::http1::Conn>() + 3 * 8 + 64 + 40) / 8;

// SAFETY: integers only.
unsafe impl aya::Pod for TlsConn {}

/// The socket under a TLS connection, as [`TlsConn`]: the kernel side's `Peer`.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct TlsPeer([u64; 8]);

// SAFETY: integers only.
unsafe impl aya::Pod for TlsPeer {}

/// Number of rings for `ring_bytes` together: one a CPU, a power of two, none smaller than the smallest.
pub fn ring_count(ring_bytes: u32) -> u32 {
    let cpus = aya::util::nr_cpus().unwrap_or(1).next_power_of_two();
    let most = (ring_bytes / RING_MIN).clamp(1, RINGS_MAX as u32);
    cpus.min(most as usize) as u32
}

/// Makes `count` rings of `size` bytes and puts them in their places.
pub fn set_rings(ebpf: &mut Ebpf, count: u32, size: u32) -> Result<Merge<MappedRing>> {
    const RINGBUF: u32 = aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_RINGBUF as u32;
    ensure!(size.is_power_of_two() && size >= UNUSED_RING, "a ring of {size} bytes is no power of two");
    let map = ebpf.map_mut("RINGS").context("the kernel side has no map RINGS")?;
    let mut array: ArrayOfMaps<_, MapData> = ArrayOfMaps::try_from(map)?;
    let mut rings = Vec::new();
    for index in 0..count {
        let description = aya_obj::Map::new_from_params(RINGBUF, 0, 0, size, 0);
        let ring = MapData::create(description, "RING", None)?;
        array.set(index, &ring, 0)?;
        rings.push(MappedRing::new(&ring, size as usize)?);
    }
    Ok(Merge::new(rings))
}

/// Says that the connections of a listener are the daemon's own: those that are made from now on.
pub fn set_own(ebpf: &mut Ebpf, listener: BorrowedFd<'_>) -> Result<()> {
    let map = ebpf.map_mut("OWN").context("the kernel side has no map OWN")?;
    let mut own: SkStorage<_, u32> = SkStorage::try_from(map)?;
    Ok(own.insert(&listener, 1, 0)?)
}

/// Takes a map out of the object.
pub fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    ebpf.take_map(name).with_context(|| format!("the kernel side has no map {name}"))
}

/// Installs the header names and the fingerprint key: requests, responses, requests whose hosts matter.
pub fn set_names(ebpf: &mut Ebpf, names: &[Names; 3]) -> Result<()> {
    let map = ebpf.map_mut("NAMES").context("the kernel side has no map NAMES")?;
    let mut array: Array<_, Plain<Names>> = Array::try_from(map)?;
    for (index, names) in (0..).zip(names) {
        array.set(index, Plain(*names), 0)?;
    }
    Ok(())
}

/// From now on new connections are taken up: those of sockets, and of the first `sets` TLS libraries.
pub fn switch_on(ebpf: &mut Ebpf, sets: u32) -> Result<()> {
    let map = ebpf.map_mut("SWITCH").context("the kernel side has no map SWITCH")?;
    Ok(Array::try_from(map)?.set(0, sets + 1, 0)?)
}
