//! Credentials in a query or a cookie, found by name. Percent-encoding is not decoded: the fingerprint is of the bytes
//! as sent, as in the kernel.

use super::head::{split_at_byte, trim};

/// Calls `found(index in names, value)` for every pair of a query whose key is one of `names` (ASCII case ignored).
pub fn query_values<'a>(query: &'a [u8], names: &[impl AsRef<str>], mut found: impl FnMut(usize, &'a [u8])) {
    pairs(query, b'&', names, &mut found);
}

/// The same for one `Cookie` line; names are case-sensitive there but are compared the same way.
pub fn cookie_values<'a>(line: &'a [u8], names: &[impl AsRef<str>], mut found: impl FnMut(usize, &'a [u8])) {
    pairs(line, b';', names, &mut found);
}

fn pairs<'a>(
    mut rest: &'a [u8],
    separator: u8,
    names: &[impl AsRef<str>],
    found: &mut impl FnMut(usize, &'a [u8]),
) {
    if names.is_empty() {
        return;
    }
    while !rest.is_empty() {
        let (pair, after) = split_at_byte(rest, separator);
        rest = after;
        let (key, value) = split_at_byte(pair, b'=');
        let (key, value) = (trim(key), trim(value));
        if let Some(index) = names.iter().position(|name| name.as_ref().as_bytes().eq_ignore_ascii_case(key))
            && !value.is_empty()
        {
            found(index, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_found_by_name() {
        let names = ["api_key".to_owned(), "key".to_owned()];
        let mut got = Vec::new();
        query_values(b"a=b&KEY=1&api_key=x=y&key=&api_key", &names, |index, value| got.push((index, value)));
        assert_eq!(got, [(1, &b"1"[..]), (0, b"x=y")]);
        got.clear();
        cookie_values(b"a=b; key=s%20t ;key2=no", &names, |index, value| got.push((index, value)));
        assert_eq!(got, [(1, &b"s%20t"[..])]);
    }
}
