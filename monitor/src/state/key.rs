//! The installation key: 128 random bits that make fingerprints useless to anybody else.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, ensure};
use monitor_common::siphash;

use crate::parser::authorization::{self, Scheme};
use crate::view::Carrier;

/// Name of the key's file in the state directory: 32 hexadecimal digits.
const FILE: &str = "key";

/// The key of this installation.
///
/// # Errors
/// When there is none, it cannot be read, or others could read it.
pub fn read_key(dir: &Path) -> anyhow::Result<[u8; 16]> {
    let path = dir.join(FILE);
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&path);
    let file = file.with_context(|| format!("installation key {}", path.display()))?;
    let mode = file.metadata()?.mode() & 0o777;
    ensure!(
        mode.trailing_zeros() >= 6,
        "installation key {} has mode {mode:03o} and may be known to others: chmod 600, or remove it for a new one",
        path.display()
    );
    let mut text = String::new();
    file.take(64).read_to_string(&mut text)?;
    parse(text.trim()).with_context(|| {
        format!("installation key {} is damaged: restore it, or remove it for a new one", path.display())
    })
}

fn parse(text: &str) -> Option<[u8; 16]> {
    let plain = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u128::from_str_radix(text, 16).ok()).flatten().map(u128::to_be_bytes)
}

/// The key of this installation; makes the directory (0750) and the key (0600) when there are none.
///
/// # Errors
/// When it can be neither read nor made.
pub fn load_or_create_key(dir: &Path) -> anyhow::Result<[u8; 16]> {
    let made = DirBuilder::new().recursive(true).mode(0o750).create(dir);
    made.with_context(|| {
        format!("state directory {}: correct its owner, or set `[state] dir`", dir.display())
    })?;
    let path = dir.join(FILE);
    if path.exists() {
        return read_key(dir);
    }
    let mut key = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut key).context("/dev/urandom")?;
    write_new(&path, &format!("{:032x}\n", u128::from_be_bytes(key)))
        .with_context(|| format!("installation key {}", path.display()))?;
    Ok(key)
}

/// Complete or not there at all, and never readable by others.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let _ = fs::remove_file(&fresh);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}

/// The key as the two little-endian words that fingerprints are made with.
pub fn words(key: [u8; 16]) -> [u64; 2] {
    let word = |half: u128| (half as u64).swap_bytes();
    let whole = u128::from_be_bytes(key);
    [word(whole >> 64), word(whole)]
}

/// `kind:fingerprint` of a credential named `name`, `None` when it is empty.
pub fn fingerprint(key: [u8; 16], carrier: Carrier, name: &str, secret: &[u8]) -> Option<String> {
    let (kind, place) = match carrier {
        Carrier::Authorization => (authorization_kind(secret), siphash::Carrier::Authorization),
        Carrier::Header => ("api_key", siphash::Carrier::Header(name.as_bytes())),
        Carrier::Query => ("query_key", siphash::Carrier::Query(name.as_bytes())),
        Carrier::Cookie => ("cookie", siphash::Carrier::Cookie(name.as_bytes())),
    };
    Some(format!("{kind}:{:016x}", siphash::fingerprint(words(key), place, secret)?))
}

fn authorization_kind(value: &[u8]) -> &'static str {
    match authorization::scheme(value.trim_ascii()) {
        Scheme::Bearer | Scheme::Bare => "bearer",
        Scheme::Jwt => "jwt",
        Scheme::Basic => "basic",
        Scheme::Aws => "aws",
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        let key = load_or_create_key(&inner).unwrap();
        assert_eq!(load_or_create_key(&inner).unwrap(), key);
        assert_eq!(read_key(&inner).unwrap(), key);
        assert_eq!(fs::metadata(inner.join(FILE)).unwrap().mode() & 0o777, 0o600);
        assert_ne!(key, [0; 16]);
    }

    #[test]
    fn a_key_that_others_can_read_or_that_is_damaged_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        load_or_create_key(dir.path()).unwrap();
        let path = dir.path().join(FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(read_key(dir.path()).unwrap_err().to_string().contains("chmod 600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for text in ["", "xyz", "0123456789abcdef0123456789abcde", "+123456789abcdef0123456789abcdef0"] {
            fs::write(&path, text).unwrap();
            assert!(read_key(dir.path()).unwrap_err().to_string().contains("damaged"), "{text}");
        }
    }

    #[test]
    fn words_are_little_endian() {
        let key = std::array::from_fn(|at| at as u8);
        assert_eq!(words(key), [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908]);
    }

    #[test]
    fn spelling_does_not_change_a_fingerprint_but_the_carrier_does() {
        let key = [7; 16];
        let print = |carrier, name, secret: &[u8]| fingerprint(key, carrier, name, secret).unwrap();
        assert_eq!(
            print(Carrier::Authorization, "", b"Bearer  abc"),
            print(Carrier::Authorization, "", b"bearer abc ")
        );
        let header = print(Carrier::Header, "X-Api-Key", b"abc");
        assert_eq!(header, print(Carrier::Header, "x-api-key", b"abc"));
        assert!(header.starts_with("api_key:") && header.len() == "api_key:".len() + 16);
        assert_ne!(header[8..], print(Carrier::Query, "key", b"abc")[10..]);
        assert_eq!(fingerprint(key, Carrier::Cookie, "sid", b"  "), None);
    }
}
