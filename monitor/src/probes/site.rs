//! What a plan says.
//!
//! Owns: the words in which a plan is handed to the kernel side, shown to people and serialised. Must not decide.

use std::fmt;

use serde::Serialize;

/// What a probe at a site tells the kernel side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Plaintext was asked for: `rdi` = `SSL *`, `rsi` = buffer, `rdx` = its size. The result tells how much came.
    Read,
    /// Plaintext is given: `rdi` = `SSL *`, `rsi` = buffer, `rdx` = length. The result tells how much was taken.
    Write,
    /// `SSL_free(SSL *)`. Entry only.
    Free,
    /// `SSL_set_fd(SSL *, int)`. Entry only.
    SetFd,
    /// `SSL_set_rfd(SSL *, int)`. Entry only.
    SetReadFd,
    /// `SSL_set_wfd(SSL *, int)`. Entry only.
    SetWriteFd,
    /// `SSL_set_bio(SSL *, BIO *read, BIO *write)`. Entry only. `SSL_set_fd` calls it from inside in OpenSSL 1.1 and 3.
    SetBio,
}

impl Role {
    /// Whether the function's result is needed: a return probe, or [`Site::return_alternative`], belongs to the site.
    pub fn has_return(self) -> bool {
        matches!(self, Self::Read | Self::Write)
    }
}

/// How the function at a site takes its length and gives its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Abi {
    /// `int f(SSL *, void *, int)`: `edx` is a signed length; `eax` is the number of bytes, or 0 or less on failure.
    Plain,
    /// `int f(SSL *, void *, size_t, .., size_t *out)`: `eax` greater than 0 means that `*out` bytes were moved.
    Ex,
    /// The hidden function behind both, with the arguments and the result of [`Abi::Ex`].
    Internal,
}

/// Register that holds the `size_t *` which receives the number of bytes, at entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OutReg {
    /// Fourth argument.
    Rcx,
    /// Fifth argument: `SSL_write_ex2` and, since OpenSSL 3.3, `ssl_write_internal`, which take flags before it.
    R8,
}

/// What a probe costs at an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// The kernel emulates the instruction: one trap.
    Emulated,
    /// The kernel executes a copy of the instruction and traps once more after it.
    SingleStepped,
}

/// An instruction that can carry a probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Point {
    /// Offset in the file, as a perf-event uprobe wants it.
    pub offset: u64,
    /// Virtual address, as a disassembler shows it.
    pub address: u64,
    /// Mnemonic and bytes.
    pub insn: String,
    /// What a probe here costs.
    pub placement: Placement,
}

/// A place where the result is in `eax`, for kernels on which return probes must not be used.
///
/// Other paths may pass here too: a hit on a thread without a pending entry must be ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReturnSite {
    /// The exported function that contains it.
    pub within: &'static str,
    /// The instruction.
    #[serde(flatten)]
    pub point: Point,
}

/// A function to probe at its entry and, if [`Role::has_return`], with a return probe at the same offset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Site {
    /// What the probe tells.
    pub role: Role,
    /// How arguments and result are passed.
    pub abi: Abi,
    /// Where the address of the byte count is, for [`Abi::Ex`] and [`Abi::Internal`].
    pub out: Option<OutReg>,
    /// The function that is probed.
    pub symbol: &'static str,
    /// The exported functions whose calls are seen here.
    pub covers: Vec<&'static str>,
    /// The instruction.
    #[serde(flatten)]
    pub point: Point,
    /// Where results can be read without a return probe; empty when there is no such place.
    pub return_alternative: Vec<ReturnSite>,
}

/// What to probe in one file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Build id in hexadecimal.
    pub build_id: Option<String>,
    /// The sites, at most one for each exported function.
    pub sites: Vec<Site>,
    /// What could not be had, and what that costs.
    pub notes: Vec<String>,
}

/// Why a file has no plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Not a 64-bit ELF file.
    #[error("not a 64-bit ELF file")]
    NotElf64,
    /// Another processor than x86-64; the number is `e_machine`.
    #[error("machine {0} is not supported, only x86-64")]
    Machine(u16),
    /// More headers than any real file has.
    #[error("too many program or section headers")]
    TooMany,
    /// Headers point outside of the file.
    #[error("damaged headers")]
    Headers,
    /// The file defines neither `SSL_read` nor `SSL_write`.
    #[error("defines no SSL_read and no SSL_write")]
    NoTls,
    /// The file is larger than anything that is worth reading.
    #[error("larger than 512 MiB")]
    TooLarge,
    /// The file could not be read.
    #[error("cannot be read: {0}")]
    Io(std::io::ErrorKind),
}

impl Plan {
    /// Sites with this role.
    pub fn with_role(&self, role: Role) -> impl Iterator<Item = &Site> {
        self.sites.iter().filter(move |site| site.role == role)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "build id {}", self.build_id.as_deref().unwrap_or("unknown"))?;
        for site in &self.sites {
            let out = match site.out {
                Some(OutReg::Rcx) => ", count at [rcx]",
                Some(OutReg::R8) => ", count at [r8]",
                None => "",
            };
            writeln!(f, "{:?} {} ({:?}{out}): {}", site.role, site.symbol, site.abi, site.point)?;
            if site.covers != [site.symbol] {
                writeln!(f, "    covers {}", site.covers.join(", "))?;
            }
            for after in &site.return_alternative {
                writeln!(f, "    result without a return probe: {} in {}", after.point, after.within)?;
            }
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cost = match self.placement {
            Placement::Emulated => "one trap",
            Placement::SingleStepped => "two traps",
        };
        write!(f, "{} at {:#x}, offset {:#x}, {cost}", self.insn, self.address, self.offset)
    }
}
