//! The socket file: created with its final mode and owner in one step, never taken from a daemon that lives.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream as Connector;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tokio::net::UnixListener;

/// Another daemon listens on the socket.
#[derive(Debug, thiserror::Error)]
#[error("weir is already running{}; it answers on {}: stop it first or choose another `[control] socket`",
        .pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default(), .path.display())]
pub struct InUse {
    /// The socket.
    pub path: PathBuf,
    /// Process that listens, when the kernel tells.
    pub pid: Option<i32>,
}

/// A listening control socket.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    file: SocketFile,
}

/// Removes the file at the end, if it is still ours.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode);
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl ControlSocket {
    /// Fails when a live daemon answers on `path`. Touches nothing.
    ///
    /// # Errors
    /// [`InUse`], or `path` is something other than a socket.
    pub fn check(path: &Path) -> anyhow::Result<()> {
        match Connector::connect(path) {
            Ok(stream) => Err(InUse { path: path.to_owned(), pid: peer_pid(&stream) }.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                use std::os::unix::fs::FileTypeExt;
                let kind = fs::symlink_metadata(path).map(|found| found.file_type());
                let socket = kind.is_ok_and(|kind| kind.is_socket());
                anyhow::ensure!(socket, "{} exists and is not a socket: choose another path", path.display());
                Ok(())
            }
            Err(error) => Err(error).with_context(|| format!("control socket {}", path.display())),
        }
    }

    /// Binds `path` with mode 0660 and the group `group` if there is one, replacing a socket that nobody listens on.
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`InUse`], or what the file system says.
    pub fn bind(path: &Path, group: &str) -> anyhow::Result<Self> {
        Self::check(path)?;
        let dir = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(dir)
            .with_context(|| format!("directory of the control socket {}", path.display()))?;
        // bound under a name of its own, so that nobody can connect before mode and owner are right
        let fresh = path.with_extension(format!("{}.new", std::process::id()));
        let _ = fs::remove_file(&fresh);
        let guard = |result: anyhow::Result<Self>| {
            if result.is_err() {
                let _ = fs::remove_file(&fresh);
            }
            result
        };
        guard(
            Self::prepare(&fresh, path, group).with_context(|| format!("control socket {}", path.display())),
        )
    }

    fn prepare(fresh: &Path, path: &Path, group: &str) -> anyhow::Result<Self> {
        let listener = UnixListener::bind(fresh)?;
        if let Some(gid) = group_id(group) {
            chown(fresh, None, Some(gid)).context("giving the socket to its group")?;
        } else {
            tracing::debug!(group, "no such group; only root can use the control socket");
        }
        fs::set_permissions(fresh, fs::Permissions::from_mode(0o660))?;
        let inode = fs::symlink_metadata(fresh)?.ino();
        fs::rename(fresh, path)?;
        Ok(Self { listener, file: SocketFile { path: path.to_owned(), inode } })
    }

    /// The listener, and the file that goes when its guard is dropped.
    pub fn into_parts(self) -> (UnixListener, SocketFile) {
        (self.listener, self.file)
    }
}

/// Process at the other end. (The standard library's own way is not stable yet.)
fn peer_pid(stream: &Connector) -> Option<i32> {
    let mut found = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the descriptor is open for as long as `stream` lives, `found` is a `ucred` of `len` bytes, and the kernel
    // writes at most `len` bytes of integers into it.
    let done = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut found).cast(),
            &raw mut len,
        )
    };
    (done == 0 && found.pid > 0).then_some(found.pid)
}

/// Number of a group in `/etc/group`.
pub fn group_id(name: &str) -> Option<u32> {
    let groups = fs::read_to_string("/etc/group").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}
