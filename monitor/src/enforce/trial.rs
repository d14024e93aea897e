//! Tries to destroy a socket: one of a connection that is made for it.

use std::io::{self, Read as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use super::{Diag, Socket};

/// Time for the other end to hear of it; over loopback it does before the call returns.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a socket could not be destroyed.
#[derive(Debug, thiserror::Error)]
pub enum NotDestroyed {
    /// There is nothing to try it on.
    #[error("not tried, no connection over loopback: {0}")]
    Untried(io::Error),
    /// See [`Diag::open`] and [`Diag::destroy`].
    #[error("{0}")]
    Refused(#[from] io::Error),
    /// The kernel said that it was done.
    #[error("a destroyed connection went on")]
    NoEffect,
}

/// Connects over loopback, destroys one end and sees that the other was reset.
///
/// # Errors
/// Why not.
pub fn try_destroy() -> Result<(), NotDestroyed> {
    let (mut near, far) = connection().map_err(NotDestroyed::Untried)?;
    Diag::open()?.destroy(&Socket::of(&far, libc::AF_INET)?)?;
    match near.read(&mut [0]) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
        _ => Err(NotDestroyed::NoEffect),
    }
}

/// Both ends of a connection over loopback.
fn connection() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    near.set_read_timeout(Some(PATIENCE))?;
    Ok((near, listener.accept()?.0))
}
