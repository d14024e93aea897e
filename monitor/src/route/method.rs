//! Method names as labels.

use monitor_common::http1::method;

/// Methods of RFC 9110 and PATCH; anything else is one label.
const NAMES: [&str; 10] =
    ["_OTHER", "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// A method as a label of bounded variety.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Method(u8);

impl Method {
    /// The method that `bytes` name, which is case-sensitive.
    pub fn new(bytes: &[u8]) -> Self {
        let found = NAMES.iter().skip(1).position(|name| name.as_bytes() == bytes);
        Self(found.map_or(0, |at| at as u8 + 1))
    }

    /// The method that the kernel side told by number, for heads that were not seen.
    pub fn from_number(number: u8) -> Self {
        Self::new(match number {
            method::GET => b"GET",
            method::POST => b"POST",
            method::PUT => b"PUT",
            method::HEAD => b"HEAD",
            method::DELETE => b"DELETE",
            method::OPTIONS => b"OPTIONS",
            method::PATCH => b"PATCH",
            method::CONNECT => b"CONNECT",
            _ => b"",
        })
    }

    /// The label, `_OTHER` for an unknown method.
    pub fn label(self) -> &'static str {
        NAMES.get(usize::from(self.0)).copied().unwrap_or("_OTHER")
    }

    /// Whether it is one of the known ones.
    pub fn is_known(self) -> bool {
        self.0 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_bounded() {
        assert_eq!(Method::new(b"GET").label(), "GET");
        assert_eq!(Method::from_number(method::PATCH).label(), "PATCH");
        assert!(!Method::from_number(200).is_known());
        for other in [&b"get"[..], b"", b"_OTHER", b"BREW"] {
            assert_eq!(Method::new(other).label(), "_OTHER");
            assert!(!Method::new(other).is_known());
        }
    }
}
