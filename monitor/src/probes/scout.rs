//! The thread that looks for files to probe. What it reads belongs to others, who can keep it for ever: it is watched over, and
//! replaced when it hangs.
//!
//! Owns: the scanner, the schedule, and how often a thread is replaced. Must not attach. Nobody waits for this thread without a
//! deadline; what it finds is handed to a function.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

use super::discover::{Doing, Scan, Scanner};
use super::file::FileId;
use super::watch::Watcher;

/// Longest look at one process. The largest binary is planned in a second.
const LONGEST_LOOK: Duration = Duration::from_secs(10);
/// Threads that are given up, at most: each keeps its memory and what it has open.
const MAX_GIVEN_UP: usize = 4;
/// Most orders that wait.
const ORDERS: usize = 16_384;
/// Shortest wait between two looks at what is due.
const MIN_IDLE: Duration = Duration::from_millis(1);

/// What the thread is told.
enum Order {
    /// A process executed a file.
    Started(u32),
    /// A process ended.
    Ended(u32),
    /// A file could not be probed.
    Forget(FileId),
    /// Do at once what is due, and say what it brought.
    Now(Sender<Vec<Scan>>),
}

/// What is done with what was found: the number of the thread and a scan.
pub type Found = Arc<dyn Fn(usize, Scan) + Send + Sync>;

/// The thread that looks, and those that were given up.
pub struct Scout {
    proc_root: PathBuf,
    longest_look: Duration,
    found: Found,
    current: Option<Running>,
    /// Processes whose thread was given up.
    given_up: Vec<u32>,
}

struct Running {
    orders: SyncSender<Order>,
    doing: Arc<Doing>,
    missed: Arc<AtomicBool>,
}

impl Scout {
    /// Lets `scanner` look around from now on.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(scanner: Scanner, found: Found) -> std::io::Result<Self> {
        Self::start_in("/proc".into(), LONGEST_LOOK, scanner, found)
    }

    fn start_in(
        proc_root: PathBuf,
        longest_look: Duration,
        scanner: Scanner,
        found: Found,
    ) -> std::io::Result<Self> {
        let current = Some(Running::start(scanner, 0, Arc::clone(&found))?);
        Ok(Self { proc_root, longest_look, found, current, given_up: Vec::new() })
    }

    /// Whether a scan is from the thread that looks now. What a thread says that was given up is old.
    pub fn is_current(&self, number: usize) -> bool {
        number == self.given_up.len()
    }

    /// A process executed a file. Never blocks.
    pub fn started(&self, pid: u32) {
        self.tell(Order::Started(pid));
    }

    /// A process ended. Never blocks.
    pub fn ended(&self, pid: u32) {
        self.tell(Order::Ended(pid));
    }

    /// A file could not be probed: it is new again when it is next seen. Never blocks.
    pub fn forget(&self, id: FileId) {
        self.tell(Order::Forget(id));
    }

    fn tell(&self, order: Order) {
        if let Some(current) = &self.current
            && current.orders.try_send(order).is_err()
        {
            current.missed.store(true, Ordering::Relaxed);
        }
    }

    /// What is due, at once; nothing when it takes longer than `limit`.
    pub fn now(&self, limit: Duration) -> Vec<Scan> {
        let (answer, answered) = channel();
        self.tell(Order::Now(answer));
        answered.recv_timeout(limit).unwrap_or_default()
    }

    /// Replaces the thread when it hangs; `probed` is what its successor need not look for. Returns the process that it hangs at.
    pub fn supervise(&mut self, probed: impl Iterator<Item = (FileId, PathBuf)>) -> Option<u32> {
        let pid = self.current.as_ref()?.doing.hangs_for(self.longest_look)?;
        self.given_up.push(pid);
        // its orders end: when it comes back, it ends, too
        self.current = None;
        if self.given_up.len() <= MAX_GIVEN_UP {
            let given_up: HashSet<u32> = self.given_up.iter().copied().collect();
            let scanner = Scanner::instead(&self.proc_root, probed, given_up);
            self.current = Running::start(scanner, self.given_up.len(), Arc::clone(&self.found)).ok();
        }
        Some(pid)
    }

    /// What is wrong, in words.
    pub fn trouble(&self) -> Vec<String> {
        let mut trouble = Vec::new();
        if !self.given_up.is_empty() {
            let pids: Vec<_> = self.given_up.iter().map(ToString::to_string).collect();
            trouble.push(format!("TLS: looking at processes hung and was given up: {}", pids.join(", ")));
        }
        if self.current.is_none() {
            trouble.push("TLS: libraries are not looked for any more, restart weir".into());
        }
        trouble
    }
}

impl Running {
    fn start(scanner: Scanner, number: usize, found: Found) -> std::io::Result<Self> {
        let (orders, inbox) = sync_channel(ORDERS);
        let (doing, missed) = (Arc::clone(scanner.doing()), Arc::new(AtomicBool::new(false)));
        let job = Job {
            scanner,
            watcher: Watcher::new(Duration::ZERO),
            began: Instant::now(),
            number,
            found,
            missed: Arc::clone(&missed),
        };
        // nobody waits for its end: it may hang
        std::thread::Builder::new().name("weir-scout".into()).spawn(move || job.run(&inbox))?;
        Ok(Self { orders, doing, missed })
    }
}

struct Job {
    scanner: Scanner,
    watcher: Watcher,
    began: Instant,
    number: usize,
    found: Found,
    missed: Arc<AtomicBool>,
}

impl Job {
    fn run(mut self, inbox: &Receiver<Order>) {
        loop {
            let wait = self.watcher.next_at().saturating_sub(self.began.elapsed()).max(MIN_IDLE);
            match inbox.recv_timeout(wait) {
                Ok(order) => self.take(order),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Ok(order) = inbox.try_recv() {
                self.take(order);
            }
            if self.missed.swap(false, Ordering::Relaxed) {
                self.watcher.sweep_soon(self.began.elapsed());
            }
            while let Some(scan) = self.due() {
                (self.found)(self.number, scan);
            }
        }
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Started(pid) => self.watcher.executed(pid, self.began.elapsed()),
            Order::Ended(pid) => {
                self.watcher.exited(pid);
                self.scanner.exited(pid);
            }
            Order::Forget(id) => self.scanner.forget(id),
            Order::Now(answer) => {
                let scans: Vec<_> = std::iter::from_fn(|| self.due()).collect();
                if let Err(unheard) = answer.send(scans) {
                    unheard.0.into_iter().for_each(|scan| (self.found)(self.number, scan));
                }
            }
        }
    }

    fn due(&mut self) -> Option<Scan> {
        let work = self.watcher.poll(self.began.elapsed())?;
        Some(self.scanner.perform(work))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn until(what: &str, mut done: impl FnMut() -> bool) {
        let began = Instant::now();
        while !done() {
            assert!(began.elapsed() < Duration::from_mins(1), "in vain: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A `/proc` whose process 7 keeps whoever looks at it: the first thread hangs there, the next one passes by.
    #[test]
    fn a_thread_that_hangs_is_replaced_and_its_process_is_left_alone() {
        let proc = tempfile::tempdir().unwrap();
        std::fs::create_dir(proc.path().join("7")).unwrap();
        let pipe = std::ffi::CString::new(proc.path().join("7/stat").to_str().unwrap()).unwrap();
        // SAFETY: a path that ends with a zero.
        assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
        let (heard, hears) = channel();
        let heard = std::sync::Mutex::new(heard);
        let found: Found = Arc::new(move |number, _| {
            let _ = heard.lock().unwrap().send(number);
        });
        let scanner = Scanner::new(proc.path());
        // longer than the standard places take
        let look = Duration::from_secs(2);
        let mut scout = Scout::start_in(proc.path().into(), look, scanner, found).unwrap();
        let mut at = None;
        until("a thread that hangs", || {
            at = scout.supervise(std::iter::empty());
            at.is_some()
        });
        assert_eq!(at, Some(7));
        assert!(scout.trouble()[0].ends_with("given up: 7"), "{:?}", scout.trouble());
        let number = hears.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!((number, scout.is_current(number)), (1, true), "its successor has made a sweep");
        assert_eq!(scout.supervise(std::iter::empty()), None);
        // no more threads than a few, whatever hangs
        for pid in 8..20 {
            std::fs::create_dir(proc.path().join(pid.to_string())).unwrap();
            let stat = proc.path().join(format!("{pid}/stat"));
            std::os::unix::fs::symlink(proc.path().join("7/stat"), stat).unwrap();
            scout.started(pid);
        }
        until("the last thread to be given up", || {
            scout.supervise(std::iter::empty());
            scout.trouble().len() == 2
        });
        assert_eq!(scout.given_up.len(), MAX_GIVEN_UP + 1);
        assert!(scout.now(Duration::from_millis(1)).is_empty());
    }
}
