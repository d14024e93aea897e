//! The upkeep of caps: what servers accept, and workloads that come and go, are put into the kernel's tables. On a thread of its
//! own: a change is compiled as a whole, and files are looked at.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::daemon::Daemon;
use super::every::Every;

/// Time between two looks at what servers have accepted.
const PERIOD: Duration = Duration::from_millis(100);
/// Time between two searches for the cgroups of limited workloads, and two looks at the counts of caps.
const SECOND: Duration = Duration::from_secs(1);
/// Time between two times at which what servers have proven is kept.
const KEEP: Duration = Duration::from_secs(10);

/// Until `shutdown`.
pub fn run(daemon: &Daemon, shutdown: &watch::Receiver<bool>) {
    let (mut second, mut keep) = (Every::new(SECOND), Every::new(KEEP));
    while !*shutdown.borrow() {
        daemon.maintain_caps(second.due(Instant::now()));
        if keep.due(Instant::now()) {
            daemon.keep_proofs();
        }
        std::thread::sleep(PERIOD);
    }
    daemon.maintain_caps(false);
    daemon.keep_proofs();
}
