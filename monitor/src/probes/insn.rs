//! Which x86-64 instructions a uprobe can sit on without a second trap.
//!
//! Owns: what Linux emulates in place (`arch/x86/kernel/uprobes.c`, `branch_setup_xol_ops` and `push_setup_xol_ops`).
//! Must not claim more than the oldest supported kernel (6.1) does: later ones also emulate long nops.

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess,
    Register,
};

/// Decodes the instruction at the start of `bytes`, whose address is `address`. `None` when the bytes are none.
pub(super) fn decode(bytes: &[u8], address: u64) -> Option<Instruction> {
    let instruction = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE).decode();
    (!instruction.is_invalid()).then_some(instruction)
}

/// Whether the kernel emulates the instruction with these bytes, so that a probe on it costs one trap.
pub(super) fn is_emulated(bytes: &[u8]) -> bool {
    match *bytes {
        // push r64 (50+r, also with REX.B alone), nop
        [0x50..=0x57 | 0x90] | [0x41, 0x50..=0x57] |
        // call rel32, jmp rel32
        [0xe8 | 0xe9, _, _, _, _] |
        // jmp rel8, jcc rel8
        [0xeb | 0x70..=0x7f, _] |
        // jcc rel32
        [0x0f, 0x80..=0x8f, _, _, _, _] => true,
        _ => false,
    }
}

/// Whether the instruction is the landing pad of indirect branches (it does nothing and is single-stepped).
pub(super) fn is_endbr(instruction: &Instruction) -> bool {
    instruction.code() == Code::Endbr64
}

/// Where a direct call, jump or conditional jump goes.
pub(super) fn branch_target(instruction: &Instruction) -> Option<u64> {
    match instruction.flow_control() {
        FlowControl::Call | FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch => {
            Some(instruction.near_branch_target())
        }
        _ => None,
    }
}

/// Mnemonic and bytes, for people: `push (41 55)`.
pub(super) fn describe(instruction: &Instruction, bytes: &[u8]) -> String {
    format!("{:?} ({})", instruction.mnemonic(), hex(bytes, " ")).to_ascii_lowercase()
}

/// The bytes in hexadecimal with `between` between them.
pub(super) fn hex(bytes: &[u8], between: &str) -> String {
    bytes.iter().fold(String::new(), |text, byte| {
        let before = if text.is_empty() { "" } else { between };
        format!("{text}{before}{byte:02x}")
    })
}

/// The address after the instruction at the start of `bytes`, unless it changes `rax` or goes elsewhere.
pub(super) fn next_keeping_result(bytes: &[u8], address: u64) -> Option<u64> {
    let instruction = decode(bytes, address)?;
    let mut info = InstructionInfoFactory::new();
    let changes = info.info(&instruction).used_registers().iter().any(|used| {
        used.register().full_register() == Register::RAX
            && !matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::None)
    });
    (instruction.flow_control() == FlowControl::Next && !changes).then(|| instruction.next_ip())
}

/// The address after the instruction at the start of `bytes`, unless it goes elsewhere.
pub(super) fn next_in_line(bytes: &[u8], address: u64) -> Option<u64> {
    let instruction = decode(bytes, address)?;
    (instruction.flow_control() == FlowControl::Next).then(|| instruction.next_ip())
}

/// Whether the instruction is a plain return.
pub(super) fn is_return(instruction: &Instruction) -> bool {
    instruction.mnemonic() == Mnemonic::Ret
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emulated_instructions_are_those_of_linux_6_1() {
        let cases: [(&[u8], bool); 16] = [
            (&[0x55], true),                       // push rbp
            (&[0x41, 0x57], true),                 // push r15
            (&[0x40, 0x55], false),                // rex push rbp
            (&[0x90], true),                       // nop
            (&[0xf3, 0x0f, 0x1e, 0xfa], false),    // endbr64
            (&[0x0f, 0x1f, 0x44, 0, 0], false),    // nop5: emulated from 6.16 on
            (&[0xe8, 1, 2, 3, 4], true),           // call
            (&[0xe9, 1, 2, 3, 4], true),           // jmp
            (&[0xeb, 1], true),                    // jmp short
            (&[0x7e, 1], true),                    // jle
            (&[0x0f, 0x8e, 1, 2, 3, 4], true),     // jle near
            (&[0xc3], false),                      // ret
            (&[0x48, 0x83, 0xec, 0x18], false),    // sub rsp
            (&[0x85, 0xc0], false),                // test eax, eax
            (&[0xff, 0x50, 0x38], false),          // call [rax+0x38]
            (&[0x0f, 0x4f, 0x44, 0x24, 8], false), // cmovg
        ];
        for (bytes, emulated) in cases {
            assert_eq!(is_emulated(bytes), emulated, "{bytes:02x?}");
        }
    }

    #[test]
    fn descriptions_name_the_instruction_and_its_bytes() {
        let bytes = [0x41, 0x55];
        let instruction = decode(&bytes, 0).unwrap();
        assert_eq!(describe(&instruction, &bytes), "push (41 55)");
        assert!(decode(&[], 0).is_none());
        assert!(decode(&[0x06], 0).is_none());
    }
}
