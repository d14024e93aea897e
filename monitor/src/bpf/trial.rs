//! Tries what denies requests: loads and attaches it, and lets it go at once. Without a policy none of it does anything.

use anyhow::Result;

use super::pins::Held;
use super::{Loaded, Options, fence, hooks};
use crate::view::HookRow;

/// What a kernel takes: where it was attached, or why it was refused.
pub struct Trial {
    /// The fences.
    pub fences: Result<String>,
    /// The gate.
    pub gate: Result<String>,
    /// The hook that sees sends before they leave.
    pub sends: Result<String>,
}

impl Trial {
    /// Tries all of it.
    ///
    /// # Errors
    /// When not even the maps can be made.
    pub fn run(options: &Options) -> Result<Self> {
        // a map that is let go is gone for programs that are loaded later
        let Loaded { mut ebpf, btf, fenced: _fenced, .. } = Loaded::new(options)?;
        let place = |(rows, _): (Vec<HookRow>, Vec<Held>)| {
            rows.into_iter().next().map(|row| row.target).unwrap_or_default()
        };
        Ok(Self {
            fences: fence::attach(&mut ebpf, &fence::FENCES).map(place),
            gate: fence::attach(&mut ebpf, &fence::GATE).map(place),
            sends: hooks::attach_sends(&mut ebpf, &btf)
                .map(|(row, _)| format!("{} at {}", row.name, row.target)),
        })
    }
}
