//! `weir identity`

use anyhow::Context;
use clap::{Args, Subcommand};

use super::client::stdin;
use super::{Client, ConfigArgs, Outcome, OutputArgs, SocketArgs, Usage};
use crate::output::{self, NameRow};
use crate::serve::control::{HashRequest, NameRequest};
use crate::state;
use crate::view::Carrier;

#[derive(Debug, Subcommand)]
pub enum IdentityCommand {
    /// Give an identity a name, at once and for good
    Name(NameArgs),
    /// Print the fingerprint of a credential that is read from standard input
    Hash(HashArgs),
    /// List the names
    List(ListArgs),
}

#[derive(Debug, Args)]
pub struct NameArgs {
    /// The identity, as `weir identities` shows it
    identity: String,
    /// Its name
    #[arg(required_unless_present = "remove", conflicts_with = "remove")]
    name: Option<String>,
    /// Take the name away
    #[arg(long)]
    remove: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

#[derive(Debug, Args)]
pub struct HashArgs {
    /// Where the credential stands in a request
    #[arg(long, value_enum, default_value_t)]
    carrier: Carrier,
    /// Name of the header, query key or cookie [default: `x-api-key`, `api_key`, `session`]
    #[arg(long)]
    name: Option<String>,
    /// One JSON object instead of plain text
    #[arg(short, long, value_parser = ["table", "json", "jsonl"], default_value = "table")]
    output: String,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    socket: SocketArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Most bytes of a credential.
const SECRET_BYTES: usize = 8 << 10;

pub fn run(command: IdentityCommand) -> anyhow::Result<Outcome> {
    match command {
        IdentityCommand::Name(args) => {
            if let Some(name) = &args.name {
                crate::config::check_name(name).map_err(|why| Usage(format!("{name:?}: {why}")))?;
            }
            let request = NameRequest { identity: args.identity, name: args.name };
            let _: serde_json::Value = Client::new(&args.socket)?.post("/v1/identity/name", &request)?;
        }
        IdentityCommand::Hash(args) => {
            let identity = hash(&args)?;
            match args.output.as_str() {
                "table" => output::line(&identity)?,
                _ => output::line(&serde_json::json!({ "identity": identity }).to_string())?,
            }
        }
        IdentityCommand::List(args) => {
            let rows: Vec<NameRow> = Client::new(&args.socket)?.get("/v1/names", &[])?;
            output::print(&rows, args.output.style())?;
        }
    }
    Ok(Outcome::Fine)
}

/// By the key of the installation if it can be read, else by the daemon.
fn hash(args: &HashArgs) -> anyhow::Result<String> {
    let mut secret = stdin(SECRET_BYTES)?;
    while secret.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        secret.pop();
    }
    let usual = match args.carrier {
        Carrier::Authorization => "",
        Carrier::Header => "x-api-key",
        Carrier::Query => "api_key",
        Carrier::Cookie => "session",
    };
    let name = args.name.clone().unwrap_or_else(|| usual.to_owned());
    let (source, overrides) = args.config.parts();
    // with a socket alone, the daemon behind it is meant, not this host's default installation
    let named = overrides.state_dir.is_some() || source.file.is_some() || overrides.control_socket.is_none();
    let key = if named {
        let config = crate::config::load(&source, &overrides)?;
        state::read_key(&config.state.dir).ok()
    } else {
        None
    };
    if let Some(key) = key {
        return state::fingerprint(key, args.carrier, &name, &secret)
            .context("that is no credential: it is empty");
    }
    let client = Client::new(&SocketArgs { socket: overrides.control_socket })?;
    let secret = String::from_utf8(secret).map_err(|_| Usage("the credential is not UTF-8".into()))?;
    let answer: serde_json::Value =
        client.post("/v1/identity/hash", &HashRequest { carrier: args.carrier, name, secret }).with_context(|| {
            "cannot read the installation key and cannot ask the daemon; run as root on a host where weir has run"
        })?;
    Ok(answer["identity"].as_str().context("the daemon's answer is not understood")?.to_owned())
}
