//! Threads that may hang, and what threads share.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Time between two looks at a thread that is to end.
const LOOK: Duration = Duration::from_millis(2);

/// Locks. A thread that panicked is fatal to the daemon anyway; until it stops, the others go on.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for the end of a thread. False when it has not ended within `limit`: it is left to itself then.
pub fn join_within(thread: JoinHandle<()>, limit: Duration) -> bool {
    let began = Instant::now();
    while !thread.is_finished() {
        if began.elapsed() >= limit {
            return false;
        }
        std::thread::sleep(LOOK);
    }
    let _ = thread.join();
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_hangs_is_not_waited_for() {
        let (release, hold) = std::sync::mpsc::channel::<()>();
        let hangs = std::thread::spawn(move || {
            let _ = hold.recv();
        });
        assert!(!join_within(hangs, Duration::from_millis(5)));
        drop(release);
        assert!(join_within(std::thread::spawn(|| {}), Duration::from_secs(20)));
    }
}
