//! What the steady state costs: two records per request, header blocks that repeat.

use std::time::Instant;

use super::*;

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
    let start = Instant::now();
    for record in &records {
        feed(&mut core, record);
    }
    let requests = u64::from(ROUNDS) * CONNECTIONS;
    println!("steady state: {} ns per request (two records)", start.elapsed().as_nanos() as u64 / requests);
    assert_eq!(core.summary().finished.inbound, requests + CONNECTIONS);
}
