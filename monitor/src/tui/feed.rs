//! Where the rows of the live table come from.

use std::sync::Arc;
use std::time::SystemTime;

use super::View;
use crate::output::{self, Row};
use crate::source::Source;
use crate::view::{CapUse, Status};

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
    /// Column that rows are sorted by unless told otherwise.
    pub sort: &'static str,
}

impl Page {
    /// The same of the rows that are wanted.
    ///
    /// # Errors
    /// When there is no such column to sort by.
    pub fn wanted<R: Row>(mut rows: Vec<R>, wanted: &Wanted) -> anyhow::Result<Self> {
        if !wanted.filter.is_empty() {
            output::filter(&mut rows, &wanted.filter);
        }
        output::sort(&mut rows, wanted.sort.as_deref()).map_err(anyhow::Error::msg)?;
        rows.truncate(wanted.limit);
        Ok(Self::of(&rows))
    }

    /// The narrow columns of `rows`.
    pub fn of<R: Row>(rows: &[R]) -> Self {
        let columns: Vec<_> = R::COLUMNS.iter().filter(|column| !column.wide).collect();
        Self {
            sort: R::SORT,
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
                Page::wanted(self.0.identities(if heaviest { wanted.limit } else { usize::MAX }), wanted)
            }
            View::Processes => Page::wanted(self.0.processes(), wanted),
            View::Routes => Page::wanted(self.0.routes(), wanted),
            View::Connections => Page::wanted(self.0.connections(), wanted),
            View::Caps => Page::wanted(CapUse::of(&self.0.caps(), SystemTime::now()), wanted),
        }
    }
}
