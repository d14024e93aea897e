//! Replays against what can be counted by hand, and against a model that keeps every admission.

use monitor_common::cap::{action, scope};
use monitor_common::gcra::Limit;
use proptest::prelude::*;

use super::*;

const MS: u64 = 1_000_000;
/// 2026-01-01T00:00:00Z.
const START: u64 = 1_767_225_600_000 * MS;

fn line(ms: u64, identity: &str, more: &str) -> String {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(START + ms * MS);
    let time = humantime::format_rfc3339_micros(at);
    let defaults = [("peer", "192.0.2.7:4711"), ("workload", "unit:a.service"), ("path", "/p")];
    let absent = defaults.iter().filter(|(name, _)| !more.contains(&format!("{name:?}:")));
    let rest: Vec<_> = absent.map(|(name, value)| format!(",{name:?}:{value:?}")).collect();
    let rest = rest.concat();
    format!(r#"{{"time":"{time}","direction":"inbound","identity":"{identity}"{rest}{more}}}"#)
}

/// Every path is guarded: whatever a server takes is proven.
fn replay(proposals: &[Proposal], requests: &[Request]) -> Vec<Report> {
    super::replay(proposals, requests, &Trial { newcomers: 20, guarded: vec![vec!["/".into()]] })
}

fn requests(lines: &[String]) -> Vec<Request> {
    read(lines.join("\n").as_bytes()).unwrap()
}

fn of(identities: &[&str]) -> Members {
    Members::Of { identities: identities.iter().map(ToString::to_string).collect(), networks: Vec::new() }
}

fn cap(name: &str, rate: u64, burst: u64, members: Members) -> Proposal {
    Proposal {
        name: name.into(),
        limit: Limit::new(rate, 1000 * MS, burst).unwrap(),
        strangers: Limit::new(10 * rate, 1000 * MS, 10 * burst).unwrap(),
        action: action::DENY,
        scope: scope::ONE,
        members,
        except: Vec::new(),
        direction: Direction::Inbound,
        route: None,
        host: None,
    }
}

fn counts(report: &Report) -> (u64, u64, u64, u64) {
    (report.applied, report.admitted, report.refused, report.elsewhere)
}

#[test]
fn a_flood_is_cut_to_burst_and_rate() {
    // 1,000/s for ten seconds
    let lines: Vec<_> = (0..10_000).map(|ms| line(ms, "acme", "")).collect();
    let report = replay(&[cap("fast", 100, 20, of(&["acme"]))], &requests(&lines)).remove(0);
    assert_eq!(counts(&report), (10_000, 1_019, 8_981, 0));
    // the burst is used up within 22 ms
    assert_eq!(report.first_ns, Some(START + 22 * MS));
    let (second, most) = report.worst.unwrap();
    assert_eq!((second, most), (START + 1000 * MS, 900));
    assert_eq!(report.top, [("acme".to_owned(), 8_981)]);
}

#[test]
fn lines_are_sorted_and_only_the_needed_fields_count() {
    let mut lines = vec![line(9, "acme", r#","more":[1],"path":"/V1/a""#), String::new()];
    lines.push(r#"{"skipped":7}"#.into());
    lines.push(line(3, "client:192.0.2.9", r#","status":204"#));
    let read = requests(&lines);
    assert_eq!(read.iter().map(|request| request.time_ns - START).collect::<Vec<_>>(), [3 * MS, 9 * MS]);
    assert!(read[0].credentials.is_empty() && read[0].status == 204 && read[0].peer == "192.0.2.9");
    assert_eq!((&*read[1].peer, &*read[1].path), ("192.0.2.7", "/v1/a"));
    assert_eq!(read[1].credentials, ["acme"]);
}

#[test]
fn a_broken_line_is_named() {
    for broken in ["{", "[]", r#"{"time":"now"}"#, &line(0, "a", "").replace("2026", "x")] {
        let lines = [line(0, "acme", ""), String::new(), broken.to_owned()].join("\n");
        let why = read(lines.as_bytes()).unwrap_err().to_string();
        assert!(why.starts_with("line 3 is no request"), "{why}");
    }
    let long = format!("{}\n{}", line(0, "a", ""), "x".repeat(2 << 20));
    assert!(read(long.as_bytes()).unwrap_err().to_string().contains("line 2"));
}

#[test]
fn what_one_cap_denies_uses_up_nothing_of_another() {
    let lines: Vec<_> = (0..10).map(|ms| line(ms, "acme", "")).collect();
    let (wide, narrow) = (cap("wide", 1, 5, of(&["acme"])), cap("narrow", 1, 2, of(&["acme"])));
    for order in [[wide.clone(), narrow.clone()], [narrow, wide]] {
        let reports = replay(&order, &requests(&lines));
        let of = |name| counts(reports.iter().find(|report| report.cap == name).unwrap());
        assert_eq!((of("narrow"), of("wide")), ((10, 2, 8, 0), (10, 2, 0, 8)));
    }
}

#[test]
fn what_only_counts_denies_nothing() {
    let lines: Vec<_> = (0..10).map(|ms| line(ms, "acme", "")).collect();
    for only in [action::OBSERVE, action::SHADOW] {
        let trial = Proposal { action: only, ..cap("trial", 1, 2, of(&["acme"])) };
        let reports = replay(&[trial, cap("real", 1, 5, of(&["acme"]))], &requests(&lines));
        // the trial is over from the third on; the five that the real one denies count for it as well
        assert_eq!((counts(&reports[0]), counts(&reports[1])), ((10, 2, 8, 0), (10, 5, 5, 0)));
    }
}

#[test]
fn a_members_other_credentials_do_not_matter() {
    let both = r#","also":["acme"]"#;
    let lines: Vec<_> = (0..6).map(|ms| line(ms, &format!("bearer:{ms:016x}"), both)).collect();
    let report = replay(&[cap("acme", 1, 2, of(&["acme"]))], &requests(&lines)).remove(0);
    assert_eq!(counts(&report), (6, 2, 4, 0));
}

#[test]
fn strangers_share_a_bucket_of_their_client_beside_their_own() {
    let each = Proposal { scope: scope::EACH_CREDENTIAL, ..cap("each", 1, 2, Members::Everybody) };
    // ten times the burst of 2, whatever is invented
    let invented: Vec<_> =
        (0..60).map(|ms| line(ms, &format!("bearer:{ms:016x}"), r#","status":401"#)).collect();
    let report = replay(std::slice::from_ref(&each), &requests(&invented)).remove(0);
    assert_eq!(counts(&report), (60, 20, 40, 0));
    assert_eq!(report.top, [("client:192.0.2.7".to_owned(), 40)]);
    // one key has its own bucket from the first request on, and goes on with it once it is proven
    for status in [200, 401] {
        let one: Vec<_> = (0..6).map(|ms| line(ms, "key", &format!(r#","status":{status}"#))).collect();
        let report = replay(std::slice::from_ref(&each), &requests(&one)).remove(0);
        assert_eq!((counts(&report), &*report.top[0].0), ((6, 2, 4, 0), "key"), "{status}");
    }
    // what the own bucket refuses uses up nothing of the strangers'
    for only in [action::DENY, action::SHADOW] {
        let each = Proposal { action: only, ..each.clone() };
        let mut lines: Vec<_> = (0..40).map(|ms| line(ms, "key", r#","status":401"#)).collect();
        lines.extend((40..80).map(|ms| line(ms, &format!("bearer:{ms:016x}"), r#","status":401"#)));
        assert_eq!(counts(&replay(&[each], &requests(&lines))[0]), (80, 20, 60, 0), "{only}");
    }
}

#[test]
fn two_proven_credentials_are_charged_once() {
    let each = Proposal { scope: scope::EACH_CREDENTIAL, ..cap("each", 1, 5, Members::Everybody) };
    let mut lines = vec![line(0, "first", r#","status":200"#), line(1, "second", r#","status":200"#)];
    lines.extend((2..12).map(|ms| line(ms, "first", r#","also":["second"],"status":200"#)));
    lines.extend((12..22).map(|ms| line(ms, "second", r#","status":200"#)));
    let report = replay(&[each], &requests(&lines)).remove(0);
    assert_eq!(counts(&report), (22, 10, 12, 0));
    assert_eq!(report.top, [("first".to_owned(), 6), ("second".to_owned(), 6)]);
}

#[test]
fn a_client_is_charged_whatever_it_presents() {
    let each = Proposal { scope: scope::EACH_CLIENT, ..cap("each", 1, 1, Members::Everybody) };
    let but_acme = Proposal { except: vec![of(&["acme", "jwt:alice@idp"])], ..each.clone() };
    let lines = [
        line(0, "client:192.0.2.1", ""),
        line(1, "client:192.0.2.2", ""),
        line(2, "client:192.0.2.1", ""),
        line(3, "acme", r#","status":200"#),
        line(4, "bearer:00", r#","status":200"#),
        line(5, "jwt:alice@idp", r#","status":401"#),
        line(6, "jwt:alice@idp", r#","status":200"#),
        line(7, "jwt:alice@idp", r#","status":200"#),
    ];
    let report = replay(&[each], &requests(&lines)).remove(0);
    assert_eq!(counts(&report), (8, 3, 5, 0));
    assert_eq!(report.top, [("client:192.0.2.7".to_owned(), 4), ("client:192.0.2.1".to_owned(), 1)]);
    // an exception is for secrets that are configured, and for names that are proven
    assert_eq!(counts(&replay(&[but_acme], &requests(&lines))[0]), (6, 3, 3, 0));
}

#[test]
fn who_claims_a_name_spends_it_once_proven() {
    let alice = cap("alice", 1, 2, of(&["jwt:alice@idp"]));
    let mut lines: Vec<_> = (0..30).map(|ms| line(ms, "jwt:alice@idp", r#","status":401"#)).collect();
    lines.extend((40..44).map(|ms| line(ms, "jwt:alice@idp", r#","status":200"#)));
    // twenty of the strangers', then two of alice's
    assert_eq!(counts(&replay(std::slice::from_ref(&alice), &requests(&lines))[0]), (34, 22, 12, 0));
    // nothing is proven where strangers are answered as well
    let none = Trial { newcomers: 20, guarded: Vec::new() };
    let report = super::replay(&[alice], &requests(&lines), &none).remove(0);
    assert_eq!(counts(&report), (34, 20, 14, 0));
}

#[test]
fn newcomers_are_proven_on_guarded_routes_within_their_budget() {
    let each = Proposal {
        scope: scope::EACH_CREDENTIAL,
        strangers: Limit::new(1, 1000 * MS, 8).unwrap(),
        ..cap("each", 1, 100, Members::Everybody)
    };
    let at = |ms, identity: &str, status, path: &str| {
        let more = format!(r#","status":{status},"method":"GET","route":{path:?},"path":{path:?}"#);
        line(ms, identity, &more)
    };
    let trial = Trial { newcomers: 3, guarded: Vec::new() };
    for (first, proven) in [(401, 3), (200, 0)] {
        let mut lines = vec![at(0, "client:192.0.2.7", first, "/v1")];
        for round in 0..2 {
            lines.extend((0..5).map(|n| at(1 + 10 * round + n, &format!("key-{n}"), 200, "/v1")));
        }
        // five strangers, then those that are not proven: eight of them have room
        let report = super::replay(std::slice::from_ref(&each), &requests(&lines), &trial).remove(0);
        let (admitted, refused) = if proven == 3 { (10, 0) } else { (8, 2) };
        assert_eq!(counts(&report), (10, admitted, refused, 0), "{first}");
    }
}

#[test]
fn the_addresses_of_an_ipv6_network_are_one_client() {
    let each = Proposal { scope: scope::EACH_CLIENT, ..cap("each", 1, 2, Members::Everybody) };
    let lines: Vec<_> = (0..6u64)
        .map(|n| line(n, &format!("client:2001:db8::{:x}:{n}", n % 2), r#","peer":"[2001:db8::1]:1""#))
        .collect();
    let report = replay(std::slice::from_ref(&each), &requests(&lines)).remove(0);
    assert_eq!(counts(&report), (6, 2, 4, 0));
    assert_eq!(report.top, [("client:2001:db8::/64".to_owned(), 4)]);
}

#[test]
fn routes_hosts_sides_networks_and_workloads_narrow() {
    let out = line(0, "acme", r#","host":"API.Example.com:443","path":"/V1/x","workload":"unit:a.service""#)
        .replace("inbound", "outbound");
    let lines = [out, line(1, "client:192.0.2.9", r#","path":"/v1/x""#), line(2, "acme", r#","path":"/v2""#)];
    let all = cap("all", 100, 100, of(&["acme"]));
    let network = Members::Of { identities: Vec::new(), networks: vec!["192.0.2.8/29".parse().unwrap()] };
    let to = |host: &str| Proposal {
        host: Some(host.into()),
        direction: Direction::Outbound,
        members: Members::Workload("unit:a.service".into()),
        ..all.clone()
    };
    let tried = [
        (all.clone(), 1),
        (Proposal { route: Some("/v1/".into()), ..all.clone() }, 0),
        (Proposal { route: Some("/v2".into()), ..all.clone() }, 1),
        (Proposal { route: Some("/v".into()), ..all.clone() }, 0),
        (Proposal { route: Some("/V1".into()), direction: Direction::Outbound, ..all.clone() }, 1),
        (Proposal { members: network, ..all.clone() }, 1),
        (to("api.example.com"), 1),
        (to("example.com"), 0),
    ];
    for (proposal, applied) in tried {
        assert_eq!(
            replay(std::slice::from_ref(&proposal), &requests(&lines))[0].applied,
            applied,
            "{proposal:?}"
        );
    }
}

/// A bucket of tokens in units of ns, which owes nothing to the arithmetic of theoretical arrival times.
struct Tokens {
    limit: Limit,
    left: u128,
    at: u64,
}

impl Tokens {
    fn new(limit: Limit) -> Self {
        Self { limit, left: u128::from(limit.interval_ns) * u128::from(limit.burst()), at: START }
    }

    fn has(&mut self, now: u64) -> bool {
        let full = u128::from(self.limit.interval_ns) * u128::from(self.limit.burst());
        self.left = (self.left + u128::from(now - self.at)).min(full);
        self.at = now;
        self.left >= u128::from(self.limit.interval_ns)
    }
}

proptest! {
    /// Two caps on one identity decide as two buckets of tokens do that are only drawn from when both have one.
    #[test]
    fn decides_as_buckets_of_tokens_do(
        rates in [1u64..200, 1u64..200], bursts in [1u64..8, 1u64..8],
        gaps in proptest::collection::vec(0u64..200, 1..200),
    ) {
        let caps = [0, 1].map(|n| cap(["a", "b"][n], rates[n], bursts[n], of(&["acme"])));
        let mut models = [0, 1].map(|n| Tokens::new(caps[n].limit));
        let (mut ms, mut lines, mut admitted) = (0, Vec::new(), 0);
        for gap in gaps {
            ms += gap;
            lines.push(line(ms, "acme", ""));
            let has = models.each_mut().map(|model| model.has(START + ms * MS));
            if has == [true, true] {
                admitted += 1;
                for model in &mut models {
                    model.left -= u128::from(model.limit.interval_ns);
                }
            }
        }
        let all = lines.len() as u64;
        lines.reverse();
        let reports = replay(&caps, &requests(&lines));
        for report in &reports {
            prop_assert_eq!((report.applied, report.admitted), (all, admitted));
            prop_assert_eq!(report.refused + report.elsewhere, all - admitted);
        }
        prop_assert_eq!(reports[0].refused + reports[1].refused, all - admitted);
    }
}
