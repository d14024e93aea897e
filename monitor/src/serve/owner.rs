//! Whose a connection from this very host is: addresses on loopback are anybody's.

use std::net::SocketAddr;

use crate::enforce::Diag;

/// The user who owns the other end of a connection of `local` to `peer`, when that is on this host and still open.
pub fn of(local: SocketAddr, peer: SocketAddr) -> Option<u32> {
    let is_here = peer.ip().to_canonical().is_loopback() || peer.ip() == local.ip();
    is_here.then(|| Diag::open().ok()?.owner(peer, local).ok()?).flatten()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_other_end_of_a_local_connection_has_an_owner() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (server, peer) = listener.accept().unwrap();
            // SAFETY: takes no arguments.
            let own = unsafe { libc::geteuid() };
            assert_eq!(of(server.local_addr().unwrap(), peer), Some(own), "{address}");
            drop(client);
            drop(server);
            assert_eq!(of(listener.local_addr().unwrap(), peer), None, "{address}: gone");
        }
        let elsewhere: SocketAddr = "192.0.2.1:4711".parse().unwrap();
        assert_eq!(of("192.0.2.2:80".parse().unwrap(), elsewhere), None);
    }
}
