//! Loads and attaches the hooks that are always there: socket calls, the life of sockets and processes.

use anyhow::{Context as _, Result, bail};
use aya::programs::{BtfTracePoint, FExit, Program, ProgramError};
use aya::{Btf, Ebpf};

use super::offsets;
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
    FunctionExit,
}

/// A program of the kernel side.
struct Hook {
    program: &'static str,
    target: &'static str,
    kind: Kind,
    mandatory: bool,
}

const fn tracepoint(program: &'static str, target: &'static str) -> Hook {
    Hook { program, target, kind: Kind::Tracepoint, mandatory: true }
}
const fn exit(program: &'static str, target: &'static str, mandatory: bool) -> Hook {
    Hook { program, target, kind: Kind::FunctionExit, mandatory }
}

const LIFE: &[Hook] = &[
    tracepoint("tcp_destroy", "tcp_destroy_sock"),
    tracepoint("process_exec", "sched_process_exec"),
    tracepoint("process_exit", "sched_process_exit"),
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

/// Loads and attaches every hook. Falls back to the other form of the socket hook when the first cannot be attached.
pub fn attach(ebpf: &mut Ebpf, btf: &Btf, first: SocketHook) -> Result<(SocketHook, Vec<HookRow>)> {
    let mut rows = Vec::new();
    let used = match attach_all(ebpf, btf, first.hooks(), &mut rows) {
        Ok(()) => first,
        Err(error) if first == SocketHook::Tracepoint => {
            rows.clear();
            let other = SocketHook::FunctionExit;
            let context = || format!("tracepoint form failed ({error:#}) and so did the fexit form");
            attach_all(ebpf, btf, other.hooks(), &mut rows).with_context(context)?;
            other
        }
        Err(error) => return Err(error),
    };
    attach_all(ebpf, btf, LIFE, &mut rows)?;
    Ok((used, rows))
}

fn attach_all(ebpf: &mut Ebpf, btf: &Btf, hooks: &[Hook], rows: &mut Vec<HookRow>) -> Result<()> {
    // The verifier takes most of the start: each program is verified on a thread of its own.
    let mut jobs: Vec<(&Hook, &mut Program)> = Vec::new();
    for (name, program) in ebpf.programs_mut() {
        if let Some(hook) = hooks.iter().find(|hook| hook.program == name) {
            jobs.push((hook, program));
        }
    }
    if jobs.len() != hooks.len() {
        bail!("the kernel side lacks one of its programs");
    }
    let results = std::thread::scope(|scope| {
        let threads: Vec<_> = jobs
            .into_iter()
            .map(|(hook, program)| (hook, scope.spawn(move || attach_one(program, btf, hook))))
            .collect();
        let join = |(hook, thread): (&Hook, std::thread::ScopedJoinHandle<'_, _>)| {
            (hook.program, thread.join().unwrap_or_else(|_| Err(ProgramError::NotLoaded)))
        };
        threads.into_iter().map(join).collect::<Vec<_>>()
    });
    for hook in hooks {
        let Some((_, result)) = results.iter().find(|(name, _)| *name == hook.program) else { continue };
        if let Err(error) = result
            && hook.mandatory
        {
            bail!("cannot attach to {}: {error}{}", hook.target, last_line(error));
        }
        rows.push(HookRow {
            name: hook.program.into(),
            target: hook.target.into(),
            mandatory: hook.mandatory,
            attached: result.is_ok(),
        });
    }
    Ok(())
}

fn attach_one(program: &mut Program, btf: &Btf, hook: &Hook) -> Result<(), ProgramError> {
    match hook.kind {
        Kind::Tracepoint => {
            let program: &mut BtfTracePoint = program.try_into()?;
            program.load(hook.target, btf)?;
            program.attach()?;
        }
        Kind::FunctionExit => {
            let program: &mut FExit = program.try_into()?;
            program.load(hook.target, btf)?;
            program.attach()?;
        }
    }
    Ok(())
}

/// The end of the verifier's log, where the reason is.
fn last_line(error: &ProgramError) -> String {
    let ProgramError::LoadError { verifier_log, .. } = error else { return String::new() };
    let log = verifier_log.to_string();
    let lines: Vec<_> = log.lines().rev().filter(|line| !line.trim().is_empty()).take(8).collect();
    format!(" ({})", lines.into_iter().rev().collect::<Vec<_>>().join(" | "))
}
