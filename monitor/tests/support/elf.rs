//! From the bytes of a file to a probe plan.

#[path = "../../src/probes/tests/builder.rs"]
mod builder;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::Cursor;

use builder::{BASE, Builder, Code};
use monitor::probes::{Abi, Plan, Point, Role, plan};
use object::read::ReadCache;

/// The functions of a made file, [`STEP`] bytes apart; those without a name are hidden.
const FUNCTIONS: [&str; 13] = [
    "SSL_read",
    "SSL_read_ex",
    "SSL_write",
    "SSL_write_ex",
    "SSL_write_ex2",
    "SSL_peek",
    "",
    "",
    "",
    "",
    "SSL_free",
    "SSL_set_fd",
    "SSL_set_bio",
];
const STEP: usize = 0x100;
/// Ends a function; no instruction in 64-bit code.
const BETWEEN: u8 = 0x37;
/// Where the dynamic linker stores the address of `SSL_write_ex2`.
const SLOT: u64 = BASE + 0x9000;
/// Most places at which results of one function are read.
const RETURN_SITES: usize = 16;
/// Digits of the longest build id.
const BUILD_ID: usize = 64;

/// Bytes that begin as an ELF file does are one. Others are the code of a library, so that mutations of instructions do not
/// have to keep a file's tables in order.
fn file(bytes: &[u8]) -> Cow<'_, [u8]> {
    if bytes.starts_with(b"\x7fELF") {
        return Cow::Borrowed(bytes);
    }
    let mut made = Builder::default();
    for (at, (name, code)) in FUNCTIONS.into_iter().zip(bytes.split(|byte| *byte == BETWEEN)).enumerate() {
        let address = BASE + 0x1000 + (at * STEP) as u64;
        made = made.function(name, Code::at(address).raw(&code[..code.len().min(STEP)]));
        if name == "SSL_write_ex2" {
            made = made.slot(SLOT, name);
        }
    }
    Cow::Owned(made.build())
}

/// Planning ends, is the same for a file that is read in pieces, and probes only what is in the file: the instruction that
/// the plan names, at most one site for each function and role.
pub fn check(bytes: &[u8]) {
    let file = file(bytes);
    let result = plan(&*file);
    assert_eq!(result, plan(&ReadCache::new(Cursor::new(&*file))), "read in pieces");
    let Ok(found) = result else { return };
    assert!(found.build_id.as_ref().is_none_or(|id| id.len() <= BUILD_ID));
    assert!(!found.to_string().is_empty());
    for site in &found.sites {
        assert_eq!(site.abi == Abi::Plain, site.out.is_none(), "{found}");
        assert!(site.return_alternative.len() <= RETURN_SITES, "{found}");
        assert!(site.role.has_return() || site.return_alternative.is_empty(), "{found}");
        for point in site.return_alternative.iter().map(|after| &after.point).chain([&site.point]) {
            is_in(&file, point, &found);
        }
    }
    for role in [Role::Read, Role::Write] {
        let symbols: Vec<_> = found.with_role(role).map(|site| site.symbol).collect();
        assert_eq!(symbols.iter().collect::<BTreeSet<_>>().len(), symbols.len(), "{found}");
    }
}

/// The instruction at `point` is at that offset of the file.
fn is_in(file: &[u8], point: &Point, plan: &Plan) {
    let (_, hex) = point.insn.split_once('(').unwrap();
    let named: Vec<u8> =
        hex.trim_end_matches(')').split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    let there = usize::try_from(point.offset).ok().and_then(|at| file.get(at..)?.get(..named.len()));
    assert_eq!(there, Some(&named[..]), "{plan}");
}
