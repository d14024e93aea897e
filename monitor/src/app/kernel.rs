//! Starts the kernel side as the configuration wants it.

use std::os::fd::BorrowedFd;

use crate::bpf::{self, pins};
use crate::config::{Config, OnExit};
use crate::identity::SipKey;
use crate::sensor::Sensor;

/// Loads and attaches the kernel side. `own` is the daemon's listener.
pub fn start(config: &Config, own: BorrowedFd<'_>, key: [u8; 16]) -> anyhow::Result<Box<dyn Sensor>> {
    let pins = match config.enforce.on_exit {
        OnExit::Open => pins::Mode::Open,
        OnExit::Keep => pins::Mode::Keep,
    };
    Ok(Box::new(bpf::Sensor::start(&options(config, key, pins), Some(own))?))
}

fn options(config: &Config, key: [u8; 16], pins: pins::Mode) -> bpf::Options {
    bpf::Options {
        ring_bytes: ring_bytes(config),
        tls: config.observe.tls,
        exclude: config.observe.exclude_exe.clone(),
        headers: config.identity.headers.iter().map(|name| name.to_ascii_lowercase()).collect(),
        query_keys: config.identity.query_keys.clone(),
        cookies: config.identity.cookies.clone(),
        key: SipKey::from_bytes(key).words(),
        listeners: listeners(config),
        pins,
    }
}

fn listeners(config: &Config) -> Vec<bpf::answer::Listener> {
    let listeners = config.listener.iter().filter(|one| one.respond != 0);
    listeners.map(|one| bpf::answer::Listener { address: one.address, port: one.port }).collect()
}

/// Smallest ring buffer.
const RING_BYTES_LEAST: u32 = 1 << 16;

/// The kernel takes powers of two only.
fn ring_bytes(config: &Config) -> u32 {
    u32::try_from(config.observe.ring_bytes.0.next_power_of_two()).unwrap_or(1 << 30)
}

/// Loads and attaches the kernel side and lets it go at once. Returns the form of the socket hook.
///
/// # Errors
/// Why it cannot be loaded or attached.
pub fn try_sensor(config: &Config) -> anyhow::Result<String> {
    let sensor = bpf::Sensor::start(&options(config, [0; 16], pins::Mode::Ignore), None)?;
    Ok(sensor.socket_hook().to_owned())
}

/// Tries what denies requests, and lets it go at once.
///
/// # Errors
/// Why not even its tables can be made.
pub fn try_enforcement(config: &Config) -> anyhow::Result<bpf::trial::Trial> {
    let mut options = options(config, [0; 16], pins::Mode::Ignore);
    // nothing is recorded
    options.ring_bytes = RING_BYTES_LEAST;
    bpf::trial::Trial::run(&options)
}

/// Loads every program once, and says what the verifier made of each.
///
/// # Errors
/// Why not even its tables can be made.
pub fn verified_programs(config: &Config) -> anyhow::Result<Vec<bpf::budget::Verified>> {
    let mut options = options(config, [0; 16], pins::Mode::Ignore);
    options.ring_bytes = RING_BYTES_LEAST;
    bpf::budget::measure(&options)
}
