//! Prints rows: tables for people, JSON and CSV for programs.
//!
//! The only place that writes to standard output. Data goes there, messages to standard error; a closed pipe ends the
//! program quietly. Whatever came over the wire is escaped once more here, whoever escaped it before.

mod columns;
mod rows;

use std::io::{self, IsTerminal, Write};

use anyhow::Context;
use clap::ValueEnum;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

pub use columns::{Column, Row, Value, filter, human_bytes, sort};
pub use rows::{LibraryRow, NameRow};

/// `-o`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table with the most important columns
    #[default]
    Table,
    /// A table with every column
    Wide,
    /// One JSON array
    Json,
    /// One JSON object per line
    Jsonl,
    /// Comma-separated values with every column
    Csv,
}

/// How rows are printed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// Format.
    pub format: Format,
    /// Leave the header line out of tables and CSV.
    pub no_headers: bool,
}

/// Prints all rows to standard output.
///
/// # Errors
/// When standard output cannot be written; a closed pipe is [`is_closed_pipe`].
pub fn print<R: Row>(rows: &[R], style: Style) -> anyhow::Result<()> {
    write_rows(&mut io::stdout().lock(), rows, style)
}

/// Writes all rows to `to`.
///
/// # Errors
/// When `to` cannot be written.
pub fn write_rows<R: Row>(to: &mut impl Write, rows: &[R], style: Style) -> anyhow::Result<()> {
    match style.format {
        Format::Table | Format::Wide => {
            let text = table(rows, style).to_string();
            // the table pads the last column; nobody wants to copy that
            for line in text.lines() {
                writeln!(to, "{}", line.trim_end())?;
            }
        }
        Format::Json => {
            serde_json::to_writer_pretty(&mut *to, rows)?;
            writeln!(to)?;
        }
        Format::Jsonl => {
            for row in rows {
                serde_json::to_writer(&mut *to, row)?;
                writeln!(to)?;
            }
        }
        Format::Csv => {
            let mut csv = csv::Writer::from_writer(&mut *to);
            if !style.no_headers {
                csv.write_record(R::COLUMNS.iter().map(|column| column.name))?;
            }
            for row in rows {
                csv.write_record(
                    R::COLUMNS.iter().map(|column| guard(escape(&(column.value)(row).plain()))),
                )?;
            }
            csv.flush()?;
        }
    }
    to.flush().context("standard output")
}

/// Prints one line to standard output.
///
/// # Errors
/// When standard output cannot be written.
pub fn line(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush().context("standard output")
}

/// Prints a message to standard error.
pub fn message(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Clears the terminal, if standard output is one.
///
/// # Errors
/// When standard output cannot be written.
pub fn clear() -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if out.is_terminal() {
        out.write_all(b"\x1b[H\x1b[2J\x1b[3J")?;
    }
    Ok(())
}

fn table<R: Row>(rows: &[R], style: Style) -> Table {
    let columns: Vec<_> =
        R::COLUMNS.iter().filter(|column| style.format == Format::Wide || !column.wide).collect();
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if !style.no_headers {
        table.set_header(columns.iter().map(|column| column.title()));
    }
    for row in rows {
        table.add_row(columns.iter().map(|column| escape(&(column.value)(row).human())));
    }
    for (at, column) in columns.iter().enumerate() {
        if let Some(shown) = table.column_mut(at) {
            shown.set_padding((0, 2));
            if column.right {
                shown.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    table
}

/// Makes `text` safe for a terminal: control characters and characters that reorder or hide text become escapes.
pub fn escape(text: &str) -> String {
    let harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    if !text.contains(harmful) {
        return text.to_owned();
    }
    text.chars().flat_map(|c| if harmful(c) { c.escape_default().collect() } else { vec![c] }).collect()
}

/// Keeps spreadsheets from taking a field for a formula.
fn guard(text: String) -> String {
    let formula =
        text.starts_with(['=', '+', '@', '\t']) || text.starts_with('-') && text.parse::<f64>().is_err();
    if formula { format!("'{text}") } else { text }
}

/// Whether `error` says that the reader of our output has gone.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let broken = |kind: io::ErrorKind| kind == io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| broken(error.kind()))
            || cause
                .downcast_ref::<serde_json::Error>()
                .and_then(serde_json::Error::io_error_kind)
                .is_some_and(broken)
            || cause.downcast_ref::<csv::Error>().is_some_and(
                |error| matches!(error.kind(), csv::ErrorKind::Io(error) if broken(error.kind())),
            )
    })
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
