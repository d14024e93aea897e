//! What is attached to the system while a slot is measured.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::caps::{self, Neighbour};
use super::daemon::{Child, Daemon};
use crate::{process, workspace};

/// One column of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Nothing: what the others are compared with.
    Off,
    /// Nothing once more: the noise of this run.
    Control,
    /// Hooks that return at once: what attaching costs by itself.
    Empty,
    /// Hooks that copy both user buffers and do nothing with them.
    Copy,
    /// Weir as it is installed, both ends observed.
    Weir,
    /// Weir that leaves the load generator alone, as on a host whose clients are elsewhere.
    ServerOnly,
    /// A record per event with the default wake-up, uprobes at the exported symbols with return probes.
    Conventional,
    /// [`Self::ServerOnly`] with caps that only count: deciding alone.
    ShadowCaps,
    /// With caps that deny, and nobody over them.
    Caps,
    /// The same where callers of the server's port are told by a 429.
    CapsRespond,
    /// Somebody else is over a cap of the same server all the time.
    Gate,
}

/// Something attached, until it is stopped.
pub enum Attached {
    /// Nothing is.
    Nothing,
    /// Bare hooks.
    Hooks(Child),
    /// The daemon, and somebody whom it denies.
    Weir(Daemon, Option<Neighbour>),
}

impl Variant {
    /// What shows the cost of observing, in the order of the report.
    pub const OBSERVING: &[Self] = &[
        Self::Off,
        Self::Control,
        Self::Empty,
        Self::Copy,
        Self::Weir,
        Self::ServerOnly,
        Self::Conventional,
    ];

    /// What shows what caps add to requests that are allowed.
    pub const CAPPING: &[Self] = &[
        Self::Off,
        Self::Control,
        Self::ServerOnly,
        Self::ShadowCaps,
        Self::Caps,
        Self::CapsRespond,
        Self::Gate,
    ];

    /// Name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Control => "off again",
            Self::Empty => "empty hooks",
            Self::Copy => "copy floor",
            Self::Weir => "weir",
            Self::ServerOnly => "weir, server only",
            Self::Conventional => "conventional",
            Self::ShadowCaps => "weir, shadow caps",
            Self::Caps => "weir, caps",
            Self::CapsRespond => "weir, caps + 429",
            Self::Gate => "weir, caps + gate",
        }
    }

    /// The variant that a variant with caps is compared with.
    pub fn base(self) -> Option<Self> {
        self.caps().map(|_| Self::ServerOnly)
    }

    /// What the caps of this variant do.
    fn caps(self) -> Option<&'static str> {
        match self {
            Self::ShadowCaps => Some("shadow"),
            Self::Caps | Self::CapsRespond | Self::Gate => Some("deny"),
            _ => None,
        }
    }

    /// Word for `weir bench-hooks --mode`, for the variants that are made of bare hooks.
    fn mode(self) -> Option<&'static str> {
        match self {
            Self::Empty => Some("empty"),
            Self::Copy => Some("copy"),
            Self::Conventional => Some("conventional"),
            _ => None,
        }
    }

    /// Whether this build of the daemon has it.
    pub fn is_available(self) -> bool {
        let Some(mode) = self.mode() else { return true };
        process::succeeds(Command::new(workspace::weir()).args(["bench-hooks", "--mode", mode, "--check"]))
    }

    /// Attaches it; its files go to `folder`, the server listens on `port`.
    pub fn attach(self, folder: &Path, port: u16) -> Result<Attached> {
        if let Some(mode) = self.mode() {
            let mut hooks = Command::new(workspace::weir());
            hooks.args(["bench-hooks", "--mode", mode]);
            let mut child = Child::spawn(&mut hooks, &folder.join("hooks.log"))?;
            let log = folder.join("hooks.log");
            let ready =
                || std::fs::read_to_string(&log).is_ok_and(|text| text.lines().any(|line| line == "ready"));
            child.wait_until("the hooks to be attached", ready)?;
            return Ok(Attached::Hooks(child));
        }
        if matches!(self, Self::Off | Self::Control) {
            return Ok(Attached::Nothing);
        }
        let mut configuration = String::new();
        if self != Self::Weir {
            let wrk = process::find("wrk").unwrap_or_default();
            writeln!(configuration, "[observe]\nexclude_exe = [\"{}\"]", wrk.display())?;
        }
        if let Some(action) = self.caps() {
            configuration += &caps::configuration(folder, action)?;
        }
        if self == Self::CapsRespond {
            writeln!(configuration, "[[listener]]\nport = {port}\nrespond = 429")?;
        }
        let daemon = Daemon::start(folder, &configuration)?;
        let neighbour = (self == Self::Gate).then(|| Neighbour::start(port)).transpose()?;
        Ok(Attached::Weir(daemon, neighbour))
    }

    /// An error when a slot with `requests` requests did not measure what it was to measure.
    pub fn check(self, daemon: &Daemon, requests: u64) -> Result<()> {
        if self.caps().is_some() { caps::check(daemon, requests) } else { Ok(()) }
    }
}

impl Attached {
    /// The daemon, if it is what is attached.
    pub fn daemon(&self) -> Option<&Daemon> {
        if let Self::Weir(daemon, _) = self { Some(daemon) } else { None }
    }

    /// Detaches it in good order.
    pub fn detach(self) -> Result<()> {
        match self {
            Self::Nothing => Ok(()),
            Self::Hooks(child) => child.stop().map(drop),
            Self::Weir(daemon, neighbour) => {
                drop(neighbour);
                daemon.stop()
            }
        }
    }
}
