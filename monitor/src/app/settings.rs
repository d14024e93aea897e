//! From the configuration to what the core is set up with.

use crate::config::Config;
use crate::core::Settings;
use crate::identity::{CredentialSettings, SipKey};
use crate::state::Names;

/// The core's settings.
pub fn core(config: &Config, names: &Names, key: [u8; 16]) -> Settings {
    Settings {
        credentials: CredentialSettings {
            headers: config.identity.headers.clone(),
            query_keys: config.identity.query_keys.clone(),
            cookies: config.identity.cookies.clone(),
            key: SipKey::from_bytes(key),
        },
        trusted_proxies: config.identity.trusted_proxies.iter().map(|network| network.0).collect(),
        names: names.merged(),
        routes: config.route.patterns.iter().map(|pattern| pattern.0.clone()).collect(),
        max_identities: config.limits.identities,
        max_routes: config.limits.routes,
        max_connections: config.limits.connections,
        max_history: config.history.requests,
        max_history_bytes: usize::try_from(config.history.memory.0).unwrap_or(usize::MAX),
        ..Settings::default()
    }
}

/// Keys whose change a reload cannot put into force.
pub fn needs_restart(old: &Config, new: &Config) -> Vec<String> {
    let changed = [
        ("[metrics]", old.metrics != new.metrics),
        ("[control]", old.control != new.control),
        ("[state]", old.state != new.state),
        ("[observe]", old.observe != new.observe),
        ("[identity] headers", old.identity.headers != new.identity.headers),
        ("[identity] query_keys", old.identity.query_keys != new.identity.query_keys),
        ("[identity] cookies", old.identity.cookies != new.identity.cookies),
        ("[enforce] on_exit", old.enforce.on_exit != new.enforce.on_exit),
        ("[log]", old.log != new.log),
    ];
    changed.iter().filter(|(_, changed)| *changed).map(|(key, _)| (*key).to_owned()).collect()
}
