//! Configured names: from an identity string to what people call it.

use std::collections::HashMap;

use super::{Id, Kind, Label, Prints};
use crate::view::Direction;

/// Configured names by identity. A name holds for both directions.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// The identity's direction is always inbound here.
    names: HashMap<Id, Box<str>>,
}

impl Names {
    /// Prepares `names` (identity string to name). What is no identity string names nobody.
    pub fn new(names: &HashMap<String, String>, prints: &Prints) -> Self {
        let parsed =
            names.iter().filter_map(|(text, name)| Some((Id::parse(text, prints)?, name.as_str().into())));
        Self { names: parsed.collect() }
    }

    /// Whether this very credential has a name, which then comes before any name that it claims.
    pub fn has_credential(&self, kind: Kind, fingerprint: u64) -> bool {
        self.get(&Id::credential(Direction::Inbound, kind, fingerprint)).is_some()
    }

    /// The configured name of an identity.
    pub fn get(&self, id: &Id) -> Option<&str> {
        if self.names.is_empty() {
            return None;
        }
        self.names.get(&id.towards(Direction::Inbound)).map(|name| &**name)
    }

    /// The identity string: the configured name, else [`Id::text`].
    pub fn show(&self, id: &Id, label: Option<&Label>) -> String {
        self.get(id).map_or_else(|| id.text(label), ToOwned::to_owned)
    }

    /// Every named identity in both directions.
    pub fn iter(&self) -> impl Iterator<Item = (Id, &str)> {
        let both = [Direction::Inbound, Direction::Outbound];
        both.into_iter().flat_map(|way| self.names.iter().map(move |(id, name)| (id.towards(way), &**name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::CredentialSettings;

    #[test]
    fn names_are_found_by_every_form_of_identity() {
        let prints = Prints::new(&CredentialSettings::default());
        let names: HashMap<_, _> = [
            ("bearer:00000000000000AB", "acme"),
            ("client:10.0.0.1", "probe"),
            ("client:uid=33", "web"),
            ("jwt:a@b", "alice"),
            ("workload:unit:a.service", "billing"),
            ("nonsense", "nobody"),
        ]
        .map(|(identity, name)| (identity.to_owned(), name.to_owned()))
        .into();
        let names = Names::new(&names, &prints);
        let way = Direction::Outbound;
        let named = |kind, text| Id::named(way, kind, prints.name(kind, text));
        for (id, want) in [
            (Id::credential(way, Kind::Bearer, 0xab), "acme"),
            (Id::credential(way, Kind::ApiKey, 0xab), "api_key:00000000000000ab"),
            (Id::client(way, "10.0.0.1".parse().unwrap()), "probe"),
            (Id::local_user(way, 33), "web"),
            (named(Kind::Jwt, "a@b"), "alice"),
            (named(Kind::Workload, "unit:a.service"), "billing"),
        ] {
            assert_eq!(names.show(&id, None), want);
        }
        assert!(names.has_credential(Kind::Bearer, 0xab));
        assert_eq!(names.iter().count(), 10);
    }
}
