//! What outlives the daemon with `[enforce] on_exit = "keep"`, and what an earlier daemon left: pins on the BPF file system.
//!
//! ```text
//! /sys/fs/bpf/weir/      locked by the daemon that pins
//!   2/                   the set of one daemon; the highest number is the latest
//!     POLICY BUCKETS ..  what its programs decide by
//!     CAPS               version of weir, then the name of each rule's cap
//!     link_0 ..          its attached programs
//! ```
//! A daemon that starts shares the buckets of the latest set: nothing is copied, and no budget is filled up. Its own programs
//! decide nothing before its first policy is written. Just before that the policies of the earlier sets are switched off, so that
//! no request is charged by two; their pins go afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use aya::Ebpf;
use aya::maps::{Array, HashMap, Map, MapData};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::loaded_links;
use monitor_common::cap::{Policy, RULES, policy_flag};
use tracing::{debug, info, warn};

use super::OBJECT;
use super::maps::Plain;

/// Where the pins are.
pub const ROOT: &str = "/sys/fs/bpf/weir";
/// What to do about programs that outlived the daemon.
pub const REMEDY: &str = "start weir to take them over, or run `weir detach --all`";
/// Where the BPF file system belongs.
const MOUNT: &str = "/sys/fs/bpf";
/// What there is to decide: each set has its own.
const POLICY: &str = "POLICY";
/// What goes on in the next daemon's set.
const SHARED: [&str; 10] = [
    "BUCKETS",
    "CAP_COUNTS",
    "OVER",
    "ACCEPTED",
    "SERVERS",
    "EACH",
    "UNPROVEN",
    "STRANGERS",
    FENCED,
    "FENCES",
];
const FENCED: &str = "FENCED";
const CAPS: &str = "CAPS";
const LINK: &str = "link_";
const ARRAY: u32 = aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_ARRAY as u32;
/// Most bytes of a cap's name, see `config::check_name`.
const NAME: usize = 128;
/// How long the kernel may take to let go of links that nobody has any more.
const RELEASE: Duration = Duration::from_secs(20);

/// The version of weir, then the name of each rule's cap, empty for none.
pub type CapNames = Array<MapData, [u8; NAME]>;

/// What a daemon does about pins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing: it is only tried whether the kernel side loads.
    Ignore,
    /// Takes over what an earlier one kept, and keeps nothing.
    Open,
    /// Takes over, and keeps its own.
    Keep,
}

/// The link of an attached program: dropping it detaches the program unless it is pinned.
pub struct Held {
    open: Option<FdLink>,
    pinned: Option<PinnedLink>,
}

impl From<FdLink> for Held {
    fn from(link: FdLink) -> Self {
        Self { open: Some(link), pinned: None }
    }
}

impl Held {
    /// Detaches the program, pinned or not.
    pub fn detach(self) {
        if let Some(Err(error)) = self.pinned.map(PinnedLink::unpin) {
            debug!("a pin was gone: {error}");
        }
    }
}

/// What is pinned when a daemon starts.
#[derive(Default)]
pub struct Pins {
    /// Left by earlier daemons.
    pub earlier: Option<Earlier>,
    /// Its own, with [`Mode::Keep`].
    pub own: Option<Own>,
}

impl Pins {
    /// Looks at what earlier daemons left, and makes room for what this one keeps. What goes wrong is logged: it is no reason not to
    /// start.
    pub fn open(mode: Mode) -> Self {
        let opened = match mode {
            Mode::Ignore => Ok(Self::default()),
            Mode::Open if !Path::new(ROOT).is_dir() => Ok(Self::default()),
            Mode::Open | Mode::Keep => Self::try_open(mode == Mode::Keep),
        };
        opened.unwrap_or_else(|error| {
            if mode == Mode::Keep {
                not_kept(&error);
            } else {
                warn!("what is pinned in {ROOT} stays there: {error:#}");
            }
            Self::default()
        })
    }

    fn try_open(keep: bool) -> Result<Self> {
        if keep {
            mount().with_context(|| format!("cannot mount the BPF file system at {MOUNT}"))?;
            make_root()?;
        }
        let lock = Arc::new(lock()?);
        let sets = sets()?;
        let next = sets.iter().map(|set| number(set)).max().unwrap_or(0) + 1;
        let own = keep.then(|| Own::new(next, Arc::clone(&lock))).transpose()?;
        let earlier = (!sets.is_empty()).then(|| Earlier::new(sets, keep, lock));
        Ok(Self { earlier, own })
    }

    /// The maps of this daemon that are those of an earlier one, and their pins.
    pub fn shared(&self) -> Vec<(&'static str, PathBuf)> {
        let from = self.earlier.as_ref().and_then(|earlier| earlier.latest.as_ref());
        from.map_or_else(Vec::new, |set| SHARED.iter().map(|name| (*name, set.join(name))).collect())
    }

    /// Pins the maps of a loaded object. Returns where the names of caps are to be written, if they are kept.
    pub fn keep_maps(&mut self, ebpf: &Ebpf) -> Option<CapNames> {
        let own = self.own.as_ref()?;
        let from = self.earlier.as_ref().and_then(|earlier| earlier.latest.as_deref());
        match own.pin_maps(ebpf, from) {
            Ok(names) => Some(names),
            Err(error) => {
                not_kept(&error);
                self.own = None;
                None
            }
        }
    }
}

fn not_kept(error: &anyhow::Error) {
    warn!("caps end with the daemon in spite of on_exit = \"keep\": {error:#}");
}

/// The set of this daemon. Dropping it leaves the pins, unless its programs have nothing to decide.
pub struct Own {
    dir: PathBuf,
    links: u32,
    /// Others keep their hands off while it is open.
    _lock: Arc<File>,
}

impl Own {
    fn new(number: u64, lock: Arc<File>) -> Result<Self> {
        let dir = Path::new(ROOT).join(number.to_string());
        DirBuilder::new().mode(0o700).create(&dir).with_context(|| dir.display().to_string())?;
        Ok(Self { dir, links: 0, _lock: lock })
    }

    fn pin_maps(&self, ebpf: &Ebpf, from: Option<&Path>) -> Result<CapNames> {
        for name in SHARED.iter().chain([&POLICY]) {
            let map = ebpf.map(name).with_context(|| format!("the kernel side has no map {name}"))?;
            map.pin(self.dir.join(name)).with_context(|| format!("cannot pin {name}"))?;
        }
        let names = match from {
            Some(set) => MapData::from_pin(set.join(CAPS))?,
            None => MapData::create(
                aya_obj::Map::new_from_params(ARRAY, 4, NAME as u32, RULES + 1, 0),
                CAPS,
                None,
            )?,
        };
        names.pin(self.dir.join(CAPS)).with_context(|| format!("cannot pin {CAPS}"))?;
        let mut names: CapNames = array(names)?;
        // last: a set without it is not complete
        names.set(0, padded(env!("CARGO_PKG_VERSION")), 0)?;
        Ok(names)
    }

    /// Whether programs are pinned, so that all of them must be.
    pub fn is_active(&self) -> bool {
        self.links > 0
    }

    /// Pins the programs that are not pinned yet.
    ///
    /// # Errors
    /// When the kernel refuses. The program in question is detached then.
    pub fn pin<'a>(&mut self, links: impl Iterator<Item = &'a mut Held>) -> Result<()> {
        let is_there = self.dir.is_dir();
        for held in links.filter(|held| held.pinned.is_none()) {
            if !is_there {
                warn!("{} was removed: caps end with the daemon", self.dir.display());
                break;
            }
            if let Some(link) = held.open.take() {
                let path = self.dir.join(format!("{LINK}{}", self.links));
                held.pinned = Some(link.pin(path).context("cannot pin a program")?);
                self.links += 1;
            }
        }
        Ok(())
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if !self.is_active() || !decides(&self.dir) {
            remove(&self.dir);
            let _ = fs::remove_dir(ROOT);
        }
    }
}

/// The sets of earlier daemons. Dropping it leaves them as they are.
pub struct Earlier {
    sets: Vec<PathBuf>,
    /// The latest that this version understands.
    latest: Option<PathBuf>,
    keep: bool,
    _lock: Arc<File>,
}

impl Earlier {
    fn new(sets: Vec<PathBuf>, keep: bool, lock: Arc<File>) -> Self {
        let mut latest = None;
        for set in &sets {
            match fits(set) {
                Ok(()) if latest.is_none() => latest = Some(set.clone()),
                Ok(()) => {}
                Err(error) => {
                    warn!(
                        "what is pinned in {} will be removed, its caps begin anew: {error:#}",
                        set.display()
                    );
                }
            }
        }
        Self { sets, latest, keep, _lock: lock }
    }

    /// The caps whose buckets go on, and the indices of their rules.
    pub fn caps(&self) -> BTreeMap<String, u16> {
        let Some(names) = self.latest.as_ref().and_then(|set| read_names(set).ok()) else {
            return BTreeMap::new();
        };
        let name = |index: u16| {
            let bytes = names.get(&(u32::from(index) + 1), 0).ok()?;
            let name = text(&bytes);
            (!name.is_empty()).then_some((name, index))
        };
        (0..RULES as u16).filter_map(name).collect()
    }

    /// From now on the earlier programs decide nothing. Their fences stay.
    pub fn switch_off(&self) {
        self.sets.iter().for_each(|set| switch_off(set));
    }

    /// Removes them.
    pub fn remove(self) {
        let links: usize = self.sets.iter().map(|set| remove(set).links.len()).sum();
        let going = if self.latest.is_some() { "its caps go on" } else { "its caps begin anew" };
        if self.keep {
            info!("the {links} programs that an earlier weir kept are replaced, {going}");
        } else {
            let _ = fs::remove_dir(ROOT);
            info!(
                "the {links} programs that an earlier weir kept are removed, {going}: on_exit is \"open\" now"
            );
        }
    }
}

/// What was removed.
#[derive(Debug, Default)]
pub struct Removed {
    /// Ids of the links of pinned programs.
    pub links: Vec<u32>,
    /// Number of maps.
    pub maps: usize,
    /// Number of the links that are still there, because a daemon has them open.
    pub open: usize,
}

/// Removes everything that is pinned and waits until the kernel has let go of it. `None` when there is nothing.
///
/// # Errors
/// When a daemon uses it and this is not to be `force`d, or something cannot be removed.
pub fn remove_all(force: bool) -> Result<Option<Removed>> {
    let root = Path::new(ROOT);
    match fs::symlink_metadata(root) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("{ROOT}: only root can look there, use sudo"));
        }
    }
    let lock = lock();
    if !force && let Err(error) = lock {
        return Err(error);
    }
    let mut removed = Removed::default();
    for set in sets()? {
        switch_off(&set);
        // what was denied must not be answered when the fences are gone
        crate::enforce::end(&fenced(&set));
        let Removed { links, maps, .. } = remove(&set);
        removed.links.extend(links);
        removed.maps += maps;
    }
    fs::remove_dir(root).with_context(|| format!("cannot remove {ROOT}"))?;
    let gone: BTreeSet<u32> = removed.links.iter().copied().collect();
    let started = Instant::now();
    loop {
        let left = loaded_links().filter_map(Result::ok).filter(|link| gone.contains(&link.id()));
        removed.open = left.count();
        if removed.open == 0 || lock.is_err() || started.elapsed() > RELEASE {
            return Ok(Some(removed));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Number of programs that are pinned, as far as this user may know.
pub fn kept() -> usize {
    let sets = sets().unwrap_or_default();
    sets.iter().flat_map(|set| entries(set)).filter(|path| is_link(path)).count()
}

/// The sets, the latest first, and whatever else is there.
fn sets() -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(ROOT).with_context(|| format!("cannot read {ROOT}"))?;
    let mut sets: Vec<_> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    sets.sort_by_key(|set| std::cmp::Reverse(number(set)));
    Ok(sets)
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| entry.path()).collect()
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

fn number(set: &Path) -> u64 {
    file_name(set).parse().unwrap_or(0)
}

fn is_link(path: &Path) -> bool {
    file_name(path).starts_with(LINK)
}

/// Removes a set, or whatever else is at `path`: programs first. What cannot be removed is logged.
fn remove(path: &Path) -> Removed {
    let mut removed = Removed::default();
    let is_dir = fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    let mut entries = if is_dir { entries(path) } else { Vec::new() };
    entries.sort_by_key(|entry| !is_link(entry));
    for entry in entries {
        if is_link(&entry) {
            let id = PinnedLink::from_pin(&entry).ok().and_then(|link| FdLink::from(link).info().ok());
            removed.links.extend(id.map(|info| info.id()));
        } else {
            removed.maps += 1;
        }
        let is_dir = fs::symlink_metadata(&entry).is_ok_and(|found| found.is_dir());
        report(&entry, if is_dir { fs::remove_dir_all(&entry) } else { fs::remove_file(&entry) });
    }
    report(path, if is_dir { fs::remove_dir(path) } else { fs::remove_file(path) });
    removed
}

fn report(path: &Path, result: std::io::Result<()>) {
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            warn!("cannot remove {}: {error}", path.display());
        }
        _ => {}
    }
}

/// From now on the programs of a set decide nothing.
fn switch_off(set: &Path) {
    let off = open_policy(set).and_then(|mut policy| Ok(policy.set(0, Plain(Policy::default()), 0)?));
    if let Err(error) = off {
        debug!("{} cannot be switched off, only removed: {error:#}", set.display());
    }
}

/// Sockets that have a fence.
fn fenced(set: &Path) -> BTreeSet<u64> {
    let map = MapData::from_pin(set.join(FENCED)).and_then(Map::from_map_data);
    let fences = map.and_then(HashMap::<_, u64, u32>::try_from);
    fences.iter().flat_map(HashMap::keys).filter_map(Result::ok).collect()
}

/// Whether the programs of a set have anything to decide.
fn decides(set: &Path) -> bool {
    open_policy(set)
        .and_then(|policy| Ok(policy.get(&0, 0)?))
        .is_ok_and(|policy| policy.0.flags & policy_flag::ON != 0)
}

fn open_policy(set: &Path) -> Result<Array<MapData, Plain<Policy>>> {
    array(MapData::from_pin(set.join(POLICY))?)
}

fn read_names(set: &Path) -> Result<CapNames> {
    array(MapData::from_pin(set.join(CAPS))?)
}

fn array<V: aya::Pod>(data: MapData) -> Result<Array<MapData, V>> {
    Ok(Array::try_from(Map::from_map_data(data)?)?)
}

/// A name as it is kept.
pub fn padded(name: &str) -> [u8; NAME] {
    let mut bytes = [0; NAME];
    for (to, from) in bytes.iter_mut().zip(name.as_bytes()) {
        *to = *from;
    }
    bytes
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

/// Whether a set is complete, of this version, and its maps are like those of the kernel side.
fn fits(set: &Path) -> Result<()> {
    ensure!(set.is_dir(), "it is no directory");
    let names = read_names(set).context("it is not complete")?;
    let version = text(&names.get(&0, 0)?);
    ensure!(version == env!("CARGO_PKG_VERSION"), "it belongs to version {version:?}");
    let object = aya_obj::Object::parse(OBJECT)?;
    for name in SHARED.iter().chain([&POLICY]) {
        let wanted = object.maps.get(*name).with_context(|| format!("the kernel side has no map {name}"))?;
        let found =
            MapData::from_pin(set.join(name)).with_context(|| format!("{name} is missing"))?.info()?;
        ensure!(
            (found.map_type()? as u32, found.key_size(), found.value_size(), found.max_entries())
                == (wanted.map_type(), wanted.key_size(), wanted.value_size(), wanted.max_entries()),
            "{name} has another form"
        );
    }
    Ok(())
}

/// Locks the directory for this process.
fn lock() -> Result<File> {
    let file = File::open(ROOT).with_context(|| format!("cannot open {ROOT}"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("another weir runs and keeps its programs in {ROOT}: stop it first")
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {ROOT}")),
    }
}

/// Makes the directory, for root alone. What others could have made in its place is removed.
fn make_root() -> Result<()> {
    let root = Path::new(ROOT);
    if let Ok(found) = fs::symlink_metadata(root) {
        if found.is_dir() && found.uid() == 0 && found.mode() & 0o777 == 0o700 {
            return Ok(());
        }
        warn!("{ROOT} is not root's alone: it is removed");
        for entry in if found.is_dir() { entries(root) } else { Vec::new() } {
            remove(&entry);
        }
        remove(root);
    }
    DirBuilder::new().mode(0o700).create(root).with_context(|| format!("cannot make {ROOT}"))
}

/// Mounts the BPF file system where it belongs, unless it is there.
fn mount() -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let is_there = |line: &str| {
        let mut fields = line.split(' ').skip(1);
        fields.next() == Some(MOUNT) && fields.next() == Some("bpf")
    };
    if mounts.lines().any(is_there) {
        return Ok(());
    }
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    // SAFETY: strings that end with a zero and live through the call.
    let done = unsafe {
        libc::mount(
            c"bpf".as_ptr(),
            c"/sys/fs/bpf".as_ptr(),
            c"bpf".as_ptr(),
            flags,
            c"mode=0700".as_ptr().cast(),
        )
    };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error().into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_padded_and_read_back() {
        for name in ["", "acme", "gr\u{fc}n", &"n".repeat(NAME)] {
            assert_eq!(text(&padded(name)), name);
        }
    }

    #[test]
    fn sets_are_told_from_what_else_is_there() {
        let numbers = ["/x/12", "/x/junk", "/x/-1"].map(|path| number(Path::new(path)));
        assert_eq!(numbers, [12, 0, 0]);
        assert!(is_link(Path::new("/x/1/link_0")) && !is_link(Path::new("/x/1/POLICY")));
    }

    #[test]
    fn every_map_that_is_kept_exists() {
        let object = aya_obj::Object::parse(OBJECT).unwrap();
        for name in SHARED.iter().chain([&POLICY]) {
            assert!(object.maps.contains_key(*name), "{name}");
        }
    }
}
