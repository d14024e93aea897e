//! What must hold for the readings of any request line.

use monitor_common::cap::PATH;
use monitor_common::http1::method;
use monitor_common::path::{LINE, Path, Reading, flag, grants, routes};

const PREFIX: &[u8] = b"/v1/";

fn text(reading: &Reading, len: u32) -> &[u8] {
    &reading.bytes[..(len as usize).min(PATH)]
}

fn under(reading: &Reading, len: u32) -> u64 {
    u64::from(text(reading, len).starts_with(PREFIX)) << method::GET
}

/// Step by step and at once are the same; what was there before leaves no trace; what is granted is under the prefix for
/// every server of [`views`]; what one of them takes for a route falls under it.
pub fn check(line: &[u8]) {
    let whole = Path::of_line(line);
    let mut again = Path::of_line(b"GET /left%2Fover/from/before;x HTTP/1.1\r\n");
    again.begin();
    for byte in line.iter().take(LINE as usize) {
        again.step(*byte);
    }
    again.finish();
    assert_eq!(
        (again.flags, again.raw_len, again.normal_len),
        (whole.flags, whole.raw_len, whole.normal_len)
    );
    assert_eq!(text(&again.raw, again.raw_len), text(&whole.raw, whole.raw_len));
    assert_eq!(text(&again.normal, again.normal_len), text(&whole.normal, whole.normal_len));
    assert!(whole.flags & flag::DONE != 0 && whole.normal_len as usize <= PATH);
    assert_eq!(text(&whole.raw, whole.raw_len).to_ascii_lowercase(), text(&whole.raw_lower, whole.raw_len));
    assert_eq!(
        text(&whole.normal, whole.normal_len).to_ascii_lowercase(),
        text(&whole.normal_lower, whole.normal_len)
    );
    let raw = under(&whole.raw, whole.raw_len);
    let normal = under(&whole.normal, whole.normal_len);
    let granted = grants(raw, normal, whole.flags, method::GET);
    let routed = routes(raw, normal, whole.flags) != 0;
    let Some(target) = line.strip_prefix(b"GET /").and_then(|rest| rest.split(|byte| *byte <= b' ').next())
    else {
        return;
    };
    let target = [b"/", target].concat();
    let path = target.split(|byte| *byte == b'?').next().unwrap();
    for view in views(path) {
        let seen = String::from_utf8_lossy(&view).into_owned();
        assert!(
            !granted || view.starts_with(PREFIX),
            "granted, {:?} read as {seen:?}",
            String::from_utf8_lossy(&target)
        );
        assert!(
            routed || !view.starts_with(PREFIX),
            "under no route, {:?} read as {seen:?}",
            String::from_utf8_lossy(&target)
        );
    }
}

/// How servers read a path: each combination of decoding before they split, decoding after it, taking `\` for `/`, dropping
/// empty segments, leaving parameters out and resolving dots.
fn views(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..64u32).map(|habits| {
        let has = |bit: u32| habits >> bit & 1 != 0;
        let mut bytes = if has(0) { decode(path) } else { path.to_vec() };
        if has(1) {
            bytes.iter_mut().filter(|byte| **byte == b'\\').for_each(|byte| *byte = b'/');
        }
        let mut kept: Vec<&[u8]> = Vec::new();
        let mut segments = bytes.split(|byte| *byte == b'/').skip(1).peekable();
        while let Some(segment) = segments.next() {
            let bare = if has(2) { segment.split(|byte| *byte == b';').next().unwrap() } else { segment };
            let last = segments.peek().is_none();
            match bare {
                b"" if has(3) && !last => {}
                b"." if has(4) => kept.extend(last.then_some(&b""[..])),
                b".." if has(4) => {
                    kept.pop();
                    kept.extend(last.then_some(&b""[..]));
                }
                other => kept.push(other),
            }
        }
        let read = [b"/", &kept.join(&b'/')[..]].concat();
        if has(5) { decode(&read) } else { read }
    })
}

fn decode(bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut rest = bytes;
    while let Some((byte, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let escape = hex.filter(|hex| hex.bytes().all(|digit| digit.is_ascii_hexdigit()));
        if let Some(value) = escape.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| *byte == b'%')
        {
            decoded.push(value);
            rest = &after[2..];
        } else {
            decoded.push(*byte);
            rest = after;
        }
    }
    decoded
}
