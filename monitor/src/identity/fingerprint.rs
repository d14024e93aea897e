//! Which credential stood where: carriers by number, as the kernel side numbers them, and the fingerprints that only
//! the daemon computes (query keys and cookies; `Authorization` to tell several values apart).

use std::borrow::Cow;

use monitor_common::event::cred;
use monitor_common::siphash::{self, Carrier as Place};

use super::{CredentialSettings, Kind};
use crate::parser::query::{cookie_values, query_values};

/// First number of the query keys that are always recognised; these numbers exist only in the daemon.
const COMMON_QUERY: u8 = 32;
/// Query keys that are always recognised.
const COMMON: [&str; 4] = ["api_key", "apikey", "access_token", "key"];
/// A bare `key` is a credential only from this length on: shorter ones are names of things.
const KEY_BYTES: usize = 16;
/// Most configured names of a sort, as in the kernel.
const NAMES: usize = 8;

/// What carried a credential: one of [`cred`], or a number of the daemon's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Carrier(u8);

impl Carrier {
    /// No credential.
    pub const NONE: Self = Self(cred::NONE);
    /// `Authorization`.
    pub const AUTHORIZATION: Self = Self(cred::AUTHORIZATION);
}

/// The installation's key and the configured names.
pub struct Prints {
    key: [u64; 2],
    headers: Vec<String>,
    query: Vec<String>,
    cookies: Vec<String>,
}

impl Prints {
    /// From the settings; more than 8 names of a sort are ignored.
    pub fn new(settings: &CredentialSettings) -> Self {
        let first = |names: &[String]| names.iter().take(NAMES).cloned().collect::<Vec<_>>();
        Self {
            key: settings.key.words(),
            headers: first(&settings.headers),
            query: first(&settings.query_keys),
            cookies: first(&settings.cookies),
        }
    }

    /// The carrier that the kernel side means by `number`; `None` when there was no credential.
    pub fn carrier(&self, number: u8) -> Option<Carrier> {
        match number {
            cred::NONE => None,
            cred::HEADER..cred::QUERY => {
                let name = self.headers.get(usize::from(number - cred::HEADER));
                let authorization = name.is_some_and(|name| name.eq_ignore_ascii_case("authorization"));
                Some(if authorization { Carrier::AUTHORIZATION } else { Carrier(number) })
            }
            _ => Some(Carrier(number)),
        }
    }

    /// Kind of a credential by its carrier alone.
    pub fn kind(&self, carrier: Carrier) -> Kind {
        match carrier.0 {
            cred::AUTHORIZATION => Kind::Bearer,
            cred::AWS => Kind::Aws,
            cred::QUERY..cred::COOKIE | COMMON_QUERY.. => Kind::QueryKey,
            cred::COOKIE..COMMON_QUERY => Kind::Cookie,
            _ => Kind::ApiKey,
        }
    }

    /// Keyed hash of a name (a JWT's subject and issuer, a Basic user, a workload): stable across restarts, and not to be
    /// met on purpose by who may choose names. `text` is escaped, so it holds no control character.
    pub fn name(&self, kind: Kind, text: &str) -> u64 {
        // blanks mean something in a name, but not in a credential
        let text = text.replace(' ', "\x1f");
        siphash::fingerprint(self.key, Place::Header(kind.label().as_bytes()), text.as_bytes())
            .unwrap_or_default()
    }

    /// Name of the header, query key or cookie.
    pub fn carrier_name(&self, carrier: Carrier) -> String {
        let at = |names: &[String], base: u8| {
            names.get(usize::from(carrier.0 - base)).cloned().unwrap_or_default()
        };
        match carrier.0 {
            cred::AUTHORIZATION | cred::AWS => "authorization".to_owned(),
            cred::HEADER..cred::QUERY => at(&self.headers, cred::HEADER).to_ascii_lowercase(),
            cred::QUERY..cred::COOKIE => at(&self.query, cred::QUERY),
            cred::COOKIE..COMMON_QUERY => at(&self.cookies, cred::COOKIE),
            COMMON_QUERY.. => {
                COMMON.get(usize::from(carrier.0 - COMMON_QUERY)).copied().unwrap_or_default().to_owned()
            }
            _ => String::new(),
        }
    }

    /// Fingerprint of an `Authorization` value.
    pub fn authorization(&self, value: &[u8]) -> Option<u64> {
        siphash::fingerprint(self.key, Place::Authorization, &unfold(value))
    }

    /// The credentials in a query: configured keys first, then the ones that are always recognised.
    pub fn query(&self, query: &[u8], found: &mut impl FnMut(Carrier, u64)) {
        if query.is_empty() {
            return;
        }
        query_values(query, &self.query, |at, value| {
            let name = self.query.get(at).map_or("", String::as_str);
            if let Some(print) = siphash::fingerprint(self.key, Place::Query(name.as_bytes()), value) {
                found(Carrier(cred::QUERY + at as u8), print);
            }
        });
        query_values(query, &COMMON, |at, value| {
            let name = COMMON.get(at).copied().unwrap_or_default();
            let configured = self.query.iter().any(|known| known == name);
            if configured || (name == "key" && value.len() < KEY_BYTES) {
                return;
            }
            if let Some(print) = siphash::fingerprint(self.key, Place::Query(name.as_bytes()), value) {
                found(Carrier(COMMON_QUERY + at as u8), print);
            }
        });
    }

    /// The credentials in one `Cookie` line.
    pub fn cookies(&self, line: &[u8], found: &mut impl FnMut(Carrier, u64)) {
        cookie_values(line, &self.cookies, |at, value| {
            let name = self.cookies.get(at).map_or("", String::as_str);
            if let Some(print) = siphash::fingerprint(self.key, Place::Cookie(name.as_bytes()), value) {
                found(Carrier(cred::COOKIE + at as u8), print);
            }
        });
    }
}

/// A folded value on one line (RFC 9112 section 5.2: each fold is replaced by blanks).
fn unfold(value: &[u8]) -> Cow<'_, [u8]> {
    if value.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
        value.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }).collect()
    } else {
        Cow::Borrowed(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prints() -> Prints {
        let settings = CredentialSettings {
            query_keys: vec!["token".to_owned(), "api_key".to_owned()],
            cookies: vec!["sid".to_owned()],
            ..CredentialSettings::default()
        };
        Prints::new(&settings)
    }

    fn query(text: &str) -> Vec<(String, u64)> {
        let (prints, mut got) = (prints(), Vec::new());
        prints.query(text.as_bytes(), &mut |carrier, print| got.push((prints.carrier_name(carrier), print)));
        got
    }

    #[test]
    fn query_keys_are_found_once_and_in_order() {
        let got = query("a=1&access_token=abc&token=t&api_key=k");
        let names: Vec<_> = got.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["token", "api_key", "access_token"]);
        assert!(query("key=short&q=x").is_empty());
        assert_eq!(query("key=AIzaSyA0123456789").len(), 1);
    }

    #[test]
    fn carriers_have_kinds_and_names() {
        let prints = prints();
        for (number, name, kind) in [
            (cred::AUTHORIZATION, "authorization", Kind::Bearer),
            (cred::HEADER, "authorization", Kind::Bearer),
            (cred::HEADER + 1, "x-api-key", Kind::ApiKey),
            (cred::AWS, "authorization", Kind::Aws),
            (cred::QUERY, "token", Kind::QueryKey),
            (cred::COOKIE, "sid", Kind::Cookie),
            (200, "", Kind::QueryKey),
        ] {
            let carrier = prints.carrier(number).unwrap();
            assert_eq!(
                (prints.carrier_name(carrier).as_str(), prints.kind(carrier)),
                (name, kind),
                "{number}"
            );
        }
        assert_eq!(prints.carrier(0), None);
    }

    #[test]
    fn folding_does_not_change_a_fingerprint() {
        assert_eq!(prints().authorization(b"Bearer\r\n abc"), prints().authorization(b"Bearer abc"));
    }
}
