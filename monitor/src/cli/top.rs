//! `weir top`

use std::io::IsTerminal;

use super::{Client, Outcome, TopArgs};
use crate::output::{self, Format};
use crate::tui;
use crate::view::{ConnectionRow, IdentityRow, ProcessRow, RouteRow, Status};

pub fn run(args: &TopArgs) -> anyhow::Result<Outcome> {
    let client = Client::new(&args.socket)?;
    let style = args.output.style();
    let interactive = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    if style.format != Format::Table || !interactive {
        let rows: Vec<IdentityRow> = client.get("/v1/identities", &[("limit", &args.limit.to_string())])?;
        output::print(&rows, style)?;
        return Ok(Outcome::Fine);
    }
    // a daemon that does not answer is told before the screen is taken
    let _: Status = client.get("/v1/status", &[])?;
    tui::run(&mut Remote(client), &tui::Options { limit: args.limit, ..tui::Options::default() })?;
    Ok(Outcome::Fine)
}

/// The daemon behind a socket, as the terminal interface sees it.
struct Remote(Client);

impl tui::Feed for Remote {
    fn status(&mut self) -> anyhow::Result<Status> {
        self.0.get("/v1/status", &[])
    }
    fn page(&mut self, wanted: &tui::Wanted) -> anyhow::Result<tui::Page> {
        use tui::{Page, View};
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
        })
    }
}
