//! `weir caps test`: what proposed caps would have done to requests that were seen.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use monitor_common::cap::scope;
use serde::Deserialize;

use super::{Outcome, OutputArgs, Usage};
use crate::config::{Cap, Each, Interval, Role};
use crate::output;
use crate::replay::{self, Members, Proposal, Request};
use crate::view::ReplayRow;

/// `weir caps test`
#[derive(Debug, Args)]
pub struct TestArgs {
    /// File with the proposed [[role]] and [[cap]], or a whole configuration
    file: PathBuf,
    /// Requests as `weir tail -o jsonl` writes them; - for standard input
    #[arg(long, value_name = "FILE")]
    requests: PathBuf,
    /// Only the last so much of them
    #[arg(long)]
    since: Option<Interval>,
    #[command(flatten)]
    output: OutputArgs,
}

/// What matters of the file. The rest of a configuration is `weir config check`'s.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Proposed {
    role: Vec<Role>,
    cap: Vec<Cap>,
}

pub fn run(args: &TestArgs) -> anyhow::Result<Outcome> {
    let file = args.file.display();
    let text = std::fs::read_to_string(&args.file).with_context(|| format!("cannot read {file}"))?;
    let proposed: Proposed = toml::from_str(&text).map_err(|why| Usage(format!("{file}: {why}")))?;
    if proposed.cap.is_empty() {
        return Err(Usage(format!("{file} has no [[cap]]: write the caps to try into it")).into());
    }
    let proposals = proposed.cap.iter().map(|cap| proposal(cap, &proposed.role));
    let proposals =
        proposals.collect::<Result<Vec<_>, _>>().map_err(|why| Usage(format!("{file}: {why}")))?;
    let mut requests = if args.requests.as_os_str() == "-" {
        replay::read(std::io::stdin().lock())
    } else {
        let from = &args.requests;
        let file = File::open(from).with_context(|| format!("cannot read {}", from.display()))?;
        replay::read(BufReader::new(file))
    }?;
    if let Some(since) = args.since {
        keep_last(&mut requests, since.0);
    }
    let rows: Vec<_> = replay::replay(&proposals, &requests).into_iter().map(ReplayRow::from).collect();
    output::print(&rows, args.output.style())?;
    Ok(Outcome::Fine)
}

/// Keeps what came within `since` of the latest request: a recording may be old.
fn keep_last(requests: &mut Vec<Request>, since: Duration) {
    let end = requests.last().map_or(0, |request| request.time_ns);
    let from = end.saturating_sub(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
    requests.retain(|request| request.time_ns >= from);
}

fn proposal(cap: &Cap, roles: &[Role]) -> Result<Proposal, String> {
    cap.check().map_err(|(why, help)| format!("{why}; {help}"))?;
    let limit = cap.limit().ok_or_else(|| format!("cap {:?}: burst is 0: give at least 1", cap.name))?;
    let members = match (&cap.role, &cap.identity, &cap.workload) {
        (Some(name), ..) => {
            let role = roles.iter().find(|role| role.name == *name);
            let role =
                role.ok_or_else(|| format!("cap {:?}: there is no [[role]] {name:?}: add it", cap.name))?;
            if role.kind.is_some() {
                return Err(format!(
                    "cap {:?}: requests do not show who is in role {name:?} by `kind`: list `identities`",
                    cap.name
                ));
            }
            let networks = role.networks.iter().map(|network| network.0).collect();
            Members::Of { identities: role.identities.clone(), networks }
        }
        (_, Some(identity), _) => Members::Of { identities: vec![identity.clone()], networks: Vec::new() },
        (.., Some(workload)) => Members::Workload(workload.clone()),
        _ => Members::Everybody,
    };
    Ok(Proposal {
        name: cap.name.clone(),
        limit,
        action: cap.action.number(),
        scope: match cap.each {
            None => scope::ONE,
            Some(Each::Credential) => scope::EACH_CREDENTIAL,
            Some(Each::Client) => scope::EACH_CLIENT,
        },
        members,
        direction: cap.direction(),
        route: cap.route.clone(),
        host: cap.host.clone(),
    })
}
