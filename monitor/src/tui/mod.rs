//! The live table: `weir top`, and `weir run` on a terminal.
//!
//! Owns the terminal while it runs and gives it back however it ends. Where the rows come from is the [`Feed`]'s matter.

mod draw;
mod feed;
mod state;

use std::time::{Duration, Instant};

use anyhow::Context;
use ratatui::crossterm::event::{self, Event, KeyEventKind};

pub use feed::{Feed, Local, Page, Wanted};
pub use state::View;

use state::{Next, State};

/// How the table behaves.
pub struct Options {
    /// Time between two looks at the feed.
    pub period: Duration,
    /// What is shown first.
    pub view: View,
    /// Most rows.
    pub limit: usize,
    /// The latest log line, shown at the bottom.
    pub log: Option<fn() -> Option<String>>,
    /// Whether to end for a reason of the caller's.
    pub stop: Option<Box<dyn Fn() -> bool + Send>>,
}

impl Default for Options {
    fn default() -> Self {
        Self { period: Duration::from_secs(1), view: View::default(), limit: 50, log: None, stop: None }
    }
}

/// Longest time that a key or a request to stop waits.
const REACTION: Duration = Duration::from_millis(100);

/// Shows the table until the user quits.
///
/// # Errors
/// When the terminal cannot be used. A feed that fails is shown and asked again.
pub fn run(feed: &mut dyn Feed, options: &Options) -> anyhow::Result<()> {
    let mut terminal = ratatui::try_init().context("this terminal cannot show a live table")?;
    let shown = show(&mut terminal, feed, options);
    ratatui::restore();
    shown
}

fn show(
    terminal: &mut ratatui::DefaultTerminal,
    feed: &mut dyn Feed,
    options: &Options,
) -> anyhow::Result<()> {
    let mut state = State::new(options.view, options.limit);
    let mut due = Instant::now();
    loop {
        if options.stop.as_ref().is_some_and(|stop| stop()) {
            return Ok(());
        }
        if Instant::now() >= due {
            state.update(feed);
            due = Instant::now() + options.period;
        }
        let log = options.log.and_then(|log| log());
        terminal.draw(|frame| draw::frame(frame, &mut state, log.as_deref()))?;
        if !event::poll(due.saturating_duration_since(Instant::now()).min(REACTION))? {
            continue;
        }
        if let Event::Key(key) = event::read()?
            && key.kind == KeyEventKind::Press
        {
            match state.key(key) {
                Next::Quit => return Ok(()),
                Next::Fetch => due = Instant::now(),
                Next::Draw => {}
            }
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
