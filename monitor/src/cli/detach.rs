//! `weir detach`: removes what a daemon with `on_exit = "keep"` left in the kernel.

use anyhow::Context as _;
use clap::Args;

use super::{Outcome, SocketArgs};
use crate::bpf::pins::{self, ROOT, Removed};
use crate::output;
use crate::serve::control::ControlSocket;

/// `weir detach`
#[derive(Clone, Debug, Args)]
pub struct DetachArgs {
    #[command(flatten)]
    socket: SocketArgs,
    /// Everything that is attached
    #[arg(long, required = true)]
    all: bool,
    /// Also while a daemon runs: what it has attached itself stays until it ends
    #[arg(long)]
    force: bool,
}

pub fn run(args: &DetachArgs) -> anyhow::Result<Outcome> {
    if !args.force {
        let socket = args.socket.socket.clone().unwrap_or_else(crate::config::control_socket);
        ControlSocket::check(&socket)
            .context("nothing is detached while a daemon runs, except with --force")?;
    }
    output::line(&match pins::remove_all(args.force)? {
        None => "nothing attached".to_owned(),
        Some(removed) => told(&removed),
    })?;
    Ok(Outcome::Fine)
}

fn told(removed: &Removed) -> String {
    let Removed { links, maps, open } = removed;
    let programs = links.len();
    let rest = match open {
        0 => "nothing is left".to_owned(),
        open => format!("{open} of the programs stay attached until the daemon that runs ends"),
    };
    format!("removed {programs} programs, {maps} maps and {ROOT}; {rest}")
}
