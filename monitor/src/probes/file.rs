//! Opens the very file that a process has mapped, and tells files apart.
//!
//! Owns: the identity of a file for probing, and safe opening of paths that other users control. Must not read
//! contents.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::maps::Mapping;

/// `f_type` of overlayfs (`OVERLAYFS_SUPER_MAGIC`, linux/magic.h).
const OVERLAYFS: i64 = 0x794c_7630;
/// `f_type` of FUSE (`FUSE_SUPER_MAGIC`, linux/magic.h).
const FUSE: i64 = 0x6573_5546;

/// What makes two files the same for a uprobe, which belongs to an inode.
///
/// On overlayfs every container has a device of its own in front of the same inode, and a probe goes to the inode
/// below. There the device is left out; inode, time of change and size then tell files apart, since overlayfs passes
/// them on from the file below. Attaching to both views would count every request twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct FileId {
    /// `st_dev`, 0 on overlayfs.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
    /// `st_ctime` in ns since 1970; tells a reused inode number from the file that had it before.
    pub changed_ns: i64,
    /// Size.
    pub bytes: u64,
}

impl FileId {
    /// The identity of an open file.
    pub fn of(file: &File) -> io::Result<Self> {
        let meta = file.metadata()?;
        let device = if file_system(file)? == OVERLAYFS { 0 } else { meta.dev() };
        let changed_ns = meta.ctime().saturating_mul(1_000_000_000).saturating_add(meta.ctime_nsec());
        Ok(Self { device, inode: meta.ino(), changed_ns, bytes: meta.len() })
    }
}

fn file_system(file: &File) -> io::Result<i64> {
    let mut found = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and `found` has room for one `statfs`, which is
    // all that the call writes.
    if unsafe { libc::fstatfs(file.as_raw_fd(), found.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so the kernel has filled the structure in.
    Ok(unsafe { found.assume_init() }.f_type)
}

/// Opens a regular file for reading, without side effects if the path leads to anything else: a device is not opened
/// and a pipe does not block, even if it is put there meanwhile. Whoever has a lease on the file is not waited for either: that is
/// `WouldBlock`, until the kernel takes the lease away. A link at the end of the path is not followed.
pub fn open_regular(path: &Path) -> io::Result<File> {
    open(path, libc::O_NOFOLLOW)
}

/// The same through one of the links of `/proc`, which lead to a file and not to a path.
fn open_link(path: &Path) -> io::Result<File> {
    open(path, 0)
}

fn open(path: &Path, follow: libc::c_int) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    let place = options.custom_flags(libc::O_PATH | libc::O_CLOEXEC | follow).open(path)?;
    if !place.metadata()?.is_file() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    let file = options.custom_flags(flags).open(descriptor_path(&place))?;
    // a program answers for the contents, and a probe's instruction would be read from it by the thread that attaches
    if file_system(&file)? == FUSE {
        return Err(io::Error::from(io::ErrorKind::Unsupported));
    }
    Ok(file)
}

/// A path that leads to the open file itself, whatever became of its name.
pub fn descriptor_path(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Opens the file behind a mapping of a process whose directory in `/proc` is `process`.
///
/// `map_files` leads to exactly that file: through any mount namespace, and after it was deleted or replaced. It needs
/// `CAP_CHECKPOINT_RESTORE` or `CAP_SYS_ADMIN`. Without them `exe` does the same for the program itself, and a library
/// is opened by its path below the process's root, which counts only if it still has the mapped inode number.
pub fn open_mapped(process: &Path, mapping: &Mapping<'_>, is_program: bool) -> io::Result<File> {
    let range = format!("map_files/{:x}-{:x}", mapping.addresses.start, mapping.addresses.end);
    let first = match open_link(&process.join(range)) {
        Ok(file) => return Ok(file),
        Err(error) => error,
    };
    if is_program && let Ok(file) = open_link(&process.join("exe")) {
        return Ok(file);
    }
    let path = std::str::from_utf8(mapping.path).map_err(|_| io::ErrorKind::InvalidInput)?;
    let file = open_regular(&process.join("root").join(path.trim_start_matches('/'))).map_err(|_| first)?;
    if file.metadata()?.ino() == mapping.inode {
        Ok(file)
    } else {
        Err(io::Error::from(io::ErrorKind::NotFound))
    }
}
