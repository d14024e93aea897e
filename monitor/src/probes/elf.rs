//! A bounded view of an ELF file: segments, the few symbols that matter, what a PLT stub leads to, the build id.
//!
//! Owns: every limit on what is read from a file that somebody else wrote. Reads ranges, never the whole file, and
//! must not fail a plan because of a part that it can do without (relocations, build id, names).

use std::collections::BTreeMap;

use object::elf::{self, FileHeader64, Sym64};
use object::endian::Endianness;
use object::pod;
use object::read::ReadRef;
use object::read::elf::{FileHeader, ProgramHeader as _, SectionHeader as _};

use super::PlanError;
use super::insn::hex;

/// Most program headers that are looked at; libraries have about 10.
const MAX_SEGMENTS: u16 = 128;
/// Most section headers that are looked at; real files have fewer than 100.
const MAX_SECTIONS: u16 = 4096;
/// Most bytes of one table (symbols, strings, relocations).
const MAX_TABLE_BYTES: u64 = 32 << 20;
/// Most bytes of the notes that are searched for a build id.
const MAX_NOTE_BYTES: u64 = 64 << 10;

/// A function symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Symbol {
    /// Virtual address.
    pub address: u64,
    /// Bytes of the function as the symbol table states them, 0 when it does not.
    pub size: u64,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    address: u64,
    offset: u64,
    bytes: u64,
}

/// A section's place in the file.
#[derive(Clone, Copy, Debug)]
struct Section {
    kind: u32,
    link: u32,
    offset: u64,
    bytes: u64,
}

/// What was learnt from one file.
#[derive(Debug)]
pub(super) struct Image<'d, R: ReadRef<'d>> {
    data: R,
    executable: Vec<Segment>,
    sections: Vec<Section>,
    symbols: BTreeMap<&'static str, Symbol>,
    slots: BTreeMap<u64, &'static str>,
    build_id: Option<String>,
    _file: core::marker::PhantomData<&'d ()>,
}

impl<'d, R: ReadRef<'d>> Image<'d, R> {
    /// Reads the headers of `data` and finds those of `wanted` that the file defines as functions, in its dynamic
    /// symbols or else in its static ones.
    pub fn parse(data: R, wanted: &[&'static str]) -> Result<Self, PlanError> {
        let header = FileHeader64::<Endianness>::parse(data).map_err(|_| PlanError::NotElf64)?;
        let endian = header.endian().map_err(|_| PlanError::NotElf64)?;
        if endian != Endianness::Little || header.e_machine(endian) != elf::EM_X86_64 {
            return Err(PlanError::Machine(header.e_machine(endian)));
        }
        if header.e_phnum(endian) > MAX_SEGMENTS || header.e_shnum(endian) > MAX_SECTIONS {
            return Err(PlanError::TooMany);
        }
        let segments = header.program_headers(endian, data).map_err(|_| PlanError::Headers)?;
        let executable = segments
            .iter()
            .filter(|s| s.p_type(endian) == elf::PT_LOAD && s.p_flags(endian) & elf::PF_X != 0)
            .map(|s| Segment {
                address: s.p_vaddr(endian),
                offset: s.p_offset(endian),
                bytes: s.p_filesz(endian),
            })
            .collect();
        let build_id = segments.iter().find_map(|segment| {
            if segment.p_type(endian) != elf::PT_NOTE || segment.p_filesz(endian) > MAX_NOTE_BYTES {
                return None;
            }
            let mut notes = segment.notes(endian, data).ok()??;
            while let Ok(Some(note)) = notes.next() {
                if note.name() == elf::ELF_NOTE_GNU && note.n_type(endian) == elf::NT_GNU_BUILD_ID {
                    return note.desc().get(..note.desc().len().min(32)).map(|id| hex(id, ""));
                }
            }
            None
        });
        // Zero section headers mean either none or "see section 0"; both are files without usable tables here.
        let sections = if header.e_shnum(endian) == 0 {
            Vec::new()
        } else {
            let found = header.section_headers(endian, data).map_err(|_| PlanError::Headers)?;
            let place = |section: &elf::SectionHeader64<Endianness>| Section {
                kind: section.sh_type(endian),
                link: section.sh_link(endian),
                offset: section.sh_offset(endian),
                bytes: section.sh_size(endian),
            };
            found.iter().map(place).collect()
        };
        let mut image = Self {
            data,
            executable,
            sections,
            symbols: BTreeMap::new(),
            slots: BTreeMap::new(),
            build_id,
            _file: core::marker::PhantomData,
        };
        // Static symbols are worth their megabytes only for a program that exports nothing we know.
        for kind in [elf::SHT_DYNSYM, elf::SHT_SYMTAB] {
            if image.symbols.is_empty() {
                image.symbols = image.find_symbols(kind, wanted);
            }
        }
        if !image.symbols.is_empty() {
            image.slots = image.find_slots(wanted);
        }
        Ok(image)
    }

    /// Build id in hexadecimal, when the file has one.
    pub fn build_id(&self) -> Option<&str> {
        self.build_id.as_deref()
    }

    /// A function by name.
    pub fn symbol(&self, name: &str) -> Option<Symbol> {
        self.symbols.get(name).copied()
    }

    /// Name of the wanted function that starts at `address`.
    pub fn name_at(&self, address: u64) -> Option<&'static str> {
        self.symbols.iter().find(|(_, symbol)| symbol.address == address).map(|(name, _)| *name)
    }

    /// Offset in the file of the executable byte at `address`.
    pub fn file_offset(&self, address: u64) -> Option<u64> {
        let (segment, into) = self.segment(address)?;
        segment.offset.checked_add(into)
    }

    /// At most `most` bytes of code at `address`, fewer at the end of the segment, none outside of one.
    pub fn code(&self, address: u64, most: u64) -> &'d [u8] {
        let Some((segment, into)) = self.segment(address) else { return &[] };
        let bytes = most.min(segment.bytes.saturating_sub(into));
        let Some(offset) = segment.offset.checked_add(into) else { return &[] };
        self.data.read_bytes_at(offset, bytes).unwrap_or_default()
    }

    fn segment(&self, address: u64) -> Option<(&Segment, u64)> {
        self.executable.iter().find_map(|segment| {
            let into = address.checked_sub(segment.address)?;
            (into < segment.bytes).then_some((segment, into))
        })
    }

    /// The bytes of a section, unless it is larger than anything plausible.
    fn bytes_of(&self, section: &Section) -> Option<&'d [u8]> {
        if section.kind == elf::SHT_NOBITS || section.bytes > MAX_TABLE_BYTES {
            return None;
        }
        self.data.read_bytes_at(section.offset, section.bytes).ok()
    }

    fn symbol_table(&self, kind: u32) -> Option<(&'d [Sym64<Endianness>], &'d [u8])> {
        let table = self.sections.iter().find(|section| section.kind == kind)?;
        let strings = self.sections.get(table.link as usize)?;
        Some((pod::slice_from_all_bytes(self.bytes_of(table)?).ok()?, self.bytes_of(strings)?))
    }

    fn find_symbols(&self, kind: u32, wanted: &[&'static str]) -> BTreeMap<&'static str, Symbol> {
        let mut found = BTreeMap::new();
        let Some((symbols, strings)) = self.symbol_table(kind) else { return found };
        let endian = Endianness::Little;
        for symbol in symbols {
            if symbol.st_type() != elf::STT_FUNC || symbol.st_shndx.get(endian) == elf::SHN_UNDEF {
                continue;
            }
            let Some(name) = named(strings, symbol, wanted) else { continue };
            let address = symbol.st_value.get(endian);
            if self.segment(address).is_some() {
                // The first definition wins; a second one of the same name is an older symbol version.
                found.entry(name).or_insert(Symbol { address, size: symbol.st_size.get(endian) });
            }
        }
        found
    }

    /// The wanted function whose address the dynamic linker stores at `slot`.
    pub fn slot_name(&self, slot: u64) -> Option<&'static str> {
        self.slots.get(&slot).copied()
    }

    fn find_slots(&self, wanted: &[&'static str]) -> BTreeMap<u64, &'static str> {
        let endian = Endianness::Little;
        let mut slots = BTreeMap::new();
        let Some((symbols, strings)) = self.symbol_table(elf::SHT_DYNSYM) else { return slots };
        let mut left = MAX_TABLE_BYTES;
        for section in self.sections.iter().filter(|section| section.kind == elf::SHT_RELA) {
            if section.bytes > left {
                break;
            }
            left -= section.bytes;
            let relocations: &[elf::Rela64<Endianness>] = self
                .bytes_of(section)
                .and_then(|bytes| pod::slice_from_all_bytes(bytes).ok())
                .unwrap_or_default();
            for relocation in relocations {
                if let Some(symbol) = symbols.get(relocation.r_sym(endian, false) as usize)
                    && let Some(name) = named(strings, symbol, wanted)
                {
                    slots.insert(relocation.r_offset.get(endian), name);
                }
            }
        }
        slots
    }
}

/// Which of `wanted` the symbol is.
fn named(strings: &[u8], symbol: &Sym64<Endianness>, wanted: &[&'static str]) -> Option<&'static str> {
    let name = strings.get(symbol.st_name.get(Endianness::Little) as usize..)?;
    wanted
        .iter()
        .find(|wanted| name.strip_prefix(wanted.as_bytes()).is_some_and(|rest| rest.first() == Some(&0)))
        .copied()
}
