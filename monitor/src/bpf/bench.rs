//! The hooks that `xtask bench` compares Weir with.

use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result, bail};
use aya::maps::{MapData, RingBuf};
use aya::programs::uprobe::UProbeScope;
use aya::programs::{BtfTracePoint, UProbe};
use aya::{Btf, Ebpf, EbpfLoader};

use super::{OBJECT, maps::Plain, offsets};
use crate::probes::standard::standard_libraries;

/// What to attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Hooks that return at once.
    Empty,
    /// Hooks that copy the buffer of each call.
    Copy,
    /// A record with a wake-up for each call, TLS probes at the exported symbols.
    Conventional,
}

/// Bare hooks, attached until dropped.
pub struct BareHooks {
    _ebpf: Ebpf,
    ring: RingBuf<MapData>,
}

impl BareHooks {
    /// Loads and attaches the hooks of `mode`.
    ///
    /// # Errors
    /// What could not be loaded or attached.
    pub fn start(mode: Mode) -> Result<Self> {
        let config = offsets::Found::read()?.config;
        let btf = Btf::from_sys_fs().context("cannot read the kernel's BTF")?;
        let mut ebpf = EbpfLoader::new()
            .btf(Some(&btf))
            .override_global("CONFIG", &Plain(config), true)
            .allow_unsupported_maps()
            .load(OBJECT)?;
        let (receive, send) = match mode {
            Mode::Empty => ("empty_recv", "empty_send"),
            Mode::Copy => ("copy_recv", "copy_send"),
            Mode::Conventional => ("record_recv", "record_send"),
        };
        for (name, target) in [(receive, "sock_recv_length"), (send, "sock_send_length")] {
            let program: &mut BtfTracePoint = ebpf.program_mut(name).context(name)?.try_into()?;
            program.load(target, &btf)?;
            program.attach()?;
        }
        if mode == Mode::Conventional {
            attach_exported(&mut ebpf)?;
        }
        let ring = RingBuf::try_from(super::maps::take(&mut ebpf, "BENCH_RING")?)?;
        Ok(Self { _ebpf: ebpf, ring })
    }

    /// Waits for records and takes them, as a conventional reader does. Does not return but with an error.
    ///
    /// # Errors
    /// When waiting fails.
    pub fn read(&mut self) -> Result<()> {
        loop {
            let mut ready = libc::pollfd {
                fd: std::os::fd::AsRawFd::as_raw_fd(&self.ring.as_fd()),
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: one entry, valid for the call.
            if unsafe { libc::poll(&raw mut ready, 1, -1) } < 0 {
                bail!("waiting for records: {}", std::io::Error::last_os_error());
            }
            while let Some(record) = self.ring.next() {
                std::hint::black_box(record.first());
            }
        }
    }
}

/// Entry and return probes at the exported symbols of the system's OpenSSL.
fn attach_exported(ebpf: &mut Ebpf) -> Result<()> {
    let libraries = standard_libraries();
    let is_openssl =
        |path: &&std::path::PathBuf| path.ends_with("libssl.so.3") || path.ends_with("libssl.so.1.1");
    let library = libraries.iter().find(is_openssl).context("no libssl in the standard places")?;
    for name in ["record_tls_enter", "record_tls_return"] {
        let program: &mut UProbe = ebpf.program_mut(name).context(name)?.try_into()?;
        program.load()?;
        for symbol in ["SSL_read", "SSL_write"] {
            program.attach(symbol, library, UProbeScope::AllProcesses)?;
        }
    }
    Ok(())
}
