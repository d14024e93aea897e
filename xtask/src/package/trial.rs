//! Installs, removes and purges a package on a throw-away copy of this system.
//!
//! The copy is an overlay in a mount namespace of its own: what the package's scripts do stays there and is gone with
//! the process, and no service of this machine is touched.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::process;

/// Runs in the copy with the package as `$1`. Prints what is left at the end.
const SCRIPT: &str = r#"
set -eu
export DEBIAN_FRONTEND=noninteractive
trial=$(mktemp -d)
trap 'umount -l "$trial/root" "$trial" 2>/dev/null || true; rmdir "$trial" 2>/dev/null || true' EXIT
mount -t tmpfs none "$trial"
mkdir "$trial/upper" "$trial/work" "$trial/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$trial/upper,workdir=$trial/work" "$trial/root"
mount -t proc proc "$trial/root/proc"
mount --bind /dev "$trial/root/dev"
mount -t tmpfs none "$trial/root/run"
cp "$1" "$trial/root/weir.deb"
chroot "$trial/root" /bin/sh -euc '
    dpkg --install /weir.deb >/dev/null
    weir --version
    weir config check
    getent group weir >/dev/null
    test -f /etc/weir/weir.toml
    mkdir -p /var/lib/weir && echo state >/var/lib/weir/key
    dpkg --remove weir >/dev/null
    test -f /etc/weir/weir.toml && test -f /var/lib/weir/key && ! test -e /usr/bin/weir
    dpkg --purge weir >/dev/null
    ! getent group weir >/dev/null
'
rm "$trial/root/weir.deb"
# What was written to the copy; a character device marks what was deleted from the system below.
left=$(find "$trial/upper" -name "*weir*" ! -type c)
if [ -n "$left" ]; then
    echo "left behind: $left" >&2
    exit 1
fi
"#;

/// Requires that nothing stays behind and that configuration and state outlive a removal.
pub fn run(package: &Path) -> Result<()> {
    if !process::is_root() {
        bail!("the trial installation needs root");
    }
    let mut trial = Command::new("unshare");
    trial.args(["--mount", "--propagation", "private", "sh", "-c", SCRIPT, "trial"]).arg(package);
    // The script is too long to be part of an error.
    let status = trial.status()?;
    if !status.success() {
        bail!("the trial installation ended with {status}");
    }
    eprintln!("package: installed, removed and purged in a copy of this system; nothing stayed");
    Ok(())
}
