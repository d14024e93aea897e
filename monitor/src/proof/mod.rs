//! Which credentials are proven, at which server: what servers answer is the only evidence.
//!
//! ```text
//! stranger    --2xx or 3xx on a guarded route, within the newcomers' budget of its client-->  proven (at this server)
//! proven      --401 or 403-->  stranger, who becomes proven again by the next good answer
//! guarded     a route that has refused (401, 403) somebody with nothing proven, and has not answered a request without
//!             credentials with 2xx or 3xx for a week; or what the operator says is guarded
//! ```
//! A server is a workload at a port under one user, at whatever address: what it vouches for holds at no other (a workload may have a
//! public site at the next port), and outlives its restart. The
//! kernel side tells servers apart by the local end of a connection, since that is all that a packet shows; which server is behind
//! which end is learned from every answer. (A socket's cgroup would be as easy to read, but has another number after each restart of
//! the service; its user changes between handshake and `accept`.)
//!
//! Anybody's server may vouch for any public name (an issuer and subject, a user). So what a name is charged there is a bucket of the
//! server's owner, a user or container: servers of others cannot spend it. Only a port that the operator calls guarded vouches for the
//! whole host.
//!
//! A request without any credential is what opens a route, not one with an unknown credential: the first request of every true
//! customer is one of those. Where a server takes whatever is invented all the same, the newcomers' budget bounds it.
//!
//! Bounded, with shares: who fills a table pushes nobody out but himself. Pure: answers and time come in, changes go out.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::hash::{Hash as _, Hasher as _};

use monitor_common::cap::{self, ServerKey, SubjectKey};
use monitor_common::event::{CREDS, cred};

/// Most proven credentials of one client network.
const SHARE: usize = MOST / 8;
/// Most proven credentials.
const MOST: usize = cap::EACH as usize;
/// Most client networks whose newcomers are counted.
const NETWORKS: usize = 65_536;
/// Most servers, and those of one user.
const SERVERS: usize = 4_096;
const SERVERS_EACH: usize = 256;
/// Most local ends of one server.
const ENDS_EACH: usize = 64;
/// Most routes of one server whose answers are remembered.
const ROUTES_EACH: usize = 1_024;
/// How long an answer to a request without credentials keeps a route open.
const MEMORY: u64 = 7 * 24 * HOUR;
/// How long a credential stays proven without being used.
const UNUSED: u64 = 90 * 24 * HOUR;
const HOUR: u64 = 3_600;
/// The first server's number: smaller ones are directions.
const FIRST: u32 = 16;
/// First line of the file.
const HEADER: &str = "weir proven 1";

/// What a server answered, as far as it tells whose credentials are good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Local end.
    pub end: ServerKey,
    /// Who serves: workload, port and user, empty when that is not known.
    pub server: Box<str>,
    /// Method and templated path; empty when they are not told apart.
    pub route: Box<str>,
    /// Path as it was sent.
    pub path: Box<str>,
    /// The kernel's key of the client's network.
    pub network: u64,
    /// The credentials that the kernel side found: fingerprint and kind, 0 for none.
    pub presented: [(u64, u8); CREDS],
    /// 2xx or 3xx; else 401 or 403.
    pub good: bool,
}

impl Answered {
    fn credentials(&self) -> impl Iterator<Item = (u64, u8)> {
        self.presented.into_iter().filter(|(_, kind)| *kind != 0)
    }
}

/// What the kernel's tables need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// This end is this server's.
    End(ServerKey, At),
    /// This end is nobody's any more.
    NoEnd(ServerKey),
    /// A credential is proven at the server that is its `direction`, or not any more.
    Credential(SubjectKey, bool),
}

/// A server as the kernel side knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Its number.
    pub number: u32,
    /// Whose it is: a container's, a user's; 0 when the operator says that it is guarded, so that it vouches for the whole host.
    pub owner: u32,
}

/// What is guarded by the operator's word: at a port, paths that begin like this.
pub type Guarded = Vec<(u16, Vec<String>)>;

/// A credential at a server.
#[derive(Clone, Copy, Debug)]
struct Proof {
    /// Client network that it was proven for first.
    network: u64,
    /// Last use, s since 1970; not kept to the second.
    used: u64,
    /// Not taken back.
    good: bool,
}

#[derive(Debug, Default)]
struct Network {
    hour: u64,
    /// Credentials that were proven in that hour.
    newcomers: u32,
    /// Credentials that are remembered.
    held: u32,
}

/// Times of the latest answers to strangers, s since 1970, 0 for never.
#[derive(Clone, Copy, Debug, Default)]
struct Route {
    refused: u64,
    open: u64,
}

#[derive(Debug, Default)]
struct Server {
    number: u32,
    /// When it last answered, s since 1970.
    used: u64,
    ends: Vec<ServerKey>,
    routes: HashMap<Box<str>, Route>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Proofs {
    servers: HashMap<Box<str>, Server>,
    ends: HashMap<ServerKey, At>,
    proven: HashMap<SubjectKey, Proof>,
    networks: HashMap<u64, Network>,
    guarded: Guarded,
    newcomers: u32,
    next: u32,
    /// Counted up when a route becomes guarded: what was answered before is to be told again.
    generation: u32,
    /// Credentials that were good and are strangers' still, for want of a budget.
    waiting: u64,
    changed: bool,
}

impl Default for Proofs {
    fn default() -> Self {
        Self {
            servers: HashMap::new(),
            ends: HashMap::new(),
            proven: HashMap::new(),
            networks: HashMap::new(),
            guarded: Vec::new(),
            newcomers: 20,
            next: FIRST,
            generation: 0,
            waiting: 0,
            changed: false,
        }
    }
}

/// What a credential is proven as: a public name only for the client that has its secret.
fn key((value, kind): (u64, u8), network: u64, server: u32) -> SubjectKey {
    let value = if kind == cred::AWS { cap::of_client(value, network) } else { value };
    SubjectKey { value, kind: u32::from(kind), direction: server }
}

impl Proofs {
    /// Takes over what is configured.
    pub fn configure(&mut self, newcomers: u32, guarded: Guarded) {
        if self.guarded != guarded {
            self.generation = self.generation.wrapping_add(1);
        }
        (self.newcomers, self.guarded) = (newcomers, guarded);
    }

    /// Counted up when answers that were told before mean more now.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Everything that the kernel's tables need.
    pub fn all(&self) -> impl Iterator<Item = Change> {
        let ends = self.ends.iter().map(|(end, at)| Change::End(*end, *at));
        ends.chain(self.proven().map(|key| Change::Credential(key, true)))
    }

    /// What is proven.
    pub fn proven(&self) -> impl Iterator<Item = SubjectKey> {
        self.proven.iter().filter(|(_, proof)| proof.good).map(|(key, _)| *key)
    }

    /// Whether a credential is proven at a server, for a client.
    pub fn is_proven_at(&self, server: &str, presented: (u64, u8), network: u64) -> bool {
        let server = self.servers.get(server);
        server.is_some_and(|server| self.is_proven(&key(presented, network, server.number)))
    }

    fn is_proven(&self, key: &SubjectKey) -> bool {
        self.proven.get(key).is_some_and(|proof| proof.good)
    }

    /// Takes note of an answer at `now` (s since 1970). What changes for the kernel, and whether the caller's credentials are good:
    /// then what they claim is so.
    pub fn answered(&mut self, one: &Answered, now: u64) -> (Vec<Change>, bool) {
        let mut changes = Vec::new();
        let Some(number) = self.server(&one.server, one.end, now, &mut changes) else {
            return (changes, false);
        };
        let keys: Vec<_> = one.credentials().map(|credential| key(credential, one.network, number)).collect();
        let proven: Vec<_> = keys.iter().filter(|key| self.is_proven(key)).copied().collect();
        match (one.good, &*proven) {
            (false, []) => self.note(one, now, |route| route.refused = now),
            // which of several it was that the server did not like, it does not say
            (false, [key]) if keys.len() == 1 => {
                self.take_back(key);
                changes.push(Change::Credential(*key, false));
            }
            (true, []) if keys.is_empty() => self.note(one, now, |route| route.open = now),
            (true, []) if self.is_guarded(one, now) => {
                for key in keys {
                    self.prove(key, one.network, now, &mut changes);
                }
                let good = changes.iter().any(|change| matches!(change, Change::Credential(_, true)));
                return (changes, good);
            }
            (true, [_, ..]) => {
                for key in &proven {
                    if let Some(proof) = self.proven.get_mut(key) {
                        self.changed |= now.saturating_sub(proof.used) > HOUR;
                        proof.used = proof.used.max(now);
                    }
                }
                return (changes, true);
            }
            _ => {}
        }
        (changes, false)
    }

    /// Number of the server that answered at an end.
    fn server(&mut self, name: &str, end: ServerKey, now: u64, changes: &mut Vec<Change>) -> Option<u32> {
        if name.is_empty() || end.port == 0 {
            return None;
        }
        if !self.servers.contains_key(name) {
            self.make_room_for_server(user(name), changes)?;
            let server = Server { number: self.next, ..Server::default() };
            self.next = self.next.checked_add(1)?;
            self.servers.insert(name.into(), server);
        }
        let server = self.servers.get_mut(name)?;
        server.used = now;
        let number = server.number;
        let owner =
            if self.guarded.iter().any(|(port, paths)| u32::from(*port) == end.port && !paths.is_empty()) {
                0
            } else {
                owner(name)
            };
        let at = At { number, owner };
        if self.ends.get(&end) == Some(&at) {
            return Some(number);
        }
        self.changed = true;
        self.ends.insert(end, at);
        changes.push(Change::End(end, at));
        for server in self.servers.values_mut().filter(|server| server.number != number) {
            server.ends.retain(|other| *other != end);
        }
        let server = self.servers.get_mut(name)?;
        server.ends.retain(|other| *other != end);
        server.ends.push(end);
        if server.ends.len() > ENDS_EACH {
            let oldest = server.ends.remove(0);
            self.ends.remove(&oldest);
            changes.push(Change::NoEnd(oldest));
        }
        Some(number)
    }

    /// Forgets the server that its user has used least, if there are too many: others' are not pushed out.
    fn make_room_for_server(&mut self, user: &str, changes: &mut Vec<Change>) -> Option<()> {
        let same = || self.servers.iter().filter(|(other, _)| self::user(other) == user);
        if self.servers.len() < SERVERS && same().count() < SERVERS_EACH {
            return Some(());
        }
        let oldest = same().min_by_key(|(_, server)| server.used).map(|(name, _)| name.clone())?;
        let server = self.servers.remove(&oldest)?;
        for end in server.ends {
            self.ends.remove(&end);
            changes.push(Change::NoEnd(end));
        }
        let there: Vec<_> =
            self.proven.keys().filter(|key| key.direction == server.number).copied().collect();
        for key in there {
            self.forget(&key);
            changes.push(Change::Credential(key, false));
        }
        Some(())
    }

    /// Takes note of what strangers are answered on a route.
    fn note(&mut self, one: &Answered, now: u64, note: impl FnOnce(&mut Route)) {
        let was = self.is_guarded(one, now);
        let Some(server) = self.servers.get_mut(&*one.server) else { return };
        if one.route.is_empty()
            || (server.routes.len() >= ROUTES_EACH && !server.routes.contains_key(&*one.route))
        {
            return;
        }
        note(server.routes.entry(one.route.clone()).or_default());
        let is = self.is_guarded(one, now);
        self.changed |= was != is;
        if is && !was {
            self.generation = self.generation.wrapping_add(1);
        }
    }

    fn is_guarded(&self, one: &Answered, now: u64) -> bool {
        if !is_plain(&one.path) {
            return false;
        }
        let said = self.guarded.iter().filter(|(port, _)| u32::from(*port) == one.end.port);
        if said.flat_map(|(_, paths)| paths).any(|path| one.path.starts_with(&**path)) {
            return true;
        }
        let route = self.servers.get(&*one.server).and_then(|server| server.routes.get(&*one.route));
        route.is_some_and(|route| {
            route.refused != 0 && (route.open == 0 || now.saturating_sub(route.open) > MEMORY)
        })
    }

    fn take_back(&mut self, key: &SubjectKey) {
        if let Some(proof) = self.proven.get_mut(key) {
            proof.good = false;
            self.changed = true;
        }
    }

    /// A server has taken a stranger's credential on a guarded route.
    fn prove(&mut self, key: SubjectKey, network: u64, now: u64, changes: &mut Vec<Change>) {
        if let Some(proof) = self.proven.get_mut(&key) {
            // it was taken back
            (proof.good, proof.used) = (true, now);
            self.changed = true;
            changes.push(Change::Credential(key, true));
            return;
        }
        let hour = now / HOUR;
        if !self.networks.contains_key(&network) && self.networks.len() >= NETWORKS {
            self.networks.retain(|_, known| known.held != 0 || known.hour == hour);
            if self.networks.len() >= NETWORKS {
                self.waiting += 1;
                return;
            }
        }
        let known = self.networks.entry(network).or_default();
        if known.hour != hour {
            (known.hour, known.newcomers) = (hour, 0);
        }
        if known.newcomers >= self.newcomers {
            self.waiting += 1;
            return;
        }
        let held = known.held as usize;
        if (self.proven.len() >= MOST || held >= SHARE) && !self.make_room(network, changes) {
            self.waiting += 1;
            return;
        }
        let known = self.networks.entry(network).or_default();
        known.newcomers += 1;
        known.held += 1;
        self.proven.insert(key, Proof { network, used: now, good: true });
        self.changed = true;
        changes.push(Change::Credential(key, true));
    }

    /// Forgets what a client network has used least: others are not pushed out.
    fn make_room(&mut self, network: u64, changes: &mut Vec<Change>) -> bool {
        let own = self.proven.iter().filter(|(_, proof)| proof.network == network);
        let Some(key) = own.min_by_key(|(_, proof)| (proof.good, proof.used)).map(|(key, _)| *key) else {
            return false;
        };
        self.forget(&key);
        changes.push(Change::Credential(key, false));
        true
    }

    fn forget(&mut self, key: &SubjectKey) {
        let Some(proof) = self.proven.remove(key) else { return };
        self.changed = true;
        if let Some(known) = self.networks.get_mut(&proof.network) {
            known.held = known.held.saturating_sub(1);
        }
    }

    /// Forgets what was not used for long.
    pub fn expire(&mut self, now: u64) -> Vec<Change> {
        let old = self.proven.iter().filter(|(_, proof)| now.saturating_sub(proof.used) > UNUSED);
        let old: Vec<_> = old.map(|(key, _)| *key).collect();
        for key in &old {
            self.forget(key);
        }
        old.into_iter().map(|key| Change::Credential(key, false)).collect()
    }

    /// Credentials that were good, but beyond their client's budget of newcomers, since the start.
    pub fn waiting(&self) -> u64 {
        self.waiting
    }

    /// What is to be kept over a restart, when it has changed since the last call.
    pub fn take_text(&mut self) -> Option<String> {
        std::mem::take(&mut self.changed).then(|| self.text())
    }

    fn text(&self) -> String {
        let mut text = format!("{HEADER}\n");
        for (name, server) in &self.servers {
            let _ = writeln!(text, "server {} {} {name}", server.number, server.used);
            for end in &server.ends {
                let ServerKey { address: [high, low], netns, port } = end;
                let owner = self.ends.get(end).map_or(0, |at| at.owner);
                let _ = writeln!(text, "end {} {high:x} {low:x} {netns} {port} {owner}", server.number);
            }
            for (route, Route { refused, open }) in &server.routes {
                let _ = writeln!(text, "route {} {refused} {open} {route}", server.number);
            }
        }
        for (SubjectKey { value, kind, direction }, Proof { network, used, good }) in &self.proven {
            let good = u8::from(*good);
            let _ = writeln!(text, "proven {direction} {value:x} {kind} {network:x} {used} {good}");
        }
        text
    }

    /// What was kept.
    ///
    /// # Errors
    /// The first line that is not understood.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut proofs = Self::default();
        let mut names: HashMap<u32, Box<str>> = HashMap::new();
        let mut lines = text.lines();
        if lines.next() != Some(HEADER) {
            return Err("it does not begin as it should".into());
        }
        for (at, line) in lines.enumerate() {
            proofs.line(line, &mut names).ok_or_else(|| format!("line {} is not understood", at + 2))?;
        }
        let unknown: HashSet<_> = proofs
            .proven
            .keys()
            .map(|key| key.direction)
            .filter(|number| !names.contains_key(number))
            .collect();
        proofs.proven.retain(|key, _| !unknown.contains(&key.direction));
        for proof in proofs.proven.values() {
            proofs.networks.entry(proof.network).or_default().held += 1;
        }
        Ok(proofs)
    }

    fn line(&mut self, line: &str, names: &mut HashMap<u32, Box<str>>) -> Option<()> {
        let (what, rest) = line.split_once(' ')?;
        let (number, rest) = rest.split_once(' ')?;
        let number = number.parse::<u32>().ok().filter(|number| *number >= FIRST)?;
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        if what == "server" {
            let [used, name] = words(rest)?;
            if self.servers.len() >= SERVERS || names.insert(number, name.into()).is_some() {
                return None;
            }
            self.next = self.next.max(number.checked_add(1)?);
            let server = Server { number, used: used.parse().ok()?, ..Server::default() };
            self.servers.insert(name.into(), server);
            return Some(());
        }
        let server = self.servers.get_mut(names.get(&number)?)?;
        match what {
            "end" => {
                let [high, low, netns, port, owner] = words(rest)?;
                let end = ServerKey {
                    address: [hex(high)?, hex(low)?],
                    netns: netns.parse().ok()?,
                    port: port.parse().ok()?,
                };
                let at = At { number, owner: owner.parse().ok()? };
                if server.ends.len() < ENDS_EACH && self.ends.insert(end, at).is_none() {
                    server.ends.push(end);
                }
            }
            "route" => {
                let [refused, open, method, path] = words(rest)?;
                let route = Route { refused: refused.parse().ok()?, open: open.parse().ok()? };
                if server.routes.len() < ROUTES_EACH {
                    server.routes.insert(format!("{method} {path}").into(), route);
                }
            }
            "proven" => {
                let [value, kind, network, used, good] = words(rest)?;
                let key = SubjectKey { value: hex(value)?, kind: kind.parse().ok()?, direction: number };
                let proof = Proof { network: hex(network)?, used: used.parse().ok()?, good: good == "1" };
                if self.proven.len() < MOST {
                    self.proven.insert(key, proof);
                }
            }
            _ => return None,
        }
        Some(())
    }
}

/// Whether every server reads a path in the same way: another reading could be that of a public page.
fn is_plain(path: &str) -> bool {
    let odd = |part: &str| path.contains(part);
    path.starts_with('/') && !["//", "/.", "%", "\\", ";"].into_iter().any(odd)
}

/// The words of a line; the last one has the rest.
fn words<const N: usize>(line: &str) -> Option<[&str; N]> {
    let words: Vec<_> = line.splitn(N, ' ').collect();
    words.try_into().ok()
}

/// Whose a server is: what it vouches for spends the budgets of its owner only. Not 0.
fn owner(name: &str) -> u32 {
    let container = name.split(' ').next().filter(|workload| workload.starts_with("container:"));
    let mut hasher = std::hash::DefaultHasher::new();
    container.unwrap_or_else(|| user(name)).hash(&mut hasher);
    hasher.finish() as u32 | 1
}

/// The user in a server's name, which is its last word.
fn user(name: &str) -> &str {
    name.rsplit_once(' ').map_or(name, |(_, user)| user)
}

#[cfg(test)]
mod tests;
