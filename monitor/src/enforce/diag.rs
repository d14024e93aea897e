//! `SOCK_DESTROY`: closes a TCP socket of any process, at both ends, through netlink (`inet_diag`, RFC-less kernel interface of
//! `include/uapi/linux/inet_diag.h`).

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use crate::address::mapped;

/// `SOCK_DIAG_BY_FAMILY` of `linux/sock_diag.h`.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `SOCK_DESTROY` of `linux/sock_diag.h`.
const SOCK_DESTROY: u16 = 21;
const NETLINK_SOCK_DIAG: i32 = 4;
const TCP: u8 = 6;
/// `nlmsghdr`, `inet_diag_req_v2` and `inet_diag_msg`.
const HEADER: usize = 16;
const REQUEST: usize = 56;
const ANSWER: usize = 72;
/// `inet_diag_msg.idiag_uid`.
const UID: usize = 64;
/// States of `enum` in `include/net/tcp_states.h`.
const TCP_ESTABLISHED: u8 = 1;
const TCP_CLOSE_WAIT: u8 = 8;

/// A TCP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Its cookie: the kernel refuses another socket with the same addresses.
    pub cookie: u64,
    /// Interface that it is bound to, 0 for none: a bound socket is not found without.
    pub device: u32,
    /// `AF_INET` or `AF_INET6`, as the socket was made.
    pub family: u16,
    /// Local address and port.
    pub local: (Ipv6Addr, u16),
    /// Remote address and port.
    pub remote: (Ipv6Addr, u16),
}

/// An address as the kernel side reports it.
fn reported(address: SocketAddr) -> (Ipv6Addr, u16) {
    (mapped(address.ip()), address.port())
}

impl Socket {
    /// The socket of a connection of this process; `family` as it was made.
    ///
    /// # Errors
    /// When it is not connected.
    pub fn of(stream: &TcpStream, family: i32) -> io::Result<Self> {
        let mut cookie = 0u64;
        let mut size = size_of::<u64>() as libc::socklen_t;
        // SAFETY: the descriptor is open for as long as `stream` lives; `cookie` has `size` writable bytes.
        let got = unsafe {
            libc::getsockopt(
                stream.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_COOKIE,
                (&raw mut cookie).cast(),
                &raw mut size,
            )
        };
        if got < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            cookie,
            device: 0,
            family: family as u16,
            local: reported(stream.local_addr()?),
            remote: reported(stream.peer_addr()?),
        })
    }

    /// Every socket of a family, for a request.
    fn any(family: i32) -> Self {
        let nowhere = (Ipv6Addr::UNSPECIFIED, 0);
        Self { cookie: u64::MAX, device: 0, family: family as u16, local: nowhere, remote: nowhere }
    }

    /// Reads an `inet_diag_msg`.
    fn from_answer(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let port = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let family = u16::from(*bytes.first()?);
        let address = |at: usize| {
            let six: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
            let [a, b, c, d, ..] = six;
            let is_four = family == libc::AF_INET as u16;
            Some(if is_four { Ipv4Addr::new(a, b, c, d).to_ipv6_mapped() } else { six.into() })
        };
        Some(Self {
            cookie: u64::from(word(44)?) | u64::from(word(48)?) << 32,
            device: word(40)?,
            family,
            local: (address(8)?, port(4)?),
            remote: (address(24)?, port(6)?),
        })
    }

    /// A request about it.
    fn message(&self, request: u16, flags: i32, number: u32) -> [u8; HEADER + REQUEST] {
        let mut bytes = [0; HEADER + REQUEST];
        let mut at = 0;
        let mut put = |part: &[u8]| {
            for byte in part {
                if let Some(to) = bytes.get_mut(at) {
                    *to = *byte;
                }
                at += 1;
            }
        };
        put(&((HEADER + REQUEST) as u32).to_ne_bytes());
        put(&request.to_ne_bytes());
        put(&((libc::NLM_F_REQUEST | flags) as u16).to_ne_bytes());
        put(&number.to_ne_bytes());
        put(&[0; 4]); // port
        put(&[self.family as u8, TCP, 0, 0]);
        put(&u32::MAX.to_ne_bytes()); // any state
        put(&self.local.1.to_be_bytes());
        put(&self.remote.1.to_be_bytes());
        for (address, _) in [self.local, self.remote] {
            let bytes = address.octets();
            if self.family == libc::AF_INET as u16 {
                put(bytes.get(12..).unwrap_or_default());
                put(&[0; 12]);
            } else {
                put(&bytes);
            }
        }
        put(&self.device.to_ne_bytes());
        put(&(self.cookie as u32).to_ne_bytes());
        put(&((self.cookie >> 32) as u32).to_ne_bytes());
        bytes
    }
}

/// A netlink socket in the network namespace of the thread that opened it.
pub struct Diag {
    socket: OwnedFd,
    number: u32,
}

impl Diag {
    /// Opens it.
    ///
    /// # Errors
    /// When the kernel has no `inet_diag`.
    pub fn open() -> io::Result<Self> {
        // SAFETY: takes no pointers.
        let fd =
            unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, NETLINK_SOCK_DIAG) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a fresh descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let limit = libc::timeval { tv_sec: 1, tv_usec: 0 };
        // SAFETY: a `timeval` of its own size.
        let set = unsafe {
            libc::setsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVTIMEO,
                (&raw const limit).cast(),
                size_of::<libc::timeval>() as u32,
            )
        };
        if set < 0 { Err(io::Error::last_os_error()) } else { Ok(Self { socket: fd, number: 0 }) }
    }

    /// The sockets of the namespace that have these cookies.
    ///
    /// # Errors
    /// When the kernel refuses to list them.
    pub fn find(&mut self, cookies: &BTreeSet<u64>) -> io::Result<Vec<Socket>> {
        let mut found = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            self.ask(&Socket::any(family), SOCK_DIAG_BY_FAMILY, libc::NLM_F_DUMP)?;
            let mut buffer = vec![0u8; 64 << 10];
            let mut more = true;
            while more {
                let mut rest = self.answer(&mut buffer)?;
                while let Some((kind, body, next)) = message(rest) {
                    match i32::from(kind) {
                        libc::NLMSG_DONE => more = false,
                        libc::NLMSG_ERROR => {
                            return Err(io::Error::other("the kernel does not list sockets"));
                        }
                        _ => found.extend(body.get(..ANSWER).and_then(Socket::from_answer)),
                    }
                    rest = next;
                }
            }
        }
        found.retain(|socket| cookies.contains(&socket.cookie));
        Ok(found)
    }

    /// The user who owns the end `local` of a connection, `None` when nobody has it open.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn owner(&mut self, local: SocketAddr, remote: SocketAddr) -> io::Result<Option<u32>> {
        let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let (local, remote) = (plain(local), plain(remote));
        let family = if local.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let socket = Socket { local: reported(local), remote: reported(remote), ..Socket::any(family) };
        self.ask(&socket, SOCK_DIAG_BY_FAMILY, 0)?;
        let mut buffer = [0u8; 4096];
        let answer = message(self.answer(&mut buffer)?);
        let Some((SOCK_DIAG_BY_FAMILY, body, _)) = answer else { return Ok(None) };
        // of a socket that was closed the kernel keeps a rest, which is nobody's
        let is_open = matches!(body.get(1), Some(&(TCP_ESTABLISHED | TCP_CLOSE_WAIT)));
        let user = body.get(UID..UID + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
        Ok(user.filter(|_| is_open))
    }

    fn ask(&mut self, socket: &Socket, request: u16, flags: i32) -> io::Result<()> {
        self.number = self.number.wrapping_add(1);
        let message = socket.message(request, flags, self.number);
        // SAFETY: the message is readable for its length.
        let sent = unsafe { libc::send(self.socket.as_raw_fd(), message.as_ptr().cast(), message.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn answer<'a>(&self, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        // SAFETY: the buffer is writable for its length.
        let got = unsafe { libc::recv(self.socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        usize::try_from(got)
            .map_err(|_| io::Error::last_os_error())
            .map(|got| buffer.get(..got).unwrap_or_default())
    }

    /// Destroys a socket.
    ///
    /// # Errors
    /// `NotFound` when it is gone, `PermissionDenied` without `CAP_NET_ADMIN`, `Unsupported` without `CONFIG_INET_DIAG_DESTROY`.
    pub fn destroy(&mut self, socket: &Socket) -> io::Result<()> {
        self.ask(socket, SOCK_DESTROY, libc::NLM_F_ACK)?;
        loop {
            let mut answer = [0u8; 4096];
            let answer = self.answer(&mut answer)?;
            let word = |at: usize| Some(i32::from_ne_bytes(answer.get(at..at + 4)?.try_into().ok()?));
            // nlmsghdr with the number of the request, then the error number of nlmsgerr
            match (word(8), word(HEADER)) {
                (Some(number), _) if number as u32 != self.number => {} // a late answer to an earlier request
                (_, Some(0)) => return Ok(()),
                (_, Some(error)) if -error == libc::EOPNOTSUPP => {
                    return Err(io::ErrorKind::Unsupported.into());
                }
                (_, error) => return Err(io::Error::from_raw_os_error(-error.unwrap_or(-libc::EPROTO))),
            }
        }
    }
}

/// The first netlink message of `bytes`: its kind, its body, what follows.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let size = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(HEADER..size)?;
    Some((kind, body, bytes.get(size.next_multiple_of(4)..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_socket_is_destroyed_at_both_ends() {
        // SAFETY: takes no arguments.
        if unsafe { libc::geteuid() } != 0 {
            eprintln!("skipped: needs root");
            return;
        }
        // the last is an IPv6 socket that talks IPv4
        for (listen, connect, family) in [
            ("127.0.0.1:0", "127.0.0.1", libc::AF_INET),
            ("[::1]:0", "::1", libc::AF_INET6),
            ("[::]:0", "127.0.0.1", libc::AF_INET6),
        ] {
            let listener = TcpListener::bind(listen).unwrap();
            let port = listener.local_addr().unwrap().port();
            let mut client = TcpStream::connect((connect, port)).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            let mut diag = Diag::open().unwrap();
            let target = Socket::of(&server, family).unwrap();
            let other = Socket { cookie: target.cookie + 1, ..target };
            assert!(diag.destroy(&other).is_err(), "another socket's cookie");
            assert_eq!(diag.find(&[target.cookie].into()).unwrap(), [target], "{listen}");
            diag.destroy(&target).unwrap();
            let mut byte = [0];
            let error = client.read(&mut byte).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{listen}");
            let error = server.read(&mut byte).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted, "{listen}");
            assert_eq!(diag.destroy(&target).unwrap_err().kind(), io::ErrorKind::NotFound);
        }
    }
}
