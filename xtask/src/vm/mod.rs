//! `vm`: the integration tests, or any command, on the oldest and the newest supported kernel.
//!
//! Owns what is inside the machines. They have no disk and no network but loopback; programs come from this host.

mod cpio;
pub mod guest;
mod qemu;
mod rootfs;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::setup::kernels::{self, Kernel};
use crate::{cargo, process, workspace};
use qemu::Machine;
use rootfs::Rootfs;

/// Arguments of `vm`.
#[derive(clap::Args)]
pub struct Args {
    /// Kernel: 6.1, 6.12 or all.
    #[arg(long, default_value = "all")]
    kernel: String,
    /// Program or folder of this host to have inside, under its own path.
    #[arg(long)]
    add: Vec<PathBuf>,
    /// Seconds until a machine that does not end is stopped.
    #[arg(long, default_value_t = LIMIT_SECONDS)]
    limit: u64,
    /// Command to run instead of the integration tests.
    #[arg(last = true)]
    command: Vec<OsString>,
}

const LIMIT_SECONDS: u64 = 1800;
/// Folders that programs expect, beside those of the files.
const FOLDERS: &[&str] =
    &["/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp", "/var/log/nginx", "/var/lib/nginx"];
/// Tests that run inside a machine: the same as outside, with fewer requests.
const TESTS: &[&str] = &[
    "budget::programs_stay_within_the_verifiers_budget",
    "nginx::plaintext_five_runs",
    "nginx::tls_five_runs",
    "framing::every_case",
    "caps::nobody_gets_around_a_cap",
    "caps::a_tls_server_is_fenced",
    "caps::outbound_requests_do_not_leave",
    "caps::answers::denied_callers_are_answered",
    "caps::answers::open_connections_are_answered",
    "caps::fences::a_listener_is_never_fenced",
];
/// Environment of the tests inside; software emulation is ten to twenty times slower than the host.
const ENVIRONMENT: &str = "PATH=/usr/bin:/usr/sbin\nHOME=/root\nTMPDIR=/tmp\nLANG=C.UTF-8\nCI=true\nRUST_BACKTRACE=0\n\
                           WEIR_TEST_REQUESTS=2000\nWEIR_TEST_PATIENCE=30\n";
/// Programs of the host that the tests use, where they are there.
const PROGRAMS: &[&str] = &[
    "sh", "cat", "ls", "sleep", "nginx", "wrk", "ab", "curl", "openssl", "setpriv", "python3", "env",
    "dmesg", "mkdir", "date",
];
/// Modules that Debian does not build in: needed to destroy sockets and to list connections.
const MODULES: &[&str] = &["net/ipv4/inet_diag", "net/ipv4/tcp_diag", "net/unix/unix_diag"];

/// The task itself.
pub fn run(args: &Args) -> Result<()> {
    crate::setup::ensure(crate::setup::Tier::Test)?;
    let kernels = kernels::ALL.iter().filter(|kernel| args.kernel == "all" || args.kernel == kernel.name);
    let kernels = kernels.collect::<Vec<_>>();
    if kernels.is_empty() {
        let known = kernels::ALL.iter().map(|kernel| kernel.name).collect::<Vec<_>>();
        bail!("no kernel {}; there are: {}, all", args.kernel, known.join(", "));
    }
    cargo::build()?;
    let mut rootfs = system()?;
    for path in &args.add {
        let path = fs::canonicalize(path).with_context(|| format!("{} is not there", path.display()))?;
        if path.is_dir() { rootfs.tree(&path, &|_| true)? } else { rootfs.program(&path)? }
    }
    let command = if args.command.is_empty() { tests(&mut rootfs)? } else { lines(&args.command)? };
    rootfs.bytes(guest::COMMAND, command);
    for kernel in kernels {
        boot(kernel, &mut rootfs, Duration::from_secs(args.limit), &mut |_| {})?;
    }
    Ok(())
}

/// Runs the integration tests on `kernel`; `line` is given every line that they print.
pub fn test(kernel: &Kernel, line: &mut dyn FnMut(&str)) -> Result<()> {
    let mut rootfs = system()?;
    let command = tests(&mut rootfs)?;
    rootfs.bytes(guest::COMMAND, command);
    boot(kernel, &mut rootfs, Duration::from_secs(LIMIT_SECONDS), line)
}

fn boot(kernel: &Kernel, rootfs: &mut Rootfs, limit: Duration, line: &mut dyn FnMut(&str)) -> Result<()> {
    for (order, module) in MODULES.iter().enumerate() {
        let name = Path::new(module).file_name().unwrap_or_default().to_string_lossy();
        rootfs.bytes(format!("{}/{order}-{name}.ko", guest::MODULES), unpacked(kernel, module)?);
    }
    let initramfs = workspace::vm().join(format!("initramfs-{}", kernel.name));
    rootfs.write(&initramfs, FOLDERS)?;
    let start = Instant::now();
    eprintln!("vm: kernel {}", kernel.name);
    let machine = Machine {
        name: kernel.name,
        kernel: &kernel.image(),
        initramfs: &initramfs,
        console: workspace::vm().join(format!("console-{}.log", kernel.name)),
        limit,
    };
    let result = machine.run(line);
    let _ = fs::remove_file(&initramfs);
    result.with_context(|| format!("virtual machine with kernel {}", kernel.name))?;
    eprintln!("vm: kernel {} passed in {:.0} s", kernel.name, start.elapsed().as_secs_f64());
    Ok(())
}

/// What every machine has: this program as its first process, the daemon, servers and clients.
fn system() -> Result<Rootfs> {
    let mut rootfs = Rootfs::new();
    let init = std::env::current_exe()?;
    rootfs.file_as(&init, "/init".into())?;
    rootfs.libraries(&init)?;
    rootfs.program(&workspace::weir())?;
    rootfs.file_as(&workspace::weir(), "/usr/bin/weir".into())?;
    for program in PROGRAMS {
        // The distribution's own first: wrappers of version managers need more than they show.
        let own = ["/usr/bin", "/usr/sbin"].map(|dir| Path::new(dir).join(program));
        let found = own.into_iter().find(|path| path.is_file()).or_else(|| process::find(program));
        rootfs.program(&found.with_context(|| format!("{program} is missing"))?)?;
    }
    python(&mut rootfs)?;
    for file in
        ["/etc/ssl/openssl.cnf", "/usr/lib/ssl/openssl.cnf", "/etc/nginx/mime.types", "/etc/ld.so.cache"]
    {
        if Path::new(file).exists() {
            rootfs.file(Path::new(file))?;
        }
    }
    rootfs.bytes(
        "/etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n",
    );
    rootfs.bytes("/etc/group", "root:x:0:\nwww-data:x:33:\nnogroup:x:65534:\nweir:x:900:\n");
    rootfs.bytes("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n");
    rootfs.bytes("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n");
    rootfs.bytes("/root/.keep", "");
    rootfs.bytes(guest::ENVIRONMENT, ENVIRONMENT);
    Ok(rootfs)
}

/// Python's standard library without what no server or client imports.
fn python(rootfs: &mut Rootfs) -> Result<()> {
    let library = process::output(
        Command::new("/usr/bin/python3").args(["-c", "import os; print(os.path.dirname(os.__file__))"]),
    )?;
    let unwanted =
        ["test", "idlelib", "tkinter", "lib2to3", "ensurepip", "turtledemo", "unittest", "dist-packages"];
    rootfs.tree(Path::new(library.trim()), &|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        !unwanted.contains(&name.as_ref()) && !name.starts_with("config-") && !name.contains("opt-")
    })
}

/// Adds the integration tests; returns the command that runs them.
fn tests(rootfs: &mut Rootfs) -> Result<String> {
    let program = cargo::integration_tests()?;
    rootfs.program(&program)?;
    // The tests find their scripts relative to the package.
    let root = workspace::root();
    rootfs.file(&root.join("monitor/Cargo.toml"))?;
    rootfs.tree(&root.join("tests/scripts"), &|_| true)?;
    let mut words = vec![program.into_os_string(), "--test-threads=1".into()];
    words.extend(TESTS.iter().map(OsString::from));
    lines(&words)
}

fn lines(words: &[OsString]) -> Result<String> {
    let words = words.iter().map(|word| word.to_str().filter(|word| !word.contains('\n')));
    let words = words.collect::<Option<Vec<_>>>().context("the command is not plain text")?;
    Ok(words.join("\n") + "\n")
}

/// A module as the kernel takes it.
fn unpacked(kernel: &Kernel, module: &str) -> Result<Vec<u8>> {
    let path = kernel.dir().join("modules/kernel").join(module);
    let plain = path.with_extension("ko");
    if plain.exists() {
        return Ok(fs::read(plain)?);
    }
    let packed = path.with_extension("ko.xz");
    let output = Command::new("xz").args(["--decompress", "--stdout"]).arg(&packed).output()?;
    if !output.status.success() {
        bail!("cannot unpack {}", packed.display());
    }
    Ok(output.stdout)
}
