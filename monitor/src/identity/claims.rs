//! What credentials claim: the Basic user, the JWT's subject and issuer. A claim names nobody until a server has
//! answered a request that carried the credential with 2xx or 3xx.
//!
//! ```text
//! unknown --head read--> claimed --2xx/3xx--> accepted (for good, while it is remembered)
//! ```

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use lru::LruCache;

use super::{Id, Kind, Label};
use crate::parser::authorization;
use crate::parser::escape::escape;
use crate::view::Direction;

/// Credentials whose claims are remembered; at most about 600 bytes each.
const REMEMBERED: usize = 32_768;
/// Longest subject and issuer that are shown.
const PART_CHARS: usize = 96;
/// Longest name.
const NAME_CHARS: usize = 128;

/// The name that a credential claims.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Kind of the credential.
    pub kind: Kind,
    /// Name.
    pub label: Arc<Label>,
    hash: u64,
    accepted: bool,
}

impl Claim {
    /// The identity that the name stands for.
    pub fn id(&self, direction: Direction) -> Id {
        Id::named(direction, self.kind, self.hash)
    }
}

/// Claims by fingerprint, bounded.
pub struct Claims {
    known: LruCache<u64, Option<Claim>, foldhash::fast::RandomState>,
    /// SipHash with a key of this process: claimed names are chosen by callers.
    hasher: RandomState,
}

impl Default for Claims {
    fn default() -> Self {
        Self {
            known: LruCache::unbounded_with_hasher(foldhash::fast::RandomState::default()),
            hasher: RandomState::new(),
        }
    }
}

impl Claims {
    /// Reads what `value` (of `Authorization`) claims, unless that is known. Of the value nothing but the user or
    /// subject and issuer is kept.
    pub fn learn(&mut self, fingerprint: u64, value: &[u8]) {
        if self.known.get(&fingerprint).is_some() {
            return;
        }
        let claim = authorization::claims(value).map(|claims| {
            let kind = Kind::from(authorization::scheme(value));
            let label = label(&claims, kind, &self.hasher);
            Claim {
                kind,
                hash: self.hasher.hash_one((kind, &claims.subject, &claims.issuer)),
                label,
                accepted: false,
            }
        });
        if self.known.len() >= REMEMBERED {
            self.known.pop_lru();
        }
        self.known.put(fingerprint, claim);
    }

    /// The identity and name of a local workload.
    pub fn workload(&self, direction: Direction, workload: &Arc<str>) -> (Id, Arc<Label>) {
        let label = Label { text: (&**workload).into(), issuer: Box::default(), subject: Box::default() };
        (Id::named(direction, Kind::Workload, self.hasher.hash_one(workload)), Arc::new(label))
    }

    /// The accepted name of a credential.
    pub fn accepted(&mut self, fingerprint: u64) -> Option<&Claim> {
        self.known.get(&fingerprint)?.as_ref().filter(|claim| claim.accepted)
    }

    /// Takes note that a server accepted the credential; returns its name from now on.
    pub fn accept(&mut self, fingerprint: u64) -> Option<&Claim> {
        let claim = self.known.get_mut(&fingerprint)?.as_mut()?;
        claim.accepted = true;
        Some(claim)
    }
}

fn label(claims: &authorization::Claims, kind: Kind, hasher: &RandomState) -> Arc<Label> {
    let subject = escape(&claims.subject, PART_CHARS);
    let issuer = escape(&claims.issuer, PART_CHARS);
    let mut text = subject.clone();
    if kind == Kind::Jwt && !issuer.is_empty() {
        text.push('@');
        // the last `@` separates, so an issuer must not bring its own
        text.push_str(&issuer.replace('@', "\\x40"));
    }
    if text.chars().count() > NAME_CHARS || text.contains('…') {
        // what is cut could be somebody else's: a keyed digest of the whole keeps names apart
        let digest = hasher.hash_one((&claims.subject, &claims.issuer));
        text = text.chars().take(NAME_CHARS - 18).collect();
        text.push_str(&format!("~{digest:016x}"));
    }
    Arc::new(Label { text: text.into(), issuer: issuer.into(), subject: subject.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(subject: &str, issuer: &str) -> String {
        let claims = authorization::Claims { subject: subject.into(), issuer: issuer.into() };
        label(&claims, Kind::Jwt, &RandomState::new()).text.to_string()
    }

    #[test]
    fn a_claim_names_nobody_until_it_is_accepted() {
        let mut claims = Claims::default();
        claims.learn(1, b"Basic YWxpY2U6c2VjcmV0");
        claims.learn(2, b"Bearer opaque");
        assert!(claims.accepted(1).is_none());
        assert_eq!(&*claims.accept(1).unwrap().label.text, "alice");
        assert!(claims.accepted(1).is_some());
        assert!(claims.accept(2).is_none() && claims.accept(3).is_none());
    }

    #[test]
    fn two_claims_never_share_a_name() {
        assert_eq!(name("alice", "https://idp"), "alice@https://idp");
        assert_ne!(name("a", "b@c"), name("a@b", "c"));
        let (long, longer) = ("x".repeat(200), "x".repeat(201));
        assert_ne!(name(&long, ""), name(&longer, ""));
        assert!(name(&long, &long).chars().count() <= NAME_CHARS);
        assert_eq!(name("a\x1b[0m", ""), "a\\x1b[0m");
    }
}
