//! Calls a check with every file of the committed corpus of a fuzz target.

use std::path::Path;

/// Replays `fuzz/corpus/TARGET`.
pub fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut files = 0;
    for entry in folder.read_dir().unwrap() {
        check(&std::fs::read(entry.unwrap().path()).unwrap());
        files += 1;
    }
    assert!(files > 0, "no corpus in {}", folder.display());
}
