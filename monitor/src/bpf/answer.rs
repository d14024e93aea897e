//! Loads and attaches what answers denied callers in the server's place, and sends it the tokens for answers that had to wait.

use std::io::Read as _;
use std::net::IpAddr;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, anyhow, bail};
use aya::maps::{HashMap, MapData, SockHash};
use aya::programs::{CgroupAttachMode, FExit, Iter, SkSkb, SockOps};
use aya::{Btf, Ebpf};
use monitor_common::kernel::ListenerKey;
use tracing::warn;

use super::fence;
use super::hooks::{SocketHook, describe, program};
use super::maps::Plain;
use crate::address::words;
use crate::probes::kernel;
use crate::threads::lock;
use crate::view::HookRow;

// SAFETY: `repr(C)`, integers only, no padding: any bytes are a value and every byte is initialised.
unsafe impl aya::Pod for Plain<ListenerKey> {}

/// Most connections that are answered at a time: some 1.7 KB each, made in advance. Callers of others are cut.
pub const CONNECTIONS: u32 = 16_384;

/// A listener whose denied callers are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its address, `None` for any.
    pub address: Option<IpAddr>,
    /// Its port.
    pub port: u16,
}

/// The end of the pair of sockets that tokens are sent to, once there is one.
pub type Tokens = Arc<Mutex<Option<UnixDatagram>>>;

/// Asks for the answers that wait on a connection.
pub fn send(tokens: &Tokens, cookie: u64) {
    let tokens = lock(tokens);
    let mut token = [0; 16];
    for (to, from) in token.iter_mut().zip(cookie.to_ne_bytes().iter().cycle()) {
        *to = *from;
    }
    if let Some(socket) = &*tokens
        && let Err(error) = socket.send(&token)
    {
        tracing::debug!("denied requests wait longer for their answer: {error}");
    }
}

/// What answers. Dropping it lets go of everything but the connections' own programs, which let everything pass from then on.
pub struct Answers {
    /// The other end: it must stay open.
    _out: UnixDatagram,
    rows: Vec<HookRow>,
}

impl Answers {
    /// Loads and attaches everything for `listeners`.
    ///
    /// # Errors
    /// What this kernel lacks.
    pub fn attach(
        ebpf: &mut Ebpf,
        btf: &Btf,
        hook: SocketHook,
        listeners: &[Listener],
        tokens: &Tokens,
    ) -> Result<Self> {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let (release, version) = (read("/proc/sys/kernel/osrelease"), read("/proc/version"));
        if let Some(why) = kernel::verdict_hazard(release.trim(), &version) {
            bail!(why);
        }
        list(ebpf, listeners)?;
        if hook == SocketHook::FunctionExit {
            // the sockets' own receive function does not run any more
            let program: &mut FExit = program(ebpf, "tcp_parsed_recv")?;
            let load = program.load("tcp_bpf_recvmsg_parser", btf).and_then(|()| program.attach().map(drop));
            load.map_err(|error| anyhow!("tcp_parsed_recv: {}", describe(&error)))?;
        }
        // a socket takes the programs that its map has when it comes
        verdict(ebpf, "answer_out", "TOKENS_OUT")?;
        verdict(ebpf, "answer_in", "ANSWERED")?;
        let out = pair(ebpf, tokens)?;
        let program: &mut Iter = program(ebpf, "answer_open")?;
        program.load("tcp", btf).map_err(|error| anyhow!("answer_open: {}", describe(&error)))?;
        join(ebpf)?;
        let rows = ["answer_join", "answer_open", "answer_in", "answer_out"].map(|name| row(name, true));
        let answers = Self { _out: out, rows: rows.to_vec() };
        if let Err(error) = answers.open(ebpf) {
            warn!("denied callers on connections from before are not answered: {error:#}");
        }
        Ok(answers)
    }

    /// Takes up connections that were open before, and those that have lost their thread, when nothing is under way on them.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open(&self, ebpf: &mut Ebpf) -> Result<()> {
        let program: &mut Iter = program(ebpf, "answer_open")?;
        let link = program.attach()?;
        let mut file = program.take_link(link)?.into_file()?;
        // the program writes nothing: reading makes it run
        file.read_to_end(&mut Vec::new()).context("cannot walk through the open connections")?;
        Ok(())
    }

    /// The programs.
    pub fn rows(&self) -> &[HookRow] {
        &self.rows
    }
}

/// The row of what this kernel does not take.
pub fn missing() -> HookRow {
    row("answer_in", false)
}

fn row(name: &str, attached: bool) -> HookRow {
    HookRow { name: name.into(), target: "listeners".into(), mandatory: false, attached }
}

/// Tells the kernel side which listeners they are.
fn list(ebpf: &mut Ebpf, listeners: &[Listener]) -> Result<()> {
    let map = ebpf.map_mut("LISTENERS").context("the kernel side has no map LISTENERS")?;
    let mut map: HashMap<_, Plain<ListenerKey>, u32> = HashMap::try_from(map)?;
    for listener in listeners {
        let address = listener.address.map_or([0; 2], words);
        map.insert(Plain(ListenerKey { address, port: listener.port.into() }), 1, 0)?;
    }
    Ok(())
}

/// Makes the pair of sockets.
fn pair(ebpf: &mut Ebpf, tokens: &Tokens) -> Result<UnixDatagram> {
    fn put(ebpf: &mut Ebpf, name: &str, socket: &UnixDatagram) -> Result<()> {
        let map = ebpf.map_mut(name).with_context(|| format!("the kernel side has no map {name}"))?;
        let mut map: SockHash<&mut MapData, u64> = SockHash::try_from(map)?;
        Ok(map.insert(0, socket.as_raw_fd(), 0)?)
    }
    let (into, out) = UnixDatagram::pair().context("cannot make a pair of sockets")?;
    into.set_nonblocking(true)?;
    // a token counts as sent by this socket until its answer has been taken by a caller that may be slow
    allow(&into, libc::SO_SNDBUFFORCE)?;
    allow(&out, libc::SO_RCVBUFFORCE)?;
    put(ebpf, "TOKENS_IN", &into)?;
    put(ebpf, "TOKENS_OUT", &out)?;
    *lock(tokens) = Some(into);
    Ok(out)
}

/// Gives a socket of the pair more room than the system's limit.
fn allow(socket: &UnixDatagram, which: libc::c_int) -> Result<()> {
    let room: libc::c_int = 64 << 20;
    let (value, size) = ((&raw const room).cast(), size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: the descriptor is open, `room` has `size` readable bytes.
    if unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, which, value, size) } < 0 {
        return Err(std::io::Error::last_os_error()).context("cannot make room for answers");
    }
    Ok(())
}

/// Attaches the verdict on everything that comes to the sockets of a map.
fn verdict(ebpf: &mut Ebpf, name: &str, map: &str) -> Result<()> {
    let fd = {
        let map = ebpf.map(map).with_context(|| format!("the kernel side has no map {map}"))?;
        let map: SockHash<&MapData, u64> = SockHash::try_from(map)?;
        map.fd().try_clone()?
    };
    let program: &mut SkSkb = program(ebpf, name)?;
    program
        .load()
        .and_then(|()| program.attach(&fd).map(drop))
        .map_err(|error| anyhow!("{name}: {}", describe(&error)))
}

/// New connections of the listeners take part from now on.
fn join(ebpf: &mut Ebpf) -> Result<()> {
    let (_, cgroup) = fence::root()?;
    let program: &mut SockOps = program(ebpf, "answer_join")?;
    program
        .load()
        .and_then(|()| program.attach(&cgroup, CgroupAttachMode::Single).map(drop))
        .map_err(|error| anyhow!("answer_join: {}", describe(&error)))
}
