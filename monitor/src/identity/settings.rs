//! Where credentials stand, and the key of their fingerprints.

use std::fmt;

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

/// Which parts of a request carry credentials, and the key of their fingerprints.
#[derive(Clone, Debug)]
pub struct CredentialSettings {
    /// Headers that carry credentials, in order of precedence, at most 8: the same list as the kernel side has.
    pub headers: Vec<String>,
    /// Query keys that carry credentials, besides the ones that are always recognised; at most 8.
    pub query_keys: Vec<String>,
    /// Cookies that carry credentials, at most 8.
    pub cookies: Vec<String>,
    /// Key of the fingerprints.
    pub key: SipKey,
}

impl Default for CredentialSettings {
    fn default() -> Self {
        Self {
            headers: ["authorization", "x-api-key", "api-key", "x-auth-token"].map(String::from).to_vec(),
            query_keys: Vec::new(),
            cookies: Vec::new(),
            key: SipKey::default(),
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
        let text = format!("{:?}", CredentialSettings { key, ..CredentialSettings::default() });
        assert!(text.contains("SipKey(..)"));
    }
}
