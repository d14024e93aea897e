//! Plans of the real files of this machine. Skipped, with the reason, where one is missing.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use proptest::prelude::*;

use crate::probes::{Abi, OutReg, Placement, Plan, Role, plan, plan_file, standard};

const LIBSSL_3: &str = "/usr/lib/x86_64-linux-gnu/libssl.so.3";

/// The file, or a printed reason for skipping.
fn present(path: &str) -> Option<PathBuf> {
    let path = PathBuf::from(path);
    if !path.exists() {
        println!("skipped: {} is not installed", path.display());
    }
    path.exists().then_some(path)
}

fn plan_of(path: &Path) -> Plan {
    plan_file(&File::open(path).unwrap()).unwrap()
}

/// Lines of the disassembly of `bytes` bytes at `address`.
fn disassembly(path: &Path, address: u64, bytes: u64) -> Option<String> {
    let run = Command::new("objdump")
        .args(["-d", "--no-show-raw-insn", &format!("--start-address={address}")])
        .arg(format!("--stop-address={}", address + bytes))
        .arg(path)
        .output();
    match run {
        Ok(output) => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(error) => {
            println!("skipped: objdump: {error}");
            None
        }
    }
}

#[test]
fn the_shared_openssl_3_is_probed_one_call_deeper() {
    let Some(path) = present(LIBSSL_3) else { return };
    let plan = plan_of(&path);
    println!("{plan}");
    for role in [Role::Read, Role::Write] {
        let sites: Vec<_> = plan.with_role(role).collect();
        assert_eq!(sites.len(), 1, "{plan}");
        assert_eq!((sites[0].abi, sites[0].point.placement), (Abi::Internal, Placement::Emulated));
        assert!(sites[0].out.is_some());
        assert!(sites[0].return_alternative.len() >= 2, "{plan}");
    }
    for role in [Role::Free, Role::SetFd, Role::SetReadFd, Role::SetWriteFd, Role::SetBio] {
        assert_eq!(plan.with_role(role).count(), 1);
    }
    assert_eq!(plan.build_id.as_ref().map(String::len), Some(40));
}

#[test]
fn a_disassembler_agrees_about_each_site() {
    let Some(path) = present(LIBSSL_3) else { return };
    let plan = plan_of(&path);
    for site in &plan.sites {
        let after = site.return_alternative.iter().map(|after| &after.point);
        for point in std::iter::once(&site.point).chain(after) {
            let Some(text) = disassembly(&path, point.address, 16) else { return };
            let line =
                text.lines().find(|line| line.trim_start().starts_with(&format!("{:x}:", point.address)));
            let shown = line.unwrap().split_whitespace().nth(1).unwrap();
            let named = point.insn.split(' ').next().unwrap();
            // The two name a few instructions differently: movabs, cmovs, je.
            assert_eq!(&shown[..2], &named[..2], "{point} {text}");
        }
        if site.abi == Abi::Internal {
            for after in &site.return_alternative {
                let Some(text) = disassembly(&path, after.point.address - 16, 24) else { return };
                assert!(text.contains("call"), "{after:?} {text}");
            }
        }
    }
}

#[test]
fn node_exports_functions_whose_hidden_ones_are_inlined() {
    let Some(path) = present("/usr/bin/node") else { return };
    let Ok(plan) = plan_file(&File::open(&path).unwrap()) else {
        println!("skipped: this build of node exports no OpenSSL");
        return;
    };
    println!("{plan}");
    assert!(plan.with_role(Role::Read).count() >= 1 && plan.with_role(Role::Write).count() >= 1);
    for site in plan.sites.iter().filter(|site| site.role.has_return()) {
        assert_eq!(site.out.is_some(), site.abi != Abi::Plain);
        assert_ne!(site.point.offset, 0);
    }
}

/// Libraries bundled by Python wheels, among them OpenSSL 1.1: directories in `WEIR_TEST_LIBSSL`, colon-separated.
#[test]
fn bundled_libraries_are_planned_for_their_version() {
    let Some(directories) = std::env::var_os("WEIR_TEST_LIBSSL") else {
        println!("skipped: WEIR_TEST_LIBSSL names no directories with other builds of libssl");
        return;
    };
    for directory in std::env::split_paths(&directories) {
        for path in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if !name.starts_with("libssl") || !standard::is_library_name(name.as_bytes()) {
                continue;
            }
            let plan = plan_of(&path);
            println!("{}\n{plan}", path.display());
            let has_ex2 = plan.sites.iter().any(|site| site.covers.contains(&"SSL_write_ex2"));
            for (role, out) in
                [(Role::Read, OutReg::Rcx), (Role::Write, if has_ex2 { OutReg::R8 } else { OutReg::Rcx })]
            {
                let sites: Vec<_> = plan.with_role(role).collect();
                assert_eq!((sites.len(), sites[0].abi, sites[0].out), (1, Abi::Internal, Some(out)));
            }
        }
    }
}

/// Places in a file where damage matters: headers, section table, symbols, code of the API.
fn tender(bytes: &[u8]) -> Vec<usize> {
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    let sections = number(0x28);
    let mut places: BTreeSet<usize> = (0..0x400).collect();
    places.extend(sections..bytes.len().min(sections + 64 * 32));
    places.extend(0x1000..0x7000);
    for site in &plan(bytes).unwrap().sites {
        let at = site.point.offset as usize;
        places.extend(at..at + 0x400);
        places.extend(
            site.return_alternative
                .iter()
                .flat_map(|s| s.point.offset as usize - 64..s.point.offset as usize + 64),
        );
    }
    places.into_iter().filter(|place| *place < bytes.len()).collect()
}

#[test]
fn damaged_libraries_neither_panic_nor_take_long() {
    let Some(path) = present(LIBSSL_3) else { return };
    let bytes = fs::read(path).unwrap();
    let places = tender(&bytes);
    let damage = proptest::collection::vec((0..places.len(), any::<u8>()), 1..24);
    // A quarter of the usual number, which PROPTEST_CASES changes: one case reads a whole library.
    let cases = ProptestConfig::default().cases / 4;
    proptest!(ProptestConfig { cases, ..ProptestConfig::default() }, |(damage in damage)| {
        let mut damaged = bytes.clone();
        for (place, value) in damage {
            damaged[places[place]] = value;
        }
        let started = Instant::now();
        if let Ok(plan) = plan(damaged.as_slice()) {
            prop_assert!(plan.sites.len() <= 10);
            prop_assert!(plan.sites.iter().all(|site| site.point.offset < damaged.len() as u64));
            prop_assert!(plan.sites.iter().all(|site| site.return_alternative.len() <= 16));
        }
        prop_assert!(started.elapsed().as_secs() < 10);
    });
}
