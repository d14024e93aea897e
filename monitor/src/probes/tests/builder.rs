//! Builds small ELF files from hand-assembled functions.

/// Address of the file's first byte, so that addresses and offsets differ.
pub const BASE: u64 = 0x10_0000;
const CODE_AT: usize = 0x1000;

/// Function under construction.
#[derive(Clone, Debug, Default)]
pub struct Code {
    address: u64,
    bytes: Vec<u8>,
}

impl Code {
    /// Code that will be at `address`, which must lie behind `BASE + 0x1000`.
    pub fn at(address: u64) -> Self {
        Self { address, bytes: Vec::new() }
    }

    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    pub fn call(self, target: u64) -> Self {
        self.relative(&[0xe8], target)
    }

    pub fn jump(self, target: u64) -> Self {
        self.relative(&[0xe9], target)
    }

    /// `jmp [rip + ..]` through `slot`.
    pub fn jump_through(self, slot: u64) -> Self {
        self.relative(&[0xff, 0x25], slot)
    }

    fn relative(mut self, opcode: &[u8], target: u64) -> Self {
        let next = self.address + (self.bytes.len() + opcode.len() + 4) as u64;
        self.bytes.extend_from_slice(opcode);
        self.bytes.extend(target.wrapping_sub(next).to_le_bytes()[..4].iter());
        self
    }
}

/// A file with exported functions, hidden ones (named `""`) and relocated slots.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    functions: Vec<(&'static str, Code)>,
    slots: Vec<(u64, &'static str)>,
}

impl Builder {
    pub fn function(mut self, name: &'static str, code: Code) -> Self {
        self.functions.push((name, code));
        self
    }

    /// The dynamic linker stores the address of `name` at `slot`.
    pub fn slot(mut self, slot: u64, name: &'static str) -> Self {
        self.slots.push((slot, name));
        self
    }

    pub fn build(&self) -> Vec<u8> {
        let mut strings = vec![0];
        let mut symbols = vec![0; 24];
        let mut index = Vec::new();
        let mut file = vec![0; CODE_AT];
        for (name, code) in &self.functions {
            let offset = (code.address - BASE) as usize;
            file.resize(file.len().max(offset + code.bytes.len()), 0xcc);
            file[offset..offset + code.bytes.len()].copy_from_slice(&code.bytes);
            if name.is_empty() {
                continue;
            }
            index.push(*name);
            symbols.extend((strings.len() as u32).to_le_bytes());
            symbols.extend([0x12, 0, 1, 0]); // global function in section 1
            symbols.extend(code.address.to_le_bytes());
            symbols.extend((code.bytes.len() as u64).to_le_bytes());
            strings.extend(name.bytes().chain([0]));
        }
        let mut relocations = Vec::new();
        for (slot, name) in &self.slots {
            let symbol = index.iter().position(|known| known == name).unwrap() as u64 + 1;
            relocations.extend(slot.to_le_bytes());
            relocations.extend((symbol << 32 | 7).to_le_bytes()); // R_X86_64_JUMP_SLOT
            relocations.extend([0; 8]);
        }
        let code_end = file.len();
        let mut sections = vec![0_u8; 64];
        for (kind, link, bytes) in [(11_u32, 2_u32, &symbols), (3, 0, &strings), (4, 1, &relocations)] {
            sections.extend(0_u32.to_le_bytes());
            sections.extend(kind.to_le_bytes());
            sections.extend([0; 16]); // flags, address
            sections.extend((file.len() as u64).to_le_bytes());
            sections.extend((bytes.len() as u64).to_le_bytes());
            sections.extend(link.to_le_bytes());
            sections.extend([0; 20]);
            file.extend(bytes);
        }
        let sections_at = file.len() as u64;
        file.extend(&sections);

        let mut head = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        head.extend([3, 0, 62, 0, 1, 0, 0, 0]); // shared object, x86-64, version 1
        head.extend(0_u64.to_le_bytes());
        head.extend(64_u64.to_le_bytes());
        head.extend(sections_at.to_le_bytes());
        head.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 4, 0, 0, 0]);
        head.extend(1_u32.to_le_bytes()); // PT_LOAD
        head.extend(5_u32.to_le_bytes()); // readable, executable
        for value in [0, BASE, BASE, code_end as u64, code_end as u64, 0x1000] {
            head.extend(value.to_le_bytes());
        }
        file[..head.len()].copy_from_slice(&head);
        file
    }
}
