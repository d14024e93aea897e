//! Loads every program that this kernel has a place for, one after the other, and says what the verifier made of it.

use std::time::{Duration, Instant};

use anyhow::Result;
use aya::programs::{
    BtfTracePoint, CgroupSkb, FEntry, FExit, Iter, Program, ProgramError, SkSkb, SockOps, UProbe,
};
use aya::{Btf, Ebpf};
use serde::{Deserialize, Serialize};

use super::hooks::{self, SocketHook, describe};
use super::{Loaded, Options, fence, tls};

/// When a program is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Use {
    /// Always.
    Observe,
    /// Once a cap or an access level denies.
    Enforce,
    /// Once a listener answers denied callers.
    Respond,
}

/// What the verifier made of a program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verified {
    /// Its name.
    pub program: String,
    /// When it is loaded.
    pub r#use: Use,
    /// Instructions that the verifier walked; the kernel refuses a program above 1,000,000.
    pub instructions: u32,
    /// Size of the machine code, bytes.
    pub machine_bytes: u32,
    /// How long loading took, microseconds.
    pub load_us: u64,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// Loads all of them.
///
/// # Errors
/// When not even the maps can be made.
pub fn measure(options: &Options) -> Result<Vec<Verified>> {
    // a map that is let go is gone for programs that are loaded later
    let Loaded { mut ebpf, btf, socket_hook, fenced: _fenced, .. } = Loaded::new(options)?;
    let mut programs = Vec::new();
    for hook in hooks::observing(socket_hook) {
        programs.push((hook.program, hook.target, Use::Observe));
    }
    for program in tls::Probes::programs(tls::Probes::hazard()) {
        programs.push((program, "", Use::Observe));
    }
    let sends = hooks::sends(&btf);
    programs.push((sends.program, sends.target, Use::Enforce));
    programs.push(("tls_early", "", Use::Enforce));
    for (program, _) in fence::FENCES.iter().chain(&fence::GATE) {
        programs.push((program, "", Use::Enforce));
    }
    for program in ["answer_join", "answer_in", "answer_out"] {
        programs.push((program, "", Use::Respond));
    }
    programs.push(("answer_open", "tcp", Use::Respond));
    if socket_hook == SocketHook::FunctionExit {
        programs.push(("tcp_parsed_recv", "tcp_bpf_recvmsg_parser", Use::Respond));
    }
    Ok(programs
        .into_iter()
        .map(|(program, target, r#use)| one(&mut ebpf, &btf, program, target, r#use))
        .collect())
}

fn one(ebpf: &mut Ebpf, btf: &Btf, name: &'static str, target: &str, r#use: Use) -> Verified {
    let mut verified = Verified {
        program: name.to_owned(),
        r#use,
        instructions: 0,
        machine_bytes: 0,
        load_us: 0,
        refused: None,
    };
    match load(ebpf, btf, name, target) {
        Ok((took, instructions, machine_bytes)) => {
            verified.load_us = took.as_micros() as u64;
            (verified.instructions, verified.machine_bytes) = (instructions, machine_bytes);
        }
        Err(error) => verified.refused = Some(describe(&error)),
    }
    verified
}

fn load(ebpf: &mut Ebpf, btf: &Btf, name: &str, target: &str) -> Result<(Duration, u32, u32), ProgramError> {
    let program = ebpf.program_mut(name).ok_or(ProgramError::NotLoaded)?;
    let start = Instant::now();
    match program {
        Program::BtfTracePoint(_) => <&mut BtfTracePoint>::try_from(&mut *program)?.load(target, btf),
        Program::FEntry(_) => <&mut FEntry>::try_from(&mut *program)?.load(target, btf),
        Program::FExit(_) => <&mut FExit>::try_from(&mut *program)?.load(target, btf),
        Program::Iter(_) => <&mut Iter>::try_from(&mut *program)?.load(target, btf),
        Program::CgroupSkb(_) => <&mut CgroupSkb>::try_from(&mut *program)?.load(),
        Program::SkSkb(_) => <&mut SkSkb>::try_from(&mut *program)?.load(),
        Program::SockOps(_) => <&mut SockOps>::try_from(&mut *program)?.load(),
        _ => <&mut UProbe>::try_from(&mut *program)?.load(),
    }?;
    let took = start.elapsed();
    let info = program.info()?;
    Ok((took, info.verified_instruction_count().unwrap_or(0), info.size_jitted()))
}
