//! `[[role]]`, `[[cap]]`, `[[listener]]` and `[enforce]`: who may do what, and how often.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use monitor_common::cap;
use monitor_common::gcra::Limit;
use serde::{Deserialize, Serialize};

use super::value::as_string;
use super::{Interval, Network, check_name};
use crate::view::Direction;

/// `[[role]]`: a named group of identities.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// Names or identity strings of its members.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub identities: Vec<String>,
    /// Kind of credentials that are members once a server has accepted them: `jwt` or `basic`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Pattern (`*` stands for anything) of the issuer of such credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Pattern of their subject, or of the Basic user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Client networks whose requests belong to the role, whatever credentials they carry.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<Network>,
    /// What its members may do; empty: everything.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub access: Vec<Grant>,
    /// What happens to anything else.
    pub access_action: Action,
}

/// One cap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cap {
    /// Its name.
    pub name: String,
    /// The members of this role share one bucket (with `each = "credential"` each of them has its own).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// This identity has a bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Every identity of this kind has a bucket of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub each: Option<Each>,
    /// With `each = "client"`: roles whose members' requests are not charged, `"role:NAME"`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
    /// What the strangers at one client may do together: ten times the cap's own rate and burst when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strangers: Option<Strangers>,
    /// This local workload has a bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// Side of the requests; `outbound` for workloads and with `host`, else `inbound`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// Only paths that begin like this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Only this destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Requests per time.
    pub rate: Rate,
    /// Requests at once; what 100 ms bring when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
    /// What happens to requests over it.
    #[serde(default)]
    pub action: Action,
}

/// A rate and burst for strangers, written `{ rate = "50/s", burst = 50 }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Strangers {
    /// Requests per time.
    pub rate: Rate,
    /// Requests at once; what 100 ms bring when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
}

impl Strangers {
    /// Requests at once.
    pub fn burst(&self) -> u64 {
        self.burst.unwrap_or_else(|| self.rate.burst())
    }
}

/// `[[listener]]`: how callers of a plaintext port are told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Listener {
    /// Only at this address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Port.
    pub port: u16,
    /// Status of the answer to a denied request: 429, or 0 for none.
    #[serde(skip_serializing_if = "is_zero")]
    pub respond: u16,
    /// Beginnings of paths that are served to good credentials only: there they are proven. `"all"` is `["/"]`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "paths_or_all")]
    pub guarded: Vec<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u16) -> bool {
    *number == 0
}

/// A list of paths, or `"all"`.
fn paths_or_all<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        Word(String),
        Paths(Vec<String>),
    }
    match Given::deserialize(from)? {
        Given::Paths(paths) => Ok(paths),
        Given::Word(word) if word == "all" => Ok(vec!["/".into()]),
        Given::Word(word) => {
            Err(serde::de::Error::custom(format!("{word:?}: write \"all\" or a list of paths")))
        }
    }
}

/// How much more the strangers at a client may do than one of them, unless the cap says otherwise: some of them will be proven.
const STRANGERS: u64 = 10;
/// Most exceptions of a cap.
const EXCEPTIONS: usize = 8;

/// How long caps may outlive the daemon.
const LEASES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);

/// `[enforce]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Enforce {
    /// What becomes of caps when the daemon ends.
    pub on_exit: OnExit,
    /// How long they outlive its last sign of life with `keep`.
    pub lease: Interval,
    /// Networks, identities, workloads and paths that are never denied.
    pub exempt: Vec<String>,
    /// What becomes of inbound bytes that cannot be framed, where HTTP is served.
    pub unframed: Unframed,
    /// Credentials of one client network that become proven in an hour, at most.
    pub newcomers: u32,
}

impl Default for Enforce {
    fn default() -> Self {
        Self {
            on_exit: OnExit::Open,
            lease: Interval(Duration::from_secs(30)),
            exempt: Vec::new(),
            unframed: Unframed::Deny,
            newcomers: 20,
        }
    }
}

/// What happens to a request that a cap or an access level refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is counted
    Observe,
    /// It is counted as one that would have been denied
    Shadow,
    /// It is denied
    #[default]
    Deny,
}

impl Action {
    /// The word for it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Shadow => "shadow",
            Self::Deny => "deny",
        }
    }

    /// One of `cap::action`.
    pub fn number(self) -> u8 {
        match self {
            Self::Observe => cap::action::OBSERVE,
            Self::Shadow => cap::action::SHADOW,
            Self::Deny => cap::action::DENY,
        }
    }
}

/// Kind of identities that each have a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Each {
    /// Every credential; those that are not proven at the server are also charged to the strangers' bucket of their client
    Credential,
    /// Every client address, with every request that comes from it
    Client,
}

/// What becomes of enforcement when the daemon ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnExit {
    /// It ends with the daemon.
    #[default]
    Open,
    /// It goes on until the lease runs out.
    Keep,
}

/// What becomes of inbound bytes that cannot be framed, of requests about whose end servers disagree, and of requests that a server has
/// answered without their having been framed: all are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unframed {
    /// They are denied and charged, while any cap or access level denies inbound requests.
    #[default]
    Deny,
    /// They are charged.
    Charge,
    /// They are let through and charged to nobody.
    Allow,
}

/// A rate, written `"100/s"`, `"5/m"`, `"10000/d"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests.
    pub requests: u64,
    /// In this time, one of [`UNITS`].
    unit: char,
}

/// Units of a rate and their seconds.
const UNITS: [(char, u64); 4] = [('s', 1), ('m', 60), ('h', 3_600), ('d', 86_400)];

impl Rate {
    /// Nanoseconds in which the requests may come.
    pub fn per_ns(&self) -> u64 {
        UNITS.iter().find(|(unit, _)| *unit == self.unit).map_or(1, |(_, seconds)| *seconds) * 1_000_000_000
    }

    /// Requests per second.
    pub fn per_second(&self) -> f64 {
        self.requests as f64 * 1e9 / self.per_ns() as f64
    }

    /// What 100 ms bring.
    fn burst(&self) -> u64 {
        ((self.per_second() / 10.0).ceil() as u64).max(1)
    }
}

impl FromStr for Rate {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is not a rate; write \"100/s\", \"60/m\", \"1000/h\" or \"10000/d\"");
        let (requests, unit) = text.trim().split_once('/').ok_or_else(wrong)?;
        let requests: u64 = requests.trim().parse().map_err(|_| wrong())?;
        let mut letters = unit.trim().chars();
        let unit = letters.next().filter(|unit| UNITS.iter().any(|(known, _)| known == unit));
        let unit = unit.filter(|_| letters.next().is_none()).ok_or_else(wrong)?;
        let rate = Self { requests, unit };
        if requests == 0 || rate.per_ns() / 1000 < requests {
            return Err(format!("{text:?}: a rate is at least 1 and at most 1,000,000 a second"));
        }
        Ok(rate)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.requests, self.unit)
    }
}
as_string!(Rate);

/// A line of an access level: methods and the beginning of paths, written `"GET /v1/"`, `"GET,POST /v1/orders"`, `"* /"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Methods; empty for every one.
    pub methods: Vec<String>,
    /// Beginning of the path.
    pub prefix: String,
}

impl FromStr for Grant {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            |why: &str| format!("{text:?} {why}; write \"GET /v1/\", \"GET,POST /v1/orders\" or \"* /\"");
        let (methods, prefix) = text.trim().split_once(' ').ok_or_else(|| wrong("has no path"))?;
        let prefix = prefix.trim();
        check_prefix(prefix).map_err(|why| wrong(&why))?;
        let methods: Vec<_> = if methods == "*" {
            Vec::new()
        } else {
            methods.split(',').map(|method| method.trim().to_owned()).collect()
        };
        let is_method =
            |method: &String| !method.is_empty() && method.bytes().all(|b| b.is_ascii_uppercase());
        if !methods.iter().all(is_method) {
            return Err(wrong("has a method that is not in upper case"));
        }
        Ok(Self { methods, prefix: prefix.to_owned() })
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let methods = if self.methods.is_empty() { "*".to_owned() } else { self.methods.join(",") };
        write!(f, "{methods} {}", self.prefix)
    }
}
as_string!(Grant);

/// Whether `prefix` can be the beginning of a path, in the form in which paths are compared.
fn check_prefix(prefix: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"?#%\\".contains(&byte);
    if !prefix.starts_with('/') {
        Err("has a path that does not begin with `/`".into())
    } else if prefix.len() >= cap::PATH {
        Err(format!("has a path of more than {} bytes", cap::PATH - 1))
    } else if !prefix.bytes().all(plain)
        || prefix.contains("//")
        || prefix.contains("/./")
        || prefix.contains("/../")
    {
        Err("has a path that is not written plainly (no escapes, `//`, `.` or `..`)".into())
    } else {
        Ok(())
    }
}

impl Cap {
    /// Side of the requests.
    pub fn direction(&self) -> Direction {
        let outbound = self.workload.is_some() || self.host.is_some();
        self.direction.unwrap_or(if outbound { Direction::Outbound } else { Direction::Inbound })
    }

    /// Requests at once.
    pub fn burst(&self) -> u64 {
        self.burst.unwrap_or_else(|| self.rate.burst())
    }

    /// The roles that are exceptions; `None` for what names none.
    pub fn excepted(&self) -> impl Iterator<Item = Option<&str>> {
        self.except.iter().map(|text| text.strip_prefix("role:").filter(|name| !name.is_empty()))
    }

    /// Rate and burst as the kernel needs them.
    pub fn limit(&self) -> Option<Limit> {
        Limit::new(self.rate.requests, self.rate.per_ns(), self.burst())
    }

    /// Rate and burst of the strangers at one client.
    pub fn limit_of_strangers(&self) -> Option<Limit> {
        match self.strangers {
            Some(given) => Limit::new(given.rate.requests, given.rate.per_ns(), given.burst()),
            None => Limit::new(
                self.rate.requests.saturating_mul(STRANGERS),
                self.rate.per_ns(),
                self.burst().saturating_mul(STRANGERS),
            ),
        }
    }

    /// Whom it limits, for people.
    pub fn scope(&self) -> String {
        let each = self.each.map(|each| match each {
            Each::Credential => "each credential",
            Each::Client => "each client",
        });
        match (&self.role, &self.identity, &self.workload, each) {
            (Some(role), .., Some(each)) => format!("{each} of role {role}"),
            (Some(role), ..) => format!("role {role}"),
            (_, Some(identity), ..) => format!("identity {identity}"),
            (_, _, Some(workload), _) => format!("workload {workload}"),
            (.., each) => each.unwrap_or_default().to_owned(),
        }
    }

    /// What is wrong with it by itself: message and help.
    ///
    /// # Errors
    /// The first thing.
    pub fn check(&self) -> Result<(), (String, &'static str)> {
        let wrong = |why: &str, help| Err((format!("cap {:?}: {why}", self.name), help));
        if let Err(why) = check_name(&self.name) {
            return wrong(why, "choose another name");
        }
        let given = [self.role.is_some(), self.identity.is_some(), self.workload.is_some()];
        let scopes = given.iter().filter(|given| **given).count();
        let role_members = self.role.is_some() && self.each == Some(Each::Credential);
        if scopes + usize::from(self.each.is_some() && !role_members) != 1 {
            return wrong(
                "needs exactly one of `role`, `identity`, `each` and `workload`",
                "`role` may be combined with `each = \"credential\"`",
            );
        }
        let direction = self.direction();
        if self.host.is_some() && direction == Direction::Inbound {
            return wrong("`host` is a destination", "write `direction = \"outbound\"` or leave `host` out");
        }
        if self.host.as_deref().is_some_and(|host| {
            host.is_empty()
                || host.len() > 253
                || !host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        }) {
            return wrong("`host` is no host name", "write it without scheme, port and path");
        }
        if self.each == Some(Each::Client) && direction == Direction::Outbound {
            return wrong("outbound requests have no client", "use `each = \"credential\"` or `workload`");
        }
        if self.each != Some(Each::Client) && !self.except.is_empty() {
            return wrong(
                "`except` is for caps with `each = \"client\"`",
                "leave it out; `[enforce] exempt` is for all caps",
            );
        }
        if self.except.len() > EXCEPTIONS || self.excepted().any(|role| role.is_none()) {
            return wrong("`except` names roles, at most 8", "write except = [\"role:NAME\"]");
        }
        if let Some(Err(why)) = self.route.as_deref().map(check_prefix) {
            return wrong(&format!("`route` {why}"), "write the beginning of a path, such as \"/v1/\"");
        }
        if let Some(workload) = &self.workload
            && !is_workload(workload)
        {
            return wrong(
                "`workload` is no workload",
                "write \"unit:NAME\", \"container:ID\" or \"exe:/PATH\"",
            );
        }
        if let Some(strangers) = &self.strangers {
            let charges_credentials = self.each == Some(Each::Credential) || self.each.is_none();
            if !charges_credentials || self.workload.is_some() || direction == Direction::Outbound {
                return wrong(
                    "`strangers` are callers of servers with credentials",
                    "leave it out, or use `each = \"credential\"`, `role` or `identity`",
                );
            }
            if strangers.burst == Some(0) || strangers.burst() > 10_000_000 {
                return wrong(
                    "the `burst` of `strangers` is at least 1 and at most 10,000,000",
                    "leave it out for what 100 ms bring",
                );
            }
        }
        if self.burst == Some(0) || self.burst() > 10_000_000 {
            return wrong(
                "`burst` is at least 1 and at most 10,000,000",
                "leave it out for what 100 ms bring",
            );
        }
        if self.limit().is_none() || self.limit_of_strangers().is_none() {
            return wrong("the rate is not possible", "write \"100/s\"");
        }
        Ok(())
    }
}

/// Whether `text` has the form of a workload.
pub fn is_workload(text: &str) -> bool {
    match text.split_once(':') {
        Some(("unit" | "container", name)) => !name.is_empty(),
        Some(("exe", path)) => path.starts_with('/'),
        _ => false,
    }
}

/// What a cap counts that its words may not say: for whoever checks a configuration.
pub fn notes(roles: &[Role], caps: &[Cap], listeners: &[Listener]) -> Vec<String> {
    let guarded = listeners.iter().any(|listener| !listener.guarded.is_empty());
    let by_name = |identity: &String| {
        matches!(identity.split_once(':'), Some(("jwt" | "basic", rest)) if rest.len() != 16)
            || identity.starts_with("aws:")
    };
    let mut notes = Vec::new();
    for cap in caps.iter().filter(|cap| cap.direction() == Direction::Inbound) {
        let name = &cap.name;
        let role = cap.role.as_ref().and_then(|name| roles.iter().find(|role| role.name == *name));
        let public = cap.identity.as_ref().is_some_and(by_name)
            || role.is_some_and(|role| role.kind.is_some() || role.identities.iter().any(by_name));
        if cap.each == Some(Each::Client) {
            notes.push(format!(
                "cap {name:?} counts every request of a client, with a good credential or without; `except` leaves roles alone"
            ));
        } else if cap.each == Some(Each::Credential) && cap.role.is_none() {
            let strangers = match cap.strangers {
                Some(given) => format!("{}, burst {}", given.rate, given.burst()),
                None => format!("ten times {}, burst {}", cap.rate, cap.burst()),
            };
            notes.push(format!(
                "cap {name:?}: credentials that are not proven are also charged to the strangers of their client: {strangers}"
            ));
        }
        if (public || (cap.each == Some(Each::Credential) && cap.role.is_none())) && !guarded {
            notes.push(format!(
                "cap {name:?}: credentials are proven where a server refuses callers without one; where it never does, say \
                 `[[listener]] guarded`"
            ));
        }
    }
    notes
}

/// What is wrong with all of it together: `(key, message, help)`.
pub fn check(
    roles: &[Role],
    caps: &[Cap],
    listeners: &[Listener],
    enforce: &Enforce,
) -> Vec<(String, String, String)> {
    let mut problems = Vec::new();
    let mut problem = |key: &str, message: String, help: &str| {
        problems.push((key.to_owned(), message, help.to_owned()));
    };
    for (at, role) in roles.iter().enumerate() {
        let name = &role.name;
        if let Err(why) = check_name(name) {
            problem("role", format!("role {name:?}: {why}"), "give each role a name");
        }
        if roles.iter().take(at).any(|other| other.name == *name) {
            problem("role", format!("there are two roles {name:?}"), "put their members into one");
        }
        if role.kind.as_deref().is_some_and(|kind| kind != "jwt" && kind != "basic") {
            problem(
                "role",
                format!("role {name:?}: `kind` is \"jwt\" or \"basic\""),
                "list other identities one by one",
            );
        }
        if role.kind.is_none() && (role.issuer.is_some() || role.subject.is_some()) {
            problem("role", format!("role {name:?}: patterns without a kind"), "add `kind = \"jwt\"`");
        }
    }
    for (at, cap) in caps.iter().enumerate() {
        if let Err((message, help)) = cap.check() {
            problem("cap", message, help);
        }
        if caps.iter().take(at).any(|other| other.name == cap.name) {
            problem("cap", format!("there are two caps {:?}", cap.name), "rename one of them");
        }
        let named = cap.role.as_deref().into_iter().chain(cap.excepted().flatten());
        for role in named.filter(|role| !roles.iter().any(|known| known.name == *role)) {
            let near = roles.iter().map(|known| (strsim::jaro_winkler(&known.name, role), &known.name));
            let near = near.filter(|(near, _)| *near > 0.75).max_by(|a, b| a.0.total_cmp(&b.0));
            let help = near.map_or_else(
                || "define it with [[role]]".into(),
                |(_, name)| format!("did you mean {name:?}?"),
            );
            problem("cap", format!("cap {:?}: there is no role {role:?}", cap.name), &help);
        }
    }
    for listener in listeners {
        let answers = listener.respond == 429 || (listener.respond == 0 && !listener.guarded.is_empty());
        if listener.port == 0 || !answers {
            problem(
                "listener",
                "a listener has a `port` and `respond = 429` or `guarded`".into(),
                "write both",
            );
        }
        for path in &listener.guarded {
            if let Err(why) = check_prefix(path) {
                problem(
                    "listener",
                    format!("`guarded` {why}"),
                    "write beginnings of paths, such as \"/v1/\"",
                );
            }
        }
        if !listener.guarded.is_empty() && listener.address.is_some() {
            problem(
                "listener",
                "`guarded` is for a port".into(),
                "leave `address` out, or list it without `guarded`",
            );
        }
    }
    if !LEASES.contains(&enforce.lease.0) {
        problem("enforce.lease", "a lease is at least 1 s and at most 1 day".into(), "write \"30s\"");
    }
    for path in enforce.exempt.iter().filter(|text| text.starts_with('/')) {
        if let Err(why) = check_prefix(path) {
            problem(
                "enforce.exempt",
                format!("{path:?} {why}"),
                "write the beginning of a path, such as \"/healthz\"",
            );
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cap(text: &str) -> Result<(), String> {
        let cap: Cap = toml::from_str(text).map_err(|error| error.to_string())?;
        cap.check().map_err(|(message, _)| message)
    }

    #[test]
    fn rates_and_grants_are_written_as_they_are_read() {
        for text in ["100/s", "1/d", "1000000/s", "60/m"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        for text in ["0/s", "100", "100/x", "1000001/s", "-1/s", "1/sec"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
        for text in ["GET /v1/", "GET,POST /v1/orders", "* /"] {
            assert_eq!(text.parse::<Grant>().unwrap().to_string(), text);
        }
        for text in ["GET", "get /", "GET v1", "GET /a/../b", "GET /%2e", "GET /a?b"] {
            assert!(text.parse::<Grant>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_cap_says_whom_it_limits() {
        let rest = "name = \"a\"\nrate = \"100/s\"\n";
        for good in [
            "role = \"r\"",
            "role = \"r\"\neach = \"credential\"",
            "each = \"client\"",
            "each = \"client\"\nexcept = [\"role:partner\"]",
            "each = \"credential\"\nstrangers = { rate = \"50/s\" }",
            "identity = \"acme\"",
            "workload = \"unit:a.service\"\nhost = \"api.example.com\"",
        ] {
            assert_eq!(cap(&format!("{rest}{good}")), Ok(()), "{good}");
        }
        for bad in [
            "",
            "role = \"r\"\nidentity = \"i\"",
            "role = \"r\"\neach = \"client\"",
            "identity = \"a\"\nhost = \"a b\"",
            "identity = \"a\"\ndirection = \"inbound\"\nhost = \"a\"",
            "each = \"client\"\ndirection = \"outbound\"",
            "each = \"client\"\nexcept = [\"partner\"]",
            "each = \"client\"\nstrangers = { rate = \"50/s\" }",
            "each = \"credential\"\nstrangers = { rate = \"50/s\", burst = 0 }",
            "each = \"credential\"\nstrangers = { rate = \"50/s\", bursts = 1 }",
            "each = \"credential\"\nexcept = [\"role:partner\"]",
            "identity = \"a\"\nroute = \"v1\"",
            "identity = \"a\"\nburst = 0",
            "workload = \"billing\"",
        ] {
            assert!(cap(&format!("{rest}{bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_a_cap_counts_is_noted() {
        let notes = |text: &str| {
            let cap: Cap = toml::from_str(&format!("name = \"a\"\nrate = \"1/s\"\n{text}")).unwrap();
            notes(&[], &[cap], &[]).len()
        };
        assert_eq!(notes("each = \"client\""), 1);
        assert_eq!(notes("each = \"credential\""), 2);
        assert_eq!(notes("identity = \"jwt:alice@idp\""), 1);
        assert_eq!(notes("identity = \"bearer:00000000000000ab\""), 0);
        // a cap is written as it is read
        let cap: Cap = toml::from_str(
            "name = \"a\"\nrate = \"1/s\"\neach = \"credential\"\nstrangers = { rate = \"5/s\" }",
        )
        .unwrap();
        assert_eq!(toml::from_str::<Cap>(&toml::to_string(&cap).unwrap()).unwrap(), cap);
    }

    #[test]
    fn strangers_have_ten_times_the_rate() {
        let limit = |more: &str| {
            let text = format!("name = \"a\"\neach = \"credential\"\nrate = \"100/s\"\nburst = 20\n{more}");
            let limit = toml::from_str::<Cap>(&text).unwrap().limit_of_strangers().unwrap();
            (limit.interval_ns, limit.burst())
        };
        assert_eq!(limit(""), (1_000_000, 200));
        assert_eq!(limit("strangers = { rate = \"20/s\" }"), (50_000_000, 2));
        assert_eq!(limit("strangers = { rate = \"20/s\", burst = 7 }"), (50_000_000, 7));
    }

    #[test]
    fn the_burst_is_what_100_ms_bring() {
        let burst = |rate: &str| {
            let cap: Cap =
                toml::from_str(&format!("name = \"a\"\nidentity = \"b\"\nrate = {rate:?}")).unwrap();
            cap.burst()
        };
        assert_eq!([burst("100/s"), burst("1/s"), burst("5/d"), burst("20000/s")], [10, 1, 1, 2000]);
    }
}
