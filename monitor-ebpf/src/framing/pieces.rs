//! The pieces of the framing as global functions: the verifier checks each once a program, for any arguments, instead of in every
//! state of every caller. Arguments are scalars and pointers to memory of a known size; results are scalars, or in that memory.
//!
//! Which program calls them makes no difference to any of them: they read memory only.

use monitor_common::http1::{self, Names};

use super::Frame;
use crate::maps::Conn;
use crate::mode::Calls;
use crate::scratch::Scratch;

macro_rules! pieces {
    ($($name:ident = $piece:ident;)*) => {$(
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $name(conn: *mut Conn, scratch: *mut Scratch, names: *mut Names) -> u32 {
            if conn.is_null() || scratch.is_null() || names.is_null() {
                return 1;
            }
            // SAFETY: the verifier proves that the pointers are what they say.
            let mut frame = unsafe { Frame::<Calls>::new(conn, scratch, names, core::ptr::null_mut()) };
            http1::run_piece::<_, { http1::piece::$piece }>(&mut frame) as u32
        }
    )*};
}
pieces! {
    frame_line = LINE;
    frame_headers = HEADERS;
    frame_params = PARAMS;
    frame_credential = CREDENTIAL;
    frame_absorb = ABSORB;
    frame_recall = RECALL;
    frame_scheme = SCHEME;
    frame_bare = BARE;
    frame_front = FRONT;
}

/// Look-ups in the window.
macro_rules! lookups {
    ($($name:ident = $lookup:ident($($argument:ident),*) -> $result:ty;)*) => {$(
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $name(scratch: *mut Scratch, $($argument: u32),*) -> $result {
            if scratch.is_null() {
                return 0;
            }
            http1::$lookup(&window(scratch, core::ptr::null()), $($argument),*)
        }
    )*};
}
lookups! {
    frame_find_lf = find_lf(p) -> u32;
    frame_find_any = find_any(p, bytes) -> u32;
    frame_skip_blanks = skip_blanks(p) -> u32;
    frame_trim_blanks = trim_blanks(p, stop) -> u32;
    frame_version = version(p, t) -> u32;
    frame_other_method = other_method(p, end) -> u32;
    frame_hex = hex(p) -> u64;
}

/// Look-ups in the window that compare with names.
macro_rules! named {
    ($($name:ident = $lookup:ident;)*) => {$(
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $name(scratch: *mut Scratch, names: *mut Names, p: u32, first: u32) -> u32 {
            if scratch.is_null() || names.is_null() {
                return 0;
            }
            http1::$lookup(&window(scratch, names), p, first)
        }
    )*};
}
named! {
    frame_name = name;
    frame_param = param;
}

/// A view of the window only.
#[inline(always)]
fn window(scratch: *mut Scratch, names: *const Names) -> Frame<Calls> {
    Frame::of(0, core::ptr::null_mut(), scratch, names)
}
