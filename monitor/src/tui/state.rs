//! What the live table shows and how keys change it. Does no I/O of its own.

use std::time::Instant;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::widgets::TableState;

use super::feed::{Feed, Page, Wanted};
use crate::view::Status;

/// Kinds of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum View {
    /// Who makes requests
    #[default]
    Identities,
    /// Which local processes serve or make them
    Processes,
    /// Which routes are requested
    Routes,
    /// Which connections carry them
    Connections,
    /// How far caps are used up, and what was denied
    Caps,
}

impl View {
    /// All of them, in the order of their keys.
    pub const ALL: [Self; 5] =
        [Self::Identities, Self::Processes, Self::Routes, Self::Connections, Self::Caps];

    /// Its name.
    pub fn title(self) -> &'static str {
        match self {
            Self::Identities => "identities",
            Self::Processes => "processes",
            Self::Routes => "routes",
            Self::Connections => "connections",
            Self::Caps => "caps",
        }
    }

    fn step(self, by: usize) -> Self {
        let at = Self::ALL.iter().position(|view| *view == self).unwrap_or(0);
        Self::ALL[(at + by) % Self::ALL.len()]
    }
}

/// What to do after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// End.
    Quit,
    /// Ask the feed at once.
    Fetch,
    /// Only draw.
    Draw,
}

/// Requests per second in each direction, from two looks at the kernel's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Speed {
    last: Option<(Instant, u64, u64)>,
    /// Inbound and outbound.
    pub per_second: (f64, f64),
}

impl Speed {
    fn note(&mut self, now: Instant, status: &Status) {
        let (inbound, outbound) = (status.requests_inbound, status.requests_outbound);
        if let Some((then, before_in, before_out)) = self.last {
            let seconds = now.duration_since(then).as_secs_f64();
            if seconds > 0.0 {
                let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
                self.per_second = (rate(inbound, before_in), rate(outbound, before_out));
            }
        }
        self.last = Some((now, inbound, outbound));
    }
}

/// Everything that is shown.
pub struct State {
    pub(super) wanted: Wanted,
    pub(super) page: Page,
    pub(super) status: Option<Status>,
    pub(super) speed: Speed,
    pub(super) error: Option<String>,
    pub(super) paused: bool,
    /// The filter is being typed.
    pub(super) typing: bool,
    pub(super) selected: TableState,
}

impl State {
    /// A view, sorted as usual.
    pub fn new(view: View, limit: usize) -> Self {
        Self {
            wanted: Wanted { view, sort: None, filter: String::new(), limit },
            page: Page::default(),
            status: None,
            speed: Speed::default(),
            error: None,
            paused: false,
            typing: false,
            selected: TableState::default(),
        }
    }

    /// Asks the feed, unless paused.
    pub fn update(&mut self, feed: &mut dyn Feed) {
        if self.paused {
            return;
        }
        let asked = feed.status().and_then(|status| Ok((status, feed.page(&self.wanted)?)));
        match asked {
            Ok((status, page)) => {
                self.speed.note(Instant::now(), &status);
                self.status = Some(status);
                self.page = page;
                self.error = None;
            }
            Err(error) => self.error = Some(format!("{error:#}")),
        }
    }

    /// Reacts to a key.
    pub fn key(&mut self, key: KeyEvent) -> Next {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Next::Quit;
        }
        if self.typing {
            return self.type_filter(key.code);
        }
        match key.code {
            KeyCode::Char('q') => Next::Quit,
            KeyCode::Esc if self.wanted.filter.is_empty() => Next::Quit,
            KeyCode::Esc => {
                self.wanted.filter.clear();
                Next::Fetch
            }
            KeyCode::Tab => self.show(self.wanted.view.step(1)),
            KeyCode::BackTab => self.show(self.wanted.view.step(View::ALL.len() - 1)),
            KeyCode::Char(digit @ '1'..='5') => {
                let at = digit as usize - '1' as usize;
                self.show(View::ALL.get(at).copied().unwrap_or_default())
            }
            KeyCode::Char('p' | ' ') => {
                self.paused = !self.paused;
                Next::Fetch
            }
            KeyCode::Char('/') => {
                self.typing = true;
                Next::Draw
            }
            KeyCode::Char('s') | KeyCode::Right => self.sort_step(1),
            KeyCode::Char('S') | KeyCode::Left => self.sort_step(self.page.headings.len().saturating_sub(1)),
            KeyCode::Char('r') if !self.sort_column().is_empty() => {
                let sort = self.wanted.sort.take().unwrap_or_else(|| self.page.sort.to_owned());
                self.wanted.sort = Some(match sort.strip_prefix('-') {
                    Some(name) => name.to_owned(),
                    None => format!("-{sort}"),
                });
                Next::Fetch
            }
            code => {
                self.scroll(code);
                Next::Draw
            }
        }
    }

    fn scroll(&mut self, code: KeyCode) {
        let last = self.page.rows.len().saturating_sub(1);
        let here = self.selected.selected();
        let to = match code {
            KeyCode::Down | KeyCode::Char('j') => here.map_or(0, |at| at + 1),
            KeyCode::Up | KeyCode::Char('k') => here.map_or(0, |at| at.saturating_sub(1)),
            KeyCode::PageDown => here.unwrap_or(0) + 20,
            KeyCode::PageUp => here.unwrap_or(0).saturating_sub(20),
            KeyCode::Home => 0,
            KeyCode::End => last,
            _ => return,
        };
        self.selected.select(Some(to.min(last)));
    }

    fn show(&mut self, view: View) -> Next {
        self.wanted.view = view;
        self.wanted.sort = None;
        self.page = Page::default();
        self.selected = TableState::default();
        Next::Fetch
    }

    fn sort_step(&mut self, by: usize) -> Next {
        let count = self.page.headings.len();
        if count == 0 {
            return Next::Draw;
        }
        let current = self.sort_column();
        let at = self.page.headings.iter().position(|heading| heading.name == current).unwrap_or(0);
        self.wanted.sort = self.page.headings.get((at + by) % count).map(|heading| heading.name.to_owned());
        Next::Fetch
    }

    /// The column that rows are sorted by.
    pub(super) fn sort_column(&self) -> &str {
        self.wanted.sort.as_deref().unwrap_or(self.page.sort).trim_start_matches('-')
    }

    fn type_filter(&mut self, code: KeyCode) -> Next {
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.wanted.filter.clear();
            }
            KeyCode::Backspace => {
                self.wanted.filter.pop();
            }
            KeyCode::Char(c) if self.wanted.filter.len() < 128 => self.wanted.filter.push(c),
            _ => return Next::Draw,
        }
        Next::Fetch
    }
}
