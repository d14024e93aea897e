//! Reads `/proc/PID/maps` and `/proc/PID/stat`.
//!
//! Owns: their formats (proc(5)). Must not open anything: bytes come in, values go out.

use std::ops::Range;

/// A file that is mapped with execute permission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping<'a> {
    /// The addresses, which also name its entry in `/proc/PID/map_files`.
    pub addresses: Range<u64>,
    /// Device as the kernel prints it; on some file systems not the one that `stat` gives.
    pub device: (u32, u32),
    /// Inode number.
    pub inode: u64,
    /// Path as the process sees it, without the mark of a deleted file.
    pub path: &'a [u8],
}

/// The executable file mappings in the text of a `maps` file, in its order. Lines that are none are passed over.
pub fn executable_files(maps: &[u8]) -> impl Iterator<Item = Mapping<'_>> {
    maps.split(|&byte| byte == b'\n').filter_map(mapping)
}

fn mapping(line: &[u8]) -> Option<Mapping<'_>> {
    let mut rest = line;
    let mut field = || {
        let end = rest.iter().position(|&byte| byte == b' ').unwrap_or(rest.len());
        let (field, after) = rest.split_at_checked(end)?;
        rest = after.trim_ascii_start();
        std::str::from_utf8(field).ok()
    };
    let (start, end) = field()?.split_once('-')?;
    let permissions = field()?;
    let _offset = field()?;
    let (major, minor) = field()?.split_once(':')?;
    let inode: u64 = field()?.parse().ok()?;
    let path = rest.strip_suffix(b" (deleted)").unwrap_or(rest);
    (permissions.contains('x') && inode != 0 && path.starts_with(b"/")).then_some(Mapping {
        addresses: u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?,
        device: (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?),
        inode,
        path,
    })
}

/// Start time and size of a process: two values that tell whether its mappings may have changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Clock ticks since boot at which it started.
    pub started: u64,
    /// Bytes of its address space.
    pub bytes: u64,
}

/// The [`Shape`] in the text of `/proc/PID/stat`.
pub fn shape(stat: &[u8]) -> Option<Shape> {
    // The name in parentheses may contain anything, so count fields from its end: the state is field 3.
    let name_end = stat.iter().rposition(|&byte| byte == b')')?;
    let mut fields = std::str::from_utf8(stat.get(name_end + 1..)?).ok()?.split_ascii_whitespace();
    let started = fields.nth(22 - 3)?.parse().ok()?;
    let bytes = fields.next()?.parse().ok()?;
    Some(Shape { started, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &[u8] = b"\
561b6c000000-561b6c002000 r--p 00000000 fe:00 1234                       /usr/bin/cat\n\
561b6c002000-561b6c007000 r-xp 00002000 fe:00 1234                       /usr/bin/cat\n\
7f6e3c000000-7f6e3c021000 rw-p 00000000 00:00 0 \n\
7f6e40000000-7f6e40100000 r-xp 00026000 fe:00 99                         /opt/a b/libssl.so.3 (deleted)\n\
7f6e41000000-7f6e41100000 rwxs 00000000 00:01 77                         /memfd:jit (deleted)\n\
7ffc5a7f5000-7ffc5a7f7000 r-xp 00000000 00:00 0                          [vdso]\n\
nonsense\n";

    #[test]
    fn only_executable_files_are_listed() {
        let found: Vec<_> = executable_files(MAPS).collect();
        assert_eq!(
            found.iter().map(|m| (m.inode, m.path)).collect::<Vec<_>>(),
            [(1234, &b"/usr/bin/cat"[..]), (99, b"/opt/a b/libssl.so.3"), (77, b"/memfd:jit")]
        );
        assert_eq!(found[0].addresses, 0x561b_6c00_2000..0x561b_6c00_7000);
        assert_eq!(found[0].device, (0xfe, 0));
    }

    #[test]
    fn every_prefix_of_maps_is_read_without_panic() {
        for end in 0..MAPS.len() {
            assert!(executable_files(&MAPS[..end]).count() <= 3);
        }
    }

    #[test]
    fn shape_is_found_after_any_name() {
        let tail = "S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 8192 100 1";
        for name in ["(cat)", "(a) S 1 (b)", "()"] {
            let stat = format!("77 {name} {tail}");
            assert_eq!(shape(stat.as_bytes()), Some(Shape { started: 4242, bytes: 8192 }));
        }
        assert_eq!(shape(b"77 (cat S 1"), None);
        assert_eq!(shape(b"77 (cat) S 1"), None);
    }
}
