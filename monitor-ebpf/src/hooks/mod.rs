//! The programs: one module for each family of attach points.

pub mod answer;
mod bench;
pub mod fence;
pub mod gate;
mod life;
mod socket;
mod tls;
