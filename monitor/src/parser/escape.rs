//! The one way from bytes that a caller controls to a string that may be shown, logged or exported.

use std::fmt::Write;

/// `bytes` as printable text of at most `max` characters. Control characters, bytes that are no UTF-8, characters that
/// change the direction or visibility of text, and the backslash itself are escaped, so that two different inputs give
/// two different texts unless they are cut; what is cut ends in `…`.
pub fn escape(bytes: &[u8], max: usize) -> String {
    let plain = |byte: &u8| (b' '..=b'~').contains(byte) && *byte != b'\\';
    if bytes.len() <= max && bytes.iter().all(plain) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let mut text = String::with_capacity(bytes.len().min(max) + 4);
    let mut left = max;
    for chunk in bytes.utf8_chunks() {
        for found in chunk.valid().chars() {
            let before = text.len();
            let width = match found {
                '\\' => {
                    text.push_str("\\\\");
                    2
                }
                _ if found.is_ascii_control() => {
                    let _ = write!(text, "\\x{:02x}", found as u32);
                    4
                }
                _ if hidden(found) => {
                    let _ = write!(text, "\\u{{{:x}}}", found as u32);
                    text.len() - before
                }
                _ => {
                    text.push(found);
                    1
                }
            };
            if width > left {
                text.truncate(before);
                text.push('…');
                return text;
            }
            left -= width;
        }
        for byte in chunk.invalid() {
            if left < 4 {
                text.push('…');
                return text;
            }
            let _ = write!(text, "\\x{byte:02x}");
            left -= 4;
        }
    }
    text
}

/// Characters that a terminal or a browser would act on, or not show, instead of printing them.
fn hidden(found: char) -> bool {
    matches!(found as u32,
        0x80..=0x9f | 0xad | 0x61c | 0x180e | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f
        | 0xfe00..=0xfe0f | 0xfeff | 0xfff0..=0xfffb | 0xe0000..=0xe0fff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hostile_text_is_shown_as_escapes() {
        for (bytes, want) in [
            (&b"/v1/users"[..], "/v1/users"),
            (b"a\x1b[31mb", "a\\x1b[31mb"),
            (b"a\r\nb\0", "a\\x0d\\x0ab\\x00"),
            (b"back\\slash", "back\\\\slash"),
            (b"\xff\xfe", "\\xff\\xfe"),
            ("grün".as_bytes(), "grün"),
            ("a\u{202e}b".as_bytes(), "a\\u{202e}b"),
            ("\u{9b}31m".as_bytes(), "\\u{9b}31m"),
        ] {
            assert_eq!(escape(bytes, 64), want);
        }
        assert_eq!(escape(b"abcdef", 4), "abcd…");
        assert_eq!(escape(b"abc\n", 4), "abc…");
        assert_eq!(escape(b"abcd", 4), "abcd");
    }

    proptest! {
        #[test]
        fn the_text_is_bounded_and_printable(bytes: Vec<u8>, max in 0usize..80) {
            let text = escape(&bytes, max);
            prop_assert!(text.chars().count() <= max + 1);
            prop_assert!(!text.chars().any(|found| found.is_control() || hidden(found)));
        }
    }
}
