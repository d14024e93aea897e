//! What the core is configured with.

use std::collections::HashMap;

use ipnet::IpNet;

use crate::identity::CredentialSettings;

/// The core's settings, all of them plain values.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where credentials stand.
    pub credentials: CredentialSettings,
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
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            credentials: CredentialSettings::default(),
            trusted_proxies: Vec::new(),
            names: HashMap::new(),
            routes: Vec::new(),
            max_identities: 100_000,
            max_routes: 1_000,
            max_connections: 65_536,
            max_recent: 4_096,
            max_history: 262_144,
            max_history_bytes: 32 << 20,
        }
    }
}
