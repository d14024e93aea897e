//! Draws the live table.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Cell, Paragraph, Row, Table};

use super::state::{State, View};
use crate::output::escape;

/// Widest column; longer texts are cut.
const WIDEST: usize = 44;

/// Draws everything.
pub fn frame(frame: &mut Frame<'_>, state: &mut State, log: Option<&str>) {
    let [head, tabs, body, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(if log.is_some() { 2 } else { 1 }),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(summary(state)), head);
    frame.render_widget(Paragraph::new(tab_line(state)), tabs);
    let table = table(state);
    frame.render_stateful_widget(table, body, &mut state.selected);
    let mut lines = vec![foot_line(state)];
    lines.extend(log.map(|log| Line::styled(escape(log), Style::new().add_modifier(Modifier::DIM))));
    frame.render_widget(Paragraph::new(lines), foot);
}

fn summary(state: &State) -> Line<'static> {
    let Some(status) = &state.status else { return Line::from("weir: no answer yet") };
    let lost: u64 = status.losses.iter().filter(|row| row.stage == "ring").map(|row| row.count).sum();
    let (inbound, outbound) = state.speed.per_second;
    let ready = if status.ready { "ready" } else { "NOT READY" };
    let denied = match status.denied.sum() {
        0 => String::new(),
        denied => format!("  denied {denied}"),
    };
    Line::from(format!(
        "weir {}  {ready}  in {} ({inbound:.0}/s)  out {} ({outbound:.0}/s)  {} identities  {} connections{denied}  lost {lost}",
        status.version, status.requests_inbound, status.requests_outbound, status.identities, status.connections,
    ))
    .style(Style::new().add_modifier(Modifier::BOLD))
}

fn tab_line(state: &State) -> Line<'static> {
    let mut spans = Vec::new();
    for (at, view) in View::ALL.into_iter().enumerate() {
        let style = if view == state.wanted.view {
            Style::new().add_modifier(Modifier::REVERSED)
        } else {
            Style::new().add_modifier(Modifier::DIM)
        };
        spans.push(Span::styled(format!(" {} {} ", at + 1, view.title()), style));
    }
    if state.paused {
        spans.push(Span::styled("  paused", Style::new().add_modifier(Modifier::BOLD)));
    }
    Line::from(spans)
}

fn table(state: &State) -> Table<'static> {
    let page = &state.page;
    let sort = state.sort_column();
    let width = |text: &str| text.chars().count().min(WIDEST);
    let widths: Vec<_> = page
        .headings
        .iter()
        .enumerate()
        .map(|(at, heading)| {
            let cells = page.rows.iter().filter_map(|row| row.get(at)).map(|text| width(text));
            let widest = cells.max().unwrap_or(0).max(width(heading.name));
            Constraint::Length(widest as u16)
        })
        .collect();
    let cell = |text: String, right: bool| {
        let text = Text::from(text);
        Cell::from(if right { text.right_aligned() } else { text })
    };
    let header = page.headings.iter().map(|heading| {
        let shown = cell(heading.name.to_uppercase().replace('_', " "), heading.right);
        if heading.name == sort {
            shown.style(Style::new().add_modifier(Modifier::UNDERLINED))
        } else {
            shown
        }
    });
    let rows = page.rows.iter().map(|row| {
        Row::new(row.iter().zip(&page.headings).map(|(text, heading)| cell(text.clone(), heading.right)))
    });
    let header = Row::new(header.collect::<Vec<_>>()).style(Style::new().add_modifier(Modifier::BOLD));
    Table::new(rows.collect::<Vec<_>>(), widths)
        .header(header)
        .column_spacing(2)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
}

fn foot_line(state: &State) -> Line<'static> {
    if let Some(error) = &state.error {
        return Line::styled(escape(error), Style::new().add_modifier(Modifier::BOLD));
    }
    if state.typing {
        return Line::from(format!("/{}_", escape(&state.wanted.filter)));
    }
    let filter = match state.wanted.filter.as_str() {
        "" => String::new(),
        text => format!("  [{}]", escape(text)),
    };
    Line::from(format!("q quit  Tab/1-5 view  s/S sort  r reverse  / filter  p pause{filter}"))
        .style(Style::new().add_modifier(Modifier::DIM))
}
