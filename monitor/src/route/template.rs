//! From a path to a template of bounded variety: segments that look like identifiers become placeholders.

use crate::parser::looks_random;

/// Most segments of a template; the rest becomes `{rest}`.
const SEGMENTS: usize = 12;
/// Longest segment that is kept as it stands.
const SEGMENT_BYTES: usize = 40;

/// The template of `path` (already without query). What is kept is printable ASCII; the result is bounded by
/// `SEGMENTS` segments of `SEGMENT_BYTES` bytes.
pub fn template(path: &[u8]) -> String {
    let Some(rest) = path.strip_prefix(b"/") else {
        return if path == b"*" { "*".to_owned() } else { "_other".to_owned() };
    };
    let mut text = String::with_capacity(path.len().min(SEGMENTS * SEGMENT_BYTES));
    for (at, segment) in rest.split(|byte| *byte == b'/').enumerate() {
        text.push('/');
        if at == SEGMENTS {
            text.push_str("{rest}");
            break;
        }
        // matrix parameters (`;jsessionid=...`) are values
        let segment = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        push(&mut text, segment);
    }
    text
}

fn push(text: &mut String, segment: &[u8]) {
    if let Some(name) = placeholder(segment) {
        text.push_str(name);
        return;
    }
    // `123.json`: the extension says something, the number does not
    if let Some(at) = segment.iter().rposition(|byte| *byte == b'.')
        && let Some((stem, extension)) = segment.split_at_checked(at)
        && (2..=6).contains(&extension.len())
        && extension.iter().skip(1).all(u8::is_ascii_alphabetic)
        && let Some(name) = placeholder(stem)
    {
        text.push_str(name);
        text.extend(extension.iter().map(|byte| char::from(*byte)));
        return;
    }
    text.extend(segment.iter().map(|byte| char::from(*byte)));
}

/// The placeholder for a segment that looks like an identifier, `None` for one that looks like a name.
fn placeholder(segment: &[u8]) -> Option<&'static str> {
    let all = |test: fn(&u8) -> bool| segment.iter().all(test);
    let count = |test: fn(&u8) -> bool| segment.iter().filter(|byte| test(byte)).count();
    let digits = count(u8::is_ascii_digit);
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~!$&'()*+,=:".contains(byte);
    let found = if segment.is_empty() {
        return None;
    } else if !all(u8::is_ascii_graphic) || segment.contains(&b'%') {
        "{param}"
    } else if is_date(segment) {
        "{date}"
    } else if digits > 0 && all(|byte| byte.is_ascii_digit() || b"+-.,:".contains(byte)) {
        "{id}"
    } else if is_uuid(segment) {
        "{uuid}"
    } else if segment.len() >= 16 && all(u8::is_ascii_hexdigit) {
        "{hash}"
    } else if segment.contains(&b'@') {
        "{email}"
    } else if !all(plain) {
        "{param}"
    } else if segment.len() > SEGMENT_BYTES || looks_random(segment) {
        "{token}"
    } else {
        return None;
    };
    Some(found)
}

fn is_uuid(segment: &[u8]) -> bool {
    segment.len() == 36
        && segment.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// `2026-11-22`, with or without a time behind it.
fn is_date(segment: &[u8]) -> bool {
    let shape = |at: usize, byte: &u8| match at {
        4 | 7 => *byte == b'-',
        _ => byte.is_ascii_digit(),
    };
    segment.len() >= 10
        && segment.iter().take(10).enumerate().all(|(at, byte)| shape(at, byte))
        && segment.get(10).is_none_or(|byte| matches!(byte, b'T' | b't' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn identifiers_become_placeholders_and_names_stay() {
        for (path, want) in [
            ("/", "/"),
            ("/v1/users", "/v1/users"),
            ("/v1/users/", "/v1/users/"),
            ("/v1/users/42/orders/7", "/v1/users/{id}/orders/{id}"),
            ("/oauth2/token", "/oauth2/token"),
            ("/s3/bucket-2024/utf8", "/s3/bucket-2024/utf8"),
            ("/u/550e8400-e29b-41d4-a716-446655440000", "/u/{uuid}"),
            ("/c/da39a3ee5e6b4b0d3255bfef95601890afd80709", "/c/{hash}"),
            ("/r/V1StGXR8_Z5jdHi6B-myT", "/r/{token}"),
            (
                "/2010-04-01/Accounts/AC5ef8732a3c49700934481addd5ce1659/Messages.json",
                "/{date}/Accounts/{hash}/Messages.json",
            ),
            ("/o/01ARZ3NDEKTSV4RRFFQ69G5FAV", "/o/{token}"),
            ("/d/2026-11-22", "/d/{date}"),
            ("/d/2026-11-22T10:00:00Z", "/d/{date}"),
            ("/m/alice@example.com", "/m/{email}"),
            ("/f/123.json", "/f/{id}.json"),
            ("/geo/-12.5,7", "/geo/{id}"),
            ("/p/+491701234567", "/p/{id}"),
            ("/x/a%20b", "/x/{param}"),
            ("/x/gr\u{fc}n", "/x/{param}"),
            ("/x/a<script>", "/x/{param}"),
            ("/app;jsessionid=AAA/x", "/app/x"),
            ("/my-blog-post-title-of-2024", "/my-blog-post-title-of-2024"),
            ("/a/b/c/d/e/f/g/h/i/j/k/l/m/n", "/a/b/c/d/e/f/g/h/i/j/k/l/{rest}"),
            ("*", "*"),
            ("nonsense", "_other"),
        ] {
            assert_eq!(template(path.as_bytes()), want);
        }
    }

    proptest! {
        #[test]
        fn templates_are_bounded_and_printable(path: Vec<u8>) {
            let mut path = path;
            path.insert(0, b'/');
            let text = template(&path);
            prop_assert!(text.len() <= (SEGMENTS + 1) * (SEGMENT_BYTES + 8));
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
        }
    }
}
