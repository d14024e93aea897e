//! The programs: one module for each family of attach points.

mod bench;
pub mod fence;
pub mod gate;
mod life;
mod socket;
mod tls;
