//! The live table on a terminal that is a buffer.

use std::sync::Arc;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::state::{Next, State};
use super::*;
use crate::source::fake::{self, Fake};
use crate::view::{BucketUse, CapRow};

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
    let mut state = State::new(View::default(), 50);
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
    let mut state = State::new(View::default(), 50);
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
fn caps_are_sorted_by_how_far_they_are_used_up() {
    let bucket =
        |identity: &str, used, refused| BucketUse { identity: identity.into(), used, admitted: 20, refused };
    let caps = vec![
        CapRow {
            name: "calm".into(),
            who: "role partner".into(),
            action: "deny".into(),
            enabled: true,
            used: 0.25,
            ..CapRow::default()
        },
        CapRow {
            name: "everybody".into(),
            who: "each credential".into(),
            rate: "100/s".into(),
            burst: 20,
            action: "shadow".into(),
            enabled: true,
            allowed: 30,
            shadowed: 7,
            rate_1s: 12.5,
            used: 1.0,
            last_denied: "2026-01-01T00:00:00Z".into(),
            buckets: vec![bucket("acme", 1.0, 7), bucket("evil\x1b[2J", 0.5, 0)],
            ..CapRow::default()
        },
    ];
    let mut feed = Local(Arc::new(Fake { caps, ..Fake::default() }));
    let mut state = State::new(View::Caps, 50);
    state.update(&mut feed);
    let cells =
        |state: &State, at: usize| state.page.rows.iter().map(|row| row[at].clone()).collect::<Vec<_>>();
    assert_eq!(cells(&state, 1), ["each credential", "acme", "evil\\u{1b}[2J", "role partner"]);
    assert_eq!(cells(&state, 6), ["100%", "100%", "50%", "25%"]);
    assert_eq!(cells(&state, 5)[..2], ["12.5", "-"]);
    assert_eq!(cells(&state, 8)[..3], ["7", "7", "0"], "a shadow cap only counts");
    assert!(cells(&state, 10)[0].ends_with('d') && cells(&state, 10)[1] == "-");
    let text = screen(&mut state);
    assert!(text.contains("5 caps") && text.contains("USED") && text.contains("everybody"), "{text}");
    press(&mut state, KeyCode::Char('s'));
    assert_eq!(state.wanted.sort.as_deref(), Some("admitted"));
    press(&mut state, KeyCode::Char('1'));
    press(&mut state, KeyCode::Char('5'));
    assert_eq!((state.wanted.view, state.wanted.sort.as_deref()), (View::Caps, None));
    assert_eq!(press(&mut state, KeyCode::Char('r')), Next::Draw, "nothing is there to be reversed");
    state.update(&mut feed);
    press(&mut state, KeyCode::Char('r'));
    state.update(&mut feed);
    assert_eq!(cells(&state, 1)[0], "role partner");
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
    let mut state = State::new(View::default(), 50);
    state.update(&mut Broken);
    assert!(screen(&mut state).contains("gone"));
    state.update(&mut feed());
    assert!(!screen(&mut state).contains("gone"));
}
