//! From identity strings and workloads to the keys under which the kernel side knows them.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use monitor_common::cap::{self, SubjectKey, subject};
use monitor_common::event::{cred, role};

use crate::address::words;
use crate::core::{Accepted, Settings};
use crate::view::Direction;

/// Most directories that a search for a workload's cgroups looks at.
const DIRECTORIES: usize = 20_000;

/// What is needed to resolve names: everything here is given, nothing is asked for but cgroups and executables.
#[derive(Clone, Debug, Default)]
pub struct Resolver {
    /// Identity strings by the name they were given, sorted.
    pub names: HashMap<String, Vec<String>>,
    /// Headers that carry credentials, in the kernel's order.
    pub headers: Vec<String>,
    /// Number of configured query keys.
    pub query_keys: usize,
    /// Number of configured cookies.
    pub cookies: usize,
    /// Root of cgroup v2.
    pub cgroups: Option<PathBuf>,
}

/// `event::role` of a direction.
pub fn number(direction: Direction) -> u32 {
    u32::from(match direction {
        Direction::Inbound => role::INBOUND,
        Direction::Outbound => role::OUTBOUND,
    })
}

/// From names by identity string to identity strings by name: a role may have ten thousand of them.
fn by_name(names: &HashMap<String, String>) -> HashMap<String, Vec<String>> {
    let mut all: HashMap<String, Vec<String>> = HashMap::new();
    for (identity, name) in names {
        all.entry(name.clone()).or_default().push(identity.clone());
    }
    for identities in all.values_mut() {
        identities.sort();
    }
    all
}

impl Resolver {
    /// From the core's settings.
    pub fn new(settings: &Settings, cgroups: Option<PathBuf>) -> Self {
        Self {
            names: by_name(&settings.names),
            headers: settings
                .credentials
                .headers
                .iter()
                .take(8)
                .map(|name| name.to_ascii_lowercase())
                .collect(),
            query_keys: settings.credentials.query_keys.len().min(8),
            cookies: settings.credentials.cookies.len().min(8),
            cgroups,
        }
    }

    /// The identity strings that `name` stands for: those it was given to, else itself.
    pub fn identities(&self, name: &str) -> Vec<String> {
        self.names.get(name).cloned().unwrap_or_else(|| vec![name.to_owned()])
    }

    /// Whether `name` was given to an identity.
    pub fn stands_for(&self, name: &str, identity: &str) -> bool {
        self.names.get(name).is_some_and(|identities| identities.iter().any(|one| one == identity))
    }

    /// The keys of an identity, a name or an identity string. Those of credentials that claim it are among them once they were
    /// accepted.
    pub fn keys(&self, name: &str, direction: Direction, accepted: &[Accepted]) -> Vec<SubjectKey> {
        self.identities(name)
            .iter()
            .flat_map(|identity| self.keys_of(identity, direction, accepted))
            .collect()
    }

    fn keys_of(&self, identity: &str, direction: Direction, accepted: &[Accepted]) -> Vec<SubjectKey> {
        let way = number(direction);
        let Some((kind, rest)) = identity.split_once(':') else { return Vec::new() };
        match kind {
            "client" => client(rest)
                .map(|value| SubjectKey { value, kind: subject::CLIENT, direction: way })
                .into_iter()
                .collect(),
            "workload" => self.workload(rest, direction),
            _ => match fingerprint(rest) {
                Some(value) => self
                    .carriers(kind)
                    .into_iter()
                    .map(|kind| SubjectKey { value, kind, direction: way })
                    .collect(),
                None => accepted
                    .iter()
                    .filter(|one| one.identity == identity)
                    .map(|one| SubjectKey { direction: way, ..one.key })
                    .collect(),
            },
        }
    }

    /// Numbers of the carriers in which a credential of this kind can stand.
    fn carriers(&self, kind: &str) -> Vec<u32> {
        let range = |first: u8, count: usize| (u32::from(first)..).take(count).collect::<Vec<_>>();
        match kind {
            "bearer" | "jwt" | "basic" => vec![u32::from(cred::AUTHORIZATION)],
            "aws" => vec![u32::from(cred::AWS)],
            // a bare value in `Authorization` is an API key, too
            "api_key" => {
                let headers = (u32::from(cred::HEADER)..).zip(&self.headers);
                let others = headers.filter(|(_, name)| *name != "authorization").map(|(number, _)| number);
                std::iter::once(u32::from(cred::AUTHORIZATION)).chain(others).collect()
            }
            "query_key" => range(cred::QUERY, self.query_keys),
            "cookie" => range(cred::COOKIE, self.cookies),
            _ => Vec::new(),
        }
    }

    /// The keys of a workload as it runs now.
    pub fn workload(&self, workload: &str, direction: Direction) -> Vec<SubjectKey> {
        let direction = number(direction);
        match workload.split_once(':') {
            Some(("unit", unit)) => self.cgroups(|name| name == unit, direction),
            Some(("container", id)) => self.cgroups(|name| name.contains(id), direction),
            Some(("exe", path)) => fs::metadata(path)
                .map(|meta| {
                    let device = libc::major(meta.dev()) << 20 | libc::minor(meta.dev());
                    let value = cap::executable_key(meta.ino(), device);
                    SubjectKey { value, kind: subject::EXECUTABLE, direction }
                })
                .into_iter()
                .collect(),
            _ => Vec::new(),
        }
    }

    /// The cgroups whose directory has a certain name, and those below them.
    fn cgroups(&self, is_meant: impl Fn(&str) -> bool, direction: u32) -> Vec<SubjectKey> {
        let Some(root) = &self.cgroups else { return Vec::new() };
        let mut found = Vec::new();
        let mut open: Vec<(PathBuf, bool)> = vec![(root.clone(), false)];
        let mut seen = 0;
        while let Some((path, inside)) = open.pop() {
            seen += 1;
            if seen > DIRECTORIES {
                break;
            }
            let inside = inside
                || (path != *root && path.file_name().is_some_and(|name| is_meant(&name.to_string_lossy())));
            if inside && let Ok(meta) = fs::metadata(&path) {
                found.push(SubjectKey { value: meta.ino(), kind: subject::CGROUP, direction });
            }
            open.extend(directories(&path).map(|path| (path, inside)));
        }
        found
    }
}

fn directories(path: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path())
}

/// The kernel's key of a client: an address, or `uid=N`.
fn client(text: &str) -> Option<u64> {
    if let Some(uid) = text.strip_prefix("uid=") {
        return Some(cap::client_key([uid.parse::<u32>().ok()?.into(), 0]));
    }
    Some(cap::client_key(words(text.parse().ok()?)))
}

/// The fingerprint that an identity string ends with.
pub fn fingerprint(text: &str) -> Option<u64> {
    let hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    hex.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolver() -> Resolver {
        Resolver {
            names: [("acme".to_owned(), vec!["bearer:00000000000000ab".to_owned()])].into(),
            headers: ["authorization", "x-api-key", "api-key"].map(Into::into).to_vec(),
            query_keys: 2,
            cookies: 0,
            cgroups: None,
        }
    }

    #[test]
    fn identities_have_the_keys_that_the_kernel_uses() {
        let keys = |name: &str| {
            let keys = resolver().keys(name, Direction::Inbound, &[]);
            keys.into_iter().map(|key| (key.value, key.kind)).collect::<Vec<_>>()
        };
        assert_eq!(keys("acme"), [(0xab, 1)]);
        assert_eq!(keys("aws:00000000000000ff"), [(0xff, 2)]);
        assert_eq!(keys("api_key:00000000000000ff"), [(0xff, 1), (0xff, 9), (0xff, 10)]);
        assert_eq!(keys("query_key:00000000000000ff"), [(0xff, 16), (0xff, 17)]);
        assert_eq!(keys("cookie:00000000000000ff"), []);
        let loopback = u64::from_ne_bytes([0, 0, 0xff, 0xff, 127, 0, 0, 1]);
        assert_eq!(keys("client:127.0.0.1"), [(cap::client_key([0, loopback]), 0)]);
        assert_eq!(keys("client:uid=33"), [(cap::client_key([33, 0]), 0)]);
        assert_eq!(keys("jwt:alice@issuer"), []);
        assert_eq!(keys("nobody"), []);
    }

    #[test]
    fn an_accepted_credential_stands_for_what_it_claims() {
        let key = SubjectKey { value: 7, kind: 1, direction: 1 };
        let accepted = Accepted {
            key,
            identity: "jwt:alice@issuer".into(),
            kind: "jwt".into(),
            issuer: "issuer".into(),
            subject: "alice".into(),
        };
        let keys = resolver().keys("jwt:alice@issuer", Direction::Outbound, &[accepted]);
        assert_eq!(keys, [SubjectKey { direction: 2, ..key }]);
    }

    #[test]
    fn an_executable_is_known_by_its_file() {
        let keys = resolver().workload("exe:/proc/self/exe", Direction::Outbound);
        assert_eq!((keys.len(), keys[0].kind), (1, subject::EXECUTABLE));
        assert!(resolver().workload("exe:/no/such/file", Direction::Outbound).is_empty());
    }
}
