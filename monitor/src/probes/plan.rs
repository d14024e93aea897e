//! Chooses probe sites in one ELF file.
//!
//! Owns: which functions are probed, at which instruction, and how the kernel side finds arguments and results there.
//! The hidden function behind `SSL_read` and `SSL_read_ex` is preferred where it can be proven to be the same for both
//! with its arguments in known registers: it begins with a `push`, which costs one trap where the exported symbol's
//! `sub rsp` costs two. Must not guess: what cannot be proven falls back to the exported symbol.

use std::fs::File;

use object::read::{ReadCache, ReadRef};

use super::elf::{Image, Symbol};
use super::flow::{self, Registers};
use super::insn;
use super::internal::{self, Function, Internal};
use super::site::{Abi, OutReg, Placement, Plan, PlanError, Point, ReturnSite, Role, Site};

/// Largest file that is planned, in bytes. Node is 100 MiB; browsers are below 300 MiB.
const MAX_FILE_BYTES: u64 = 512 << 20;

/// Most places at which results of one function are read without a return probe.
const MAX_RETURN_SITES: usize = 16;

/// An API function and the argument that receives its byte count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Api {
    pub name: &'static str,
    pub out: Option<(u8, OutReg)>,
}

const fn api(name: &'static str, out: Option<(u8, OutReg)>) -> Api {
    Api { name, out }
}

const READ: [Api; 2] = [api("SSL_read", None), api("SSL_read_ex", Some((3, OutReg::Rcx)))];
const WRITE: [Api; 3] = [
    api("SSL_write", None),
    api("SSL_write_ex", Some((3, OutReg::Rcx))),
    api("SSL_write_ex2", Some((4, OutReg::R8))),
];
/// Functions that read without consuming: a hidden function that they share must not be counted.
pub(super) const PEEK: [&str; 2] = ["SSL_peek", "SSL_peek_ex"];
const ENTRY_ONLY: [(Role, &str); 5] = [
    (Role::Free, "SSL_free"),
    (Role::SetFd, "SSL_set_fd"),
    (Role::SetReadFd, "SSL_set_rfd"),
    (Role::SetWriteFd, "SSL_set_wfd"),
    (Role::SetBio, "SSL_set_bio"),
];
/// Every symbol that is looked up.
pub(super) const WANTED: [&str; 12] = [
    "SSL_read",
    "SSL_read_ex",
    "SSL_write",
    "SSL_write_ex",
    "SSL_write_ex2",
    "SSL_peek",
    "SSL_peek_ex",
    "SSL_free",
    "SSL_set_fd",
    "SSL_set_rfd",
    "SSL_set_wfd",
    "SSL_set_bio",
];

/// Plans an open file, reading only the parts that are needed.
///
/// # Errors
/// [`PlanError`] when there is nothing to probe in it.
pub fn plan_file(file: &File) -> Result<Plan, PlanError> {
    let bytes = file.metadata().map_err(|error| PlanError::Io(error.kind()))?.len();
    if bytes > MAX_FILE_BYTES {
        return Err(PlanError::TooLarge);
    }
    plan(&ReadCache::new(file))
}

/// Plans an ELF file from its bytes.
///
/// # Errors
/// [`PlanError`] when there is nothing to probe in it.
pub fn plan<'d, R: ReadRef<'d>>(data: R) -> Result<Plan, PlanError> {
    let image = Image::parse(data, &WANTED)?;
    if image.symbol("SSL_read").is_none() && image.symbol("SSL_write").is_none() {
        return Err(PlanError::NoTls);
    }
    let mut plan = Plan { build_id: image.build_id().map(str::to_owned), ..Plan::default() };
    for (role, apis) in [(Role::Read, READ.as_slice()), (Role::Write, WRITE.as_slice())] {
        plan.add_transfer(&image, role, apis);
    }
    for (role, name) in ENTRY_ONLY {
        match image.symbol(name).and_then(|symbol| entry_point(&image, symbol)) {
            Some(point) => plan.sites.push(Site {
                role,
                abi: Abi::Plain,
                out: None,
                symbol: name,
                covers: vec![name],
                point,
                return_alternative: Vec::new(),
            }),
            None => plan.notes.push(format!("{name} is not defined here")),
        }
    }
    Ok(plan)
}

impl Plan {
    fn add_transfer<'d, R: ReadRef<'d>>(&mut self, image: &Image<'d, R>, role: Role, apis: &[Api]) {
        let functions = internal::functions(image, apis);
        match internal::find(image, role, &functions) {
            Ok(found) => match internal_site(image, role, &functions, &found) {
                Some(site) if worth_it(image, &site, &functions) => {
                    self.note_missing_returns(&site);
                    self.sites.push(site);
                    return;
                }
                Some(site) => self.notes.push(format!(
                    "{}: probed at the exported symbols, whose first instructions are cheaper than its {}",
                    site.symbol, site.point.insn
                )),
                None => self.notes.push(format!("{}: outside of the file's code", found.symbol)),
            },
            Err(why) => self.notes.push(why),
        }
        self.add_symbols(image, role, &functions);
    }

    /// The exported symbols themselves, but none that only passes its call on to another one that is probed.
    fn add_symbols<'d, R: ReadRef<'d>>(&mut self, image: &Image<'d, R>, role: Role, functions: &[Function]) {
        let mut skipped: Vec<&str> = Vec::new();
        for function in functions {
            let counted =
                function.delegates.iter().find(|to| **to != function.api.name && !skipped.contains(*to));
            if let Some(to) = counted {
                skipped.push(function.api.name);
                self.notes.push(format!("{}: not probed, it calls {to}", function.api.name));
                continue;
            }
            let Some(point) = point(image, function.symbol.address) else { continue };
            let mut covers = vec![function.api.name];
            covers.extend(
                functions.iter().filter(|f| f.delegates.contains(&function.api.name)).map(|f| f.api.name),
            );
            covers.dedup();
            let return_alternative =
                if function.flow.complete && function.flow.returns.len() <= MAX_RETURN_SITES {
                    let returns = function.flow.returns.iter();
                    returns.filter_map(|&at| return_site(image, function.api.name, at)).collect()
                } else {
                    Vec::new()
                };
            let site = Site {
                role,
                abi: if function.api.out.is_some() { Abi::Ex } else { Abi::Plain },
                out: function.api.out.map(|(_, register)| register),
                symbol: function.api.name,
                covers,
                point,
                return_alternative,
            };
            if site.point.placement == Placement::SingleStepped {
                self.notes.push(format!("{}: single-stepped at {}", site.symbol, site.point.insn));
            }
            self.note_missing_returns(&site);
            self.sites.push(site);
        }
    }

    fn note_missing_returns(&mut self, site: &Site) {
        if site.return_alternative.is_empty() {
            self.notes.push(format!("{}: results can be read with a return probe only", site.symbol));
        }
    }
}

/// The hidden function pays unless it is single-stepped and every exported one is not.
fn worth_it<'d, R: ReadRef<'d>>(image: &Image<'d, R>, site: &Site, functions: &[Function]) -> bool {
    site.point.placement == Placement::Emulated
        || functions.iter().any(|function| {
            point(image, function.symbol.address).is_none_or(|p| p.placement == Placement::SingleStepped)
        })
}

fn internal_site<'d, R: ReadRef<'d>>(
    image: &Image<'d, R>,
    role: Role,
    functions: &[Function],
    found: &Internal,
) -> Option<Site> {
    // All callers must have a place after their call, or results of some calls would never be read.
    let mut after: Vec<ReturnSite> = Vec::new();
    let mut all = true;
    for call in &found.calls {
        let site = (!call.transfer.tail)
            .then(|| after_call(image, functions, call.within, &call.transfer))
            .flatten();
        all &= site.is_some();
        after.extend(site);
    }
    after.sort_by_key(|site| site.point.address);
    after.dedup_by_key(|site| site.point.address);
    Some(Site {
        role,
        abi: Abi::Internal,
        out: Some(found.out),
        symbol: found.symbol,
        covers: functions.iter().map(|function| function.api.name).collect(),
        point: point(image, found.address)?,
        return_alternative: if all && after.len() <= MAX_RETURN_SITES { after } else { Vec::new() },
    })
}

/// The instruction after a call at which the result is still in `eax`: an emulated one when there is one before `eax`
/// changes, else the very next.
fn after_call<'d, R: ReadRef<'d>>(
    image: &Image<'d, R>,
    functions: &[Function],
    within: &'static str,
    call: &flow::Transfer,
) -> Option<ReturnSite> {
    let flow = &functions.iter().find(|function| function.api.name == within)?.flow;
    let mut at = call.next;
    while flow.is_reached(at) && !flow.jumped_to.contains(&at) {
        let site = return_site(image, within, at)?;
        if site.point.placement == Placement::Emulated {
            return Some(site);
        }
        match insn::next_keeping_result(image.code(at, 15), at) {
            Some(next) => at = next,
            None => break,
        }
    }
    flow.is_reached(call.next).then(|| return_site(image, within, call.next)).flatten()
}

fn return_site<'d, R: ReadRef<'d>>(
    image: &Image<'d, R>,
    within: &'static str,
    at: u64,
) -> Option<ReturnSite> {
    Some(ReturnSite { within, point: exact_point(image, at)? })
}

/// Where to probe the function at `address`: its first instruction, or the one after a landing pad if that is cheap.
/// The stack pointer is the same at both, so a return probe works at either.
fn point<'d, R: ReadRef<'d>>(image: &Image<'d, R>, address: u64) -> Option<Point> {
    let first = insn::decode(image.code(address, 15), address)?;
    if insn::is_endbr(&first)
        && let Some(second) = exact_point(image, first.next_ip())
        && second.placement == Placement::Emulated
    {
        return Some(second);
    }
    exact_point(image, address)
}

/// Where to probe a function of which only the arguments are wanted: the first cheap instruction in line before which
/// they are untouched, else the start. (`SSL_free` begins with `test rdi, rdi` and `je`.)
fn entry_point<'d, R: ReadRef<'d>>(image: &Image<'d, R>, symbol: Symbol) -> Option<Point> {
    let flow = internal::follow(image, symbol, Registers::at_entry());
    let mut at = symbol.address;
    while at == symbol.address || flow.is_like_entry(at) {
        let Some(point) = exact_point(image, at) else { break };
        if point.placement == Placement::Emulated {
            return Some(point);
        }
        match insn::next_in_line(image.code(at, 15), at) {
            Some(next) => at = next,
            None => break,
        }
    }
    exact_point(image, symbol.address)
}

fn exact_point<'d, R: ReadRef<'d>>(image: &Image<'d, R>, address: u64) -> Option<Point> {
    let code = image.code(address, 15);
    let instruction = insn::decode(code, address)?;
    let bytes = code.get(..instruction.len())?;
    let placement = if insn::is_emulated(bytes) { Placement::Emulated } else { Placement::SingleStepped };
    Some(Point {
        offset: image.file_offset(address)?,
        address,
        insn: insn::describe(&instruction, bytes),
        placement,
    })
}
