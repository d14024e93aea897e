//! Where TLS libraries and the programs that contain one usually are.
//!
//! Owns: the list of standard places and the format of the dynamic linker's cache. A probe belongs to an inode, so a
//! library that is probed before anybody maps it needs no discovery later: the first byte of a short-lived client is
//! seen. Must not decide what is a TLS library; planning does.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Directories of libraries: traditional, multiarch and local ones.
const DIRECTORIES: [&str; 7] = [
    "/usr/lib/x86_64-linux-gnu",
    "/lib/x86_64-linux-gnu",
    "/usr/lib64",
    "/lib64",
    "/usr/lib",
    "/usr/local/lib",
    "/usr/local/lib64",
];
const LIBRARIES: [&str; 4] = ["libssl.so.3", "libssl.so.1.1", "libnode.so.108", "libnode.so.115"];
/// Programs that export a TLS library of their own.
const PROGRAMS: [&str; 4] =
    ["/usr/bin/node", "/usr/bin/nodejs", "/usr/local/bin/node", "/opt/nodejs/bin/node"];
const CACHE: &str = "/etc/ld.so.cache";
/// Most bytes of the cache that are read; a large desktop has 300 KiB.
const MAX_CACHE_BYTES: u64 = 8 << 20;
/// Most files that are returned.
const MAX_FILES: usize = 64;

/// Files in standard places that may contain a TLS library, links resolved, each once.
pub fn standard_libraries() -> Vec<PathBuf> {
    let mut paths: BTreeSet<PathBuf> = BTreeSet::new();
    let fixed =
        DIRECTORIES.iter().flat_map(|dir| LIBRARIES.iter().map(move |name| Path::new(dir).join(name)));
    let cache = match fs::metadata(CACHE) {
        Ok(meta) if meta.len() <= MAX_CACHE_BYTES => fs::read(CACHE).unwrap_or_default(),
        _ => Vec::new(),
    };
    for path in fixed.chain(PROGRAMS.iter().map(PathBuf::from)).chain(cached_libraries(&cache)) {
        if paths.len() < MAX_FILES
            && let Ok(path) = fs::canonicalize(path)
            && path.is_file()
        {
            paths.insert(path);
        }
    }
    paths.into_iter().collect()
}

/// Whether a file with this name is worth opening: a shared TLS library, also under the names that Python wheels
/// (`libssl-3f9c.so.1.1`) and distributions of Node (`libnode.so.115`) give it.
pub fn is_library_name(name: &[u8]) -> bool {
    let starts = [&b"libssl"[..], b"libnode.so", b"libboringssl", b"libnetty_tcnative"];
    starts.iter().any(|start| name.starts_with(start)) && name.windows(3).any(|part| part == b".so")
}

/// The paths of TLS libraries in a dynamic linker's cache of the format of glibc 2.2 and later.
///
/// The header has 48 bytes: `glibc-ld.so.cache1.1`, the number of entries, the bytes of the string table; an entry has
/// 24 bytes: flags, offsets of name and path, OS version, hardware capabilities. An old-format table may come first.
fn cached_libraries(cache: &[u8]) -> Vec<PathBuf> {
    const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
    let mut found = Vec::new();
    let Some(start) = cache.windows(MAGIC.len()).position(|bytes| bytes == MAGIC) else { return found };
    let table = cache.get(start..).unwrap_or_default();
    let number = |at: usize| {
        let bytes = table.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
    };
    let string = |at: usize| table.get(at..)?.split(|&byte| byte == 0).next();
    for entry in (0..number(20).unwrap_or(0)).map(|index| 48 + index * 24) {
        let (Some(name), Some(path)) = (number(entry + 4), number(entry + 8)) else { break };
        if string(name).is_some_and(is_library_name)
            && let Some(path) = string(path).and_then(|path| std::str::from_utf8(path).ok())
            && found.len() < MAX_FILES
        {
            found.push(PathBuf::from(path));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut strings = Vec::new();
        let mut table = Vec::new();
        let strings_at = 48 + entries.len() * 24;
        for (name, path) in entries {
            let offset = |strings: &Vec<u8>| ((strings_at + strings.len()) as u32).to_le_bytes();
            table.extend(0x0303_u32.to_le_bytes());
            table.extend(offset(&strings));
            strings.extend([name.as_bytes(), &[0]].concat());
            table.extend(offset(&strings));
            strings.extend([path.as_bytes(), &[0]].concat());
            table.extend([0; 12]);
        }
        let mut bytes = b"glibc-ld.so.cache1.1".to_vec();
        bytes.extend((entries.len() as u32).to_le_bytes());
        bytes.extend((strings.len() as u32).to_le_bytes());
        bytes.resize(48, 0);
        [bytes, table, strings].concat()
    }

    #[test]
    fn cache_entries_of_tls_libraries_are_found() {
        let bytes = cache(&[("libz.so.1", "/lib/libz.so.1"), ("libssl.so.3", "/opt/ssl/libssl.so.3")]);
        assert_eq!(cached_libraries(&bytes), [PathBuf::from("/opt/ssl/libssl.so.3")]);
        let after_old_format = [&[7; 100][..], &bytes].concat();
        assert_eq!(cached_libraries(&after_old_format).len(), 1);
    }

    #[test]
    fn damaged_caches_are_read_without_panic() {
        let bytes = cache(&[("libssl.so.3", "/opt/ssl/libssl.so.3")]);
        for end in 0..bytes.len() {
            cached_libraries(&bytes[..end]);
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] = 0xff;
            cached_libraries(&damaged);
        }
    }

    #[test]
    fn names_of_bundled_libraries_are_recognised() {
        for name in ["libssl.so.3", "libssl.so.1.1", "libssl-3709da14.so.1.1", "libssl3.so", "libnode.so.115"]
        {
            assert!(is_library_name(name.as_bytes()), "{name}");
        }
        for name in ["libz.so.1", "libssl.a", "libsslx", "libcrypto.so.3", ""] {
            assert!(!is_library_name(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn standard_places_yield_files_without_duplicates() {
        let found = standard_libraries();
        let unique: BTreeSet<_> = found.iter().collect();
        assert_eq!(unique.len(), found.len());
        assert!(found.iter().all(|path| path.is_file()));
    }
}
