//! What credentials claim: the Basic user, the JWT's subject and issuer. A claim names nobody until a server has
//! answered a request that carried the credential with 2xx or 3xx.
//!
//! ```text
//! unknown --head read--> claimed --2xx/3xx--> accepted (for good, while it is remembered)
//! ```

use std::fmt::Write;
use std::sync::Arc;

use foldhash::fast::RandomState;
use lru::LruCache;

use super::{Id, Kind, Label, Prints, is_fingerprint};
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
    known: LruCache<u64, Option<Claim>, RandomState>,
}

impl Default for Claims {
    fn default() -> Self {
        Self { known: LruCache::unbounded_with_hasher(RandomState::default()) }
    }
}

impl Claims {
    /// Reads what `value` (of `Authorization`) claims, unless that is known. Of the value nothing but the user or
    /// subject and issuer is kept.
    pub fn learn(&mut self, fingerprint: u64, value: &[u8], prints: &Prints) {
        if self.known.get(&fingerprint).is_some() {
            return;
        }
        let claim = authorization::claims(value).map(|claims| {
            let kind = Kind::from(authorization::scheme(value));
            let label = label(&claims, kind, prints);
            Claim { kind, hash: prints.name(kind, &label.text), label: Arc::new(label), accepted: false }
        });
        if self.known.len() >= REMEMBERED {
            self.known.pop_lru();
        }
        self.known.put(fingerprint, claim);
    }

    /// The accepted name of a credential.
    pub fn accepted(&mut self, fingerprint: u64) -> Option<&Claim> {
        self.known.get(&fingerprint)?.as_ref().filter(|claim| claim.accepted)
    }

    /// The same for who only looks: it is not remembered any longer for that.
    pub fn peek_accepted(&self, fingerprint: u64) -> Option<&Claim> {
        self.known.peek(&fingerprint)?.as_ref().filter(|claim| claim.accepted)
    }

    /// What a credential claims, accepted or not.
    pub fn claimed(&mut self, fingerprint: u64) -> Option<&Claim> {
        self.known.get(&fingerprint)?.as_ref()
    }

    /// Takes note that a server accepted the credential; returns its name from now on.
    pub fn accept(&mut self, fingerprint: u64) -> Option<&Claim> {
        let claim = self.known.get_mut(&fingerprint)?.as_mut()?;
        claim.accepted = true;
        Some(claim)
    }
}

fn label(claims: &authorization::Claims, kind: Kind, prints: &Prints) -> Label {
    let subject = escape(&claims.subject, PART_CHARS);
    let issuer = escape(&claims.issuer, PART_CHARS);
    let mut text = subject.clone();
    if kind == Kind::Jwt && !issuer.is_empty() {
        // the last `@` separates, so an issuer must not bring its own
        let _ = write!(text, "@{}", issuer.replace('@', "\\x40"));
    }
    if text.chars().count() > NAME_CHARS || text.contains('…') {
        // what is cut could be somebody else's: a keyed digest of the whole keeps names apart
        let mut whole = escape(&claims.subject, usize::MAX);
        let _ = write!(whole, "\n{}", escape(&claims.issuer, usize::MAX));
        let digest = prints.name(kind, &whole);
        text = text.chars().take(NAME_CHARS - 18).collect();
        let _ = write!(text, "~{digest:016x}");
    } else if is_fingerprint(&text) {
        // a name must not be taken for a fingerprint
        let first = text.remove(0);
        text.insert_str(0, &format!("\\x{:02x}", first as u32));
    }
    Label { text: text.into(), issuer: issuer.into(), subject: subject.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::CredentialSettings;

    fn name(subject: &str, issuer: &str) -> String {
        let claims = authorization::Claims { subject: subject.into(), issuer: issuer.into() };
        label(&claims, Kind::Jwt, &Prints::new(&CredentialSettings::default())).text.to_string()
    }

    #[test]
    fn a_claim_names_nobody_until_it_is_accepted() {
        let (mut claims, prints) = (Claims::default(), Prints::new(&CredentialSettings::default()));
        claims.learn(1, b"Basic YWxpY2U6c2VjcmV0", &prints);
        claims.learn(2, b"Bearer opaque", &prints);
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
        assert_eq!(name("0123456789abcdef", ""), "\\x30123456789abcdef");
        assert_eq!(name("a\x1b[0m", ""), "a\\x1b[0m");
    }
}
