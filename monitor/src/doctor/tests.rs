//! The parts of the checks that do not depend on the host.

use super::kernel::{missing, version};

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
