//! A state directory that is damaged, or shared, or open to others.

use crate::harness::process::run;
use crate::harness::weir::{Place, Weir};
use crate::harness::{Findings, need, turn};

/// Caps that were kept, by name.
fn caps(weir: &Weir) -> Vec<String> {
    let rows: Vec<monitor::view::CapRow> = weir.json(&["caps", "list"]);
    rows.into_iter().map(|row| row.name).collect()
}

/// Damaged files are set aside, the caps that were kept last hold, and the daemon says so.
#[test]
fn damaged_files_are_set_aside() {
    need!();
    let _turn = turn();
    let mut findings = Findings::default();
    let place = Place::new("");
    let weir = place.start();
    weir.run(&["caps", "set", "kept", "--each", "client", "--rate", "9/s", "--burst", "9", "--persist"]).ok();
    weir.run(&["identity", "name", "client:192.0.2.1", "acme"]).ok();
    let place = weir.stop();
    std::fs::write(place.state().join("names.toml"), "\0\0\0").unwrap();
    std::fs::write(place.state().join("caps.toml"), "[[cap]]\nname = \"kept\"\n").unwrap();
    let weir = place.start();
    findings.equal("caps", caps(&weir), vec!["kept".to_owned()]);
    let degraded = weir.status().degraded;
    findings.equal(&format!("{degraded:?}"), degraded.len(), 2);
    let place = weir.stop();
    // it is said once, and in force from then on
    let weir = place.start();
    findings.equal("degraded", weir.status().degraded, Vec::new());
    findings.equal("caps", caps(&weir), vec!["kept".to_owned()]);
    let place = weir.stop();
    std::fs::write(place.state().join("caps.toml"), "[[cap]]\nname = \"kept\"\n").unwrap();
    let text = std::fs::read_to_string(place.config()).unwrap();
    std::fs::write(place.config(), text.replace("[state]", "[state]\non_bad_state = \"stop\"")).unwrap();
    let done = run(&mut place.command());
    findings.equal(&done.err, (done.status.success(), done.err.contains("caps.toml")), (false, true));
    findings.none();
}

/// A second daemon with the same state directory does not start; the first one goes on.
#[test]
fn one_daemon_uses_a_state_directory() {
    need!();
    let _turn = turn();
    let place = Place::new("");
    let weir = place.start();
    let other = Place::new("");
    let text = std::fs::read_to_string(other.config()).unwrap();
    let (theirs, ours) = (other.state().display().to_string(), place.state().display().to_string());
    std::fs::write(other.config(), text.replace(&theirs, &ours)).unwrap();
    let done = run(&mut other.command());
    assert!(!done.status.success() && done.err.contains("another weir"), "{}", done.err);
    assert_eq!(weir.status().pid, weir.pid());
}

/// Nor does one whose state others could write.
#[test]
fn a_state_directory_of_others_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    need!();
    let _turn = turn();
    let place = Place::new("");
    std::fs::set_permissions(place.state(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let done = run(&mut place.command());
    assert!(!done.status.success() && done.err.contains("chmod go-w"), "{}", done.err);
    std::fs::set_permissions(place.state(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::chown(place.state(), Some(super::NOBODY), None).unwrap();
    let done = run(&mut place.command());
    assert!(!done.status.success() && done.err.contains("belongs to user 65534"), "{}", done.err);
}
