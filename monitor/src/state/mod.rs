//! The state directory: the installation key and the names given on the command line.

mod key;
mod names;

pub use key::{fingerprint, load_or_create_key, read_key};
pub use names::Names;
