//! SipHash-1-3 and the one definition of a credential's fingerprint.
//!
//! # Definition
//! A fingerprint is SipHash-1-3 under the installation key of 16 bytes of prefix followed by the value's bytes.
//!
//! * Blanks (space, tab) around the value are not part of it. The value is cut in words of 8 bytes from its first byte; it
//!   ends before the first word of only blanks (no credential has eight blanks inside, and a scanner that sees the value in
//!   pieces must not wait for the end of them).
//! * `Authorization`: the prefix is the first token (up to a blank or the end) if it has at most 16 bytes, zero-padded, with
//!   bit 5 set in each byte (which lower-cases letters); the blanks behind it are skipped and the value is the rest. A longer
//!   first token is no scheme: the prefix is 16 zero bytes and the value is everything. So `bearer  x` equals `Bearer x`.
//! * AWS signatures: `AWS4-HMAC-SHA256 Credential=ID/...` and `AWS ID:...` both have the prefix of the scheme `aws`, and the
//!   value is the access-key id alone, so that each request of one key has the same fingerprint.
//! * Another header: the prefix is its name in lower case, zero-padded or cut to 16 bytes. A query key has `?` in front of
//!   its name, a cookie `;`, both with their case kept. The state behind the prefix is computed once, so it costs nothing.

/// Where a credential stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier<'a> {
    /// The `Authorization` header.
    Authorization,
    /// Another header of this name.
    Header(&'a [u8]),
    /// A query key of this name.
    Query(&'a [u8]),
    /// A cookie of this name.
    Cookie(&'a [u8]),
}

/// The running state of SipHash-1-3 over whole words.
pub(crate) type State = [u64; 4];

/// The state for `key` before the first word.
#[inline(always)]
pub(crate) const fn init(key: [u64; 2]) -> State {
    [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ]
}

#[inline(always)]
#[allow(clippy::many_single_char_names, reason = "as in the definition of the hash")]
const fn round(v: State) -> State {
    let [mut a, mut b, mut c, mut d] = v;
    a = a.wrapping_add(b);
    c = c.wrapping_add(d);
    b = b.rotate_left(13) ^ a;
    d = d.rotate_left(16) ^ c;
    a = a.rotate_left(32);
    c = c.wrapping_add(b);
    a = a.wrapping_add(d);
    b = b.rotate_left(17) ^ c;
    d = d.rotate_left(21) ^ a;
    c = c.rotate_left(32);
    [a, b, c, d]
}

/// Takes in eight bytes of the message.
#[inline(always)]
pub(crate) const fn absorb(mut v: State, word: u64) -> State {
    v[3] ^= word;
    v = round(v);
    v[0] ^= word;
    v
}

/// The hash, given the last 0 to 7 bytes (the others zero) and the length of the whole message modulo 256.
#[inline(always)]
pub(crate) const fn finish(v: State, tail: u64, len: u8) -> u64 {
    let mut v = absorb(v, tail | (len as u64) << 56);
    v[2] ^= 0xff;
    v = round(round(round(v)));
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

/// The state behind the 16 bytes of prefix for `carrier`.
pub(crate) fn prefix(key: [u64; 2], carrier: Carrier<'_>) -> State {
    let (mark, name) = match carrier {
        Carrier::Authorization => return init(key),
        Carrier::Header(name) => (None, name),
        Carrier::Query(name) => (Some(b'?'), name),
        Carrier::Cookie(name) => (Some(b';'), name),
    };
    let lower = mark.is_none();
    let bytes = mark.into_iter().chain(name.iter().map(|b| if lower { b.to_ascii_lowercase() } else { *b }));
    let mut words = [0u64; 2];
    for (at, byte) in bytes.take(16).enumerate() {
        words[at / 8] |= u64::from(byte) << (at % 8 * 8);
    }
    absorb(absorb(init(key), words[0]), words[1])
}

/// Fingerprint of a credential value, as the kernel side computes it; `None` for an empty value. `key` is the installation
/// key as two little-endian words. See the module's definition.
pub fn fingerprint(key: [u64; 2], carrier: Carrier<'_>, value: &[u8]) -> Option<u64> {
    let value = trim(value);
    if value.is_empty() {
        return None;
    }
    let mut state = prefix(key, carrier);
    if carrier != Carrier::Authorization {
        return Some(hash(state, value));
    }
    let token = value.iter().position(|&b| blank(b)).unwrap_or(value.len());
    if token > 16 {
        return Some(hash(absorb(absorb(state, 0), 0), value));
    }
    let (scheme, rest) = value.split_at(token);
    let mut words = [0u64; 2];
    for (at, byte) in scheme.iter().enumerate() {
        words[at / 8] |= u64::from(byte | 0x20) << (at % 8 * 8);
    }
    let mut rest = trim(rest);
    if words == SCHEME_AWS4 {
        if let Some(tail) = rest.strip_prefix(b"Credential=") {
            rest = before(tail, b'/');
        }
        words = SCHEME_AWS;
    } else if words == SCHEME_AWS {
        rest = before(rest, b':');
    }
    state = absorb(absorb(state, words[0]), words[1]);
    Some(hash(state, rest))
}

/// Fingerprint of a destination host: without its port and its case. 0 for an empty one.
pub fn host(key: [u64; 2], value: &[u8]) -> u64 {
    let name = trim(before(trim(value), b':'));
    if name.is_empty() {
        return 0;
    }
    let mut state = prefix(key, Carrier::Header(b"host"));
    let (words, tail) = name.as_chunks::<8>();
    for word in words {
        state = absorb(state, u64::from_le_bytes(word.map(|byte| byte | 0x20)));
    }
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(tail) {
        *to = *from | 0x20;
    }
    finish(state, u64::from_le_bytes(last), (name.len() as u8).wrapping_add(16))
}

/// `aws4-hmac-sha256` as two words.
pub(crate) const SCHEME_AWS4: [u64; 2] = [u64::from_le_bytes(*b"aws4-hma"), u64::from_le_bytes(*b"c-sha256")];
/// `aws` as two words.
pub(crate) const SCHEME_AWS: [u64; 2] = [u64::from_le_bytes(*b"aws\0\0\0\0\0"), 0];

const fn blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

fn trim(value: &[u8]) -> &[u8] {
    let from = value.iter().position(|&b| !blank(b)).unwrap_or(value.len());
    trim_end(value.get(from..).unwrap_or_default())
}

fn trim_end(value: &[u8]) -> &[u8] {
    let to = value.iter().rposition(|&b| !blank(b)).map_or(0, |at| at + 1);
    value.get(..to).unwrap_or_default()
}

fn before(value: &[u8], delim: u8) -> &[u8] {
    value.split(|&b| b == delim).next().unwrap_or_default()
}

/// Hashes a value behind 16 bytes of prefix.
fn hash(mut state: State, value: &[u8]) -> u64 {
    let cut =
        value.chunks_exact(8).position(|word| word.iter().all(|&b| blank(b))).map_or(value.len(), |n| n * 8);
    let value = trim_end(value.get(..cut).unwrap_or_default());
    let (words, tail) = value.as_chunks::<8>();
    for word in words {
        state = absorb(state, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(tail) {
        *to = *from;
    }
    finish(state, u64::from_le_bytes(last), (value.len() as u8).wrapping_add(16))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The standard library's hasher is SipHash-1-3 under a key of zeros.
    fn std_hash(bytes: &[u8]) -> u64 {
        use std::hash::Hasher;
        let mut hasher = std::collections::hash_map::DefaultHasher::new();
        hasher.write(bytes);
        hasher.finish()
    }

    fn padded(prefix: &[u8], value: &[u8]) -> Vec<u8> {
        let mut all = prefix.to_vec();
        all.resize(16, 0);
        all.extend(value);
        all
    }

    #[test]
    fn is_siphash_1_3_of_prefix_and_value() {
        for len in 1..300 {
            let value: Vec<u8> = (0..len).map(|i| b'a' + (i % 26) as u8).collect();
            let got = fingerprint([0; 2], Carrier::Header(b"X-Api-Key"), &value);
            assert_eq!(got, Some(std_hash(&padded(b"x-api-key", &value))));
            let mut bearer = b"bEArer \t ".to_vec();
            bearer.extend(&value);
            let got = fingerprint([0; 2], Carrier::Authorization, &bearer);
            assert_eq!(got, Some(std_hash(&padded(b"bearer", &value))));
        }
    }

    #[test]
    fn spelling_does_not_matter_and_carriers_do() {
        let print = |carrier, value: &str| fingerprint([1, 2], carrier, value.as_bytes());
        let auth = Carrier::Authorization;
        assert_eq!(print(auth, "Bearer x"), print(auth, "  BEARER \t x             "));
        assert_eq!(print(auth, "Bearer"), print(auth, "bearer                        "));
        assert_ne!(print(auth, "Bearer x"), print(auth, "Basic x"));
        assert_ne!(print(auth, "Bearer x"), print(auth, "Bearer X"));
        let v4 =
            "AWS4-HMAC-SHA256 Credential=AKID/20260101/eu/s3/aws4_request, SignedHeaders=host, Signature=1";
        assert_eq!(print(auth, v4), print(auth, "AWS AKID:c2ln"));
        assert_eq!(print(auth, v4), print(auth, &v4.replace("=1", "=2")));
        assert_ne!(print(Carrier::Header(b"a"), "k"), print(Carrier::Query(b"a"), "k"));
        assert_ne!(print(Carrier::Cookie(b"a"), "k"), print(Carrier::Query(b"a"), "k"));
        assert_eq!(print(Carrier::Header(b"A"), "k"), print(Carrier::Header(b"a"), "k"));
        assert_eq!(print(Carrier::Header(b"a"), " \t"), None);
    }
}
