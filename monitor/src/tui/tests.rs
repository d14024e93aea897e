//! The live table on a terminal that is a buffer.

use std::sync::Arc;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::state::{Next, State};
use super::*;
use crate::source::fake::{self, Fake};

fn feed() -> Local {
    let identities =
        vec![fake::identity("acme", 1), fake::identity("evil\x1b[2J", 3), fake::identity("zeta", 2)];
    Local(Arc::new(Fake { identities, ..Fake::default() }))
}

fn press(state: &mut State, code: KeyCode) -> Next {
    state.key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn screen(state: &mut State) -> String {
    let mut terminal = Terminal::new(TestBackend::new(110, 12)).unwrap();
    terminal.draw(|frame| draw::frame(frame, state, Some("a log line"))).unwrap();
    terminal.backend().to_string()
}

fn first_column(state: &State) -> Vec<&str> {
    state.page.rows.iter().map(|row| row[0].as_str()).collect()
}

#[test]
fn rows_are_shown_sorted_and_escaped() {
    let mut state = State::new(50);
    assert!(screen(&mut state).contains("no answer yet"));
    state.update(&mut feed());
    let text = screen(&mut state);
    let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what} not in\n{text}"));
    assert!(at("evil\\u{1b}[2J") < at("zeta") && at("zeta") < at("acme"), "{text}");
    assert!(at("IDENTITY") < at("evil") && text.contains("a log line") && text.contains("ready"));
    assert!(!text.contains('\x1b'));
}

#[test]
fn keys_sort_filter_switch_pause_and_quit() {
    let mut state = State::new(50);
    let mut feed = feed();
    state.update(&mut feed);
    assert_eq!(press(&mut state, KeyCode::Char('r')), Next::Fetch);
    state.update(&mut feed);
    assert_eq!(first_column(&state), ["acme", "zeta", "evil\\u{1b}[2J"]);
    state.wanted.sort = Some("p99".into());
    press(&mut state, KeyCode::Char('s'));
    assert_eq!(state.wanted.sort.as_deref(), Some("identity"));
    state.update(&mut feed);
    assert_eq!(first_column(&state)[0], "acme");
    for key in "/zeq".chars().map(KeyCode::Char).chain([KeyCode::Backspace, KeyCode::Enter]) {
        assert_ne!(press(&mut state, key), Next::Quit);
    }
    state.update(&mut feed);
    assert_eq!(first_column(&state), ["zeta"]);
    assert_eq!(press(&mut state, KeyCode::Esc), Next::Fetch);
    press(&mut state, KeyCode::Tab);
    assert_eq!(state.wanted.view, View::Processes);
    press(&mut state, KeyCode::Char('4'));
    assert_eq!(state.wanted.view, View::Connections);
    press(&mut state, KeyCode::Char('p'));
    assert!(state.paused);
    press(&mut state, KeyCode::Down);
    screen(&mut state);
    assert_eq!(press(&mut state, KeyCode::Char('q')), Next::Quit);
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(state.key(interrupt), Next::Quit);
}

#[test]
fn a_feed_that_fails_is_told_and_asked_again() {
    struct Broken;
    impl Feed for Broken {
        fn status(&mut self) -> anyhow::Result<crate::view::Status> {
            anyhow::bail!("gone\x1b[2J")
        }
        fn page(&mut self, _: &Wanted) -> anyhow::Result<Page> {
            anyhow::bail!("gone")
        }
    }
    let mut state = State::new(50);
    state.update(&mut Broken);
    assert!(screen(&mut state).contains("gone"));
    state.update(&mut feed());
    assert!(!screen(&mut state).contains("gone"));
}
