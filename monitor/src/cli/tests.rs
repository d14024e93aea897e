//! What can be typed.

use clap::Parser;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn documented_lines_are_understood() {
    for line in [
        "weir run",
        "weir run --config /etc/weir/weir.toml --plain",
        "weir run --metrics-listen 127.0.0.1:1 --socket /s --state-dir /d --log debug",
        "weir status --socket /s -o json",
        "weir doctor -o jsonl",
        "weir top --socket /s",
        "weir top --view caps --once --limit 5 -o json",
        "weir tail --identity bearer:1 --route /v1/* --status 4xx --method GET --direction inbound --pid 1 --host h -o csv",
        "weir identities --socket /s -o json --sort -requests --limit 5 --no-headers",
        "weir processes -o wide --watch",
        "weir routes --watch=5s -o csv",
        "weir connections --filter 10.0.0.1",
        "weir identity name bearer:1 acme --socket /s",
        "weir identity name acme --remove",
        "weir identity hash --carrier header --name x-api-key",
        "weir identity list -o json",
        "weir config check --config f",
        "weir config show -o json",
        "weir explain 1 --socket /s",
        "weir caps reset everybody",
        "weir caps reset everybody bearer:3f9c2a7be1d04c55 --socket /s",
        "weir caps test proposed.toml --since 24h --socket /s",
        "weir caps test proposed.toml --requests - -o json",
        "weir detach --all",
        "weir detach --all --force --socket /s",
        "weir completions bash",
    ] {
        parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn wrong_lines_are_refused_with_exit_code_2() {
    for line in [
        "weir",
        "weir nonsense",
        "weir run --log loud",
        "weir run --metrics-listen nowhere",
        "weir identities -o xml",
        "weir identities --watch=1ns",
        "weir identity name bearer:1",
        "weir identity name bearer:1 a --remove",
        "weir tail --direction sideways",
        "weir detach",
    ] {
        assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
    }
}

#[test]
fn every_client_command_takes_a_socket() {
    let every = ["status", "top", "tail", "identities", "processes", "routes", "connections", "explain 1"];
    for command in every.iter().chain(&["identity list", "identity name a b", "identity hash"]) {
        assert!(parse(&format!("weir {command} --socket /s")).is_ok(), "{command}");
    }
}

#[test]
fn an_unknown_column_is_wrong_usage() {
    let error = parse("weir routes --sort nonsense --socket /nonexistent").unwrap().run().unwrap_err();
    assert!(error.is::<Usage>(), "{error}");
    let error = parse("weir tail --status nonsense --socket /nonexistent").unwrap().run().unwrap_err();
    assert!(error.is::<Usage>(), "{error}");
}

#[test]
fn the_readme_lists_every_command() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let command = Cli::command();
    let rows = command.get_subcommands().filter(|command| !command.is_hide_set()).map(|command| {
        format!(
            "| `weir {}` | {} |\n",
            command.get_name(),
            command.get_about().map(ToString::to_string).unwrap_or_default()
        )
    });
    let table: String = rows.collect();
    assert!(readme.contains(&table), "the table of commands in README.md should be\n\n{table}");
}
