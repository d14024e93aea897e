//! Nothing is counted twice or not at all, whatever is lost, late or hostile.

use proptest::prelude::*;

use super::*;

/// The sums of all rows, all series and the totals agree.
fn assert_exact(core: &Core) {
    let summary = core.summary();
    let (finished, lost) = (summary.finished.sum(), summary.lost.sum());
    let rows: u64 = core.identities(usize::MAX).iter().map(|row| row.totals.requests).sum();
    assert_eq!(rows, finished + lost, "identities");
    let classes: u64 = core.identities(usize::MAX).iter().flat_map(|row| row.totals.status).sum();
    assert_eq!(classes, finished + lost, "status classes");
    assert_eq!(core.routes().iter().map(|row| row.totals.requests).sum::<u64>(), finished, "routes");
    assert_eq!(core.processes().iter().map(|row| row.totals.requests).sum::<u64>(), finished, "processes");
    assert_eq!(core.request_series().iter().map(|one| one.requests).sum::<u64>(), finished + lost, "series");
    for top in [0, 1, usize::MAX] {
        let sum: u64 = core.identity_series(top).iter().map(|one| one.requests).sum();
        assert_eq!(sum, finished + lost, "identity series, top {top}");
    }
    let outstanding: u64 = core.connections.iter().map(|(_, one)| one.outstanding() as u64).sum();
    assert_eq!(outstanding, summary.outstanding, "outstanding");
    assert_eq!(summary.delivered.sum(), finished + outstanding, "delivered");
}

/// One step of a made-up history; indices choose connection, number, credential and so on.
#[derive(Clone, Debug)]
enum Step {
    Conn { conn: u64, outbound: bool, tgid: u32 },
    Request { conn: u64, seq: u32, who: u64, kind: u8, flags: u16, path: u8 },
    Response { conn: u64, seq: u32, status: u16 },
    Part { conn: u64, seq: u32, from: u32, len: usize },
    Close { conn: u64 },
    Exit,
    Tick { second: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let (conn, seq) = (0u64..6, 0u32..6);
    prop_oneof![
        2 => (conn.clone(), any::<bool>(), 0u32..3).prop_map(|(conn, outbound, tgid)| Step::Conn { conn, outbound, tgid }),
        8 => (conn.clone(), seq.clone(), 0u64..9, prop_oneof![Just(0u8), Just(1), Just(8), Just(9), any::<u8>()], 0u16..512, any::<u8>())
            .prop_map(|(conn, seq, who, kind, flags, path)| Step::Request { conn, seq, who, kind, flags, path }),
        8 => (conn.clone(), seq.clone(), prop_oneof![Just(0u16), Just(200), Just(401), any::<u16>()])
            .prop_map(|(conn, seq, status)| Step::Response { conn, seq, status }),
        2 => (conn.clone(), seq, 0u32..100, 0usize..100).prop_map(|(conn, seq, from, len)| Step::Part { conn, seq, from, len }),
        1 => conn.prop_map(|conn| Step::Close { conn }),
        1 => Just(Step::Exit),
        1 => (0u64..5000).prop_map(|second| Step::Tick { second }),
    ]
}

fn apply(core: &mut Core, step: &Step) {
    match *step {
        Step::Conn { conn, outbound, tgid } => {
            let role = if outbound { role::OUTBOUND } else { role::INBOUND };
            feed(core, Conn { tgid, ..conn_record(conn, role) }.as_bytes());
        }
        Step::Request { conn, seq, who, kind, flags, path } => {
            let mut record = Request { flags, ..request_record(conn, seq) };
            (record.fp[0], record.cred[0]) = (who, kind);
            record.role = path % 3;
            let head = format!(
                "GET /p{path}-x?key={path}0123456789abcdef HTTP/1.1\r\nAuthorization: Basic YTpi\r\n\r\n"
            );
            feed(core, &with_head(record, head.as_bytes()));
        }
        Step::Response { conn, seq, status } => feed(core, response_record(conn, seq, status).as_bytes()),
        Step::Part { conn, seq, from, len } => feed(core, &part(conn, seq, from, &vec![b'x'; len])),
        Step::Close { conn } => feed(core, &close(conn)),
        Step::Exit => feed(core, &exit()),
        Step::Tick { second } => core.tick(second * SECOND),
    }
}

fn tight() -> Settings {
    Settings {
        max_identities: 4,
        max_routes: 5,
        max_connections: 3,
        max_recent: 7,
        trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
        credentials: crate::identity::CredentialSettings {
            cookies: vec!["sid".to_owned()],
            ..Default::default()
        },
        ..Settings::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_history_adds_up(steps in proptest::collection::vec(step(), 0..120)) {
        let mut core = core(tight());
        for step in &steps {
            apply(&mut core, step);
        }
        assert_exact(&core);
        for conn in 0..6 {
            feed(&mut core, &close(conn));
        }
        assert_exact(&core);
        prop_assert_eq!(core.summary().outstanding, 0);
        let requests = steps.iter().filter(|step| matches!(step, Step::Request { .. })).count() as u64;
        prop_assert_eq!(core.summary().finished.sum(), requests);
    }

    #[test]
    fn no_bytes_make_it_panic(records in proptest::collection::vec((0u8..9, proptest::collection::vec(any::<u8>(), 0..300)), 0..30)) {
        let mut core = core(tight());
        for (kind, mut bytes) in records {
            let len = (bytes.len() as u32).to_le_bytes();
            if let [first, _, _, _, a, b, c, d, ..] = &mut bytes[..] {
                *first = kind;
                (*a, *b, *c, *d) = (len[0], len[1], len[2], len[3]);
            }
            feed(&mut core, &bytes);
        }
        core.tick(u64::MAX);
        assert_exact(&core);
        core.tail(0, 100);
        core.connections(100);
        core.losses();
    }

    #[test]
    fn what_the_ring_lost_is_charged_once_to_whom_it_belongs(
        sent in proptest::collection::vec((0u64..4, any::<bool>(), any::<bool>()), 1..60),
        reads in proptest::collection::vec(any::<bool>(), 60),
    ) {
        let mut core = core(Settings::default());
        feed(&mut core, conn_record(1, role::INBOUND).as_bytes());
        let mut kernel = KernelCounts::default();
        let mut want = [0u64; 4];
        for (seq, ((who, arrives, _), read)) in sent.iter().zip(&reads).enumerate() {
            let (print, number) = if *who == 0 { (0xc1, 0) } else { (*who, cred::HEADER + 1) };
            kernel.inbound += 1;
            kernel.lost_requests += u64::from(!arrives);
            match kernel.identities.iter_mut().find(|known| known.fp == print) {
                Some(known) => known.requests += 1,
                None => kernel.identities.push(KernelIdentity { fp: print, cred: number, role: role::INBOUND, requests: 1 }),
            }
            want[*who as usize] += 1;
            // the kernel's counters are read before the drain, so they may be behind
            let snapshot = kernel.clone();
            if *arrives {
                let mut record = request_record(1, seq as u32);
                (record.fp[0], record.cred[0]) = if *who == 0 { (0, 0) } else { (print, number) };
                feed(&mut core, &with_head(record, b"GET / HTTP/1.1\r\n\r\n"));
                feed(&mut core, response_record(1, seq as u32, 200).as_bytes());
            }
            if *read {
                core.reconcile(&snapshot);
                assert_exact(&core);
            }
        }
        core.reconcile(&kernel);
        core.reconcile(&kernel);
        assert_exact(&core);
        prop_assert_eq!(core.summary().lost.inbound, kernel.lost_requests);
        let met: Vec<u64> = sent.iter().filter(|(_, arrives, _)| *arrives).map(|(who, ..)| *who).collect();
        for who in 0..4u64 {
            let name = if who == 0 { "client:10.0.0.7".to_owned() } else { format!("api_key:{who:016x}") };
            if met.contains(&who) && !reads.iter().any(|read| *read) {
                prop_assert_eq!(requests(&core, &name), want[who as usize], "{}", name);
            }
        }
    }
}

#[test]
fn a_million_strangers_leave_the_memory_bounded_and_the_totals_exact() {
    let mut core = core(Settings { max_identities: 100, ..Settings::default() });
    feed(&mut core, conn_record(1, role::INBOUND).as_bytes());
    for seq in 0..20_000u32 {
        let mut record = request_record(1, seq);
        (record.cred[0], record.fp[0]) =
            (cred::HEADER + 1, if seq % 4 == 0 { 7 } else { u64::from(seq) << 8 });
        let head = format!("GET /{seq:x}-path HTTP/1.1\r\n\r\n");
        feed(&mut core, &with_head(record, head.as_bytes()));
        feed(&mut core, response_record(1, seq, 404).as_bytes());
    }
    assert_exact(&core);
    assert_eq!(core.summary().identities, 100);
    assert_eq!(requests(&core, "api_key:0000000000000007"), 5_000);
    assert!(core.routes().len() <= 1_002);
    assert_eq!(core.tail(0, usize::MAX).records.len(), 4_096);
    assert_eq!(core.tail(0, 1).skipped, 20_000 - 4_096);
}
