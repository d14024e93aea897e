//! Ends connections whose requests were denied. The kernel side has fenced them already: nothing leaves them. Destroying the
//! socket tells both ends at once.
//!
//! Owns a thread and a bounded queue, so that the drain thread never waits. Must not decide anything.

mod diag;
mod trial;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::fs::File;
use std::io;
use std::net::Ipv6Addr;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use monitor_common::event::Verdict;

pub use diag::{Diag, Socket};
pub use trial::{NotDestroyed, try_destroy};

/// Most connections that wait to be ended.
const QUEUE: usize = 4096;
/// Most network namespaces that are kept open.
const NAMESPACES: usize = 64;

/// How long the daemon's end waits for what is still to be ended.
const END: Duration = Duration::from_millis(300);

/// What became of the sockets that were to be destroyed.
#[derive(Debug, Default)]
pub struct Counts {
    /// Destroyed.
    pub destroyed: AtomicU64,
    /// Gone before: its end was faster.
    pub gone: AtomicU64,
    /// Refused by the kernel, or their namespace could not be entered: they stay fenced.
    pub failed: AtomicU64,
    /// Not tried because too many waited: they stay fenced.
    pub dropped: AtomicU64,
}

impl Counts {
    /// In words.
    pub fn rows(&self) -> [(&'static str, u64); 4] {
        [
            ("destroyed", &self.destroyed),
            ("gone", &self.gone),
            ("failed", &self.failed),
            ("dropped", &self.dropped),
        ]
        .map(|(word, count)| (word, count.load(Ordering::Relaxed)))
    }
}

/// What the thread is asked to do.
enum Task {
    /// Ends the connection of a verdict after some time.
    Denied(Box<Verdict>, Duration),
    /// Ends the connections of these cookies: nobody has told which they are.
    Fenced(BTreeSet<u64>),
}

/// Ends connections. Dropping it ends its thread.
pub struct Destroyer {
    queue: Option<SyncSender<Task>>,
    counts: Arc<Counts>,
    thread: Option<JoinHandle<()>>,
}

impl Destroyer {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start() -> anyhow::Result<Self> {
        let (queue, inbox) = sync_channel(QUEUE);
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        let thread = std::thread::Builder::new()
            .name("weir-enforce".into())
            .spawn(move || work(&inbox, &shared))
            .context("cannot start the thread that ends connections")?;
        Ok(Self { queue: Some(queue), counts, thread: Some(thread) })
    }

    /// Ends the connection of a verdict. Never blocks.
    pub fn destroy(&self, verdict: &Verdict) {
        if !self.send(Task::Denied(Box::new(*verdict), Duration::ZERO)) {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Ends the connection of a caller that was told of its end, if it does not end by itself.
    pub fn destroy_later(&self, verdict: &Verdict) {
        if !self.send(Task::Denied(Box::new(*verdict), TOLD)) {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Ends the connections that have a fence since before this daemon, by socket cookie. Never blocks.
    pub fn destroy_fenced(&self, cookies: BTreeSet<u64>) {
        if !cookies.is_empty() {
            self.send(Task::Fenced(cookies));
        }
    }

    fn send(&self, task: Task) -> bool {
        self.queue.as_ref().is_some_and(|queue| queue.try_send(task).is_ok())
    }

    /// What became of them.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}

impl Drop for Destroyer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && !crate::threads::join_within(thread, END)
        {
            tracing::warn!("denied connections are left to end by themselves");
        }
    }
}

/// The socket of a verdict.
fn socket(verdict: &Verdict) -> Socket {
    Socket {
        cookie: verdict.cookie,
        device: verdict.device,
        family: verdict.family,
        local: (Ipv6Addr::from(verdict.local), verdict.local_port),
        remote: (Ipv6Addr::from(verdict.remote), verdict.remote_port),
    }
}

/// How often a socket that could not be destroyed is tried again, and after how long. Until then it is fenced.
const TRIES: u32 = 5;
const AGAIN: Duration = Duration::from_millis(200);
/// How long a caller that was told of the end of its connection has to take its answer and close it.
const TOLD: Duration = Duration::from_secs(2);
/// Without work for so long, namespaces are closed: an open one outlives its container.
const IDLE: Duration = Duration::from_secs(1);

fn work(inbox: &Receiver<Task>, counts: &Counts) {
    let mut namespaces = Namespaces::new();
    let mut again: VecDeque<(Instant, u32, Box<Verdict>)> = VecDeque::new();
    let mut later: VecDeque<(Instant, u32, Box<Verdict>)> = VecDeque::new();
    let mut told = false;
    loop {
        let next = [&again, &later].into_iter().filter_map(|queue| queue.front().map(|(at, ..)| *at)).min();
        let wait = next.map_or(IDLE, |at| at.saturating_duration_since(Instant::now()));
        // what is due does not wait for a pause
        let task = if wait.is_zero() { Err(RecvTimeoutError::Timeout) } else { inbox.recv_timeout(wait) };
        let (verdict, tries) = match task {
            Ok(Task::Denied(verdict, Duration::ZERO)) => (verdict, 0),
            Ok(Task::Denied(verdict, after)) => {
                if later.len() < QUEUE {
                    later.push_back((Instant::now() + after, 0, verdict));
                } else {
                    counts.dropped.fetch_add(1, Ordering::Relaxed);
                }
                continue;
            }
            Ok(Task::Fenced(cookies)) => {
                let ended = end(&cookies);
                counts.destroyed.fetch_add(ended, Ordering::Relaxed);
                tracing::info!("{ended} connections that were denied while weir was away are ended");
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                let is_again = again.front().map(|(at, ..)| *at) == next;
                let queue = if is_again { &mut again } else { &mut later };
                let Some((_, tries, verdict)) = queue.pop_front() else {
                    namespaces.open.clear();
                    continue;
                };
                (verdict, tries)
            }
        };
        let result = namespaces.diag(&verdict).and_then(|diag| diag.destroy(&socket(&verdict)));
        let counter = match &result {
            Ok(()) => &counts.destroyed,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => &counts.gone,
            Err(_) if tries < TRIES && again.len() < QUEUE => {
                again.push_back((Instant::now() + AGAIN, tries + 1, verdict));
                continue;
            }
            Err(_) => &counts.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = result
            && error.raw_os_error() != Some(libc::ENOENT)
            && !std::mem::replace(&mut told, true)
        {
            tracing::warn!(
                "a denied connection cannot be ended, it stays silent until it times out: {error}"
            );
        }
    }
}

/// Ends the connections with these cookies, whatever their network namespace. Returns how many there were.
pub fn end(cookies: &BTreeSet<u64>) -> u64 {
    let mut ended = 0;
    for namespace in namespaces() {
        let sockets = open_in(&namespace).and_then(|mut diag| Ok((diag.find(cookies)?, diag)));
        match sockets {
            Ok((found, mut diag)) => {
                ended += found.iter().filter(|socket| diag.destroy(socket).is_ok()).count() as u64;
            }
            Err(error) => tracing::debug!("denied connections of a network namespace stay silent: {error}"),
        }
    }
    ended
}

/// Every network namespace that a process is in.
fn namespaces() -> Vec<File> {
    let mut seen = HashSet::new();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let paths = processes.map(|entry| entry.path().join("ns/net"));
    paths
        .filter(|path| inode(path).is_some_and(|inode| seen.insert(inode)))
        .filter_map(|path| File::open(path).ok())
        .collect()
}

/// Netlink sockets by network namespace.
struct Namespaces {
    own: u32,
    open: HashMap<u32, Diag>,
}

impl Namespaces {
    fn new() -> Self {
        Self { own: inode(Path::new("/proc/thread-self/ns/net")).unwrap_or(0), open: HashMap::new() }
    }

    /// The netlink socket of the namespace that a verdict's socket is in.
    fn diag(&mut self, verdict: &Verdict) -> io::Result<&mut Diag> {
        let wanted = verdict.netns;
        if !self.open.contains_key(&wanted) {
            let diag =
                if wanted == self.own || wanted == 0 { Diag::open()? } else { open_in(&find(verdict)?)? };
            if self.open.len() >= NAMESPACES {
                self.open.clear();
            }
            self.open.insert(wanted, diag);
        }
        self.open.get_mut(&wanted).ok_or_else(|| io::Error::other("no namespace"))
    }
}

/// The namespace of a verdict: its process shows it or, when that is not known or gone, any other that is in it.
fn find(verdict: &Verdict) -> io::Result<File> {
    let of = |process: &str| {
        let path = Path::new("/proc").join(process).join("ns/net");
        (inode(&path) == Some(verdict.netns)).then(|| File::open(path).ok()).flatten()
    };
    if let Some(found) = of(&verdict.tgid.to_string()) {
        return Ok(found);
    }
    let mut all = std::fs::read_dir("/proc")?.filter_map(Result::ok);
    let found = all.find_map(|entry| of(entry.file_name().to_str()?));
    found.ok_or_else(|| io::Error::other("no process shows the network namespace of the connection"))
}

fn inode(path: &Path) -> Option<u32> {
    std::fs::metadata(path).ok().map(|found| found.ino() as u32)
}

/// Opens a netlink socket in another namespace: on a thread of its own, which ends there.
fn open_in(namespace: &File) -> io::Result<Diag> {
    std::thread::scope(|scope| {
        let opened = scope.spawn(|| {
            // SAFETY: takes no pointers; changes this thread only, which makes one socket and ends.
            if unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } < 0 {
                return Err(io::Error::last_os_error());
            }
            Diag::open()
        });
        opened.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
    })
}
