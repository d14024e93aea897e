//! Where the rows of the live table come from.

use std::sync::Arc;

use super::View;
use crate::output::{self, Row};
use crate::source::Source;
use crate::view::Status;

/// What is to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Kind of rows.
    pub view: View,
    /// Column to sort by, as for `--sort`.
    pub sort: Option<String>,
    /// Only rows with this text; empty for all.
    pub filter: String,
    /// Most rows.
    pub limit: usize,
}

/// One column of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heading {
    /// Name, as for `--sort`.
    pub name: &'static str,
    /// Aligned to the right.
    pub right: bool,
}

/// Rows as text, ready to be shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Columns.
    pub headings: Vec<Heading>,
    /// Rows, in order.
    pub rows: Vec<Vec<String>>,
}

impl Page {
    /// The narrow columns of `rows`.
    pub fn of<R: Row>(rows: &[R]) -> Self {
        let columns: Vec<_> = R::COLUMNS.iter().filter(|column| !column.wide).collect();
        Self {
            headings: columns
                .iter()
                .map(|column| Heading { name: column.name, right: column.right })
                .collect(),
            rows: rows
                .iter()
                .map(|row| {
                    columns.iter().map(|column| output::escape(&(column.value)(row).human())).collect()
                })
                .collect(),
        }
    }
}

/// A daemon to look at.
pub trait Feed {
    /// Its state.
    ///
    /// # Errors
    /// When it cannot be asked.
    fn status(&mut self) -> anyhow::Result<Status>;
    /// The rows that are wanted.
    ///
    /// # Errors
    /// When it cannot be asked.
    fn page(&mut self, wanted: &Wanted) -> anyhow::Result<Page>;
}

/// The daemon of this very process.
pub struct Local(pub Arc<dyn Source>);

impl Feed for Local {
    fn status(&mut self) -> anyhow::Result<Status> {
        Ok(self.0.status())
    }
    fn page(&mut self, wanted: &Wanted) -> anyhow::Result<Page> {
        match wanted.view {
            View::Identities => {
                let heaviest = wanted.sort.is_none() && wanted.filter.is_empty();
                page(self.0.identities(if heaviest { wanted.limit } else { usize::MAX }), wanted)
            }
            View::Processes => page(self.0.processes(), wanted),
            View::Routes => page(self.0.routes(), wanted),
            View::Connections => page(self.0.connections(), wanted),
        }
    }
}

fn page<R: Row>(mut rows: Vec<R>, wanted: &Wanted) -> anyhow::Result<Page> {
    if !wanted.filter.is_empty() {
        output::filter(&mut rows, &wanted.filter);
    }
    output::sort(&mut rows, wanted.sort.as_deref()).map_err(anyhow::Error::msg)?;
    rows.truncate(wanted.limit);
    Ok(Page::of(&rows))
}
