//! Follows the arguments of one function to the calls that it makes.
//!
//! Owns: a small forward data-flow over at most 4 KiB of code. A register holds an argument of the function, the
//! address of something on its stack, or something unknown; where paths meet, what differs is unknown. It errs only
//! towards "unknown". Must not read a file or know any symbol.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register};

use super::insn;

/// Most bytes of a function that are decoded.
pub(super) const MAX_FUNCTION_BYTES: u64 = 4096;
/// Most instructions that are evaluated for one function, repeats at joins included.
const MAX_STEPS: usize = 8192;

/// What a register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// Anything.
    Unknown,
    /// The function's argument with this number, from 0; for the third one also its 32-bit value extended.
    Arg(u8),
    /// An address in the function's stack frame.
    Stack,
}

/// Number of the argument that is a length: `int` in some signatures, `size_t` in others.
const LENGTH: u8 = 2;
/// Registers of the first five integer arguments (System V ABI, section 3.2.3).
const ARGUMENTS: [Register; 5] = [Register::RDI, Register::RSI, Register::RDX, Register::RCX, Register::R8];
/// Registers that a call may change (the same section).
const CLOBBERED: [Register; 9] = [
    Register::RAX,
    Register::RCX,
    Register::RDX,
    Register::RSI,
    Register::RDI,
    Register::R8,
    Register::R9,
    Register::R10,
    Register::R11,
];

/// Values of the sixteen general registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Registers([Value; 16]);

impl Registers {
    /// As the ABI has them when a function is entered.
    pub fn at_entry() -> Self {
        let mut registers = Self([Value::Unknown; 16]);
        for (number, register) in ARGUMENTS.into_iter().enumerate() {
            registers.set(register, Value::Arg(number as u8));
        }
        registers.set(Register::RSP, Value::Stack);
        registers
    }

    /// The same registers as the entry of a function that is called or jumped to.
    pub fn passed_on(mut self) -> Self {
        self.set(Register::RSP, Value::Stack);
        self
    }

    /// What `register`, or the 64-bit register that it is a part of, holds.
    pub fn get(&self, register: Register) -> Value {
        let full = register.full_register();
        if full.is_gpr64() {
            self.0.get(full.number()).copied().unwrap_or(Value::Unknown)
        } else {
            Value::Unknown
        }
    }

    fn set(&mut self, register: Register, value: Value) {
        let full = register.full_register();
        if full.is_gpr64()
            && let Some(place) = self.0.get_mut(full.number())
        {
            *place = value;
        }
    }

    /// Keeps what both agree on; says whether anything changed.
    fn merge(&mut self, other: &Self) -> bool {
        let before = *self;
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            if *mine != theirs {
                *mine = Value::Unknown;
            }
        }
        *self != before
    }

    fn after(mut self, instruction: &Instruction, info: &mut InstructionInfoFactory) -> Self {
        let moved = self.moved_value(instruction);
        for used in info.info(instruction).used_registers() {
            let writes = matches!(
                used.access(),
                OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
            );
            // The stack pointer stays an address on the stack through pushes, calls and allocation.
            if writes && used.register().full_register() != Register::RSP {
                self.set(used.register(), Value::Unknown);
            }
        }
        if let Some(value) = moved {
            self.set(instruction.op0_register(), value);
        }
        if matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall) {
            for register in CLOBBERED {
                self.set(register, Value::Unknown);
            }
        }
        self
    }

    /// The known value that the instruction leaves in its first operand.
    fn moved_value(&self, instruction: &Instruction) -> Option<Value> {
        if instruction.op0_kind() != OpKind::Register || instruction.op0_register() == Register::RSP {
            return None;
        }
        let to = instruction.op0_register();
        match instruction.mnemonic() {
            Mnemonic::Mov | Mnemonic::Movsxd if instruction.op1_kind() == OpKind::Register => {
                let value = self.get(instruction.op1_register());
                let whole = to.is_gpr64() && instruction.op1_register().is_gpr64();
                let length = value == Value::Arg(LENGTH)
                    && (to.is_gpr64() || to.is_gpr32())
                    && instruction.op1_register().size() >= 4;
                (whole || length).then_some(value)
            }
            Mnemonic::Lea if to.is_gpr64() && instruction.memory_index() == Register::None => {
                (self.get(instruction.memory_base()) == Value::Stack).then_some(Value::Stack)
            }
            _ => None,
        }
    }
}

/// A direct call, or a jump out of the function.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    /// Address of the instruction that follows it.
    pub next: u64,
    /// Where it goes.
    pub target: u64,
    /// It is a jump: nothing of this function runs after it.
    pub tail: bool,
    /// The registers at that moment.
    pub registers: Registers,
}

/// What a function does, as far as it was followed.
#[derive(Debug)]
pub(super) struct Flow {
    /// Calls and jumps out, in the order of their addresses.
    pub transfers: Vec<Transfer>,
    /// Addresses of the returns.
    pub returns: Vec<u64>,
    /// Addresses inside the function that are jumped to.
    pub jumped_to: BTreeSet<u64>,
    /// Registers before each instruction that was reached.
    states: BTreeMap<u64, Registers>,
    /// Every path was followed to its end; false after an indirect jump, undecodable bytes or too much code.
    pub complete: bool,
}

impl Flow {
    /// Whether an instruction begins at `address` for certain.
    pub fn is_reached(&self, address: u64) -> bool {
        self.states.contains_key(&address)
    }

    /// Whether the first three arguments are still where the caller put them before the instruction at `address`, and
    /// no jump of this function leads to it.
    pub fn is_like_entry(&self, address: u64) -> bool {
        let arguments = ARGUMENTS.into_iter().zip(0..=LENGTH);
        self.states.get(&address).is_some_and(|registers| {
            arguments.into_iter().all(|(register, number)| registers.get(register) == Value::Arg(number))
        }) && !self.jumped_to.contains(&address)
    }
}

/// Follows the function whose first bytes are `code` at `address`, `size` bytes long (0: not known).
pub(super) fn follow(code: &[u8], address: u64, size: u64, entry: Registers) -> Flow {
    // Without a known end nothing can be said about all of the function.
    let mut complete = size != 0 && size <= MAX_FUNCTION_BYTES;
    let size = if size == 0 { MAX_FUNCTION_BYTES } else { size };
    let mut states: BTreeMap<u64, Registers> = BTreeMap::from([(address, entry)]);
    let mut work = vec![address];
    let mut jumped_to = BTreeSet::new();
    let mut steps = 0;
    let mut info = InstructionInfoFactory::new();
    let at = |place: u64| {
        let into = usize::try_from(place.checked_sub(address)?).ok()?;
        insn::decode(code.get(into..)?, place)
    };
    let inside = |place: u64| place.checked_sub(address).is_some_and(|into| into < size);

    while let Some(place) = work.pop() {
        steps += 1;
        let (Some(instruction), Some(state)) = (at(place), states.get(&place).copied()) else {
            // Code that runs past the end is the padding after a call that does not return, or it is cut.
            complete &= !inside(place);
            continue;
        };
        if steps > MAX_STEPS {
            complete = false;
            break;
        }
        let after = state.after(&instruction, &mut info);
        let mut reach = |place: u64| {
            let new = !states.contains_key(&place);
            if states.entry(place).or_insert(after).merge(&after) || new {
                work.push(place);
            }
        };
        match instruction.flow_control() {
            FlowControl::Next | FlowControl::Call | FlowControl::IndirectCall => {
                reach(instruction.next_ip());
            }
            FlowControl::ConditionalBranch => {
                reach(instruction.next_ip());
                let target = instruction.near_branch_target();
                if inside(target) {
                    jumped_to.insert(target);
                    reach(target);
                }
            }
            FlowControl::UnconditionalBranch if inside(instruction.near_branch_target()) => {
                jumped_to.insert(instruction.near_branch_target());
                reach(instruction.near_branch_target());
            }
            FlowControl::UnconditionalBranch
            | FlowControl::Return
            | FlowControl::Exception
            | FlowControl::Interrupt => {}
            FlowControl::IndirectBranch | FlowControl::XbeginXabortXend => complete = false,
        }
    }

    let mut flow =
        Flow { transfers: Vec::new(), returns: Vec::new(), jumped_to, states: BTreeMap::new(), complete };
    for (&place, &registers) in &states {
        let Some(instruction) = at(place) else { continue };
        if insn::is_return(&instruction) {
            flow.returns.push(place);
        }
        let Some(target) = insn::branch_target(&instruction) else { continue };
        let tail = instruction.flow_control() != FlowControl::Call;
        if !tail || !inside(target) {
            flow.transfers.push(Transfer { next: instruction.next_ip(), target, tail, registers });
        }
        // A jump out of the function means that it can end elsewhere (its cold part).
        flow.complete &= !tail || inside(target);
    }
    flow.states = states;
    flow
}
