//! Builds the kernel-side programs for the BPF target and hands their path to the crate.
//!
//! Needs a compiler that can build `core` for `bpfel-unknown-none`, and `bpf-linker` on the PATH; `cargo xtask setup`
//! installs both. `WEIR_BPF_CARGO` and `WEIR_BPF_RUSTC` choose other ones.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Flags the BPF target needs: BTF for maps and functions, 32-bit registers, atomics that fetch (v3), unaligned loads.
const RUSTFLAGS: &[&str] = &[
    "--cfg=bpf_target_arch=\"x86_64\"",
    "-Cdebuginfo=2",
    "-Clink-arg=--btf",
    "-Clinker=bpf-linker",
    "-Ctarget-cpu=v3",
    "-Ctarget-feature=+alu32,+allows-misaligned-mem-access",
];

fn main() {
    let root = PathBuf::from(var("CARGO_MANIFEST_DIR")).join("..");
    let out = PathBuf::from(var("OUT_DIR"));
    for watched in ["monitor-ebpf/src", "monitor-ebpf/Cargo.toml", "monitor-common/src"] {
        println!("cargo::rerun-if-changed={}", root.join(watched).display());
    }
    println!("cargo::rerun-if-env-changed=WEIR_BPF_CARGO");
    println!("cargo::rerun-if-env-changed=WEIR_BPF_RUSTC");
    let object = out.join("weir-ebpf.o");
    match build(&root, &out) {
        Ok(built) => {
            fs::copy(&built, &object).expect("copying the BPF object");
        }
        Err(why) => {
            eprintln!("cannot build the kernel-side programs: {why}\nrun `cargo xtask setup` first");
            std::process::exit(1);
        }
    }
    println!("cargo::rustc-env=WEIR_EBPF_OBJECT={}", object.display());
}

fn build(root: &Path, out: &Path) -> Result<PathBuf, String> {
    // Debian's own compiler ships the library sources; elsewhere a rustup nightly with `rust-src` serves.
    let debian = Path::new("/usr/src").read_dir().is_ok_and(|mut dir| {
        dir.any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("rustc-")))
    }) && Path::new("/usr/bin/cargo").exists();
    let (cargo, rustc) = if debian { ("/usr/bin/cargo", Some("/usr/bin/rustc")) } else { ("cargo", None) };
    let cargo = env::var("WEIR_BPF_CARGO").unwrap_or_else(|_| cargo.into());
    let rustc = env::var("WEIR_BPF_RUSTC").ok().or(rustc.map(Into::into));
    // One folder for every profile and check of this workspace: cargo builds `core` for the target only once.
    let target = out.ancestors().nth(4).unwrap_or(out).join("bpf");
    let mut command = Command::new(&cargo);
    if !debian && env::var_os("WEIR_BPF_CARGO").is_none() {
        command.arg("+nightly");
    }
    command
        .current_dir(root)
        .args(["build", "--package", "monitor-ebpf", "--profile", "bpf", "--locked", "-Z", "build-std=core"])
        .args(["--target", "bpfel-unknown-none", "--target-dir"])
        .arg(&target);
    // The outer cargo's settings are for the host compiler.
    for (name, _) in env::vars() {
        let outer = name.starts_with("CARGO") && !matches!(&*name, "CARGO_HOME");
        if outer
            || name.starts_with("RUSTC")
            || matches!(&*name, "RUSTFLAGS" | "RUSTUP_TOOLCHAIN" | "TARGET" | "HOST")
        {
            command.env_remove(&name);
        }
    }
    command.env("RUSTC_BOOTSTRAP", "1").env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS.join("\u{1f}"));
    if let Some(rustc) = rustc {
        command.env("RUSTC", rustc);
    }
    if let Some(path) = path_with_cargo_bin() {
        command.env("PATH", path);
    }
    let status = command.status().map_err(|error| format!("{cargo}: {error}"))?;
    if !status.success() {
        return Err(format!("{cargo} ended with {status}"));
    }
    Ok(target.join("bpfel-unknown-none/bpf/weir-ebpf"))
}

/// The PATH with the folder where `cargo install` puts programs, which Debian's cargo does not put there.
fn path_with_cargo_bin() -> Option<OsString> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))?;
    let path = env::var_os("PATH").unwrap_or_default();
    env::join_paths(env::split_paths(&path).chain([home.join("bin")])).ok()
}

fn var(name: &str) -> String {
    env::var(name).expect("cargo sets it for build scripts")
}
