//! The programs: one module for each family of attach points.

mod bench;
mod life;
mod socket;
mod tls;
