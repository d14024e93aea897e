//! Addresses as the kernel side holds them, and the ends of connections.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use monitor_common::cap::{client_key, client_network};
use monitor_common::event::{Conn, transport};

/// `AF_UNIX` as the records carry it.
const AF_UNIX: u16 = 1;

/// An address as the kernel side has it: IPv4 mapped.
pub fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// An address as the kernel side holds it: two words in memory order.
pub fn words(address: IpAddr) -> [u64; 2] {
    let octets = mapped(address).octets();
    let (words, _) = octets.as_chunks::<8>();
    let word = |at: usize| words.get(at).map_or(0, |bytes| u64::from_ne_bytes(*bytes));
    [word(0), word(1)]
}

/// The other end of a connection, small and comparable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    address: [u8; 16],
    port: u16,
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Form {
    Unknown,
    Address,
    /// User and process are in the address bytes.
    Local,
}

impl Peer {
    /// Not known.
    pub const UNKNOWN: Self = Self { address: [0; 16], port: 0, form: Form::Unknown };

    /// The remote end of `conn`, port included.
    pub fn remote(conn: &Conn) -> Self {
        Self::of(conn, conn.remote, conn.remote_port)
    }

    /// The local end of `conn`.
    pub fn local(conn: &Conn) -> Self {
        if conn.family == AF_UNIX { Self::UNKNOWN } else { Self::of(conn, conn.local, conn.local_port) }
    }

    fn of(conn: &Conn, address: [u8; 16], port: u16) -> Self {
        if conn.transport == transport::UNIX || conn.family == AF_UNIX {
            Self { address, port: 0, form: Form::Local }
        } else if conn.peer_known != 0 {
            Self { address, port, form: Form::Address }
        } else {
            Self::UNKNOWN
        }
    }

    /// An address without port.
    pub fn from_ip(address: IpAddr) -> Self {
        Self { address: mapped(address).octets(), port: 0, form: Form::Address }
    }

    /// The same peer without its port.
    #[must_use]
    pub fn without_port(self) -> Self {
        Self { port: 0, ..self }
    }

    /// Its address, IPv4 as such.
    pub fn ip(&self) -> Option<IpAddr> {
        (self.form == Form::Address).then(|| Ipv6Addr::from(self.address).to_canonical())
    }

    /// User of a Unix-socket peer.
    pub fn uid(&self) -> Option<u32> {
        let [a, b, c, d, ..] = self.address;
        (self.form == Form::Local).then(|| u32::from_le_bytes([a, b, c, d]))
    }

    /// The kernel's key of this client, see [`monitor_common::cap::client_key`].
    pub fn client_key(&self) -> Option<u64> {
        let word = |at: usize| {
            let bytes = self.address.get(at..at + 8)?;
            Some(u64::from_ne_bytes(bytes.try_into().ok()?))
        };
        match self.form {
            Form::Address => Some(client_key([word(0)?, word(8)?])),
            Form::Local => Some(client_key([u64::from(self.uid()?), 0])),
            Form::Unknown => None,
        }
    }

    /// Address and port as the kernel side has them, zero when there are none.
    pub fn words(&self) -> ([u64; 2], u16) {
        match self.ip() {
            Some(ip) => (words(ip), self.port),
            None => ([0; 2], 0),
        }
    }

    /// The kernel's key of the network that this client stands for, see [`monitor_common::cap::client_network`].
    pub fn network_key(&self) -> Option<u64> {
        match self.ip() {
            Some(ip) => Some(client_key(client_network(words(ip)))),
            None => self.client_key(),
        }
    }

    /// Address with port when there is one, `uid=N pid=N` for Unix sockets, else `unknown`.
    pub fn text(&self) -> String {
        match (self.form, self.ip()) {
            (Form::Address, Some(address)) if self.port != 0 => {
                SocketAddr::new(address, self.port).to_string()
            }
            (Form::Address, Some(address)) => address.to_string(),
            (Form::Local, _) => {
                let [_, _, _, _, a, b, c, d, ..] = self.address;
                let (uid, pid) = (self.uid().unwrap_or_default(), u32::from_le_bytes([a, b, c, d]));
                format!("uid={uid} pid={pid}")
            }
            _ => "unknown".to_owned(),
        }
    }
}
