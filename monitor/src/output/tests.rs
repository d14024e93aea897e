//! What each format looks like, and that hostile bytes stay harmless.

use super::*;
use crate::view::{Direction, RequestRecord, RouteRow, Totals};

fn route(name: &str, requests: u64) -> RouteRow {
    RouteRow {
        host: String::new(),
        method: "GET".into(),
        route: name.into(),
        direction: Direction::Inbound,
        workload: "unit:a.service".into(),
        totals: Totals { requests, ..Totals::default() },
    }
}

fn shown(rows: &[RouteRow], format: Format, no_headers: bool) -> String {
    let mut out = Vec::new();
    write_rows(&mut out, rows, Style { format, no_headers }).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_table_has_a_header_and_aligned_columns() {
    let table = shown(&[route("/a", 5), route("/bbbb", 123_456)], Format::Table, false);
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines[0].starts_with("METHOD  HOST  ROUTE"), "{table}");
    assert_eq!(lines[1].find('5').map(|at| at + 1), lines[2].find("123456").map(|at| at + 6), "{table}");
    assert!(!lines[0].contains("WORKLOAD"));
    assert_eq!(shown(&[route("/a", 5)], Format::Table, true).lines().count(), 1);
    assert!(shown(&[], Format::Wide, false).contains("WORKLOAD"));
}

#[test]
fn json_is_an_array_and_jsonl_is_lines() {
    let rows = [route("/a", 5), route("/b", 6)];
    let json: serde_json::Value = serde_json::from_str(&shown(&rows, Format::Json, false)).unwrap();
    assert_eq!(json[1]["route"], "/b");
    assert_eq!(json[1]["requests"], 6);
    assert_eq!(json[1]["direction"], "inbound");
    assert_eq!(shown(&[], Format::Json, false), "[]\n");
    let lines = shown(&rows, Format::Jsonl, false);
    assert!(lines.lines().all(|line| serde_json::from_str::<RouteRow>(line).is_ok()));
    assert_eq!(lines.lines().count(), 2);
}

#[test]
fn csv_quotes_and_disarms() {
    let csv = shown(&[route("/a,\"b\"", 5), route("=cmd()", 1)], Format::Csv, false);
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    assert_eq!(reader.headers().unwrap().get(2), Some("route"));
    let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows[0].get(2), Some("/a,\"b\""));
    assert_eq!(rows[1].get(2), Some("'=cmd()"));
    assert_eq!(rows[0].get(4), Some("5"));
}

#[test]
fn terminal_escapes_do_not_get_through() {
    let hostile = route("/\x1b[2J\u{202e}\r\n\u{9b}x", 1);
    for format in [Format::Table, Format::Wide, Format::Csv] {
        let text = shown(std::slice::from_ref(&hostile), format, true);
        assert_eq!(text.lines().count(), 1, "{text:?}");
        assert!(!text.contains(['\x1b', '\r', '\u{202e}', '\u{9b}']), "{text:?}");
    }
    let json = shown(&[hostile], Format::Jsonl, true);
    assert!(!json.contains(['\x1b', '\r']), "{json:?}");
}

#[test]
fn sorting_is_by_any_column() {
    let mut rows = vec![route("/b", 1), route("/a", 3), route("/c", 2)];
    let names = |rows: &[RouteRow]| rows.iter().map(|row| row.route.clone()).collect::<String>();
    sort(&mut rows, None).unwrap();
    assert_eq!(names(&rows), "/a/c/b");
    sort(&mut rows, Some("route")).unwrap();
    assert_eq!(names(&rows), "/a/b/c");
    sort(&mut rows, Some("-requests")).unwrap();
    assert_eq!(names(&rows), "/b/c/a");
    assert!(sort(&mut rows, Some("nonsense")).unwrap_err().contains("requests"));
    filter(&mut rows, "/C");
    assert_eq!(names(&rows), "/c");
}

#[test]
fn every_kind_of_row_sorts_by_its_default() {
    fn has<R: Row>() -> bool {
        R::COLUMNS.iter().any(|column| column.name == R::SORT)
    }
    use crate::view::{CheckRow, ConnectionRow, HookRow, IdentityRow, LossRow, ProcessRow};
    assert!(has::<IdentityRow>() && has::<ProcessRow>() && has::<RouteRow>() && has::<ConnectionRow>());
    assert!(has::<RequestRecord>() && has::<HookRow>() && has::<LossRow>() && has::<CheckRow>());
    assert!(has::<NameRow>() && has::<LibraryRow>());
}
