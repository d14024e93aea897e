//! Attaches the fences to the root of cgroup v2.

use std::fs::File;

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::programs::{CgroupAttachMode, CgroupSkb, CgroupSkbAttachType};

use crate::view::HookRow;
use crate::workload::cgroup2_root;

/// The programs and where they go.
const PROGRAMS: [(&str, CgroupSkbAttachType); 2] =
    [("fence_out", CgroupSkbAttachType::Egress), ("fence_in", CgroupSkbAttachType::Ingress)];

/// Loads and attaches them. They stay until the object is dropped.
///
/// # Errors
/// What is missing.
pub fn attach(ebpf: &mut Ebpf) -> Result<Vec<HookRow>> {
    let root = cgroup2_root().context("no cgroup2 file system is mounted: nothing can be denied")?;
    let cgroup = File::open(&root).with_context(|| format!("cannot open {}", root.display()))?;
    let mut rows = Vec::new();
    for (name, side) in PROGRAMS {
        let program = ebpf.program_mut(name).context("the kernel side lacks one of its programs")?;
        let program: &mut CgroupSkb = program.try_into()?;
        program.load().with_context(|| format!("cannot load {name}"))?;
        program
            .attach(&cgroup, side, CgroupAttachMode::Single)
            .with_context(|| format!("cannot attach {name} to {}", root.display()))?;
        rows.push(HookRow {
            name: name.into(),
            target: root.display().to_string(),
            mandatory: true,
            attached: true,
        });
    }
    Ok(rows)
}
