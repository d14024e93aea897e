//! Configuration: what may be set, its defaults, and how files, environment and flags are put together.
//!
//! Owns the shape and the meaning of every key. Must not act on any of them: nothing here opens a socket or looks at the
//! host beyond reading the files it is given.

mod caps;
mod error;
mod load;
mod value;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use caps::{
    Action, Cap, Each, Enforce, Grant, Listener, OnExit, Rate, Role, Strangers, Unframed, is_workload, notes,
};
pub use error::{ConfigErrors, Problem};
pub use load::{DEFAULT_DIR, DEFAULT_FILE, Overrides, Source, control_socket, load};
pub use value::{Interval, LogLevel, Network, Pattern, Size};

/// Everything that can be configured. Every key has a default, so an empty file is a valid configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// `[metrics]`
    pub metrics: Metrics,
    /// `[control]`
    pub control: Control,
    /// `[state]`
    pub state: State,
    /// `[observe]`
    pub observe: Observe,
    /// `[identity]`
    pub identity: Identity,
    /// `[route]`
    pub route: Route,
    /// `[limits]`
    pub limits: Limits,
    /// `[history]`
    pub history: History,
    /// `[log]`
    pub log: Log,
    /// `[[role]]`
    pub role: Vec<Role>,
    /// `[[cap]]`
    pub cap: Vec<Cap>,
    /// `[[listener]]`
    pub listener: Vec<Listener>,
    /// `[enforce]`
    pub enforce: Enforce,
}

/// `[metrics]`: the Prometheus endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metrics {
    /// Address and port of `/metrics`, `/healthz` and `/readyz`.
    pub listen: SocketAddr,
    /// Most identities that have a series of their own; the others are in `identity="other"`.
    pub identities: usize,
}

/// `[control]`: the Unix socket of the CLI.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Control {
    /// Path of the socket.
    pub socket: PathBuf,
    /// Group whose members may read; the socket stays with root's group when the group does not exist.
    pub group: String,
}

/// `[state]`: what outlives the daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Directory of the installation key and of names given with `weir identity name`.
    pub dir: PathBuf,
    /// What becomes of a file in it that is damaged.
    pub on_bad_state: OnBadState,
}

/// What the daemon does at its start when kept names or caps cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnBadState {
    /// The file is set aside, and its last good copy is in force.
    #[default]
    LastGood,
    /// It does not start.
    Stop,
}

/// `[observe]`: what is observed and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Observe {
    /// Size of the ring buffer between kernel and daemon; rounded up to a power of two.
    pub ring_bytes: Size,
    /// Time between two drains of the ring.
    pub drain_interval: Interval,
    /// Whether TLS libraries are probed.
    pub tls: bool,
    /// Absolute paths: executables whose connections are not observed, and files that are never probed for TLS.
    pub exclude_exe: Vec<PathBuf>,
}

/// `[identity]`: who a request is charged to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Identity {
    /// Headers that carry credentials, in order of precedence; at most 8.
    pub headers: Vec<String>,
    /// Query keys that carry credentials, at most 8. `api_key`, `apikey`, `access_token` and `key` are always known.
    pub query_keys: Vec<String>,
    /// Cookies that carry credentials, at most 8.
    pub cookies: Vec<String>,
    /// Networks whose `X-Forwarded-For` and `Forwarded` are believed.
    pub trusted_proxies: Vec<Network>,
    /// `[[identity.name]]`
    pub name: Vec<Name>,
}

/// `[[identity.name]]`: a name for an identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    /// The name.
    pub name: String,
    /// The identity it stands for, as `weir identities` shows it (`bearer:3f9c2a7be1d04c55`).
    pub identity: String,
}

/// `[route]`: templating of paths.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Route {
    /// Patterns (`/v1/users/{id}`, `/files/{*path}`), tried before the built-in templating.
    pub patterns: Vec<Pattern>,
}

/// `[limits]`: bounds of the daemon's memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Identities tracked one by one; the others are in `other`.
    pub identities: usize,
    /// Connections tracked.
    pub connections: usize,
    /// Routes; the others are in `_other`.
    pub routes: usize,
}

/// `[history]`: finished requests that are kept in memory for `weir caps test`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// How many; 0 keeps none.
    pub requests: usize,
    /// Memory for them: the oldest go when either bound is reached.
    pub memory: Size,
}

/// `[log]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives (`info,monitor::bpf=debug`).
    pub level: LogLevel,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9465)), identities: 1_000 }
    }
}

impl Default for Control {
    fn default() -> Self {
        Self { socket: "/run/weir/weir.sock".into(), group: "weir".into() }
    }
}

impl Default for State {
    fn default() -> Self {
        Self { dir: "/var/lib/weir".into(), on_bad_state: OnBadState::LastGood }
    }
}

impl Default for Observe {
    fn default() -> Self {
        Self {
            ring_bytes: Size(16 << 20),
            drain_interval: Interval(Duration::from_millis(5)),
            tls: true,
            exclude_exe: Vec::new(),
        }
    }
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            headers: ["authorization", "x-api-key", "api-key", "x-auth-token"].map(Into::into).to_vec(),
            query_keys: Vec::new(),
            cookies: Vec::new(),
            trusted_proxies: Vec::new(),
            name: Vec::new(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { identities: 100_000, connections: 65_536, routes: 1_000 }
    }
}

impl Default for History {
    fn default() -> Self {
        // 262,144 requests of some 100,000 different kinds fit: measured, see `core::tests::history`
        Self { requests: 262_144, memory: Size(32 << 20) }
    }
}

/// Most headers, query keys or cookies that can carry credentials: the kernel side has room for so many of each.
pub const CARRIERS: usize = 8;

impl Config {
    /// What the types alone cannot say. Returns `(key, message, help)` per problem.
    fn check(&self) -> Vec<(String, String, String)> {
        let mut problems = Vec::new();
        let mut problem = |key: &str, message: String, help: &str| {
            problems.push((key.to_owned(), message, help.to_owned()));
        };
        let identity = &self.identity;
        for (key, names) in [
            ("identity.headers", &identity.headers),
            ("identity.query_keys", &identity.query_keys),
            ("identity.cookies", &identity.cookies),
        ] {
            if names.len() > CARRIERS {
                problem(
                    key,
                    format!("{} entries, at most {CARRIERS} are possible", names.len()),
                    "remove some",
                );
            }
            for name in names {
                let fits = !name.is_empty() && name.len() <= 64 && name.bytes().all(is_token);
                if !fits {
                    problem(
                        key,
                        format!("{name:?} is not a name of 1 to 64 token characters"),
                        "write the bare name",
                    );
                }
            }
        }
        for entry in &identity.name {
            if let Err(why) = check_name(&entry.name) {
                problem("identity.name", format!("name {:?}: {why}", entry.name), "choose another name");
            }
            if entry.identity.is_empty() || entry.identity.len() > 256 {
                problem(
                    "identity.name",
                    format!("name {:?} has no usable identity", entry.name),
                    "copy the identity from `weir identities`",
                );
            }
        }
        let mut bound = |key: &str, value: u64, low: u64, high: u64| {
            if value < low || value > high {
                problem(key, format!("{value} is outside {low} to {high}"), "choose a value in that range");
            }
        };
        bound("observe.ring_bytes", self.observe.ring_bytes.0, 1 << 16, 1 << 30);
        bound("limits.identities", self.limits.identities as u64, 16, 1_000_000);
        bound("limits.connections", self.limits.connections as u64, 16, 1_000_000);
        bound("limits.routes", self.limits.routes as u64, 1, 100_000);
        bound("history.requests", self.history.requests as u64, 0, 4_000_000);
        bound("history.memory", self.history.memory.0, 1 << 20, 1 << 30);
        bound("metrics.identities", self.metrics.identities as u64, 1, 100_000);
        let drain = self.observe.drain_interval.0;
        if drain < Duration::from_millis(1) || drain > Duration::from_secs(1) {
            problem("observe.drain_interval", "outside 1ms to 1s".into(), "the default is \"5ms\"");
        }
        for (key, path) in [("control.socket", &self.control.socket), ("state.dir", &self.state.dir)] {
            if !path.is_absolute() {
                problem(key, format!("{} is not an absolute path", path.display()), "begin it with `/`");
            }
        }
        if self.control.socket.as_os_str().len() > 100 {
            problem("control.socket", "longer than 100 bytes".into(), "a Unix socket needs a short path");
        }
        for exe in &self.observe.exclude_exe {
            if !exe.is_absolute() {
                problem(
                    "observe.exclude_exe",
                    format!("{} is not an absolute path", exe.display()),
                    "begin it with `/`",
                );
            }
        }
        problems.extend(caps::check(&self.role, &self.cap, &self.listener, &self.enforce));
        problems
    }
}

/// Kinds that an identity string can begin with; a name must not look like one.
pub const KINDS: &[&str] =
    &["bearer", "jwt", "basic", "aws", "api_key", "query_key", "cookie", "client", "workload", "other"];

/// Whether `name` may stand for an identity.
///
/// # Errors
/// Why it may not, as the end of a sentence.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    let kind = name.split_once(':').map_or(name, |(kind, _)| kind);
    if name.is_empty() || name.len() > 128 {
        Err("a name has 1 to 128 bytes")
    } else if name.chars().any(|c| c.is_control() || c == '"' || c == '\\') || name.trim() != name {
        Err("a name has no control characters, quotes, backslashes or outer blanks")
    } else if KINDS.contains(&kind) && (name.contains(':') || name == "other") {
        Err("that is how an unnamed identity looks")
    } else {
        Ok(())
    }
}

/// `tchar` of RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
