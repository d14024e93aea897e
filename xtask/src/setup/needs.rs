//! The table of programs and files that building and testing need.

use std::path::Path;
use std::process::Command;

use crate::process;

/// What the environment is for; each tier includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Tier {
    /// Compile Weir.
    Build,
    /// Run the tests on this kernel, and the benchmark.
    Servers,
    /// Run all tests, those in virtual machines too.
    Test,
}

/// One thing that has to be there.
pub struct Need {
    /// What a person calls it.
    pub name: &'static str,
    /// What it is for.
    pub why: &'static str,
    /// Package of Debian 12 that has it.
    pub package: &'static str,
    /// Purpose that needs it first.
    pub tier: Tier,
    /// Whether other distributions have something else in its place.
    pub debian_only: bool,
    check: Check,
}

enum Check {
    /// A program on the PATH.
    Program(&'static str),
    /// A file.
    File(&'static str),
    /// A compiler that can build `core` for the BPF target.
    EbpfCompiler,
}

impl Need {
    /// Whether it is there.
    pub fn is_met(&self) -> bool {
        match self.check {
            Check::Program(program) => process::find(program).is_some(),
            Check::File(file) => Path::new(file).exists(),
            Check::EbpfCompiler => debian_library_sources() || nightly_library_sources(),
        }
    }

    const fn new(
        tier: Tier,
        name: &'static str,
        check: Check,
        package: &'static str,
        why: &'static str,
    ) -> Self {
        Self { name, why, package, tier, debian_only: false, check }
    }

    const fn on_debian(self) -> Self {
        Self { debian_only: true, ..self }
    }
}

use Check::{EbpfCompiler, File, Program};
use Tier::{Build, Servers, Test};

/// Everything, in the order in which it is reported.
pub const ALL: &[Need] = &[
    Need::new(Build, "cc", Program("cc"), "gcc", "C compiler, links programs"),
    Need::new(Build, "C headers", File("/usr/include/stdio.h"), "libc6-dev", "C library headers"),
    Need::new(
        Build,
        "rust sources",
        EbpfCompiler,
        "rust-web-src",
        "rustc 1.95 or newer with library sources, or a rustup nightly with rust-src",
    ),
    Need::new(
        Build,
        "/usr/bin/rustc",
        File("/usr/bin/rustc"),
        "rustc-web",
        "compiles the kernel-side programs",
    )
    .on_debian(),
    Need::new(
        Build,
        "/usr/bin/cargo",
        File("/usr/bin/cargo"),
        "cargo-web",
        "builds the kernel-side programs",
    )
    .on_debian(),
    Need::new(
        Build,
        "LLVM 22",
        File("/usr/lib/llvm-22/bin/llvm-config"),
        "llvm-22-dev",
        "library of bpf-linker",
    )
    .on_debian(),
    Need::new(Servers, "nginx", Program("nginx"), "nginx-light", "server under test"),
    Need::new(Servers, "python3", File("/usr/bin/python3"), "python3", "server and client under test"),
    Need::new(
        Servers,
        "python3 venv",
        File("/usr/lib/python3.11/ensurepip/__init__.py"),
        "python3-venv",
        "environment of the Python servers under test",
    )
    .on_debian(),
    Need::new(Servers, "node", Program("node"), "nodejs", "server and client under test"),
    Need::new(Servers, "go", Program("go"), "golang-go", "server under test"),
    Need::new(Servers, "curl", Program("curl"), "curl", "client under test"),
    Need::new(Servers, "wrk", Program("wrk"), "wrk", "load generator"),
    Need::new(Servers, "nft", Program("nft"), "nftables", "drops packets in the tests"),
    Need::new(
        Servers,
        "ab",
        Program("ab"),
        "apache2-utils",
        "load generator with an exact number of requests",
    ),
    Need::new(Servers, "h2load", Program("h2load"), "nghttp2-client", "HTTP/2 load generator"),
    Need::new(Servers, "gnutls-cli", Program("gnutls-cli"), "gnutls-bin", "client under test"),
    Need::new(Servers, "openssl", Program("openssl"), "openssl", "certificates for the tests"),
    Need::new(
        Test,
        "OpenSSL headers",
        File("/usr/include/openssl/ssl.h"),
        "libssl-dev",
        "clients written in C",
    ),
    Need::new(Test, "qemu", Program("qemu-system-x86_64"), "qemu-system-x86", "virtual machines"),
    Need::new(Test, "xz", Program("xz"), "xz-utils", "unpacks kernel modules"),
];

/// Debian's own compiler, as the build script of `monitor` looks for it.
fn debian_library_sources() -> bool {
    let Ok(sources) = Path::new("/usr/src").read_dir() else { return false };
    sources.filter_map(Result::ok).any(|entry| {
        let name = entry.file_name();
        name.to_str().is_some_and(|name| name.starts_with("rustc-"))
            && entry.path().join("library/core").exists()
    })
}

fn nightly_library_sources() -> bool {
    let sysroot =
        process::output(Command::new("rustup").args(["run", "nightly", "rustc", "--print", "sysroot"]));
    sysroot.is_ok_and(|root| Path::new(root.trim()).join("lib/rustlib/src/rust/library/core").exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_named_once_and_build_comes_first() {
        assert!(ALL.is_sorted_by_key(|need| need.tier));
        let mut packages = ALL.iter().map(|need| need.package).collect::<Vec<_>>();
        packages.sort_unstable();
        packages.dedup();
        assert_eq!(packages.len(), ALL.len());
    }

    #[test]
    fn a_missing_program_is_noticed() {
        let need = Need::new(Build, "x", Program("no-such-program-anywhere"), "x", "x");
        assert!(!need.is_met());
    }
}
