//! Whether requests can be denied here: each part is loaded, attached or done once, and let go.

use super::{fail, pass, warn};
use crate::bpf::trial::Trial;
use crate::config::{Action, Config};
use crate::enforce::NotDestroyed;
use crate::view::CheckRow;

/// Most bytes of a reason.
const WHY: usize = 140;

/// A part of enforcement, and what it means when it is missing.
struct Part {
    check: &'static str,
    /// What works.
    good: &'static str,
    /// What does not, for the user.
    lost: &'static str,
    remedy: &'static str,
}

const FENCES: Part = Part {
    check: "fences",
    good: "denied connections are cut",
    lost: "nothing can be denied, caps can only observe and shadow",
    remedy: "mount cgroup2 (mount -t cgroup2 none /sys/fs/cgroup/unified) and use a kernel with CONFIG_CGROUP_BPF=y",
};
const GATE: Part = Part {
    check: "gate",
    good: "plaintext inbound requests are denied before the server has them",
    lost: "inbound requests are denied only when the server has read them: it handles them, and its answers are cut",
    remedy: "use Linux 6.12 or later if servers must not see denied requests",
};
const SENDS: Part = Part {
    check: "outbound denial",
    good: "outbound requests are denied before they leave",
    lost: "outbound caps cannot deny, only observe and shadow",
    remedy: "use Linux 6.16 or later, or one with CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS=y; or set those caps to shadow",
};
const ENDING: Part = Part {
    check: "ending connections",
    good: "callers learn of a denial at once (SOCK_DESTROY)",
    lost: "denied connections stay silent until the caller times out",
    remedy: "use a kernel with CONFIG_INET_DIAG_DESTROY=y (modprobe tcp_diag where it is a module)",
};

impl Part {
    /// `needed`: something is configured that does not work without it.
    fn row(&self, found: Result<String, String>, needed: bool) -> CheckRow {
        match found {
            Ok(how) if how.is_empty() => pass(self.check, self.good),
            Ok(how) => pass(self.check, format!("{} ({how})", self.good)),
            Err(why) if needed => fail(self.check, format!("{}: {why}", self.lost), self.remedy),
            Err(why) => warn(self.check, format!("{}: {why}", self.lost), self.remedy),
        }
    }
}

/// What the configuration denies: anything, and anything outbound. Caps that were set at run time are the daemon's matter.
fn denies(config: &Config) -> (bool, bool) {
    let caps = || config.cap.iter().filter(|cap| cap.action == Action::Deny);
    let levels = config.role.iter().any(|role| !role.access.is_empty() && role.access_action == Action::Deny);
    let outbound = caps().any(|cap| cap.direction() == crate::view::Direction::Outbound);
    (caps().next().is_some() || levels, outbound)
}

/// Tries all of it.
pub fn checks(config: &Config) -> Vec<CheckRow> {
    if crate::host::missing_capabilities().is_some() {
        return vec![warn(FENCES.check, "not tried without capabilities", "run `weir doctor` as root")];
    }
    rows(crate::app::try_enforcement(config), crate::enforce::try_destroy(), denies(config))
}

/// A reason that fits into a row: what the verifier writes behind it is the log's matter.
fn brief(why: &str) -> String {
    let end = why.floor_char_boundary(WHY);
    if end == why.len() {
        why.to_owned()
    } else {
        format!("{}…", why.get(..end).unwrap_or_default().trim_end())
    }
}

/// The rows of what was found.
pub(super) fn rows(
    trial: anyhow::Result<Trial>,
    ended: Result<(), NotDestroyed>,
    (any, outbound): (bool, bool),
) -> Vec<CheckRow> {
    let words = |found: anyhow::Result<String>| found.map_err(|error| brief(&format!("{error:#}")));
    let mut rows = match trial {
        Ok(Trial { fences, gate, sends }) => {
            let gate = match fences {
                // without it requests are still denied
                Ok(_) => GATE.row(words(gate), false),
                Err(_) => warn(GATE.check, "of no use without fences", FENCES.remedy),
            };
            vec![FENCES.row(words(fences), any), gate, SENDS.row(words(sends), outbound)]
        }
        Err(error) => vec![FENCES.row(Err(brief(&format!("{error:#}"))), any)],
    };
    rows.push(match ended {
        Err(error @ NotDestroyed::Untried(_)) => warn(ENDING.check, error.to_string(), "ip link set lo up"),
        ended => ENDING.row(ended.map(|()| String::new()).map_err(|error| error.to_string()), false),
    });
    rows
}
