//! What may take its time, on a thread of its own: attaching what denies, probing the TLS libraries that were found, statistics of
//! the programs. Nobody waits for it without a deadline. It opens nothing that others control: see `probes::scout`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use aya::{Btf, Ebpf};
use tracing::warn;

use super::answer::{Answers, Listener, Tokens};
use super::hooks::SocketHook;
use super::pins::{Held, Own};
use super::tls::Probes;
use super::{answer, fence, hooks};
use crate::probes::discover::Scan;
use crate::sensor::{Need, ProgramStats};
use crate::threads::{join_within, lock};
use crate::view::HookRow;

/// Longest time between two looks at the statistics.
const STATISTICS: Duration = Duration::from_secs(1);
/// Most messages that wait.
const MESSAGES: usize = 16_384;
/// How long attaching what denies may take: half a second, and much more on a host that is emulated.
const PREPARE: Duration = Duration::from_secs(30);
/// Without a sign of the thread for so long it hangs.
const HANGS: Duration = Duration::from_secs(10);
/// How long the daemon's end waits for the thread. What it leaves attached goes with the process.
const END: Duration = Duration::from_millis(700);

/// A process came or went.
#[derive(Clone, Copy, Debug)]
pub enum ProcessEvent {
    /// It executed a file: it may load a TLS library soon.
    Started(u32),
    /// It ended: nothing else drops its TLS connections.
    Ended(u32),
}

/// What the thread is asked to do.
enum Message {
    Process(ProcessEvent),
    /// Files to probe, from the thread with this number.
    Found(usize, Box<Scan>),
    /// Be ready to deny requests; answers once that is so.
    Prepare(Need, Sender<Result<()>>),
}

/// What the thread found, for whoever asks.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// Hooks attached since the start, then one row a probed file.
    pub probes: Vec<HookRow>,
    /// Run time of the programs.
    pub programs: Vec<ProgramStats>,
    /// What is wrong, in words.
    pub trouble: Vec<String>,
}

/// What is needed to answer denied callers.
pub struct Answering {
    /// The listeners.
    pub listeners: Vec<Listener>,
    /// Form of the socket hook.
    pub socket_hook: SocketHook,
    /// Where tokens go.
    pub tokens: Tokens,
}

/// The thread. Dropping it ends the thread, which detaches everything.
pub struct Worker {
    events: Option<Arc<SyncSender<Message>>>,
    shown: Arc<Mutex<Shown>>,
    seen: Arc<Mutex<Instant>>,
    missed: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Hands the loaded programs, the links of those that decide and the set to pin them in to a new thread.
    pub fn start(
        ebpf: Ebpf,
        mut probes: Option<Probes>,
        answering: Answering,
        links: Vec<Held>,
        own: Option<Own>,
    ) -> Result<Self> {
        let (events, inbox) = sync_channel(MESSAGES);
        let events = Arc::new(events);
        let (shown, seen) = (Arc::new(Mutex::new(Shown::default())), Arc::new(Mutex::new(Instant::now())));
        let missed = Arc::new(AtomicBool::new(false));
        if let Some(probes) = &mut probes {
            let events = Arc::downgrade(&events);
            probes.look(Arc::new(move |number, scan| {
                if let Some(events) = events.upgrade() {
                    let _ = events.send(Message::Found(number, Box::new(scan)));
                }
            }))?;
        }
        let job = Job {
            ebpf,
            probes,
            links,
            own,
            fences: Vec::new(),
            gate: Vec::new(),
            early: None,
            answering,
            answers: None,
            shown: Arc::clone(&shown),
            seen: Arc::clone(&seen),
            missed: Arc::clone(&missed),
            changed: false,
        };
        job.show();
        let thread = std::thread::Builder::new().name("weir-probes".into()).spawn(move || job.run(&inbox));
        let thread = thread.context("cannot start the thread that probes libraries")?;
        Ok(Self { events: Some(events), shown, seen, missed, thread: Some(thread) })
    }

    /// Tells the thread about a process. Never blocks.
    pub fn process(&self, event: ProcessEvent) {
        if let Some(events) = &self.events
            && events.try_send(Message::Process(event)).is_err()
        {
            self.missed.store(true, Ordering::Relaxed);
        }
    }

    /// A way to ask the thread to be ready to deny requests.
    pub fn preparer(&self) -> Preparer {
        Preparer(self.events.as_ref().map_or_else(Weak::new, Arc::downgrade))
    }

    /// What it found last.
    pub fn shown(&self) -> Shown {
        lock(&self.shown).clone()
    }

    /// What is wrong, in words.
    pub fn trouble(&self) -> Vec<String> {
        let mut trouble = self.shown().trouble;
        let silent = lock(&self.seen).elapsed();
        if silent > HANGS {
            trouble.push(format!("the thread that attaches programs hangs for {} s", silent.as_secs()));
        }
        trouble
    }

    /// An error when the thread ended by itself.
    pub fn check(&self) -> Result<()> {
        if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            bail!("the thread that probes libraries has ended");
        }
        Ok(())
    }
}

/// Attaches what denies requests, the first time that it is needed. Does not keep the thread alive.
pub struct Preparer(Weak<SyncSender<Message>>);

impl Preparer {
    /// Returns when what is needed is there. Costs half a second the first time, nothing afterwards.
    ///
    /// # Errors
    /// Why this kernel cannot, or that it takes too long.
    pub fn prepare(&self, need: Need) -> Result<()> {
        let (answer, answered) = channel();
        let gone = "the thread that probes libraries has ended";
        let events = self.0.upgrade().context(gone)?;
        let hangs = "the thread that attaches programs hangs, see `weir status`";
        events.try_send(Message::Prepare(need, answer)).ok().context(hangs)?;
        drop(events);
        match answered.recv_timeout(PREPARE) {
            Ok(prepared) => prepared,
            Err(RecvTimeoutError::Timeout) => bail!(hangs),
            Err(RecvTimeoutError::Disconnected) => bail!(gone),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.events = None;
        if let Some(thread) = self.thread.take()
            && !join_within(thread, END)
        {
            warn!("the thread that attaches programs takes long to end: it is not waited for");
        }
    }
}

struct Job {
    ebpf: Ebpf,
    probes: Option<Probes>,
    /// Of all that decides but the probes.
    links: Vec<Held>,
    /// Where they are pinned, if they are to outlive the daemon.
    own: Option<Own>,
    /// The fences, once they are attached.
    fences: Vec<HookRow>,
    /// The gate, once it is attached.
    gate: Vec<HookRow>,
    /// The hook that sees sends before they leave, once it is attached.
    early: Option<HookRow>,
    answering: Answering,
    /// What answers denied callers, once it is attached.
    answers: Option<Result<Answers>>,
    shown: Arc<Mutex<Shown>>,
    /// When it was last at work, or had none.
    seen: Arc<Mutex<Instant>>,
    /// Processes came or went, and the queue was full.
    missed: Arc<AtomicBool>,
    /// The probes have changed.
    changed: bool,
}

impl Job {
    fn run(mut self, inbox: &Receiver<Message>) {
        let mut shown = Instant::now();
        loop {
            *lock(&self.seen) = Instant::now();
            match inbox.recv_timeout(STATISTICS) {
                Ok(event) => self.take(event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Ok(event) = inbox.try_recv() {
                self.take(event);
            }
            if let Some(probes) = &mut self.probes {
                if self.missed.swap(false, Ordering::Relaxed) {
                    probes.missed_processes();
                }
                probes.maintain();
            }
            let found = std::mem::take(&mut self.changed);
            if found
                && self.own.as_ref().is_some_and(Own::is_active)
                && let Err(error) = self.pin()
            {
                warn!("a library's probes do not outlive the daemon: {error:#}");
            }
            if found || shown.elapsed() >= STATISTICS {
                self.open_answers();
                self.show();
                shown = Instant::now();
            }
        }
    }

    fn take(&mut self, message: Message) {
        match (message, &mut self.probes) {
            (Message::Process(ProcessEvent::Started(tgid)), Some(probes)) => probes.process_started(tgid),
            (Message::Process(ProcessEvent::Ended(tgid)), Some(probes)) => probes.process_ended(tgid),
            (Message::Found(number, scan), Some(probes)) => {
                self.changed |= probes.take(&mut self.ebpf, number, *scan);
            }
            (Message::Process(_) | Message::Found(..), None) => {}
            (Message::Prepare(need, answer), _) => {
                let _ = answer.send(self.prepare(need));
            }
        }
    }

    fn prepare(&mut self, need: Need) -> Result<()> {
        if need.fences && self.fences.is_empty() {
            // requests of a library that is not found yet would pass
            if let Some(probes) = &mut self.probes {
                self.changed |= probes.look_now(&mut self.ebpf);
            }
            let (rows, links) = fence::attach(&mut self.ebpf, &fence::FENCES)?;
            self.fences = rows;
            self.links.extend(links);
        }
        if need.gate && self.gate.is_empty() {
            // without it requests are denied when the server has read them
            let (rows, links) = fence::attach(&mut self.ebpf, &fence::GATE).unwrap_or_else(|error| {
                warn!("the server sees inbound requests before they are denied, their answers are cut: {error:#}");
                (vec![fence::missing("gate_in")], Vec::new())
            });
            self.gate = rows;
            self.links.extend(links);
        }
        if need.gate && self.answers.is_none() && !self.answering.listeners.is_empty() {
            let answers = self.start_answers();
            if let Err(error) = &answers {
                warn!("denied callers are not answered, their connections are ended: {error:#}");
            }
            self.answers = Some(answers);
        }
        if need.early && self.early.is_none() {
            self.start_early()?;
        }
        if need.fences {
            self.pin()?;
        }
        self.show();
        Ok(())
    }

    fn start_answers(&mut self) -> Result<Answers> {
        let btf = Btf::from_sys_fs().context("cannot read the kernel's BTF")?;
        let Answering { listeners, socket_hook, tokens } = &self.answering;
        Answers::attach(&mut self.ebpf, &btf, *socket_hook, listeners, tokens)
    }

    /// Connections that could not be taken up so far.
    fn open_answers(&mut self) {
        if let Some(Ok(answers)) = &self.answers
            && let Err(error) = answers.open(&mut self.ebpf)
        {
            warn!("denied callers on older connections are not answered: {error:#}");
        }
    }

    /// What decides outlives the daemon from now on, if it is to.
    fn pin(&mut self) -> Result<()> {
        let Some(own) = &mut self.own else { return Ok(()) };
        let probes = self.probes.iter_mut().flat_map(Probes::links);
        own.pin(self.links.iter_mut().chain(probes))
    }

    fn start_early(&mut self) -> Result<()> {
        let btf = Btf::from_sys_fs().context("cannot read the kernel's BTF")?;
        let (row, link) = hooks::attach_sends(&mut self.ebpf, &btf)?;
        self.links.extend(link);
        if let Some(probes) = &mut self.probes {
            probes.start_early(&mut self.ebpf)?;
        }
        self.early = Some(row);
        Ok(())
    }

    fn show(&self) {
        let programs = self.ebpf.programs().filter_map(|(name, program)| {
            let info = program.info().ok()?;
            let run_ns = info.run_time().as_nanos() as u64;
            Some(ProgramStats { name: name.to_owned(), run_ns, runs: info.run_count() })
        });
        let rows = self.probes.iter().flat_map(Probes::rows);
        let answers = self.answers.iter().flat_map(|answers| match answers {
            Ok(answers) => answers.rows().to_vec(),
            Err(_) => vec![answer::missing()],
        });
        let hooks = self.fences.iter().chain(&self.gate).chain(&self.early).cloned();
        let probes = hooks.chain(answers).chain(rows).collect();
        let trouble = self.probes.as_ref().map(Probes::trouble).unwrap_or_default();
        *lock(&self.shown) = Shown { probes, programs: programs.collect(), trouble };
    }
}
