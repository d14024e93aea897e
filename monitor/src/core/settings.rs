//! What the core is configured with.

use std::collections::HashMap;
use std::fmt;

use ipnet::IpNet;

/// The installation's fingerprint key. Never printed.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct SipKey([u64; 2]);

impl SipKey {
    /// From the key file's 16 bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let [low, high] = [0, 8].map(|at| {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(bytes.iter().skip(at)) {
                *to = *from;
            }
            u64::from_le_bytes(word)
        });
        Self([low, high])
    }

    /// The two little-endian words that the kernel side is given.
    pub fn words(self) -> [u64; 2] {
        self.0
    }
}

impl fmt::Debug for SipKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SipKey(..)")
    }
}

/// The core's settings, all of them plain values.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Headers that carry credentials, in order of precedence, at most 8: the same list as the kernel side has.
    pub credential_headers: Vec<String>,
    /// Query keys that carry credentials, besides the ones that are always recognised; at most 8.
    pub query_keys: Vec<String>,
    /// Cookies that carry credentials, at most 8.
    pub cookies: Vec<String>,
    /// Networks whose `X-Forwarded-For` and `Forwarded` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Identity string (or `kind:fingerprint`) to name.
    pub names: HashMap<String, String>,
    /// Configured route patterns (`/v1/users/{id}`, `/static/{*rest}`).
    pub routes: Vec<String>,
    /// Identities counted by themselves.
    pub max_identities: usize,
    /// Routes counted by themselves.
    pub max_routes: usize,
    /// Connections followed at a time.
    pub max_connections: usize,
    /// Finished requests kept for `tail`.
    pub max_recent: usize,
    /// Finished requests kept for replays.
    pub max_history: usize,
    /// Bytes that they may take up.
    pub max_history_bytes: usize,
    /// Key of the fingerprints.
    pub sip_key: SipKey,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            credential_headers: ["authorization", "x-api-key", "api-key", "x-auth-token"]
                .map(String::from)
                .to_vec(),
            query_keys: Vec::new(),
            cookies: Vec::new(),
            trusted_proxies: Vec::new(),
            names: HashMap::new(),
            routes: Vec::new(),
            max_identities: 100_000,
            max_routes: 1_000,
            max_connections: 65_536,
            max_recent: 4_096,
            max_history: 262_144,
            max_history_bytes: 32 << 20,
            sip_key: SipKey::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_read_as_little_endian_words_and_never_printed() {
        let key = SipKey::from_bytes(std::array::from_fn(|at| at as u8));
        assert_eq!(key.words(), [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908]);
        let text = format!("{:?}", Settings { sip_key: key, ..Settings::default() });
        assert!(text.contains("SipKey(..)"));
    }
}
