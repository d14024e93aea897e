//! `weir config`

use clap::{Args, Subcommand, ValueEnum};

use super::{ConfigArgs, Outcome};
use crate::output;

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say whether the configuration is good, and what is wrong with it
    Check(ConfigArgs),
    /// Print the effective configuration
    Show(ShowArgs),
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Form {
    /// TOML, as in a file
    #[default]
    Toml,
    /// One JSON object
    Json,
}

#[derive(Debug, Args)]
pub struct ShowArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    output: Form,
}

pub fn run(command: ConfigCommand) -> anyhow::Result<Outcome> {
    match command {
        ConfigCommand::Check(args) => {
            let (source, overrides) = args.parts();
            let config = crate::config::load(&source, &overrides)?;
            output::line("the configuration is good")?;
            for note in crate::config::notes(&config.role, &config.cap, &config.listener) {
                output::message(&format!("note: {note}"));
            }
        }
        ConfigCommand::Show(args) => {
            let (source, overrides) = args.config.parts();
            let config = crate::config::load(&source, &overrides)?;
            let text = match args.output {
                Form::Toml => toml::to_string(&config)?,
                Form::Json => serde_json::to_string_pretty(&config)?,
            };
            output::line(text.trim_end())?;
        }
    }
    Ok(Outcome::Fine)
}
