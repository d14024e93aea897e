//! What the steady state costs: two records per request, header blocks that repeat.

use super::*;

/// Time that this thread has spent on a CPU: other tests run beside it.
pub(super) fn on_cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call only writes the `timespec` behind the pointer, which is valid and exclusive here.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(failed, 0);
    time.tv_sec as u64 * SECOND + time.tv_nsec as u64
}

#[test]
fn steady_state_cost_is_printed() {
    const CONNECTIONS: u64 = 64;
    const ROUNDS: u32 = 400;
    let mut core = core(Settings::default());
    let mut records = Vec::new();
    for conn in 0..CONNECTIONS {
        feed(&mut core, conn_record(conn, role::INBOUND).as_bytes());
        let mut record = request_record(conn, 0);
        (record.cred[0], record.fp[0]) = (cred::HEADER + 1, conn);
        let head = b"GET /v1/users/42/orders HTTP/1.1\r\nHost: api.test\r\nUser-Agent: wrk\r\n\r\n";
        feed(&mut core, &with_head(record, head));
        feed(&mut core, response_record(conn, 0, 200).as_bytes());
    }
    for seq in 1..=ROUNDS {
        for conn in 0..CONNECTIONS {
            let mut record = request_record(conn, seq);
            record.ts_ns += u64::from(seq) * 10_000_000;
            record.flags = request_flag::SAME_HEADERS;
            (record.cred[0], record.fp[0]) = (cred::HEADER + 1, conn);
            records.push(with_head(record, b"GET /v1/users/42/orders HTTP/1.1\r\n"));
            let mut response = response_record(conn, seq, 200);
            response.ts_end_ns = record.ts_ns + 250_000;
            records.push(response.as_bytes().to_vec());
        }
    }
    let requests = u64::from(ROUNDS) * CONNECTIONS;
    let mut best = u64::MAX;
    for chunk in records.chunks(records.len() / 8) {
        let start = on_cpu_ns();
        for record in chunk {
            feed(&mut core, record);
        }
        best = best.min((on_cpu_ns() - start) * 2 / chunk.len() as u64);
    }
    println!("steady state: {best} ns per request (two records, best of 8)");
    assert_eq!(core.summary().finished.inbound, requests + CONNECTIONS);
}

#[test]
fn rows_and_connections_stay_small() {
    // 100,000 identities and 20,000 connections have to fit in 128 MB with everything else
    assert!(size_of::<crate::identity::Identity>() <= 352);
    assert!(size_of::<Connection>() <= 384);
    assert!(size_of::<Outstanding>() <= 48);
    assert!(size_of::<Finished>() <= 64);
}

#[test]
fn a_hundred_thousand_identities_fit() {
    let resident = || -> u64 {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or_default() * 4096
    };
    let mut core = core(Settings::default());
    let before = resident();
    for who in 0..100_000u64 {
        let conn = who % 20_000;
        if who < 20_000 {
            feed(&mut core, conn_record(conn, role::INBOUND).as_bytes());
        }
        let mut record = request_record(conn, (who / 20_000) as u32);
        (record.cred[0], record.fp[0]) = (cred::HEADER + 1, who + 1);
        feed(&mut core, &with_head(record, b"GET /v1/users/42 HTTP/1.1\r\nHost: api.test\r\n\r\n"));
        feed(&mut core, response_record(conn, record.seq, 200).as_bytes());
    }
    let start = on_cpu_ns();
    assert_eq!(core.identity_series(1_000).len(), 1_001);
    let scrape = on_cpu_ns() - start;
    assert_eq!(core.summary().identities, 100_000);
    println!(
        "100,000 identities, 20,000 connections: {} MB; identity series in {} us",
        resident().saturating_sub(before) >> 20,
        scrape / 1000
    );
}
