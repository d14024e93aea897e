//! `weir caps` and `weir roles`

use anyhow::bail;
use clap::{Args, Subcommand};

use super::{Client, ListArgs, Outcome, OutputArgs, SocketArgs, Usage, query};
use crate::caps::Change;
use crate::config::{Action, Cap, Each, Rate, Strangers};
use crate::output;
use crate::view::{CapExplanation, CapRow, Direction};

#[derive(Debug, Subcommand)]
pub enum CapsCommand {
    /// List the caps with their counts
    List(ListArgs),
    /// Everything about one cap, and its fullest buckets
    Show(NameArgs),
    /// Set a cap, at once
    Set(Box<SetArgs>),
    /// Remove a cap that was set at run time
    Remove(NameArgs),
    /// Put a cap into force
    Enable(SwitchArgs),
    /// Put a cap out of force; it keeps its counts
    Disable(SwitchArgs),
    /// Only count what a cap would deny
    Shadow(SwitchArgs),
    /// Deny what is over a cap
    Deny(SwitchArgs),
    /// Empty the buckets of a cap and begin its counts anew, or empty the bucket of one identity
    Reset(ResetArgs),
    /// What limits an identity, where that is decided, and when its next request is admitted
    Explain(ExplainArgs),
    /// What proposed caps would have done to requests that were seen
    Test(super::caps_test::TestArgs),
}

#[derive(Debug, Args)]
pub struct NameArgs {
    /// Name of the cap
    name: String,
    #[command(flatten)]
    socket: SocketArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
pub struct ResetArgs {
    /// Name of the cap
    name: String,
    /// Only the bucket of this identity, of a cap with `each`: a name, or as `weir top --view caps` shows it
    identity: Option<String>,
    #[command(flatten)]
    socket: SocketArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
pub struct SwitchArgs {
    /// Name of the cap
    name: String,
    /// Keep it over a restart
    #[arg(long)]
    persist: bool,
    #[command(flatten)]
    socket: SocketArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The identity: a name, or as `weir identities` shows it
    identity: String,
    #[command(flatten)]
    socket: SocketArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Of a cap that is there, what is not given stays as it is.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// Name of the cap
    name: String,
    /// Requests per time: 100/s, 60/m, 1000/h, 10000/d
    #[arg(long)]
    rate: Option<Rate>,
    /// Requests at once [default: what 100 ms bring]
    #[arg(long)]
    burst: Option<u64>,
    /// What happens to requests over it
    #[arg(long, value_enum)]
    action: Option<Action>,
    /// The members of this role
    #[arg(long)]
    role: Option<String>,
    /// This identity
    #[arg(long)]
    identity: Option<String>,
    /// Every identity of this kind
    #[arg(long, value_enum)]
    each: Option<Each>,
    /// With `--each client`: not the requests of this role's members, `role:NAME`
    #[arg(long, value_name = "ROLE")]
    except: Vec<String>,
    /// What the strangers at one client may do together [default: ten times the rate and burst]
    #[arg(long, value_name = "RATE")]
    strangers: Option<Rate>,
    /// Requests of strangers at once [default: what 100 ms bring]
    #[arg(long, value_name = "BURST", requires = "strangers")]
    strangers_burst: Option<u64>,
    /// This local workload: `unit:NAME`, `container:ID`, `exe:/PATH`
    #[arg(long)]
    workload: Option<String>,
    /// Side of the requests
    #[arg(long, value_parser = direction)]
    direction: Option<Direction>,
    /// Only paths that begin like this
    #[arg(long, value_name = "PREFIX")]
    route: Option<String>,
    /// Only this destination
    #[arg(long)]
    host: Option<String>,
    /// Keep it over a restart
    #[arg(long)]
    persist: bool,
    #[command(flatten)]
    socket: SocketArgs,
    #[command(flatten)]
    output: OutputArgs,
}

fn direction(text: &str) -> Result<Direction, String> {
    match text {
        "inbound" => Ok(Direction::Inbound),
        "outbound" => Ok(Direction::Outbound),
        _ => Err("inbound or outbound".into()),
    }
}

pub fn run(command: CapsCommand) -> anyhow::Result<Outcome> {
    match command {
        CapsCommand::List(args) => query::list::<CapRow>("/v1/caps", &args),
        CapsCommand::Show(args) => show(&args),
        CapsCommand::Set(args) => set(*args),
        CapsCommand::Remove(args) => change(&args.socket, args.output, &Change::Remove { name: args.name }),
        CapsCommand::Enable(args) => enable(args, true),
        CapsCommand::Disable(args) => enable(args, false),
        CapsCommand::Shadow(args) => act(args, Action::Shadow),
        CapsCommand::Deny(args) => act(args, Action::Deny),
        CapsCommand::Reset(ResetArgs { name, identity, socket, output }) => {
            change(&socket, output, &Change::Reset { name, identity })
        }
        CapsCommand::Test(args) => super::caps_test::run(&args),
        CapsCommand::Explain(args) => {
            let client = Client::new(&args.socket)?;
            let rows: Vec<CapExplanation> =
                client.get("/v1/caps/explain", &[("identity", &args.identity)])?;
            output::print(&rows, args.output.style())?;
            Ok(Outcome::Fine)
        }
    }
}

fn enable(args: SwitchArgs, on: bool) -> anyhow::Result<Outcome> {
    change(&args.socket, args.output, &Change::Enable { name: args.name, on, persist: args.persist })
}

fn act(args: SwitchArgs, action: Action) -> anyhow::Result<Outcome> {
    change(&args.socket, args.output, &Change::Action { name: args.name, action, persist: args.persist })
}

fn change(socket: &SocketArgs, output: OutputArgs, change: &Change) -> anyhow::Result<Outcome> {
    let rows: Vec<CapRow> = Client::new(socket)?.post("/v1/caps", change)?;
    output::print(&rows, output.style())?;
    Ok(Outcome::Fine)
}

fn show(args: &NameArgs) -> anyhow::Result<Outcome> {
    let rows: Vec<CapRow> = Client::new(&args.socket)?.get("/v1/caps", &[])?;
    let rows: Vec<_> = rows.into_iter().filter(|row| row.name == args.name).collect();
    if rows.is_empty() {
        bail!("there is no cap {:?}: `weir caps list` shows them", args.name);
    }
    output::print(&rows, args.output.style())?;
    Ok(Outcome::Fine)
}

fn set(args: SetArgs) -> anyhow::Result<Outcome> {
    let client = Client::new(&args.socket)?;
    let rows: Vec<CapRow> = client.get("/v1/caps", &[])?;
    let known = rows.into_iter().find(|row| row.name == args.name);
    let scoped =
        args.role.is_some() || args.identity.is_some() || args.each.is_some() || args.workload.is_some();
    if known.is_none() && !scoped {
        return Err(Usage("a new cap needs --role, --identity, --each or --workload".into()).into());
    }
    let cap = match known.map(|row| old(&row)).transpose()? {
        Some(old) if !scoped => old,
        Some(old) => Cap {
            role: args.role.clone(),
            identity: args.identity.clone(),
            each: args.each,
            except: Vec::new(),
            strangers: None,
            workload: args.workload.clone(),
            ..old
        },
        None => {
            let Some(rate) = args.rate else {
                return Err(Usage("a new cap needs --rate, such as --rate 100/s".into()).into());
            };
            Cap {
                name: args.name.clone(),
                role: args.role.clone(),
                identity: args.identity.clone(),
                each: args.each,
                except: Vec::new(),
                strangers: None,
                workload: args.workload.clone(),
                direction: None,
                route: None,
                host: None,
                rate,
                burst: None,
                action: Action::default(),
            }
        }
    };
    let cap = Cap {
        rate: args.rate.unwrap_or(cap.rate),
        burst: args.burst.or(cap.burst),
        action: args.action.unwrap_or(cap.action),
        direction: args.direction.or(cap.direction),
        route: args.route.or(cap.route),
        host: args.host.or(cap.host),
        strangers: args
            .strangers
            .map(|rate| Strangers { rate, burst: args.strangers_burst })
            .or(cap.strangers),
        except: if args.except.is_empty() { cap.except } else { args.except },
        ..cap
    };
    cap.check().map_err(|(message, help)| Usage(format!("{message}; {help}")))?;
    change(&args.socket, args.output, &Change::Set { cap, persist: args.persist })
}

/// The cap that a row shows.
fn old(row: &CapRow) -> anyhow::Result<Cap> {
    let words: Vec<_> = row.scope.splitn(2, ' ').collect();
    let filled = |text: &String| (!text.is_empty()).then(|| text.clone());
    let mut cap = Cap {
        name: row.name.clone(),
        role: None,
        identity: None,
        each: None,
        except: row.except.clone(),
        strangers: if row.strangers.is_empty() {
            None
        } else {
            let rate = row.strangers.parse().map_err(Usage)?;
            Some(Strangers { rate, burst: Some(row.strangers_burst) })
        },
        workload: None,
        direction: Some(direction(&row.direction).map_err(Usage)?),
        route: filled(&row.route),
        host: filled(&row.host),
        rate: row.rate.parse().map_err(Usage)?,
        burst: Some(row.burst),
        action: match row.action.as_str() {
            "observe" => Action::Observe,
            "shadow" => Action::Shadow,
            _ => Action::Deny,
        },
    };
    match words[..] {
        ["role", name] => cap.role = Some(name.into()),
        ["identity", name] => cap.identity = Some(name.into()),
        ["workload", name] => cap.workload = Some(name.into()),
        ["each", "client"] => cap.each = Some(Each::Client),
        ["each", rest] => {
            cap.each = Some(Each::Credential);
            cap.role = rest.strip_prefix("credential of role ").map(Into::into);
        }
        _ => bail!("the daemon's answer is not understood"),
    }
    Ok(cap)
}
