//! The programs: one module for each family of attach points.

mod life;
mod socket;
mod tls;
