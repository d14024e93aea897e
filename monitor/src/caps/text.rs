//! What a denied caller is answered: `Retry-After` (RFC 9110), `RateLimit` and `RateLimit-Policy`
//! (draft-ietf-httpapi-ratelimit-headers-10), and a problem document (RFC 9457). The kernel side fills in the numbers.

use monitor_common::answer::{BYTES, DIGITS, STAYS, Text};

use crate::config::Cap;

/// Most bytes of a cap's name that are shown.
const NAME: usize = 64;

/// The response to a request over `cap`.
pub fn over_cap(cap: &Cap) -> Text {
    let name: String = cap.name.chars().filter(|c| is_plain(*c)).take(NAME).collect();
    let seconds = cap.rate.per_ns() / 1_000_000_000;
    Builder::new(429, "Too Many Requests")
        .number("Retry-After: ", Place::Retry, "\r\n")
        .text(&format!("RateLimit-Policy: \"{name}\";q={};w={seconds}\r\n", cap.rate.requests))
        .number(&format!("RateLimit: \"{name}\";r=0;t="), Place::Reset, "\r\n")
        .finish(&format!("{{\"title\":\"Too Many Requests\",\"status\":429,\"cap\":\"{name}\"}}\n"))
}

/// The response to a request outside its role's access level, or with more credentials than can be told apart.
pub fn outside_access() -> Text {
    Builder::new(403, "Forbidden").finish("{\"title\":\"Forbidden\",\"status\":403}\n")
}

/// Whether a character may stand in a quoted string of HTTP and of JSON as it is.
fn is_plain(c: char) -> bool {
    matches!(c, ' '..='~') && c != '"' && c != '\\'
}

/// Numbers of a response.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Retry,
    Reset,
    Length,
}

/// Builds a response piece by piece.
struct Builder {
    text: Text,
    bytes: Vec<u8>,
}

impl Builder {
    fn new(status: u16, reason: &str) -> Self {
        let bytes = format!("HTTP/1.1 {status} {reason}\r\n").into_bytes();
        Self { text: Text { status, ..Text::NONE }, bytes }
    }

    fn text(mut self, text: &str) -> Self {
        self.bytes.extend_from_slice(text.as_bytes());
        self
    }

    /// A number between two texts; the kernel side writes it.
    fn number(mut self, before: &str, place: Place, behind: &str) -> Self {
        self.bytes.extend_from_slice(before.as_bytes());
        let at = self.bytes.len() as u16;
        match place {
            Place::Retry => self.text.retry_at = at,
            Place::Reset => self.text.reset_at = at,
            Place::Length => self.text.length_at = at,
        }
        self.bytes.extend_from_slice(&[b'0'; DIGITS]);
        self.text(behind)
    }

    /// The rest of the head, and the body. What does not fit leaves the body out.
    fn finish(self, body: &str) -> Text {
        let mut whole = self.text("Content-Type: application/problem+json\r\nConnection: ");
        whole.text.connection_at = whole.bytes.len() as u16;
        whole.bytes.extend_from_slice(&STAYS);
        let mut whole = whole.number("\r\nContent-Length: ", Place::Length, "\r\n\r\n");
        whole.text.head = whole.bytes.len() as u16;
        if whole.bytes.len() + body.len() <= BYTES {
            whole.bytes.extend_from_slice(body.as_bytes());
        }
        whole.text.len = whole.bytes.len() as u16;
        for (to, from) in whole.text.bytes.iter_mut().zip(&whole.bytes) {
            *to = *from;
        }
        whole.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cap(name: &str) -> Cap {
        toml::from_str(&format!("name = {name:?}\nidentity = \"a\"\nrate = \"10000/d\"\nburst = 5")).unwrap()
    }

    #[test]
    fn a_response_is_whole_and_says_where_its_numbers_are() {
        let text = over_cap(&cap("partner-fast"));
        let bytes = &text.bytes[..text.len as usize];
        let shown = std::str::from_utf8(bytes).unwrap();
        let (head, body) = shown.split_at(text.head as usize);
        assert!(head.starts_with("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 0000000\r\n"), "{head}");
        assert!(head.contains("\r\nRateLimit-Policy: \"partner-fast\";q=10000;w=86400\r\n"), "{head}");
        assert!(head.contains("\r\nRateLimit: \"partner-fast\";r=0;t=0000000\r\n"), "{head}");
        assert!(head.ends_with("\r\nConnection: keep-alive\r\nContent-Length: 0000000\r\n\r\n"), "{head}");
        assert_eq!(body, "{\"title\":\"Too Many Requests\",\"status\":429,\"cap\":\"partner-fast\"}\n");
        for at in [text.retry_at, text.reset_at, text.length_at] {
            assert_eq!(&bytes[at as usize..][..DIGITS], b"0000000");
        }
        assert_eq!(&bytes[text.connection_at as usize..][..STAYS.len()], STAYS);
    }

    #[test]
    fn the_longest_name_fits_and_no_name_breaks_out_of_its_quotes() {
        let long = over_cap(&cap(&"x".repeat(500)));
        assert!(long.len > long.head && long.len as usize <= BYTES);
        let odd = over_cap(&cap("a\"b\\c\u{e9}d"));
        assert!(String::from_utf8_lossy(&odd.bytes).contains("RateLimit: \"abcd\";r=0"));
        let access = outside_access();
        assert_eq!((access.status, access.retry_at, access.reset_at), (403, 0, 0));
    }
}
