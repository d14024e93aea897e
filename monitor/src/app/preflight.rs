//! What is checked before anything is made: one clear line for each thing that is missing.

use std::io::IsTerminal;

use anyhow::{bail, ensure};

use crate::config::Config;
use crate::host;
use crate::serve::control::ControlSocket;

/// Fails when the daemon could not run here.
pub fn check(config: &Config) -> anyhow::Result<()> {
    if let Some(missing) = host::missing_capabilities() {
        bail!("observing a host needs root (missing {missing}): run `sudo weir run`, or start the service");
    }
    if let Some(why) = host::missing_btf() {
        bail!(
            "this kernel does not describe its types ({why}): use a kernel built with CONFIG_DEBUG_INFO_BTF=y"
        );
    }
    ensure!(
        config.metrics.listen.port() != 0 || cfg!(test),
        "`[metrics] listen` needs a port: the default is 127.0.0.1:9465"
    );
    ControlSocket::check(&config.control.socket)
}

/// Whether there is a user who sees a live table: both ends are a terminal and this process is in its foreground.
pub fn on_terminal() -> bool {
    let tty = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    let foreground = procfs::process::Process::myself()
        .and_then(|own| own.stat())
        .is_ok_and(|stat| stat.tpgid == stat.pgrp);
    tty && foreground
}
