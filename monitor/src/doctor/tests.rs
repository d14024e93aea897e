//! The parts of the checks that do not depend on the host.

use crate::host::{missing, version};

#[test]
fn releases_are_read() {
    for (text, wanted) in [
        ("6.12.41+deb13-amd64", (6, 12, 41)),
        ("6.1.0-38-cloud-amd64", (6, 1, 0)),
        ("6.18", (6, 18, 0)),
        ("5.15.167.4-microsoft-standard-WSL2", (5, 15, 167)),
        ("", (0, 0, 0)),
    ] {
        assert_eq!(version(text), wanted, "{text}");
    }
}

#[test]
fn missing_capabilities_are_named() {
    assert_eq!(missing(u64::MAX), (vec![], vec![]));
    assert_eq!(missing(0).0, ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"]);
    let admin = 1 << 21 | 1 << 12;
    assert_eq!(missing(admin), (vec![], vec!["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"]));
}

#[test]
fn every_failure_has_a_remedy() {
    // with a daemon that answers, so that the test does not load anything into the kernel
    let daemon = crate::view::Status::default();
    for row in super::all(&crate::config::Config::default(), Some(&daemon)) {
        assert!(row.result == "PASS" || !row.remedy.is_empty(), "{row:?}");
    }
}

#[test]
fn what_cannot_be_denied_is_told_with_its_meaning_and_a_way_out() {
    use std::io;

    use super::enforce::rows;
    use crate::bpf::trial::Trial;
    use crate::enforce::NotDestroyed::{Refused, Untried};

    let no = || anyhow::anyhow!("refused by the kernel");
    let good = || Trial { fences: Ok("/cg".into()), gate: Ok("/cg".into()), sends: Ok("send_piece".into()) };
    let found = rows(Ok(good()), Ok(()), (true, true));
    assert!(found.len() == 4 && found.iter().all(|row| row.result == "PASS"), "{found:?}");
    let results = |trial, needed| {
        let found = rows(trial, Err(Refused(io::ErrorKind::Unsupported.into())), needed);
        let told = |row: &crate::view::CheckRow| row.result == "PASS" || !row.remedy.is_empty();
        assert!(found.iter().all(told), "{found:?}");
        found.into_iter().map(|row| row.result).collect::<Vec<_>>()
    };
    // observing works without all of it; what is configured to deny does not
    let bad = || Ok(Trial { fences: Err(no()), gate: Err(no()), sends: Err(no()) });
    assert_eq!(results(bad(), (false, false)), ["WARN"; 4]);
    assert_eq!(results(bad(), (true, false)), ["FAIL", "WARN", "WARN", "WARN"]);
    assert_eq!(results(bad(), (true, true)), ["FAIL", "WARN", "FAIL", "WARN"]);
    let ungated = Ok(Trial { gate: Err(no()), ..good() });
    assert_eq!(results(ungated, (true, true)), ["PASS", "WARN", "PASS", "WARN"]);
    assert_eq!(results(Err(no()), (true, true)), ["FAIL", "WARN"], "without tables nothing else is tried");
    let long = Trial { gate: Err(anyhow::anyhow!("cannot load gate_in: {}", "é".repeat(400))), ..good() };
    let gate = &rows(Ok(long), Ok(()), (true, true))[1];
    assert!(gate.detail.contains("cannot load") && gate.detail.len() < 280, "{gate:?}");
    let alone = rows(Ok(good()), Err(Untried(io::ErrorKind::NetworkUnreachable.into())), (true, true));
    assert!(alone[3].detail.contains("not tried") && alone[3].remedy.contains("lo up"), "{alone:?}");
}
