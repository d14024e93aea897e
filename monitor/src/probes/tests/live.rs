//! Discovery in real processes. Skipped, with the reason, where a program is missing.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::probes::discover::{FileId, Kind, Scanner};
use crate::probes::file::open_regular;
use crate::probes::plan_file;
use crate::probes::watch::Work;

const LIBSSL_3: &str = "/usr/lib/x86_64-linux-gnu/libssl.so.3";

/// A process that has said `ready` and waits for its standard input to close.
struct Ready(Child);

impl Ready {
    fn start(program: &str, script: &str) -> Option<Self> {
        let mut command = Command::new(program);
        command.args([if program.ends_with("node") { "-e" } else { "-c" }, script]);
        let mut child = match command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() {
            Ok(child) => child,
            Err(error) => {
                println!("skipped: {program}: {error}");
                return None;
            }
        };
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready = Self(child);
        if line.trim() == "ready" {
            Some(ready)
        } else {
            println!("skipped: {program} cannot run the script");
            None
        }
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process that maps `library` and then runs `script`, if the test can run here.
fn user_of(library: &Path, then: &str) -> Option<Ready> {
    if !library.exists() {
        println!("skipped: {} is not installed", library.display());
        return None;
    }
    let script = format!(
        "import ctypes, os, sys\nctypes.CDLL('{0}')\n{then}\nprint('ready', flush=True)\nsys.stdin.read()",
        library.display()
    );
    Ready::start("/usr/bin/python3", &script)
}

#[test]
fn a_mapped_library_is_found_once_with_its_users() {
    let library = fs::canonicalize(LIBSSL_3).unwrap_or_else(|_| LIBSSL_3.into());
    let (Some(first), Some(second)) = (user_of(&library, ""), user_of(&library, "")) else { return };
    let mut scanner = Scanner::new("/proc");
    let found = scanner.scan_pid(first.pid()).new;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].kind, found[0].path.as_path()), (Kind::OpenSsl3, library.as_path()));
    assert_eq!(found[0].pids, [first.pid()]);
    let again = fs::File::open(found[0].attach_path()).unwrap();
    assert_eq!(FileId::of(&again).unwrap(), found[0].id);
    assert_eq!(plan_file(&again).unwrap(), found[0].plan);

    assert!(scanner.scan_pid(second.pid()).new.is_empty());
    assert!(scanner.adopt(&[library]).new.is_empty());
    let mut both = [first.pid(), second.pid()];
    both.sort_unstable();
    assert_eq!(scanner.users(found[0].id), both);
    assert_eq!(scanner.uses(second.pid()), [found[0].id]);
    scanner.exited(first.pid());
    assert_eq!(scanner.users(found[0].id), [second.pid()]);
}

#[test]
fn a_deleted_copy_is_still_found_and_given_up_when_its_last_user_ends() {
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("libssl-bundled.so.3");
    if fs::copy(LIBSSL_3, &copy).is_err() {
        println!("skipped: {LIBSSL_3} is not installed");
        return;
    }
    let Some(user) = user_of(&copy, &format!("os.unlink('{}')", copy.display())) else { return };
    let mut scanner = Scanner::new("/proc");
    let scan = scanner.scan_pid(user.pid());
    let Some(target) = scan.new.iter().find(|target| target.path == copy) else {
        assert!(scan.refused > 0, "{scan:?}");
        println!("skipped: deleted files need more rights than this test has");
        return;
    };
    assert!(plan_file(&fs::File::open(target.attach_path()).unwrap()).is_ok());
    assert!(!scanner.sweep(true).gone.contains(&target.id), "in use");
    drop(user);
    let gone: Vec<FileId> = (0..3).flat_map(|_| scanner.sweep(true).gone).collect();
    assert_eq!(gone.iter().filter(|id| **id == target.id).count(), 1);
}

#[test]
fn a_library_that_is_loaded_late_is_found_by_a_cheap_sweep() {
    let library = Path::new(LIBSSL_3);
    if !library.exists() {
        println!("skipped: {LIBSSL_3} is not installed");
        return;
    }
    let script = format!(
        "import ctypes, sys\nprint('ready', flush=True)\nsys.stdin.readline()\nctypes.CDLL('{LIBSSL_3}')\n\
         print('loaded', file=sys.stderr, flush=True)\nsys.stdin.read()"
    );
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        println!("skipped: no python3");
        return;
    };
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let mut scanner = Scanner::new("/proc");
    let early = scanner.scan_pid(child.id()).new;
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"\n").unwrap();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    let late = scanner.sweep(false);
    let child = Ready(child);
    assert!(early.is_empty(), "{early:?}");
    assert_eq!(line, "ready\nloaded\n");
    assert!(!scanner.uses(child.pid()).is_empty());
    assert!(late.new.iter().any(|target| target.pids.contains(&child.pid())));
}

#[test]
fn node_is_found_as_a_program_that_contains_openssl() {
    let Some(node) = Ready::start("/usr/bin/node", "console.log('ready'); process.stdin.resume()") else {
        return;
    };
    let scan = Scanner::new("/proc").scan_pid(node.pid());
    if scan.new.is_empty() {
        println!("skipped: this build of node exports no OpenSSL");
        return;
    }
    assert!(matches!(scan.new[0].kind, Kind::Executable | Kind::Library), "{:?}", scan.new[0]);
}

/// A directory that looks like `/proc` with one process, whose library lies below its root.
fn process_directory(inode_offset: u64) -> Option<(tempfile::TempDir, Scanner)> {
    let proc_root = tempfile::tempdir().unwrap();
    let process = proc_root.path().join("77");
    let library = process.join("root/opt/libssl.so.3");
    fs::create_dir_all(library.parent().unwrap()).unwrap();
    if fs::copy(LIBSSL_3, &library).is_err() {
        println!("skipped: {LIBSSL_3} is not installed");
        return None;
    }
    let inode = std::os::unix::fs::MetadataExt::ino(&fs::metadata(&library).unwrap()) + inode_offset;
    let maps = format!("7f0000000000-7f0000001000 r-xp 00000000 00:99 {inode}   /opt/libssl.so.3\n");
    fs::write(process.join("maps"), maps).unwrap();
    fs::write(process.join("stat"), "77 (x) S 1 1 1 0 -1 0 1 2 3 4 5 6 7 8 20 0 1 0 42 8192 1").unwrap();
    let scanner = Scanner::new(proc_root.path());
    Some((proc_root, scanner))
}

#[test]
fn without_map_files_the_path_below_the_root_counts_if_the_inode_agrees() {
    let Some((_directory, mut scanner)) = process_directory(0) else { return };
    let found = scanner.sweep(false).new;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].path, PathBuf::from("/opt/libssl.so.3"));
    assert_eq!(found[0].pids, [77]);
    scanner.forget(found[0].id);
    assert_eq!(scanner.sweep(true).new.len(), 1);

    let Some((_directory, mut scanner)) = process_directory(1) else { return };
    assert!(scanner.sweep(true).new.is_empty(), "another file is at the path");
}

#[test]
fn a_process_of_the_same_size_is_passed_over_until_the_next_full_sweep() {
    let Some((directory, mut scanner)) = process_directory(0) else { return };
    let maps = directory.path().join("77/maps");
    let text = fs::read(&maps).unwrap();
    fs::write(&maps, "").unwrap();
    assert!(scanner.sweep(true).new.is_empty());
    fs::write(&maps, text).unwrap();
    assert!(scanner.sweep(false).new.is_empty());
    assert_eq!(scanner.sweep(true).new.len(), 1);
}

#[test]
fn one_process_can_bring_in_a_few_files_only() {
    let Some((directory, mut scanner)) = process_directory(0) else { return };
    let process = directory.path().join("77");
    let mut maps = String::new();
    for number in 0..100 {
        let name = format!("opt/libssl-{number}.so.3");
        fs::copy(LIBSSL_3, process.join("root").join(&name)).unwrap();
        let inode =
            std::os::unix::fs::MetadataExt::ino(&fs::metadata(process.join("root").join(&name)).unwrap());
        writeln!(maps, "7f0000000000-7f0000001000 r-xp 00000000 00:99 {inode}   /{name}").unwrap();
    }
    fs::write(process.join("maps"), maps).unwrap();
    assert_eq!(scanner.perform(Work::Sweep { full: false }).new.len(), 8);
    assert_eq!(scanner.uses(77).len(), 8);
    assert_eq!(scanner.perform(Work::Process(77)).new.len(), 0);
}

#[test]
fn a_full_sweep_brings_the_standard_libraries_and_their_users() {
    let library = fs::canonicalize(LIBSSL_3).unwrap_or_else(|_| LIBSSL_3.into());
    let Some(user) = user_of(&library, "") else { return };
    let mut scanner = Scanner::new("/proc");
    let scan = scanner.perform(Work::Sweep { full: true });
    let target = scan.new.iter().find(|target| target.path == library).unwrap();
    // A busy machine may have more users than a target names.
    assert!(target.pids.contains(&user.pid()) || target.pids.len() == 64);
    assert!(serde_json::to_string(target).unwrap().contains("ssl_read_internal"));
    assert!(scanner.perform(Work::Sweep { full: true }).new.iter().all(|target| target.path != library));
}

#[test]
fn a_pipe_or_a_device_is_not_opened() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("libssl.so.3");
    let made = Command::new("mkfifo").arg(&pipe).status();
    if !made.is_ok_and(|status| status.success()) {
        println!("skipped: no mkfifo");
        return;
    }
    assert!(open_regular(&pipe).is_err());
    assert!(open_regular(Path::new("/dev/null")).is_err());
    assert!(Scanner::new("/proc").adopt(&[pipe, "/dev/zero".into(), "/nonexistent".into()]).new.is_empty());
}

#[test]
fn two_containers_of_one_image_show_one_file() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for name in ["lower", "upper1", "work1", "view1", "upper2", "work2", "view2", "space"] {
        fs::create_dir(at(name)).unwrap();
    }
    // An overlay cannot have another overlay as its upper layer, and the temporary directory may be one.
    let run = |args: &[&str]| Command::new("mount").args(args).output().is_ok_and(|o| o.status.success());
    let space = at("space");
    let space = space.to_str().unwrap();
    if !run(&["-t", "tmpfs", "none", space]) {
        println!("skipped: mounting needs root");
        return;
    }
    let _unmount_space = Unmount(at("space"));
    for name in ["lower", "upper1", "work1", "upper2", "work2"] {
        fs::create_dir(at("space").join(name)).unwrap();
    }
    fs::write(at("space/lower/libssl.so.3"), b"the same").unwrap();
    let mut mounted = Vec::new();
    for number in ["1", "2"] {
        let options =
            format!("lowerdir={space}/lower,upperdir={space}/upper{number},workdir={space}/work{number}");
        let view = at(&format!("view{number}"));
        if !run(&["-t", "overlay", "overlay", "-o", &options, view.to_str().unwrap()]) {
            println!("skipped: no overlayfs");
            return;
        }
        mounted.push(Unmount(view));
    }
    let id = |view: &Unmount| FileId::of(&open_regular(&view.0.join("libssl.so.3")).unwrap()).unwrap();
    assert_eq!(id(&mounted[0]), id(&mounted[1]));
    fs::write(mounted[0].0.join("libssl.so.3"), b"upgraded").unwrap();
    assert_ne!(id(&mounted[0]), id(&mounted[1]));
}

struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}
