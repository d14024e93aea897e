//! Caps in words.

use monitor_common::cap::{SubjectKey, action, client_key, reason, subject};
use monitor_common::event::Verdict;

use super::*;
use crate::core::Shown;
use crate::view::{BucketUse, CapRow};

/// A request of `key` was denied by the cap with index 5.
fn denied(seq: u32, key: SubjectKey) -> Verdict {
    let (record, _) = Verdict::from_bytes(&[0; Verdict::SIZE]).unwrap();
    Verdict {
        head: head_of(kind::VERDICT, Verdict::SIZE),
        conn: 1,
        ts_ns: u64::from(seq) * SECOND,
        value: key.value,
        subject: key.kind,
        seq,
        rule: 5,
        action: action::DENY,
        reason: reason::CAP,
        role: role::INBOUND,
        ..record
    }
}

fn shown(scope: &str, fullest: &[SubjectKey]) -> Shown {
    let bucket =
        |key: &SubjectKey| BucketUse { identity: format!("{:x}", key.value), ..BucketUse::default() };
    let buckets = fullest.iter().map(bucket).collect();
    Shown {
        row: CapRow { scope: scope.into(), buckets, ..CapRow::default() },
        index: 5,
        fullest: fullest.to_vec(),
    }
}

fn credential(kind: u8, value: u64) -> SubjectKey {
    SubjectKey { value, kind: kind.into(), direction: role::INBOUND.into() }
}

#[test]
fn buckets_are_called_by_their_best_name() {
    let names = [("bearer:00000000000000ab".to_owned(), "acme".to_owned())].into();
    let mut core = core(Settings { names, ..Settings::default() });
    feed(&mut core, conn_record(1, role::INBOUND).as_bytes());
    exchange(&mut core, 1, 0, "Basic Ym9iOnNlY3JldA==", 200);
    exchange(&mut core, 1, 1, "Basic ZXZlOmd1ZXNz", 401);
    let bob = authorization(&core, "Basic Ym9iOnNlY3JldA==");
    let eve = authorization(&core, "Basic ZXZlOmd1ZXNz");
    let words = |bytes: [u8; 8]| u64::from_ne_bytes(bytes);
    let address = [words([0; 8]), words([0, 0, 0xff, 0xff, 10, 0, 0, 7])];
    let client = |value| SubjectKey { value, kind: subject::CLIENT, direction: role::INBOUND.into() };
    let keys = [
        credential(cred::AUTHORIZATION, 0xab),
        credential(cred::AUTHORIZATION, bob),
        credential(cred::AUTHORIZATION, eve),
        client(client_key(address)),
        client(0xdead),
        credential(cred::HEADER + 1, 0xbeef),
    ];
    let rows = core.describe_caps(vec![shown("each credential", &keys)]);
    let called: Vec<_> = rows[0].buckets.iter().map(|bucket| bucket.identity.as_str()).collect();
    let eve = format!("basic:{eve:016x}");
    assert_eq!(called, ["acme", "basic:bob", eve.as_str(), "client:10.0.0.7", "dead", "beef"]);
    assert_eq!(rows[0].top.len(), 6);
    let row = core.describe_caps(vec![shown("identity bearer:00000000000000ab", &[])]).remove(0);
    assert_eq!((row.scope.as_str(), row.who.as_str()), ("identity bearer:00000000000000ab", "identity acme"));
}

#[test]
fn the_latest_denial_is_kept_while_the_cap_is() {
    let names = [("bearer:00000000000000ab".to_owned(), "acme".to_owned())].into();
    let mut core = core(Settings { names, ..Settings::default() });
    let last = |core: &Core| {
        let row = core.describe_caps(vec![shown("each credential", &[])]).remove(0);
        (row.last_denied, row.last_denied_identity)
    };
    core.set_caps([(5, "fast".into())].into());
    assert_eq!(last(&core), (String::new(), String::new()));
    feed(&mut core, denied(3, credential(cred::AUTHORIZATION, 1)).as_bytes());
    feed(&mut core, denied(4, credential(cred::AUTHORIZATION, 0xab)).as_bytes());
    let wanted = ("2023-11-14T22:13:23.000000Z".to_owned(), "acme".to_owned());
    assert_eq!(last(&core), wanted);
    core.set_caps([(5, "fast".into()), (6, "slow".into())].into());
    assert_eq!(last(&core), wanted, "another cap changes nothing");
    core.set_caps([(5, "other".into())].into());
    assert_eq!(last(&core).0, "", "another cap has this index now");
    feed(&mut core, denied(5, credential(cred::AUTHORIZATION, 0xab)).as_bytes());
    core.forget_refusal(5);
    assert_eq!(last(&core).0, "");
}

/// Denied requests whose packets the server never got: of its process as far as it is known, with the verdict that came first.
#[test]
fn what_a_packet_was_denied_belongs_to_who_serves_its_port() {
    let mut core = core(Settings::default());
    let id = 1 | event::ANSWERED_CONN;
    assert_eq!((event::server_conn(id), event::server_conn(1), event::server_conn(7 << 61)), (1, 1, 7 << 61));
    let server = conn_record(1, role::INBOUND);
    feed(&mut core, server.as_bytes());
    exchange(&mut core, 1, 0, "Bearer a", 200);
    let packets = Conn { conn: id, tgid: 0, start_ns: 0, ..server };
    feed(&mut core, packets.as_bytes());
    let early = Verdict { conn: id, ..denied(0, credential(cred::AUTHORIZATION, 1)) };
    feed(&mut core, early.as_bytes());
    exchange(&mut core, id, 0, "Bearer a", 429);
    let rows = core.processes();
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(core.verdicts.early.len(), 0);
}
