//! Finds the hidden function behind a plain and an `_ex` function of the API.
//!
//! Owns: the proof that all of them lead to the same function with `SSL *`, buffer and length where the caller put
//! them, and with the address of the byte count in one and the same register. That register is found by where the
//! plain function puts the address of a variable of its own and the `_ex` function its last argument, so no version
//! has to be known. Must not place probes.

use std::collections::BTreeMap;

use iced_x86::{FlowControl, Register};
use object::read::ReadRef;

use super::elf::{Image, Symbol};
use super::flow::{self, Flow, MAX_FUNCTION_BYTES, Registers, Transfer, Value};
use super::insn;
use super::plan::{Api, PEEK};
use super::site::{OutReg, Role};

/// Most calls among the functions of the API that are followed for one of them; one is usual.
const MAX_FOLLOWED: usize = 8;

/// An exported function and what it does.
#[derive(Debug)]
pub(super) struct Function {
    pub api: Api,
    pub symbol: Symbol,
    pub flow: Flow,
    /// Functions of the API that it calls or jumps to.
    pub delegates: Vec<&'static str>,
    candidates: BTreeMap<u64, Candidate>,
    followed: usize,
}

/// A function that is called with the arguments where the caller put them.
#[derive(Clone, Debug, Default)]
struct Candidate {
    /// Registers in which the address of the byte count may be.
    outs: Vec<OutReg>,
    calls: Vec<Call>,
}

/// A call of the hidden function.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// The exported function that contains it.
    pub within: &'static str,
    pub transfer: Transfer,
}

/// The hidden function.
#[derive(Clone, Debug)]
pub(super) struct Internal {
    pub symbol: &'static str,
    pub address: u64,
    pub out: OutReg,
    pub calls: Vec<Call>,
}

/// Follows each of `apis` that the file defines.
pub(super) fn functions<'d, R: ReadRef<'d>>(image: &Image<'d, R>, apis: &[Api]) -> Vec<Function> {
    let family: Vec<&'static str> = apis.iter().map(|api| api.name).collect();
    let mut found = Vec::new();
    for api in apis {
        let Some(symbol) = image.symbol(api.name) else { continue };
        let flow = follow(image, symbol, Registers::at_entry());
        let mut function = Function {
            api: *api,
            symbol,
            flow,
            delegates: Vec::new(),
            candidates: BTreeMap::new(),
            followed: 0,
        };
        for transfer in function.flow.transfers.clone() {
            function.consider(image, &family, api.name, transfer, 0);
        }
        found.push(function);
    }
    found
}

/// Follows a function of the file.
pub(super) fn follow<'d, R: ReadRef<'d>>(image: &Image<'d, R>, symbol: Symbol, entry: Registers) -> Flow {
    let most = if symbol.size == 0 { MAX_FUNCTION_BYTES } else { symbol.size.min(MAX_FUNCTION_BYTES) };
    flow::follow(image.code(symbol.address, most), symbol.address, symbol.size, entry)
}

impl Function {
    fn consider<'d, R: ReadRef<'d>>(
        &mut self,
        image: &Image<'d, R>,
        family: &[&'static str],
        within: &'static str,
        transfer: Transfer,
        depth: usize,
    ) {
        let callee = callee(image, transfer.target);
        if let Callee::Known(name) = callee
            && family.contains(&name)
        {
            if !self.delegates.contains(&name) {
                self.delegates.push(name);
            }
            // Through SSL_write_ex2 to the hidden function; deeper chains do not exist.
            if depth < 2
                && self.followed < MAX_FOLLOWED
                && let Some(symbol) = image.symbol(name)
            {
                self.followed += 1;
                for inner in follow(image, symbol, transfer.registers.passed_on()).transfers {
                    self.consider(image, family, name, inner, depth + 1);
                }
            }
            return;
        }
        if !matches!(callee, Callee::Hidden) {
            return;
        }
        let registers = transfer.registers;
        let arguments = [(Register::RDI, 0), (Register::RSI, 1), (Register::RDX, 2)];
        if arguments.iter().any(|&(register, number)| registers.get(register) != Value::Arg(number)) {
            return;
        }
        let count = self.api.out.map_or(Value::Stack, |(number, _)| Value::Arg(number));
        let outs: Vec<OutReg> = [(Register::RCX, OutReg::Rcx), (Register::R8, OutReg::R8)]
            .into_iter()
            .filter_map(|(register, out)| (registers.get(register) == count).then_some(out))
            .collect();
        if outs.is_empty() {
            return;
        }
        let candidate = self.candidates.entry(transfer.target).or_default();
        if candidate.calls.is_empty() {
            candidate.outs = outs;
        } else {
            candidate.outs.retain(|out| outs.contains(out));
        }
        candidate.calls.push(Call { within, transfer });
    }
}

enum Callee {
    /// One of the looked-up symbols.
    Known(&'static str),
    /// Something imported.
    Imported,
    /// Code of this file.
    Hidden,
}

fn callee<'d, R: ReadRef<'d>>(image: &Image<'d, R>, target: u64) -> Callee {
    if let Some(name) = image.name_at(target) {
        return Callee::Known(name);
    }
    // A PLT stub: an optional landing pad, then a jump through a slot.
    let mut place = target;
    for _ in 0..2 {
        let Some(instruction) = insn::decode(image.code(place, 15), place) else { return Callee::Imported };
        if insn::is_endbr(&instruction) {
            place = instruction.next_ip();
            continue;
        }
        if instruction.flow_control() == FlowControl::IndirectBranch && instruction.is_ip_rel_memory_operand()
        {
            let name = image.slot_name(instruction.ip_rel_memory_address());
            return name.map_or(Callee::Imported, Callee::Known);
        }
        break;
    }
    Callee::Hidden
}

/// The one function to which all of `functions` lead.
///
/// # Errors
/// Says why there is none.
pub(super) fn find<'d, R: ReadRef<'d>>(
    image: &Image<'d, R>,
    role: Role,
    functions: &[Function],
) -> Result<Internal, String> {
    let symbol = if role == Role::Read { "ssl_read_internal" } else { "ssl_write_internal" };
    let (plain, ex): (Vec<_>, Vec<_>) = functions.iter().partition(|function| function.api.out.is_none());
    let (Some(first), false) = (plain.first(), ex.is_empty()) else {
        return Err(format!("{symbol}: not looked for, the file lacks the plain or the _ex function"));
    };
    let mut common: BTreeMap<u64, Vec<OutReg>> =
        first.candidates.iter().map(|(target, candidate)| (*target, candidate.outs.clone())).collect();
    for function in &ex {
        common.retain(|target, outs| {
            let other = function.candidates.get(target);
            outs.retain(|out| other.is_some_and(|other| other.outs.contains(out)));
            !outs.is_empty()
        });
    }
    for name in PEEK {
        if let Some(peek) = image.symbol(name) {
            for transfer in follow(image, peek, Registers::at_entry()).transfers {
                common.remove(&transfer.target);
            }
        }
    }
    let mut left = common.into_iter();
    let (Some((address, outs)), None) = (left.next(), left.next()) else {
        return Err(format!(
            "{symbol}: no single function behind the exported ones (inlined, or not OpenSSL)"
        ));
    };
    let (Some(&out), 1) = (outs.first(), outs.len()) else {
        return Err(format!("{symbol}: it is not clear which register holds the address of the count"));
    };
    let calls =
        functions.iter().filter_map(|f| f.candidates.get(&address)).flat_map(|c| c.calls.clone()).collect();
    Ok(Internal { symbol, address, out, calls })
}
