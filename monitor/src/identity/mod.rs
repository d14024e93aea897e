//! Who a request is charged to.
//!
//! Owns: the identity of a request ([`Id`]), the names it goes by, the acceptance of what a credential claims, and the
//! bounded table of counts per identity. Must not: hold a credential (only fingerprints come in), or trust a claim
//! before a server has accepted it.

mod claims;
mod fingerprint;
mod names;
mod settings;
mod table;

pub use claims::{Claim, Claims};
pub use fingerprint::{Carrier, Prints};
pub use names::Names;
pub use settings::{CredentialSettings, SipKey};
pub use table::{Identity, Seen, Table};

use std::net::{IpAddr, Ipv6Addr};

use crate::address::mapped;
use crate::parser::authorization::Scheme;
use crate::view::Direction;

/// Kind of an identity, in the words of the CLI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Opaque token in `Authorization`.
    Bearer,
    /// JWT in `Authorization`.
    Jwt,
    /// Basic credentials.
    Basic,
    /// Access-key id of an AWS-style signature.
    Aws,
    /// API key in a header of its own.
    ApiKey,
    /// API key in the query.
    QueryKey,
    /// Cookie with a configured name.
    Cookie,
    /// Address of the client, or user of a Unix-socket client.
    Client,
    /// Local workload, for outbound requests.
    Workload,
    /// Everything beyond the bound of the table.
    Other,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Bearer,
        Self::Jwt,
        Self::Basic,
        Self::Aws,
        Self::ApiKey,
        Self::QueryKey,
        Self::Cookie,
        Self::Client,
        Self::Workload,
        Self::Other,
    ];

    /// The word for it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Bearer => "bearer",
            Self::Jwt => "jwt",
            Self::Basic => "basic",
            Self::Aws => "aws",
            Self::ApiKey => "api_key",
            Self::QueryKey => "query_key",
            Self::Cookie => "cookie",
            Self::Client => "client",
            Self::Workload => "workload",
            Self::Other => "other",
        }
    }

    /// Whether a credential of this kind claims somebody by name.
    pub fn claims(self) -> bool {
        matches!(self, Self::Jwt | Self::Basic)
    }
}

impl From<Scheme> for Kind {
    fn from(scheme: Scheme) -> Self {
        match scheme {
            Scheme::Bearer => Self::Bearer,
            Scheme::Jwt => Self::Jwt,
            Scheme::Basic => Self::Basic,
            Scheme::Aws => Self::Aws,
            Scheme::Bare => Self::ApiKey,
        }
    }
}

/// What the value of an [`Id`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Form {
    /// Fingerprint of a credential.
    Fingerprint,
    /// Keyed hash of a name; the name itself is in a [`Label`].
    Named,
    /// Address.
    Address,
    /// User of a Unix-socket peer.
    User,
    /// Nothing is known.
    Unknown,
}

/// An identity in one direction, by value: small, comparable, without any secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Id {
    /// Direction.
    pub direction: Direction,
    /// Kind.
    pub kind: Kind,
    form: Form,
    value: u128,
}

/// The text of an [`Id`] that is known by name, already escaped and bounded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// What follows `kind:`.
    pub text: Box<str>,
    /// JWT issuer.
    pub issuer: Box<str>,
    /// JWT subject or Basic user.
    pub subject: Box<str>,
}

impl Id {
    /// A credential.
    pub fn credential(direction: Direction, kind: Kind, fingerprint: u64) -> Self {
        Self { direction, kind, form: Form::Fingerprint, value: u128::from(fingerprint) }
    }

    /// A name under which several credentials go (`hash` of a [`Label`]'s text), or a workload.
    pub fn named(direction: Direction, kind: Kind, hash: u64) -> Self {
        Self { direction, kind, form: Form::Named, value: u128::from(hash) }
    }

    /// The client at `address`.
    pub fn client(direction: Direction, address: IpAddr) -> Self {
        Self { direction, kind: Kind::Client, form: Form::Address, value: mapped(address).to_bits() }
    }

    /// The client on a Unix socket that runs as `uid`.
    pub fn local_user(direction: Direction, uid: u32) -> Self {
        Self { direction, kind: Kind::Client, form: Form::User, value: u128::from(uid) }
    }

    /// A client of which nothing is known.
    pub fn unknown(direction: Direction) -> Self {
        Self { direction, kind: Kind::Client, form: Form::Unknown, value: 0 }
    }

    /// Everything beyond the bound.
    pub fn other(direction: Direction) -> Self {
        Self { direction, kind: Kind::Other, form: Form::Unknown, value: 0 }
    }

    /// The identity that an identity string means, as inbound; `None` when it is no identity string.
    pub fn parse(text: &str, prints: &Prints) -> Option<Self> {
        let way = Direction::Inbound;
        let (kind, rest) = text.split_once(':')?;
        let kind = Kind::ALL.into_iter().find(|known| known.label() == kind)?;
        match kind {
            Kind::Other => None,
            Kind::Workload => Some(Self::named(way, kind, prints.name(kind, rest))),
            Kind::Client if rest == "unknown" => Some(Self::unknown(way)),
            Kind::Client => match rest.strip_prefix("uid=") {
                Some(uid) => Some(Self::local_user(way, uid.parse().ok()?)),
                None => Some(Self::client(way, rest.parse().ok()?)),
            },
            _ if is_fingerprint(rest) => {
                Some(Self::credential(way, kind, u64::from_str_radix(rest, 16).ok()?))
            }
            _ if kind.claims() => Some(Self::named(way, kind, prints.name(kind, rest))),
            _ => None,
        }
    }

    /// The same identity in another direction.
    #[must_use]
    pub fn towards(self, direction: Direction) -> Self {
        Self { direction, ..self }
    }

    /// The credential's fingerprint.
    pub fn fingerprint(&self) -> Option<u64> {
        (self.form == Form::Fingerprint).then_some(self.value as u64)
    }

    /// Whether this is a credential that claims a name which may still be accepted.
    pub fn may_be_named(&self) -> bool {
        self.form == Form::Fingerprint && self.kind.claims()
    }

    /// The identity string when no name is configured. `label` is the one that belongs to a named identity.
    pub fn text(&self, label: Option<&Label>) -> String {
        let kind = self.kind.label();
        match self.form {
            Form::Fingerprint => format!("{kind}:{:016x}", self.value as u64),
            Form::Named => match label {
                Some(label) => format!("{kind}:{}", label.text),
                None => format!("{kind}:unknown"),
            },
            Form::Address => format!("{kind}:{}", IpAddr::V6(Ipv6Addr::from_bits(self.value)).to_canonical()),
            Form::User => format!("{kind}:uid={}", self.value),
            Form::Unknown if self.kind == Kind::Other => kind.to_owned(),
            Form::Unknown => format!("{kind}:unknown"),
        }
    }
}

/// Whether `text` could be a fingerprint.
fn is_fingerprint(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_strings() {
        let inbound = Direction::Inbound;
        let label = Label { text: "unit:a.service".into(), issuer: "".into(), subject: "".into() };
        for (id, want) in [
            (Id::credential(inbound, Kind::Bearer, 0x3f), "bearer:000000000000003f"),
            (Id::client(inbound, "10.0.0.1".parse().unwrap()), "client:10.0.0.1"),
            (Id::client(inbound, "::ffff:10.0.0.1".parse().unwrap()), "client:10.0.0.1"),
            (Id::client(inbound, "2001:db8::1".parse().unwrap()), "client:2001:db8::1"),
            (Id::local_user(inbound, 33), "client:uid=33"),
            (Id::unknown(inbound), "client:unknown"),
            (Id::other(inbound), "other"),
        ] {
            assert_eq!(id.text(None), want);
        }
        assert_eq!(
            Id::named(Direction::Outbound, Kind::Workload, 1).text(Some(&label)),
            "workload:unit:a.service"
        );
    }
}
