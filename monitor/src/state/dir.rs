//! The state directory itself: whose it is, that one daemon uses it, and what becomes of files in it that are damaged.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::{caps, names, replace};
use crate::config::OnBadState;

/// Name of the file that the daemon locks.
const LOCK: &str = "lock";
/// How long a daemon that is ending is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// Most bytes of a file.
const BYTES: u64 = 64 << 20;
/// Damaged files that are kept of each.
const ASIDE: u32 = 10;

/// Says whether the text of a file can be understood.
type Check = fn(&str) -> anyhow::Result<()>;

/// The state directory of a running daemon.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    /// Locked for as long as the daemon runs.
    _lock: File,
}

impl StateDir {
    /// Makes it (0750) when it is not there, and locks it.
    ///
    /// # Errors
    /// When others could write into it, or another daemon uses it.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let made = DirBuilder::new().recursive(true).mode(0o750).create(path);
        made.with_context(|| format!("state directory {shown}: correct its owner, or set `[state] dir`"))?;
        let found = fs::metadata(path).with_context(|| format!("state directory {shown}"))?;
        ensure!(
            is_trusted(found.uid()),
            "state directory {shown} belongs to user {}: chown root, or set `[state] dir`",
            found.uid()
        );
        let mode = found.mode() & 0o7777;
        ensure!(
            mode & 0o022 == 0,
            "state directory {shown} has mode {mode:03o} and others can write into it: chmod go-w, or set `[state] dir`"
        );
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path.join(LOCK))
            .with_context(|| format!("lock of the state directory {shown}"))?;
        let began = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { path: path.to_owned(), _lock: file }),
                Err(TryLockError::WouldBlock) if began.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(TryLockError::WouldBlock) => bail!(
                    "another weir uses the state directory {shown}: stop it first, or give each its own `[state] dir`"
                ),
                Err(TryLockError::Error(error)) => return Err(error).context("locking the state directory"),
            }
        }
    }

    /// Looks at what is kept. A file that is damaged is set aside, and its last good copy takes its place if there is one. Returns
    /// what was found, in words.
    ///
    /// # Errors
    /// What is damaged, when `policy` wants that, or when it cannot be set aside.
    pub fn repair(&self, policy: OnBadState) -> anyhow::Result<Vec<String>> {
        let mut damage = Vec::new();
        let files: [(&str, Check); 2] = [(names::FILE, names::check), (caps::FILE, caps::check)];
        for (name, check) in files {
            let path = self.path.join(name);
            let good = path.with_extension("good");
            let looked = |path: &Path| -> anyhow::Result<Option<String>> {
                let text = read(path)?;
                text.as_deref().map_or(Ok(()), check)?;
                Ok(text)
            };
            let error = match looked(&path) {
                Ok(None) => continue,
                Ok(Some(text)) => {
                    if looked(&good).ok().flatten().is_none_or(|known| known != text)
                        && let Err(error) = replace(&good, &text)
                    {
                        tracing::warn!("{}: {error:#}", good.display());
                    }
                    continue;
                }
                Err(error) => error.context(path.display().to_string()),
            };
            if policy == OnBadState::Stop {
                return Err(error.context("`[state] on_bad_state = \"stop\"`: correct it or remove it"));
            }
            let aside = set_aside(&path)?;
            let instead = match looked(&good).ok().flatten() {
                Some(text) => {
                    replace(&path, &text)?;
                    "its last good copy is in force"
                }
                None => "there is no good copy, nothing of it is in force",
            };
            let told = format!("state: {error:#}; it was set aside as {}, {instead}", aside.display());
            tracing::error!("{told}");
            damage.push(told);
        }
        Ok(damage)
    }
}

/// Whether files of this user are the daemon's: root's, or its own user's.
fn is_trusted(user: u32) -> bool {
    // SAFETY: takes no arguments.
    user == 0 || user == unsafe { libc::geteuid() }
}

/// The text of a file, `None` when there is none. A link is not followed, and nothing but a file of the daemon's is read.
pub fn read(path: &Path) -> anyhow::Result<Option<String>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => bail!("it is a link"),
        opened => opened?,
    };
    let found = file.metadata()?;
    ensure!(found.is_file(), "it is not a file");
    ensure!(is_trusted(found.uid()), "it belongs to user {}", found.uid());
    ensure!(found.len() <= BYTES, "it has more than {BYTES} bytes");
    let mut text = String::new();
    file.take(BYTES).read_to_string(&mut text)?;
    Ok(Some(text))
}

/// Takes a file out of the way. The latest few are kept.
fn set_aside(path: &Path) -> anyhow::Result<PathBuf> {
    let name = |number: u32| path.with_extension(format!("damaged-{number}"));
    let free = (1..ASIDE).map(name).find(|aside| fs::symlink_metadata(aside).is_err());
    let aside = free.unwrap_or_else(|| name(ASIDE));
    fs::rename(path, &aside).with_context(|| format!("{} cannot be set aside", path.display()))?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    const CAPS: &str = "[[cap]]\nname = \"kept\"\neach = \"client\"\nrate = \"5/s\"\n";

    fn state() -> (tempfile::TempDir, StateDir) {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("a/state")).unwrap();
        (dir, state)
    }

    #[test]
    fn it_is_one_daemons_and_nobody_elses() {
        let (dir, state) = state();
        let path = dir.path().join("a/state");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o750);
        let error = StateDir::open(&path).unwrap_err().to_string();
        assert!(error.contains("another weir"), "{error}");
        drop(state);
        drop(StateDir::open(&path).unwrap());
        for mode in [0o770, 0o757, 0o1777] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = StateDir::open(&path).unwrap_err().to_string();
            assert!(error.contains("chmod go-w"), "{error}");
        }
    }

    #[test]
    fn a_link_in_the_place_of_the_lock_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        let path = dir.path().join("state");
        fs::create_dir(&path).unwrap();
        symlink(&victim, path.join(LOCK)).unwrap();
        assert!(StateDir::open(&path).is_err());
        assert!(!victim.exists());
    }

    #[test]
    fn what_is_damaged_is_set_aside_and_the_last_good_copy_goes_on() {
        let (_dir, state) = state();
        let (caps, names) = (state.path.join(caps::FILE), state.path.join(names::FILE));
        assert!(state.repair(OnBadState::LastGood).unwrap().is_empty(), "nothing is kept yet");
        fs::write(&caps, CAPS).unwrap();
        fs::write(&names, "[names]\n\"bearer:1\" = \"acme\"\n").unwrap();
        assert!(state.repair(OnBadState::LastGood).unwrap().is_empty());
        for (number, damaged) in [
            "\0\0\0\0",
            "[[cap]]\nname = \"kept\"\neach = \"client\"\nrate = \"5/s\"\nunknown = 1\n",
            &format!("{CAPS}{CAPS}"),
            "[[cap]]\nname = \"kept\"\nrate = \"5/s\"\n",
        ]
        .iter()
        .enumerate()
        {
            fs::write(&caps, damaged).unwrap();
            let told = format!("{:#}", state.repair(OnBadState::Stop).unwrap_err());
            assert!(told.contains("caps.toml"), "{told}");
            assert_eq!(fs::read_to_string(&caps).unwrap(), *damaged, "left as it is");
            let damage = state.repair(OnBadState::LastGood).unwrap();
            assert!(damage.len() == 1 && damage[0].contains("last good copy is in force"), "{damage:?}");
            assert_eq!(fs::read_to_string(&caps).unwrap(), CAPS);
            let aside = state.path.join(format!("caps.damaged-{}", number + 1));
            assert_eq!(fs::read_to_string(aside).unwrap(), *damaged);
        }
        // a link to what somebody else would like to have written, and no good copy
        fs::remove_file(names.with_extension("good")).unwrap();
        fs::remove_file(&names).unwrap();
        symlink(&caps, &names).unwrap();
        let damage = state.repair(OnBadState::LastGood).unwrap();
        assert!(damage.len() == 1 && damage[0].contains("nothing of it is in force"), "{damage:?}");
        assert!(!names.exists());
        assert_eq!(fs::read_to_string(&caps).unwrap(), CAPS);
    }

    #[test]
    fn few_damaged_files_are_kept() {
        let (_dir, state) = state();
        let path = state.path.join(caps::FILE);
        for number in 0..20 {
            fs::write(&path, format!("damage {number}")).unwrap();
            assert_eq!(state.repair(OnBadState::LastGood).unwrap().len(), 1);
        }
        assert_eq!(fs::read_dir(&state.path).unwrap().count() as u32, 1 + ASIDE);
    }
}
