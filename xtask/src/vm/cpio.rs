//! Archives in the kernel's initramfs format ("newc", Documentation/driver-api/early-userspace/buffer-format.rst).

use std::io::{self, Write};

/// Kind and content of one entry.
#[derive(Clone, Copy)]
pub enum Node<'a> {
    /// A folder.
    Folder,
    /// A symbolic link to this path.
    Link(&'a str),
    /// A file that everybody may read, and run where `program` is set.
    File {
        /// Content.
        bytes: &'a [u8],
        /// Whether it may be executed.
        program: bool,
    },
}

/// Writes entries one after the other.
pub struct Archive<W> {
    out: W,
    inode: u32,
    written: usize,
}

impl<W: Write> Archive<W> {
    /// An archive without entries.
    pub fn new(out: W) -> Self {
        Self { out, inode: 0, written: 0 }
    }

    /// Adds `path`, which has no leading slash; its folder must have been added before.
    pub fn add(&mut self, path: &str, node: Node<'_>) -> io::Result<()> {
        // File types and permissions as in `st_mode`.
        match node {
            Node::Folder => self.entry(path, 0o040_755, b""),
            Node::Link(to) => self.entry(path, 0o120_777, to.as_bytes()),
            Node::File { bytes, program } => {
                self.entry(path, if program { 0o100_755 } else { 0o100_644 }, bytes)
            }
        }
    }

    /// Ends the archive and returns what it was written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.entry("TRAILER!!!", 0, b"")?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(&mut self, path: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
        self.inode += 1;
        let size =
            u32::try_from(bytes.len()).map_err(|_| io::Error::other(format!("{path} is over 4 GiB")))?;
        // inode, mode, user, group, links, time, size, four device numbers, length of the name with its NUL, checksum
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, path.len() as u32 + 1, 0];
        self.put(b"070701")?;
        for field in fields {
            self.put(format!("{field:08x}").as_bytes())?;
        }
        self.put(path.as_bytes())?;
        self.put(b"\0")?;
        self.align()?;
        self.put(bytes)?;
        self.align()
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len();
        self.out.write_all(bytes)
    }

    fn align(&mut self) -> io::Result<()> {
        let rest = self.written.next_multiple_of(4) - self.written;
        self.put(&[0; 3][..rest])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_sized() {
        let mut archive = Archive::new(Vec::new());
        archive.add("a", Node::Folder).unwrap();
        archive.add("a/b", Node::File { bytes: b"12345", program: true }).unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(&bytes[..14], b"07070100000001");
        // head 110, name "a\0" padded to 112
        let second = &bytes[112..];
        assert_eq!(&second[..6], b"070701");
        assert_eq!(&second[14..22], b"000081ed");
        assert_eq!(&second[54..62], b"00000005");
        // head 110 and name "a/b\0" make 114, padded to 116
        assert_eq!(&second[116..121], b"12345");
        assert!(bytes.windows(11).any(|window| window == b"TRAILER!!!\0"));
    }
}
