//! Loads the programs; attaches the hooks that are always there: socket calls, the life of sockets and processes.

use std::collections::HashMap;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use aya::programs::links::FdLink;
use aya::programs::{BtfTracePoint, FEntry, FExit, Program, ProgramError, UProbe};
use aya::{Btf, Ebpf};
use tracing::debug;

use super::offsets;
use super::pins::Held;
use crate::view::HookRow;

/// Form of the socket hook. Both give the same results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketHook {
    /// BTF tracepoints `sock_recv_length` and `sock_send_length` (kernel 6.3 and later).
    Tracepoint,
    /// `fexit` of the protocol functions.
    FunctionExit,
}

/// What a hook attaches to.
#[derive(Clone, Copy)]
enum Kind {
    Tracepoint,
    FunctionEntry,
    FunctionExit,
    /// A uprobe: attached to each library as it is found.
    Probe,
}

/// A program of the kernel side.
#[derive(Clone, Copy)]
pub struct Hook {
    pub program: &'static str,
    pub target: &'static str,
    kind: Kind,
    mandatory: bool,
    /// It only reports: it need not outlive the daemon.
    reports: bool,
}

const fn tracepoint(program: &'static str, target: &'static str) -> Hook {
    Hook { program, target, kind: Kind::Tracepoint, mandatory: true, reports: false }
}
const fn report(program: &'static str, target: &'static str) -> Hook {
    Hook { reports: true, ..tracepoint(program, target) }
}
const fn exit(program: &'static str, target: &'static str, mandatory: bool) -> Hook {
    Hook { program, target, kind: Kind::FunctionExit, mandatory, reports: false }
}

const LIFE: &[Hook] = &[
    report("tcp_destroy", "tcp_destroy_sock"),
    report("process_exec", "sched_process_exec"),
    report("process_exit", "sched_process_exit"),
];
const SOCKET_TRACEPOINTS: &[Hook] =
    &[tracepoint("sock_recv", "sock_recv_length"), tracepoint("sock_send", "sock_send_length")];
const SOCKET_EXITS: &[Hook] = &[
    exit("tcp_recv", "tcp_recvmsg", true),
    exit("tcp_send", "tcp_sendmsg", true),
    // gone since 6.5, where sendfile arrives as sendmsg
    exit("tcp_page", "tcp_sendpage", false),
    exit("unix_recv", "unix_stream_recvmsg", false),
    exit("unix_send", "unix_stream_sendmsg", false),
];

/// Sees a send before it leaves: a tracepoint since 6.16, else the function's entry where that is allowed.
static SENDS: [Hook; 2] = [
    tracepoint("send_piece", "tcp_sendmsg_locked"),
    Hook { kind: Kind::FunctionEntry, ..tracepoint("send_begin", "tcp_sendmsg") },
];

/// What is attached always, beside the probes of TLS libraries.
pub fn observing(form: SocketHook) -> impl Iterator<Item = &'static Hook> {
    form.hooks().iter().chain(LIFE)
}

/// The hook that sees a send before it leaves, in the form that this kernel's types name.
pub fn sends(types: &Btf) -> &'static Hook {
    let [piece, begin] = &SENDS;
    let named = types.id_by_type_name_kind("btf_trace_tcp_sendmsg_locked", aya_obj::btf::BtfKind::Typedef);
    if named.is_ok() { piece } else { begin }
}

/// Loads and attaches the hook that sees a send before it leaves, in the form that this kernel has.
///
/// # Errors
/// Why neither form works.
pub fn attach_sends(ebpf: &mut Ebpf, btf: &Btf) -> Result<(HookRow, Option<Held>)> {
    let mut why = Vec::new();
    for hook in SENDS {
        let program = ebpf.program_mut(hook.program).context("the kernel side lacks one of its programs")?;
        match hook.load(program, btf).and_then(|()| hook.attach(Some(program))) {
            Ok(link) => return Ok((hook.row(true), link)),
            Err(error) => why.push(format!("{}: {}", hook.target, describe(&error))),
        }
    }
    bail!("sends cannot be seen before they leave on this kernel ({})", why.join("; "))
}

impl SocketHook {
    /// What the kernel's types say; trying decides.
    pub fn available(types: &btf_rs::Btf) -> Self {
        if offsets::has(types, "btf_trace_sock_recv_length") { Self::Tracepoint } else { Self::FunctionExit }
    }

    /// As `weir status` prints it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tracepoint => "tp_btf",
            Self::FunctionExit => "fexit",
        }
    }

    fn hooks(self) -> &'static [Hook] {
        match self {
            Self::Tracepoint => SOCKET_TRACEPOINTS,
            Self::FunctionExit => SOCKET_EXITS,
        }
    }
}

/// What attaching the hooks gave: the form of the socket hook, the hooks, the links of those that decide.
pub type Attached = (SocketHook, Vec<HookRow>, Vec<Held>);

/// Loads every program, then attaches the hooks; `probes` are loaded only. Falls back to the other form of the socket hook when
/// the first is refused.
pub fn attach(ebpf: &mut Ebpf, btf: &Btf, first: SocketHook, probes: &[&'static str]) -> Result<Attached> {
    let other = match first {
        SocketHook::Tracepoint => SocketHook::FunctionExit,
        SocketHook::FunctionExit => return attach_form(ebpf, btf, first, probes),
    };
    attach_form(ebpf, btf, first, probes).or_else(|error| {
        unload(ebpf);
        let context = || format!("tracepoint form failed ({error:#}) and so did the fexit form");
        attach_form(ebpf, btf, other, probes).with_context(context)
    })
}

fn attach_form(ebpf: &mut Ebpf, btf: &Btf, form: SocketHook, probes: &[&'static str]) -> Result<Attached> {
    let probes = probes.iter().map(|program| Hook { kind: Kind::Probe, ..tracepoint(program, "libraries") });
    let hooks: Vec<_> = form.hooks().iter().chain(LIFE).copied().chain(probes).collect();
    let mut results = load(ebpf, btf, &hooks)?;
    let (mut rows, mut links) = (Vec::new(), Vec::new());
    for hook in &hooks {
        let loaded = results.remove(hook.program).unwrap_or(Err(ProgramError::NotLoaded));
        let result = loaded.and_then(|()| hook.attach(ebpf.program_mut(hook.program)));
        if let Err(error) = &result
            && hook.mandatory
        {
            bail!("cannot attach {} to {}: {}", hook.program, hook.target, describe(error));
        }
        if !matches!(hook.kind, Kind::Probe) {
            rows.push(hook.row(result.is_ok()));
        }
        links.extend(result.ok().flatten());
    }
    Ok((form, rows, links))
}

/// The verifier takes most of the start: each program is verified on a thread of its own.
fn load(
    ebpf: &mut Ebpf,
    btf: &Btf,
    hooks: &[Hook],
) -> Result<HashMap<&'static str, Result<(), ProgramError>>> {
    let mut jobs: Vec<(&Hook, &mut Program)> = Vec::new();
    for (name, program) in ebpf.programs_mut() {
        if let Some(hook) = hooks.iter().find(|hook| hook.program == name) {
            jobs.push((hook, program));
        }
    }
    if jobs.len() != hooks.len() {
        bail!("the kernel side lacks one of its programs");
    }
    Ok(std::thread::scope(|scope| {
        let threads: Vec<_> = jobs
            .into_iter()
            .map(|(hook, program)| (hook.program, scope.spawn(move || hook.load(program, btf))))
            .collect();
        let threads = threads.into_iter();
        threads.map(|(name, job)| (name, job.join().unwrap_or(Err(ProgramError::NotLoaded)))).collect()
    }))
}

/// Detaches what a form that failed has attached: both forms together would count twice.
fn unload(ebpf: &mut Ebpf) {
    for (_, program) in ebpf.programs_mut() {
        let _ = match program {
            Program::BtfTracePoint(program) => program.unload(),
            Program::UProbe(program) => program.unload(),
            _ => Ok(()),
        };
    }
}

impl Hook {
    fn row(&self, attached: bool) -> HookRow {
        HookRow { name: self.program.into(), target: self.target.into(), mandatory: self.mandatory, attached }
    }

    fn load(&self, program: &mut Program, btf: &Btf) -> Result<(), ProgramError> {
        let start = Instant::now();
        let result = match self.kind {
            Kind::Tracepoint => <&mut BtfTracePoint>::try_from(&mut *program)?.load(self.target, btf),
            Kind::FunctionEntry => <&mut FEntry>::try_from(&mut *program)?.load(self.target, btf),
            Kind::FunctionExit => <&mut FExit>::try_from(&mut *program)?.load(self.target, btf),
            Kind::Probe => <&mut UProbe>::try_from(&mut *program)?.load(),
        };
        let verified = program.info().ok().and_then(|info| info.verified_instruction_count());
        debug!(program = self.program, verified, took = ?start.elapsed(), ok = result.is_ok(), "loaded");
        result
    }

    /// The link of a program that decides; that of another stays with it.
    fn attach(&self, program: Option<&mut Program>) -> Result<Option<Held>, ProgramError> {
        let program = program.ok_or(ProgramError::NotLoaded)?;
        let link: FdLink = match self.kind {
            Kind::Tracepoint => {
                let program = <&mut BtfTracePoint>::try_from(program)?;
                let link = program.attach()?;
                if self.reports {
                    return Ok(None);
                }
                program.take_link(link)?.into()
            }
            Kind::FunctionEntry => {
                let program = <&mut FEntry>::try_from(program)?;
                let link = program.attach()?;
                program.take_link(link)?.into()
            }
            Kind::FunctionExit => {
                let program = <&mut FExit>::try_from(program)?;
                let link = program.attach()?;
                program.take_link(link)?.into()
            }
            Kind::Probe => return Ok(None),
        };
        Ok(Some(link.into()))
    }
}

/// A program of the kernel side.
///
/// # Errors
/// When there is none of this name and kind.
pub fn program<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program = ebpf.program_mut(name).with_context(|| format!("the kernel side has no program {name}"))?;
    Ok(program.try_into()?)
}

/// A program's error in one line: of the verifier's log only the end, where the reason is.
pub fn describe(error: &ProgramError) -> String {
    let ProgramError::LoadError { io_error, verifier_log } = error else { return error.to_string() };
    let log = verifier_log.to_string();
    let lines: Vec<_> = log.lines().rev().filter(|line| !line.trim().is_empty()).take(8).collect();
    format!("{io_error} ({})", lines.into_iter().rev().collect::<Vec<_>>().join(" | "))
}
