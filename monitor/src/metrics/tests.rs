//! The exposition is valid whatever the labels hold, and has exactly the metrics that are listed.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;
use crate::serve::metrics::{bind, serve};
use crate::source::fake::{self, Fake};

/// Checks a line of the text format and returns name, labels and value.
fn sample(line: &str) -> (String, Vec<(String, String)>, f64) {
    let (head, rest) = line.split_at(line.find(['{', ' ']).unwrap());
    let mut labels = Vec::new();
    let mut chars = rest.chars().peekable();
    if chars.peek() == Some(&'{') {
        chars.next();
        while chars.peek() != Some(&'}') {
            let name: String = std::iter::from_fn(|| chars.next_if(|c| *c != '=')).collect();
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{line}");
            assert_eq!((chars.next(), chars.next()), (Some('='), Some('"')), "{line}");
            let mut value = String::new();
            loop {
                match chars.next().unwrap() {
                    '"' => break,
                    '\\' => value.push(match chars.next().unwrap() {
                        'n' => '\n',
                        other => other,
                    }),
                    other => value.push(other),
                }
            }
            labels.push((name, value));
            chars.next_if_eq(&',');
        }
        chars.next();
    }
    let value: String = chars.collect();
    (head.to_owned(), labels, value.trim().parse().unwrap())
}

#[test]
fn every_line_is_valid_also_with_hostile_labels() {
    let text = render(&fake::snapshot()).unwrap();
    let mut seen = BTreeSet::new();
    for line in text.lines() {
        assert!(!line.contains(['\x1b', '\r', '\u{202e}']), "{line:?}");
        if line.starts_with('#') {
            continue;
        }
        let (name, labels, _) = sample(line);
        assert!(seen.insert((name, labels)), "twice: {line}");
    }
    let series =
        text.lines().find(|line| line.starts_with("weir_http_requests_total{") && line.contains("200"));
    assert!(series.unwrap().ends_with(" 9007199254740991"), "{series:?}");
}

#[test]
fn the_list_of_metrics_is_the_truth() {
    let text = render(&fake::snapshot()).unwrap();
    let kind = |line: &str| {
        let mut words = line.strip_prefix("# TYPE ")?.split(' ').map(str::to_owned);
        Some((words.next()?, words.next()?))
    };
    let found: BTreeSet<_> = text.lines().filter_map(kind).collect();
    let listed: BTreeSet<_> =
        METRICS.iter().map(|(name, kind, ..)| ((*name).to_owned(), (*kind).to_owned())).collect();
    assert_eq!(found, listed);
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, labels, _) = sample(line);
        let base =
            ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
        let listed = METRICS.iter().find(|(known, ..)| *known == name || *known == base).unwrap();
        let names: Vec<_> =
            labels.iter().map(|(name, _)| name.as_str()).filter(|name| *name != "le").collect();
        assert_eq!(names.join(","), listed.2, "{line}");
    }
    for (name, kind, ..) in METRICS {
        assert_eq!(name.ends_with("_total"), *kind == "counter", "{name}");
    }
}

#[test]
fn histograms_are_cumulative() {
    let text = render(&fake::snapshot()).unwrap();
    let of = |start: &str| -> Vec<f64> {
        text.lines().filter(|line| line.starts_with(start)).map(|line| sample(line).2).collect()
    };
    let buckets = of("weir_http_request_duration_seconds_bucket");
    assert_eq!(buckets, (1..=15).map(f64::from).collect::<Vec<_>>());
    assert_eq!(of("weir_http_request_duration_seconds_count"), [15.0]);
    assert_eq!(of("weir_http_request_duration_seconds_sum"), [1.5]);
}

#[test]
fn a_hook_counts_as_attached_when_all_of_its_name_are() {
    let text = render(&fake::snapshot()).unwrap();
    let hooks: Vec<_> = text.lines().filter(|line| line.starts_with("weir_hooks{")).collect();
    assert_eq!(hooks.len(), 1);
    assert!(sample(hooks[0]).2 < 0.5);
}

#[test]
fn long_labels_are_cut_at_a_character() {
    let mut snapshot = fake::snapshot();
    snapshot.identities[0].identity = "é".repeat(1_000);
    let text = render(&snapshot).unwrap();
    assert!(text.lines().all(|line| line.len() < 700));
}

async fn get(listen: std::net::SocketAddr, path: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(listen).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer)
}

#[tokio::test]
async fn the_endpoint_answers() {
    let fake = Fake { missing: vec!["hook recv".into()], snapshot: fake::snapshot(), ..Fake::default() };
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let listen = listener.local_addr().unwrap();
    let (stop, shutdown) = tokio::sync::watch::channel(false);
    let server = tokio::spawn(serve(listener, Arc::new(fake), shutdown));
    let (status, answer) = get(listen, "/metrics").await;
    assert_eq!(status, 200);
    assert!(answer.contains("text/plain; version=0.0.4") && answer.contains("weir_build_info"));
    assert_eq!(get(listen, "/healthz").await.0, 200);
    let (status, answer) = get(listen, "/readyz").await;
    assert_eq!(status, 503);
    assert!(answer.contains("not ready: hook recv"));
    assert_eq!(get(listen, "/").await.0, 200);
    assert_eq!(get(listen, "/x").await.0, 404);
    let error = bind(listen).await.unwrap_err().to_string();
    assert!(error.contains("in use") && error.contains("[metrics] listen"), "{error}");
    stop.send_replace(true);
    server.await.unwrap();
}

#[test]
fn the_readme_lists_every_metric() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let rows = METRICS.iter().map(|(name, kind, labels, help)| {
        let labels: Vec<_> =
            labels.split(',').filter(|l| !l.is_empty()).map(|label| format!("`{label}`")).collect();
        format!("| `{name}` | {kind} | {} | {help} |\n", labels.join(" "))
    });
    let table: String = rows.collect();
    assert!(readme.contains(&table), "the table of metrics in README.md should be\n\n{table}");
}
