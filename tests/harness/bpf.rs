//! Which BPF objects a process holds, and whether they still exist.

use std::fs;

/// A kernel object by kind and id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Object {
    Program(u32),
    Map(u32),
    Link(u32),
}

/// Objects that `pid` has open, from the kernel's own description of its file descriptors.
pub fn held_by(pid: u32) -> Vec<Object> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fdinfo")) else { return found };
    for entry in entries.flatten() {
        let Ok(text) = fs::read_to_string(entry.path()) else { continue };
        let field =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u32>().ok());
        // A link's description names its program too.
        if let Some(id) = field("link_id:") {
            found.push(Object::Link(id));
        }
        if let Some(id) = field("prog_id:") {
            found.push(Object::Program(id));
        }
        if let Some(id) = field("map_id:") {
            found.push(Object::Map(id));
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Those of `objects` that still exist.
pub fn still_there(objects: &[Object]) -> Vec<Object> {
    objects.iter().copied().filter(|&object| exists(object)).collect()
}

fn exists(object: Object) -> bool {
    // Commands of bpf(2): BPF_PROG_GET_FD_BY_ID, BPF_MAP_GET_FD_BY_ID, BPF_LINK_GET_FD_BY_ID (linux/bpf.h).
    let (command, id) = match object {
        Object::Program(id) => (13, id),
        Object::Map(id) => (14, id),
        Object::Link(id) => (30, id),
    };
    // `union bpf_attr` begins with the id for all three; the rest of the 12 bytes is next_id and open_flags.
    let attr = [id, 0, 0];
    // SAFETY: the kernel reads 12 bytes from a live array of 12 bytes and returns a new descriptor or an error.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_ptr(), size_of_val(&attr)) };
    if fd >= 0 {
        // SAFETY: the descriptor was returned to us just now and nobody else has it.
        unsafe { libc::close(fd as i32) };
    }
    fd >= 0
}
