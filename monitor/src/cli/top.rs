//! `weir top`

use std::io::IsTerminal;
use std::time::SystemTime;

use serde::de::DeserializeOwned;

use super::{Client, Outcome, TopArgs};
use crate::output::{self, Format, Row, Style};
use crate::tui::{self, Page, View};
use crate::view::{CapRow, CapUse, ConnectionRow, IdentityRow, ProcessRow, RouteRow, Status};

pub fn run(args: &TopArgs) -> anyhow::Result<Outcome> {
    let client = Client::new(&args.socket)?;
    let style = args.output.style();
    let interactive = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    if args.once || style.format != Format::Table || !interactive {
        once(&client, args.view, args.limit, style)?;
        return Ok(Outcome::Fine);
    }
    // a daemon that does not answer is told before the screen is taken
    let _: Status = client.get("/v1/status", &[])?;
    let options = tui::Options { view: args.view, limit: args.limit, ..tui::Options::default() };
    tui::run(&mut Remote(client), &options)?;
    Ok(Outcome::Fine)
}

fn once(client: &Client, view: View, limit: usize, style: Style) -> anyhow::Result<()> {
    fn list<R: Row + DeserializeOwned>(client: &Client, path: &str, limit: usize) -> anyhow::Result<Vec<R>> {
        client.get(path, &[("limit", &limit.to_string())])
    }
    match view {
        View::Identities => output::print(&list::<IdentityRow>(client, "/v1/identities", limit)?, style),
        View::Processes => output::print(&list::<ProcessRow>(client, "/v1/processes", limit)?, style),
        View::Routes => output::print(&list::<RouteRow>(client, "/v1/routes", limit)?, style),
        View::Connections => output::print(&list::<ConnectionRow>(client, "/v1/connections", limit)?, style),
        View::Caps => {
            let mut uses = caps(client)?;
            output::sort(&mut uses, None).map_err(anyhow::Error::msg)?;
            uses.truncate(limit);
            output::print(&uses, style)
        }
    }
}

/// All caps: their lines are made here, so they are sorted here.
fn caps(client: &Client) -> anyhow::Result<Vec<CapUse>> {
    Ok(CapUse::of(&client.get::<Vec<CapRow>>("/v1/caps", &[])?, SystemTime::now()))
}

/// The daemon behind a socket, as the terminal interface sees it.
struct Remote(Client);

impl tui::Feed for Remote {
    fn status(&mut self) -> anyhow::Result<Status> {
        self.0.get("/v1/status", &[])
    }
    fn page(&mut self, wanted: &tui::Wanted) -> anyhow::Result<Page> {
        let limit = wanted.limit.to_string();
        let mut query = vec![("limit", limit.as_str())];
        if let Some(sort) = &wanted.sort {
            query.push(("sort", sort));
        }
        if !wanted.filter.is_empty() {
            query.push(("filter", &wanted.filter));
        }
        Ok(match wanted.view {
            View::Identities => Page::of(&self.0.get::<Vec<IdentityRow>>("/v1/identities", &query)?),
            View::Processes => Page::of(&self.0.get::<Vec<ProcessRow>>("/v1/processes", &query)?),
            View::Routes => Page::of(&self.0.get::<Vec<RouteRow>>("/v1/routes", &query)?),
            View::Connections => Page::of(&self.0.get::<Vec<ConnectionRow>>("/v1/connections", &query)?),
            View::Caps => Page::wanted(caps(&self.0)?, wanted)?,
        })
    }
}
