//! Attaches fences and gate to the root of cgroup v2.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow};
use aya::Ebpf;
use aya::programs::links::FdLink;
use aya::programs::{CgroupAttachMode, CgroupSkb, CgroupSkbAttachType};

use super::hooks::{describe, program};
use super::pins::Held;
use crate::view::HookRow;
use crate::workload::cgroup2_root;

/// A program and where it goes.
type Program = (&'static str, CgroupSkbAttachType);
/// The fences.
pub const FENCES: [Program; 2] =
    [("fence_out", CgroupSkbAttachType::Egress), ("fence_in", CgroupSkbAttachType::Ingress)];
/// The gate.
pub const GATE: [Program; 1] = [("gate_in", CgroupSkbAttachType::Ingress)];

/// Loads and attaches programs, all or none. They stay until their links are dropped.
///
/// # Errors
/// What is missing.
pub fn attach(ebpf: &mut Ebpf, programs: &[Program]) -> Result<(Vec<HookRow>, Vec<Held>)> {
    let attached: Result<Vec<_>> = programs.iter().map(|program| attach_one(ebpf, program)).collect();
    if attached.is_err() {
        for (name, _) in programs {
            if let Some(Ok(program)) = ebpf.program_mut(name).map(<&mut CgroupSkb>::try_from) {
                let _ = program.unload();
            }
        }
    }
    Ok(attached?.into_iter().unzip())
}

fn attach_one(ebpf: &mut Ebpf, (name, side): &Program) -> Result<(HookRow, Held)> {
    let (root, cgroup) = root()?;
    let program: &mut CgroupSkb = program(ebpf, name)?;
    program.load().map_err(|error| anyhow!("cannot load {name}: {}", describe(&error)))?;
    let link = program
        .attach(&cgroup, *side, CgroupAttachMode::Single)
        .and_then(|id| program.take_link(id))
        .map_err(|error| anyhow!("cannot attach {name} to {}: {}", root.display(), describe(&error)))?;
    let row =
        HookRow { name: (*name).into(), target: root.display().to_string(), mandatory: true, attached: true };
    Ok((row, FdLink::try_from(link)?.into()))
}

/// The root of cgroup v2, opened: programs there see every socket of the host.
///
/// # Errors
/// When there is none.
pub fn root() -> Result<(PathBuf, File)> {
    let root = cgroup2_root().context("no cgroup2 file system is mounted: nothing can be denied")?;
    let cgroup = File::open(&root).with_context(|| format!("cannot open {}", root.display()))?;
    Ok((root, cgroup))
}

/// The row of a program that this kernel does not take.
pub fn missing(name: &str) -> HookRow {
    HookRow { name: name.into(), target: "cgroup2".into(), mandatory: false, attached: false }
}
