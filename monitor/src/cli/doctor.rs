//! `weir doctor`

use super::{Client, DoctorArgs, Outcome, SocketArgs};
use crate::output;
use crate::view::{CheckRow, Status};

pub fn run(args: &DoctorArgs) -> anyhow::Result<Outcome> {
    let (source, overrides) = args.config.parts();
    let (config, broken) = match crate::config::load(&source, &overrides) {
        Ok(config) => (config, None),
        Err(error) => (crate::config::Config::default(), Some(error)),
    };
    let socket = overrides.control_socket.or_else(|| Some(config.control.socket.clone()));
    let daemon: Option<Status> = Client::new(&SocketArgs { socket })?.get("/v1/status", &[]).ok();
    let mut rows = vec![match broken {
        None => crate::doctor::pass("configuration", "good"),
        Some(error) => crate::doctor::fail(
            "configuration",
            error.to_string().replace('\n', "; "),
            "correct it, then run `weir config check`",
        ),
    }];
    rows.extend(crate::doctor::all(&config, daemon.as_ref()));
    rows.extend(crate::doctor::enforcement(&config));
    output::print(&rows, args.output.style())?;
    let failed = |row: &CheckRow| row.result == "FAIL";
    Ok(if rows.iter().any(failed) { Outcome::Degraded } else { Outcome::Fine })
}
