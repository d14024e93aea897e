//! The header names that matter, in the form in which the header loop compares them.
//!
//! A line's first four bytes, case folded, choose one of 32 slots by a multiplication; the multiplier is searched when the
//! table is built so that configured names do not share slots and names that are common on the wire hit empty ones. An empty
//! slot means a line of no interest: one load and one multiplication decide about most lines.

use super::state::kind;
use crate::event::cred;
use crate::siphash::{Carrier, State, init, prefix};

/// Most names in a [`Names`].
pub const NAMES: usize = 15;
/// Most bytes of a name.
pub const NAME_BYTES: usize = 31;
/// Fewest bytes of a name: the slot is chosen by four bytes, the colon included.
pub const NAME_MIN: usize = 3;
/// Most credential headers beside `Authorization`.
pub const CRED_HEADERS: usize = 8;

/// Most query keys, and most cookies.
pub const PARAMS: usize = 8;

/// One name with its colon, as four words that are compared under a mask after folding the case of letters.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Name {
    pub(super) word: [u64; 4],
    pub(super) fold: [u64; 4],
    pub(super) mask: [u64; 4],
    pub(super) len: u32,
    pub(super) kind: u8,
    /// Another name in the same slot, 0 for none.
    pub(super) next: u8,
    pub(super) pad: u16,
}

/// The names that matter in one direction, and what credentials are hashed with. Holds key material: never printed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Names {
    pub(super) mult: u32,
    /// 1 when there are query keys.
    pub(super) query: u32,
    /// 1 when the `Host` is fingerprinted.
    pub(super) host: u32,
    pub(super) pad: u32,
    /// Index of the first name of each slot, 0 for none.
    pub(super) first: [u8; 32],
    /// Entry 0 is not used.
    pub(super) name: [Name; NAMES + 1],
    /// `SipHash` state behind the prefix, by kind.
    pub(super) sip: [State; 32],
    /// Query keys, then cookies, eight of each; the first with `len` 0 ends them.
    pub(super) param: [Param; 2 * PARAMS],
}

/// A query key or cookie name with its `=`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Param {
    pub(super) word: [u64; 4],
    pub(super) mask: [u64; 4],
    pub(super) len: u32,
    pub(super) pad: u32,
}

const _: () = assert!(core::mem::size_of::<Names>() == 16 + 32 + 16 * 104 + 32 * 32 + 16 * 72);

/// Why a table cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamesError {
    /// More names than fit.
    TooMany,
    /// A name is shorter than [`NAME_MIN`] or longer than [`NAME_BYTES`].
    Length,
    /// A name holds a byte that is no token character.
    Byte,
    /// A name is there twice, or is one that framing itself uses.
    Twice,
}

/// Names that are common on the wire and must not fall into an occupied slot: their first four bytes.
const COMMON: [&[u8; 4]; 24] = [
    b"host", b"user", b"acce", b"cook", b"cach", b"date", b"serv", b"sec-", b"refe", b"orig", b"dnt:",
    b"prag", b"if-m", b"if-n", b"etag", b"last", b"vary", b"x-re", b"amz-", b"x-am", b"via:", b"keep",
    b"set-", b"prio",
];
const FRAMING: [(&str, u8); 5] = [
    ("content-length", kind::CL),
    ("transfer-encoding", kind::TE),
    ("connection", kind::CONN),
    ("upgrade", kind::UPGRADE),
    ("expect", kind::EXPECT),
];
/// Multipliers that are tried.
const TRIES: u32 = 4000;

impl Names {
    /// No names at all.
    pub const EMPTY: Self = Self {
        mult: 0,
        query: 0,
        host: 0,
        pad: 0,
        first: [0; 32],
        name: [Name { word: [0; 4], fold: [0; 4], mask: [0; 4], len: 0, kind: 0, next: 0, pad: 0 };
            NAMES + 1],
        sip: [[0; 4]; 32],
        param: [Param { word: [0; 4], mask: [0; 4], len: 0, pad: 0 }; 2 * PARAMS],
    };

    /// Names for requests: framing, and credential headers in order of priority. `authorization` among them gets the kinds of
    /// its own, header `n` otherwise `CRED + n`. `key` is the installation key.
    pub fn request(headers: &[&str], key: [u64; 2]) -> Result<Self, NamesError> {
        Self::request_with(headers, &[], &[], false, key)
    }

    /// As [`Names::request`], with query keys (kinds `QUERY + n`) and cookies (`COOKIE + n`) that carry credentials, and whether
    /// the `Host` is fingerprinted.
    pub fn request_with(
        headers: &[&str],
        query: &[&str],
        cookies: &[&str],
        host: bool,
        key: [u64; 2],
    ) -> Result<Self, NamesError> {
        if headers.len() > CRED_HEADERS || query.len() > PARAMS || cookies.len() > PARAMS {
            return Err(NamesError::TooMany);
        }
        let mut list = [("", 0); NAMES];
        let mut len = 0;
        let credentials = headers.iter().zip(kind::CRED..).map(|(name, kind)| {
            (*name, if name.eq_ignore_ascii_case("authorization") { kind::AUTH } else { kind })
        });
        let cookie = (!cookies.is_empty()).then_some(("cookie", kind::COOKIE));
        let host_name = host.then_some(("host", kind::HOST));
        let all = FRAMING.into_iter().chain(host_name).chain(cookie).chain(credentials);
        for (to, entry) in list.iter_mut().zip(all) {
            *to = entry;
            len += 1;
        }
        let mut names = Self::build(list.get(..len).unwrap_or_default(), key)?;
        names.query = u32::from(!query.is_empty());
        names.host = u32::from(host);
        let (queries, jar) = names.param.split_at_mut(PARAMS);
        let (mut next_query, mut next_cookie) = (cred::QUERY, cred::COOKIE);
        for (to, name) in queries.iter_mut().zip(query) {
            *to = Param::new(name)?;
            if let Some(to) = names.sip.get_mut(next_query as usize) {
                *to = prefix(key, Carrier::Query(name.as_bytes()));
            }
            next_query += 1;
        }
        for (to, name) in jar.iter_mut().zip(cookies) {
            *to = Param::new(name)?;
            if let Some(to) = names.sip.get_mut(next_cookie as usize) {
                *to = prefix(key, Carrier::Cookie(name.as_bytes()));
            }
            next_cookie += 1;
        }
        Ok(names)
    }

    /// Names for responses: what frames the body.
    pub fn response() -> Self {
        Self::build(&[("content-length", kind::CL), ("transfer-encoding", kind::TE)], [0; 2])
            .unwrap_or(Self::EMPTY)
    }

    /// A table of `list`: names without colon, in any case, with their kinds.
    pub fn build(list: &[(&str, u8)], key: [u64; 2]) -> Result<Self, NamesError> {
        if list.len() > NAMES {
            return Err(NamesError::TooMany);
        }
        for (at, (name, _)) in list.iter().enumerate() {
            if !(NAME_MIN..=NAME_BYTES).contains(&name.len()) {
                return Err(NamesError::Length);
            }
            if !name.bytes().all(super::start::token) {
                return Err(NamesError::Byte);
            }
            if list.iter().take(at).any(|(other, _)| other.eq_ignore_ascii_case(name)) {
                return Err(NamesError::Twice);
            }
        }
        let mut names = Self::EMPTY;
        names.mult = multiplier(list);
        names.sip = [init(key); 32];
        for (at, (name, kind)) in list.iter().enumerate() {
            let index = at + 1;
            let slot = Self::slot(names.mult, four(name)) as usize;
            let mut entry = Name::new(name, *kind);
            if let Some(first) = names.first.get_mut(slot) {
                entry.next = core::mem::replace(first, index as u8);
            }
            if let Some(to) = names.name.get_mut(index) {
                *to = entry;
            }
            if ((kind::CRED..cred::QUERY).contains(kind) || *kind == kind::HOST)
                && let Some(to) = names.sip.get_mut(*kind as usize)
            {
                *to = prefix(key, Carrier::Header(name.as_bytes()));
            }
        }
        Ok(names)
    }

    /// The slot of a line by its first four bytes.
    #[inline(always)]
    pub(super) const fn slot(mult: u32, four: u32) -> u32 {
        (four | 0x2020_2020).wrapping_mul(mult) >> 27
    }
}

impl Name {
    fn new(name: &str, kind: u8) -> Self {
        let mut entry = Self {
            word: [0; 4],
            fold: [0; 4],
            mask: [0; 4],
            len: name.len() as u32 + 1,
            kind,
            next: 0,
            pad: 0,
        };
        for (at, byte) in name.bytes().chain([b':']).enumerate() {
            let byte = byte.to_ascii_lowercase();
            let shift = at % 8 * 8;
            let (Some(word), Some(fold), Some(mask)) =
                (entry.word.get_mut(at / 8), entry.fold.get_mut(at / 8), entry.mask.get_mut(at / 8))
            else {
                continue;
            };
            *word |= u64::from(byte) << shift;
            *mask |= 0xff << shift;
            if byte.is_ascii_lowercase() {
                *fold |= 0x20 << shift;
            }
        }
        entry
    }
}

impl Param {
    fn new(name: &str) -> Result<Self, NamesError> {
        if name.is_empty() || name.len() > NAME_BYTES {
            return Err(NamesError::Length);
        }
        // what ends a name or a value somewhere cannot be part of one
        if name.bytes().any(|b| b <= b' ' || matches!(b, b'=' | b'&' | b';' | b'#' | b'?' | 0x7f)) {
            return Err(NamesError::Byte);
        }
        let mut entry = Self { word: [0; 4], mask: [0; 4], len: name.len() as u32 + 1, pad: 0 };
        for (at, byte) in name.bytes().chain([b'=']).enumerate() {
            if let (Some(word), Some(mask)) = (entry.word.get_mut(at / 8), entry.mask.get_mut(at / 8)) {
                *word |= u64::from(byte) << (at % 8 * 8);
                *mask |= 0xff << (at % 8 * 8);
            }
        }
        Ok(entry)
    }
}

fn four(name: &str) -> u32 {
    let mut bytes = [b':'; 4];
    for (to, from) in bytes.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    u32::from_le_bytes(bytes)
}

/// The multiplier with the fewest clashes: among the list, and (twice as bad) of the list with common names.
fn multiplier(list: &[(&str, u8)]) -> u32 {
    let mut mult = 0x9E37_79B1u32;
    let (mut best, mut best_cost) = (mult, u32::MAX);
    for _ in 0..TRIES {
        mult = mult.wrapping_mul(0x0100_0193).wrapping_add(0x5bd1_e994) | 1;
        let mut used = 0u32;
        let mut cost = 0;
        for (name, _) in list {
            let bit = 1 << Names::slot(mult, four(name));
            cost += u32::from(used & bit != 0);
            used |= bit;
        }
        for bytes in COMMON {
            cost += 2 * u32::from(used & 1 << Names::slot(mult, u32::from_le_bytes(*bytes)) != 0);
        }
        if cost < best_cost {
            (best, best_cost) = (mult, cost);
        }
        if cost == 0 {
            break;
        }
    }
    best
}
