//! Where things are in the source tree.

use std::env;
use std::path::{Path, PathBuf};

/// Root of the workspace.
pub fn root() -> PathBuf {
    // Set by `cargo run`; the compiled-in path serves when the binary is started directly.
    let manifest =
        env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    manifest.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Cargo's target folder.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// The daemon as it is released.
pub fn weir() -> PathBuf {
    target().join("release/weir")
}

/// Kernels, root file systems and logs of the virtual machines.
pub fn vm() -> PathBuf {
    target().join("vm")
}
