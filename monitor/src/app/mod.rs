//! `weir run`: configuration in, wired and supervised tasks, bounded drain at the end.
//!
//! Owns the order of start and stop. Any task that ends before it is told to is fatal; whatever was made is unmade when
//! the owner is dropped, so every error on the way leaves nothing behind.

mod beat;
mod clock;
mod daemon;
mod drain;
mod every;
mod kernel;
mod losses;
mod preflight;
mod priority;
mod settings;
mod upkeep;

use std::io::IsTerminal;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::{Config, Overrides, Source};
use crate::enforce::Destroyer;
use crate::logging::{self, Pause};
use crate::sensor::{Pulse, Sensor};
use crate::serve::control::{self, ControlSocket};
use crate::serve::metrics;
use crate::tui;

use daemon::Daemon;
use drain::Drain;

pub use kernel::{try_enforcement, try_sensor, verified_programs};

/// Time for the tasks to end after they were told to, whatever hangs.
const GRACE: Duration = Duration::from_millis(1800);
/// Time for what still runs then.
const LEFT: Duration = Duration::from_millis(100);

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// One line that says why it cannot start or had to stop, and what to do.
pub fn main(source: &Source, overrides: &Overrides, plain: bool) -> anyhow::Result<()> {
    let config = crate::config::load(source, overrides)?;
    logging::init(&config.log.level)?;
    preflight::check(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("weir-serve")
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let table = !plain && preflight::on_terminal();
    let done = runtime.block_on(async {
        let origin = Origin { source: source.clone(), overrides: overrides.clone() };
        // nothing is meant by them, and their default is to end the process
        let _unused = (signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?);
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut told = std::pin::pin!(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        let app = tokio::select! {
            app = tokio::spawn(App::build(config, origin, kernel::start)) => app.context("the start")??,
            () = &mut told => {
                tracing::info!("weir was stopped while it started");
                return Ok(());
            }
        };
        app.run(table, told).await
    });
    // blocking work that hangs must not keep the process
    runtime.shutdown_timeout(LEFT);
    done
}

/// Where the configuration came from, to read it again.
struct Origin {
    source: Source,
    overrides: Overrides,
}

/// Everything that is needed to run, acquired but not running.
struct App {
    daemon: Arc<Daemon>,
    origin: Arc<Origin>,
    drain: Drain,
    pulse: Option<Box<dyn Pulse>>,
    metrics: TcpListener,
    control: ControlSocket,
    hangup: Signal,
}

impl App {
    /// Cheap things that can fail come first, the kernel side last.
    async fn build(
        config: Config,
        origin: Origin,
        sensor: impl FnOnce(&Config, BorrowedFd<'_>, [u8; 16]) -> anyhow::Result<Box<dyn Sensor>>,
    ) -> anyhow::Result<Self> {
        let hangup = signal(SignalKind::hangup())?;
        let metrics = metrics::bind(config.metrics.listen).await?;
        let control = ControlSocket::bind(&config.control.socket, &config.control.group)?;
        let daemon = Arc::new(Daemon::new(config.clone())?);
        let mut sensor = sensor(&config, metrics.as_fd(), daemon.key())?;
        let pulse = sensor.pulse();
        daemon.enforce(sensor.enforcer())?;
        let destroyer = Destroyer::start()?;
        destroyer.destroy_fenced(sensor.fenced());
        let drain = Drain::new(sensor, Arc::clone(&daemon), config.observe.drain_interval.0, destroyer);
        let origin = Arc::new(origin);
        Ok(Self { daemon, origin, drain, pulse, metrics, control, hangup })
    }

    /// Runs until `told` to stop.
    async fn run(self, table: bool, told: impl Future<Output = ()>) -> anyhow::Result<()> {
        let Self { daemon, origin, drain, pulse, metrics: listener, control: socket, hangup } = self;
        let listen = listener.local_addr()?;
        let (stop, shutdown) = watch::channel(false);
        let mut tasks = Tasks::default();
        if let Some(pulse) = pulse {
            let progress = Arc::clone(daemon.progress());
            tasks.thread("beat", move || {
                beat::run(&*pulse, &progress);
                Ok(())
            })?;
        }
        let (kept, told_to_stop) = (Arc::clone(&daemon), shutdown.clone());
        tasks.thread("upkeep of caps", move || {
            upkeep::run(&kept, &told_to_stop);
            Ok(())
        })?;
        tasks.thread("drain", move || drain.run(&shutdown))?;
        let serving: Arc<dyn crate::source::Source> = daemon.clone();
        tasks.spawn("control socket", control::serve(socket, Arc::clone(&serving), stop.subscribe()));
        tasks.spawn("metrics endpoint", metrics::serve(listener, Arc::clone(&serving), stop.subscribe()));
        tasks.spawn("readiness", announce(Arc::clone(&daemon), stop.subscribe()));
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            metrics = %listen,
            socket = %daemon.config().control.socket.display(),
            "weir observes this host"
        );
        let screen = table.then(|| Screen::show(serving, stop.subscribe())).transpose()?;
        let ended = supervise(&daemon, &origin, hangup, told, &mut tasks, screen).await;
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
        stop.send_replace(true);
        daemon.progress().end();
        let drained = tasks.drain().await;
        ended.and(drained)?;
        tracing::info!("weir has stopped");
        Ok(())
    }
}

/// Waits for a reason to stop: a signal or the user is fine, a task that ends is not.
async fn supervise(
    daemon: &Arc<Daemon>,
    origin: &Arc<Origin>,
    mut hangup: Signal,
    told: impl Future<Output = ()>,
    tasks: &mut Tasks,
    screen: Option<Screen>,
) -> anyhow::Result<()> {
    let quit = async {
        match screen {
            Some(screen) => screen.quit().await,
            None => std::future::pending().await,
        }
    };
    let mut quit = std::pin::pin!(quit);
    let mut told = std::pin::pin!(told);
    // one after the other, and nobody waits for them: what they wait for may hang
    let mut reloads = JoinSet::new();
    loop {
        tokio::select! {
            () = &mut told => return Ok(()),
            _ = hangup.recv(), if reloads.is_empty() => {
                let (daemon, origin) = (Arc::clone(daemon), Arc::clone(origin));
                reloads.spawn_blocking(move || reload(&daemon, &origin));
            }
            Some(_) = reloads.join_next() => {}
            ended = &mut quit => return ended,
            (name, ended) = tasks.next() => {
                return ended.and_then(|()| bail!("stopped without being told to")).context(name);
            }
        }
    }
}

fn reload(daemon: &Daemon, origin: &Origin) {
    let mut state = vec![NotifyState::Reloading];
    state.extend(NotifyState::monotonic_usec_now());
    let _ = sd_notify::notify(&state);
    let loaded = crate::config::load(&origin.source, &origin.overrides).map_err(anyhow::Error::from);
    match loaded.and_then(|config| daemon.reload(config)) {
        Ok(changes) if changes.is_empty() => {
            tracing::info!("configuration reloaded, names and routes are up to date");
        }
        Ok(changes) => {
            tracing::warn!("configuration reloaded; only a restart changes {}", changes.join(", "));
        }
        Err(error) => {
            daemon.reload_failed();
            tracing::error!("configuration not reloaded, the old one stays in force: {error:#}");
        }
    }
    let _ = sd_notify::notify(&[NotifyState::Ready]);
}

/// Tells the service manager, once, that everything is attached and read.
async fn announce(daemon: Arc<Daemon>, mut shutdown: watch::Receiver<bool>) {
    tokio::select! {
        () = daemon.ready() => {
            tracing::info!("ready");
            let _ = sd_notify::notify(&[NotifyState::Ready, NotifyState::Status("observing")]);
        }
        _ = shutdown.wait_for(|down| *down) => return,
    }
    let _ = shutdown.wait_for(|down| *down).await;
}

/// The running tasks, by name.
#[derive(Default)]
struct Tasks {
    set: JoinSet<(&'static str, anyhow::Result<()>)>,
}

impl Tasks {
    fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.set.spawn(async move {
            task.await;
            (name, Ok(()))
        });
    }

    /// A thread of its own for what must not wait behind async work.
    fn thread(
        &mut self,
        name: &'static str,
        work: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
    ) -> anyhow::Result<()> {
        let (ended, result) = tokio::sync::oneshot::channel();
        let run = move || {
            let _ = ended.send(work());
        };
        std::thread::Builder::new()
            .name(format!("weir-{}", name.split(' ').next().unwrap_or(name)))
            .spawn(run)
            .context("cannot start a thread")?;
        self.set.spawn(async move { (name, result.await.unwrap_or_else(|_| bail!("panicked"))) });
        Ok(())
    }

    /// The next task to end, whatever the reason.
    async fn next(&mut self) -> (&'static str, anyhow::Result<()>) {
        match self.set.join_next().await {
            Some(Ok(ended)) => ended,
            Some(Err(error)) => ("task", Err(error.into())),
            None => std::future::pending().await,
        }
    }

    /// Waits for all tasks, within bounds.
    async fn drain(&mut self) -> anyhow::Result<()> {
        let all = async {
            let mut first = Ok(());
            while let Some(ended) = self.set.join_next().await {
                let (name, ended) = ended.unwrap_or_else(|error| ("task", Err(error.into())));
                first = first.and(ended.context(name));
            }
            first
        };
        tokio::time::timeout(GRACE, all).await.context("not everything stopped in time")?
    }
}

/// The live table of `weir run`, in a thread of its own.
struct Screen {
    ended: tokio::sync::oneshot::Receiver<anyhow::Result<()>>,
}

impl Screen {
    fn show(source: Arc<dyn crate::source::Source>, shutdown: watch::Receiver<bool>) -> anyhow::Result<Self> {
        let (end, ended) = tokio::sync::oneshot::channel();
        let show = move || {
            let pause = Pause::begin();
            let options = tui::Options {
                period: Duration::from_millis(500),
                log: std::io::stderr().is_terminal().then_some(logging::latest),
                stop: Some(Box::new(move || *shutdown.borrow())),
                ..tui::Options::default()
            };
            let shown = tui::run(&mut tui::Local(source), &options);
            drop(pause);
            let _ = end.send(shown);
        };
        std::thread::Builder::new().name("weir-table".into()).spawn(show).context("cannot start a thread")?;
        Ok(Self { ended })
    }

    async fn quit(self) -> anyhow::Result<()> {
        self.ended.await.unwrap_or_else(|_| bail!("the live table panicked"))
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
