//! Configured names: from an identity string, or `kind:fingerprint`, to what people call it.

use std::collections::HashMap;

use super::{Id, Kind, Label};

/// Configured names, prepared for look-up by value.
#[derive(Clone, Debug, Default)]
pub struct Names {
    by_fingerprint: HashMap<(Kind, u64), Box<str>>,
    by_text: HashMap<Box<str>, Box<str>>,
}

impl Names {
    /// Prepares `names` (identity string to name).
    pub fn new(names: &HashMap<String, String>) -> Self {
        let mut found = Self::default();
        for (identity, name) in names {
            match credential(identity) {
                Some(key) => found.by_fingerprint.insert(key, name.as_str().into()),
                None => found.by_text.insert(identity.as_str().into(), name.as_str().into()),
            };
        }
        found
    }

    /// Whether this very credential has a name, which then comes before any name that it claims.
    pub fn has_credential(&self, kind: Kind, fingerprint: u64) -> bool {
        !self.by_fingerprint.is_empty() && self.by_fingerprint.contains_key(&(kind, fingerprint))
    }

    /// The identity string: the configured name, else [`Id::text`].
    pub fn show(&self, id: &Id, label: Option<&Label>) -> String {
        if let Some(name) = id.fingerprint().and_then(|found| self.by_fingerprint.get(&(id.kind, found))) {
            return name.to_string();
        }
        let text = id.text(label);
        match self.by_text.get(text.as_str()) {
            Some(name) => name.to_string(),
            None => text,
        }
    }
}

/// `kind:` and 16 hexadecimal digits.
fn credential(identity: &str) -> Option<(Kind, u64)> {
    let (kind, digits) = identity.split_once(':')?;
    let kind = Kind::ALL.into_iter().find(|found| found.label() == kind)?;
    let hexadecimal = digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !hexadecimal || matches!(kind, Kind::Client | Kind::Workload | Kind::Other) {
        return None;
    }
    Some((kind, u64::from_str_radix(digits, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Direction;

    #[test]
    fn names_are_found_by_fingerprint_and_by_text() {
        let names: HashMap<_, _> =
            [("bearer:00000000000000AB", "acme"), ("client:10.0.0.1", "probe"), ("jwt:a@b", "alice")]
                .map(|(identity, name)| (identity.to_owned(), name.to_owned()))
                .into();
        let names = Names::new(&names);
        let inbound = Direction::Inbound;
        assert_eq!(names.show(&Id::credential(inbound, Kind::Bearer, 0xab), None), "acme");
        assert_eq!(
            names.show(&Id::credential(inbound, Kind::ApiKey, 0xab), None),
            "api_key:00000000000000ab"
        );
        assert_eq!(names.show(&Id::client(inbound, "10.0.0.1".parse().unwrap()), None), "probe");
        let label = Label { text: "a@b".into(), issuer: "b".into(), subject: "a".into() };
        assert_eq!(names.show(&Id::named(inbound, Kind::Jwt, 1), Some(&label)), "alice");
        assert!(names.has_credential(Kind::Bearer, 0xab));
    }
}
