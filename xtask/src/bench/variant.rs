//! What is attached to the system while a slot is measured.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

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
}

/// Something attached, until it is stopped.
pub enum Attached {
    /// Nothing is.
    Nothing,
    /// Bare hooks.
    Hooks(Child),
    /// The daemon.
    Weir(Daemon),
}

impl Variant {
    /// Every variant, in the order of the report.
    pub const ALL: [Self; 7] =
        [Self::Off, Self::Control, Self::Empty, Self::Copy, Self::Weir, Self::ServerOnly, Self::Conventional];

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
        }
    }

    /// Word for `weir bench-hooks --mode`, for the variants that are made of bare hooks.
    fn mode(self) -> Option<&'static str> {
        match self {
            Self::Empty => Some("empty"),
            Self::Copy => Some("copy"),
            Self::Conventional => Some("conventional"),
            Self::Off | Self::Control | Self::Weir | Self::ServerOnly => None,
        }
    }

    /// Whether this build of the daemon has it.
    pub fn is_available(self) -> bool {
        let Some(mode) = self.mode() else { return true };
        process::succeeds(Command::new(workspace::weir()).args(["bench-hooks", "--mode", mode, "--check"]))
    }

    /// Attaches it; its files go to `folder`.
    pub fn attach(self, folder: &Path) -> Result<Attached> {
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
        Ok(match self {
            Self::Weir => Attached::Weir(Daemon::start(folder, "")?),
            Self::ServerOnly => {
                let wrk = process::find("wrk").unwrap_or_default();
                Attached::Weir(Daemon::start(
                    folder,
                    &format!("[observe]\nexclude_exe = [\"{}\"]\n", wrk.display()),
                )?)
            }
            _ => Attached::Nothing,
        })
    }
}

impl Attached {
    /// The daemon, if it is what is attached.
    pub fn daemon(&self) -> Option<&Daemon> {
        if let Self::Weir(daemon) = self { Some(daemon) } else { None }
    }

    /// Detaches it in good order.
    pub fn detach(self) -> Result<()> {
        match self {
            Self::Nothing => Ok(()),
            Self::Hooks(child) => child.stop().map(drop),
            Self::Weir(daemon) => daemon.stop(),
        }
    }
}
