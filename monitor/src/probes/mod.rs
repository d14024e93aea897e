//! Where to put TLS probes, and in which files.
//!
//! Owns: reading libraries and executables ([`plan_file`]), finding them through processes and standard places
//! ([`discover`], [`standard`]), when to look again ([`watch`]), on which thread ([`scout`]), and what the running kernel makes dangerous
//! ([`kernel`]). Must not attach anything: no aya types, no BPF. What it reads is written by others, so every amount
//! is bounded and nothing panics.

pub mod discover;
mod elf;
pub mod file;
mod flow;
mod insn;
mod internal;
pub mod kernel;
pub mod maps;
mod plan;
pub mod scout;
mod site;
pub mod standard;
#[cfg(test)]
mod tests;
pub mod watch;

pub use plan::{plan, plan_file};
pub use site::{Abi, OutReg, Placement, Plan, PlanError, Point, ReturnSite, Role, Site};
