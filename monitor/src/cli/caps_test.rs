//! `weir caps test`: what proposed caps would have done to requests that were seen.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use monitor_common::cap::scope;
use serde::Deserialize;

use super::{Client, Outcome, OutputArgs, SocketArgs, Usage};
use crate::config::{Cap, Each, Enforce, Interval, Listener, Role};
use crate::output::{self, NameRow};
use crate::replay::{self, Members, Proposal, Request, Trial};
use crate::view::{Covered, ReplayRow, Skipped};

/// `weir caps test`
#[derive(Debug, Args)]
pub struct TestArgs {
    /// File with the proposed [[role]] and [[cap]], or a whole configuration
    file: PathBuf,
    /// Requests as `weir tail -o jsonl` writes them; - for standard input [default: what the daemon remembers]
    #[arg(long, value_name = "FILE")]
    requests: Option<PathBuf>,
    /// Only the last so much of them: 24h
    #[arg(long, value_name = "INTERVAL")]
    since: Option<Interval>,
    #[command(flatten)]
    socket: SocketArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What matters of the file. The rest of a configuration is `weir config check`'s.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Proposed {
    role: Vec<Role>,
    cap: Vec<Cap>,
    listener: Vec<Listener>,
    enforce: Enforce,
}

pub fn run(args: &TestArgs) -> anyhow::Result<Outcome> {
    let file = args.file.display();
    let text = std::fs::read_to_string(&args.file).with_context(|| format!("cannot read {file}"))?;
    let proposed: Proposed = toml::from_str(&text).map_err(|why| Usage(format!("{file}: {why}")))?;
    if proposed.cap.is_empty() {
        return Err(Usage(format!("{file} has no [[cap]]: write the caps to try into it")).into());
    }
    let trial = Trial {
        newcomers: proposed.enforce.newcomers,
        guarded: proposed.listener.into_iter().map(|listener| listener.guarded).collect(),
    };
    let proposals = proposed.cap.iter().map(|cap| proposal(cap, &proposed.role));
    let mut proposals =
        proposals.collect::<Result<Vec<_>, _>>().map_err(|why| Usage(format!("{file}: {why}")))?;
    let requests = if let Some(from) = &args.requests {
        recorded(from, args.since)?
    } else {
        let client = Client::new(&args.socket)?;
        call_by_name(&mut proposals, &client.get::<Vec<NameRow>>("/v1/names", &[])?);
        remembered(&client, args.since)?
    };
    let rows: Vec<_> =
        replay::replay(&proposals, &requests, &trial).into_iter().map(ReplayRow::from).collect();
    output::print(&rows, args.output.style())?;
    Ok(Outcome::Fine)
}

/// The requests of a file.
fn recorded(from: &Path, since: Option<Interval>) -> anyhow::Result<Vec<Request>> {
    let mut requests = if from.as_os_str() == "-" {
        replay::read(std::io::stdin().lock())
    } else {
        let file = File::open(from).with_context(|| format!("cannot read {}", from.display()))?;
        replay::read(BufReader::new(file))
    }?;
    if let Some(since) = since {
        keep_last(&mut requests, since.0);
    }
    Ok(requests)
}

/// What the daemon remembers. Says on standard error how much of what was asked for that is.
fn remembered(client: &Client, since: Option<Interval>) -> anyhow::Result<Vec<Request>> {
    let text = since.map(|since| since.to_string());
    let query: Vec<_> = text.iter().map(|since| ("since", since.as_str())).collect();
    let (mut covered, mut skipped, mut lines) = (None, 0, Vec::new());
    client.follow("/v1/recent", &query, |line| {
        if let Ok(Skipped { skipped: more }) = serde_json::from_slice(line) {
            skipped += more;
        } else if covered.is_none() {
            covered = Some(
                serde_json::from_slice::<Covered>(line).context("the daemon's answer is not understood")?,
            );
        } else {
            lines.extend_from_slice(line);
            lines.push(b'\n');
        }
        Ok(())
    })?;
    let covered = covered.context("the daemon's answer is empty")?;
    let requests = replay::read(&*lines)?;
    if (requests.len() as u64) + skipped < covered.requests {
        bail!("the daemon's answer broke off: is it still running?");
    }
    output::message(&coverage(&covered, since.map(|since| since.0), requests.len()));
    Ok(requests)
}

/// `3h12m`
fn short(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600, seconds / 60);
    let (large, small) = match seconds {
        172_800.. => (format!("{days}d"), (hours % 24, "h")),
        3_600.. => (format!("{hours}h"), (minutes % 60, "m")),
        60.. => (format!("{minutes}m"), (seconds % 60, "s")),
        _ => (format!("{seconds}s"), (0, "")),
    };
    if small.0 == 0 { large } else { format!("{large}{}{}", small.0, small.1) }
}

/// What the history covers of what was asked for.
fn coverage(covered: &Covered, since: Option<Duration>, requests: usize) -> String {
    let covers = Duration::try_from_secs_f64(covered.covers_seconds).unwrap_or_default();
    match since {
        // what finished in the meantime does not make it incomplete
        Some(since) if covers + Duration::from_secs(1) < since => format!(
            "history covers {} of the {} asked for: {requests} requests (it is in memory; `weir tail -o jsonl` records more)",
            short(covers),
            short(since)
        ),
        Some(since) => format!("history covers all of the {} asked for: {requests} requests", short(since)),
        None => format!("history covers {}: {requests} requests", short(covers)),
    }
}

/// Has members go by every name that they have: the daemon shows an identity by the name it was given.
fn call_by_name(proposals: &mut [Proposal], names: &[NameRow]) {
    for proposal in proposals {
        for members in proposal.except.iter_mut().chain([&mut proposal.members]) {
            let Members::Of { identities, .. } = members else { continue };
            let also =
                names.iter().filter(|row| identities.contains(&row.identity)).map(|row| row.name.clone());
            let also: Vec<_> = also.collect();
            identities.extend(also);
        }
    }
}

/// Keeps what came within `since` of the latest request: a recording may be old.
fn keep_last(requests: &mut Vec<Request>, since: Duration) {
    let end = requests.last().map_or(0, |request| request.time_ns);
    let from = end.saturating_sub(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
    requests.retain(|request| request.time_ns >= from);
}

/// The members of a role that a cap names.
fn members_of(cap: &Cap, name: &str, roles: &[Role]) -> Result<Members, String> {
    let role = roles.iter().find(|role| role.name == name);
    let role = role.ok_or_else(|| format!("cap {:?}: there is no [[role]] {name:?}: add it", cap.name))?;
    if role.kind.is_some() {
        return Err(format!(
            "cap {:?}: requests do not show who is in role {name:?} by `kind`: list `identities`",
            cap.name
        ));
    }
    let networks = role.networks.iter().map(|network| network.0).collect();
    Ok(Members::Of { identities: role.identities.clone(), networks })
}

fn proposal(cap: &Cap, roles: &[Role]) -> Result<Proposal, String> {
    cap.check().map_err(|(why, help)| format!("{why}; {help}"))?;
    let limit = cap.limit().ok_or_else(|| format!("cap {:?}: burst is 0: give at least 1", cap.name))?;
    let members = match (&cap.role, &cap.identity, &cap.workload) {
        (Some(name), ..) => members_of(cap, name, roles)?,
        (_, Some(identity), _) => Members::Of { identities: vec![identity.clone()], networks: Vec::new() },
        (.., Some(workload)) => Members::Workload(workload.clone()),
        _ => Members::Everybody,
    };
    Ok(Proposal {
        name: cap.name.clone(),
        limit,
        strangers: cap.limit_of_strangers().unwrap_or(limit),
        action: cap.action.number(),
        scope: match cap.each {
            None => scope::ONE,
            Some(Each::Credential) => scope::EACH_CREDENTIAL,
            Some(Each::Client) => scope::EACH_CLIENT,
        },
        members,
        except: cap
            .excepted()
            .flatten()
            .map(|name| members_of(cap, name, roles))
            .collect::<Result<Vec<_>, _>>()?,
        direction: cap.direction(),
        route: cap.route.clone(),
        host: cap.host.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_span_of_the_history_is_told_plainly() {
        let covered = |seconds| Covered { covers_from: String::new(), covers_seconds: seconds, requests: 7 };
        let day = Some(Duration::from_hours(24));
        let told = coverage(&covered(3.0 * 3600.0 + 12.0 * 60.0 + 5.3), day, 7);
        assert!(told.starts_with("history covers 3h12m of the 24h asked for: 7 requests"), "{told}");
        let all = coverage(&covered(86_400.0), day, 7);
        assert_eq!(all, "history covers all of the 24h asked for: 7 requests");
        assert_eq!(coverage(&covered(59.9), None, 1), "history covers 59s: 1 requests");
        assert_eq!(short(Duration::from_hours(74)), "3d2h");
        assert_eq!(short(Duration::from_secs(90)), "1m30s");
    }

    #[test]
    fn members_go_by_the_names_that_they_were_given() {
        let cap: Cap = toml::from_str("name = \"c\"\nidentity = \"bearer:1\"\nrate = \"1/s\"\n").unwrap();
        let mut proposals = vec![proposal(&cap, &[]).unwrap()];
        let row = |name: &str, identity: &str| NameRow {
            name: name.into(),
            identity: identity.into(),
            source: "config".into(),
        };
        call_by_name(&mut proposals, &[row("acme", "bearer:1"), row("other", "bearer:2")]);
        let Members::Of { identities, .. } = &proposals[0].members else { panic!("{proposals:?}") };
        assert_eq!(*identities, ["bearer:1", "acme"]);
    }
}
