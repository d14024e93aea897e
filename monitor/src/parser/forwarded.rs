//! The client behind trusted proxies: `X-Forwarded-For` and `Forwarded` (RFC 7239), rightmost untrusted address.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::head::{split_at_byte, trim};

/// Most entries looked at, from the right.
const HOPS: usize = 64;

/// Whether `address` belongs to one of `networks`; IPv4-mapped IPv6 counts as IPv4.
pub fn is_trusted(address: IpAddr, networks: &[IpNet]) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

/// The client's address as trusted proxies reported it, to be asked only when the peer itself is trusted.
///
/// Walks each header from the right over trusted addresses; the first untrusted one is the client. An entry that is no
/// address (`unknown`, obfuscated) ends the walk at the last proxy. `None` when nothing was reported, or when both
/// headers are there and disagree: one of them then came from the client unchecked.
pub fn client(forwarded_for: &[&[u8]], forwarded: &[&[u8]], trusted: &[IpNet]) -> Option<IpAddr> {
    let plain = walk(forwarded_for, trusted, |entry| Some(entry));
    let standard = walk(forwarded, trusted, for_parameter);
    match (plain, standard) {
        (Some(one), Some(other)) => (one == other).then_some(one),
        (one, other) => one.or(other),
    }
}

fn walk(lines: &[&[u8]], trusted: &[IpNet], pick: fn(&[u8]) -> Option<&[u8]>) -> Option<IpAddr> {
    let mut last = None;
    let entries = lines
        .iter()
        .rev()
        .flat_map(|line| line.rsplit(|byte| *byte == b','))
        .filter(|entry| !trim(entry).is_empty());
    for entry in entries.take(HOPS) {
        let Some(found) = pick(entry).and_then(address) else { break };
        last = Some(found);
        if !is_trusted(found, trusted) {
            break;
        }
    }
    last
}

/// Value of `for=` in one element of `Forwarded`.
fn for_parameter(element: &[u8]) -> Option<&[u8]> {
    element.split(|byte| *byte == b';').find_map(|pair| {
        let (name, value) = split_at_byte(pair, b'=');
        trim(name).eq_ignore_ascii_case(b"for").then_some(value)
    })
}

/// An address with or without port, brackets and quotes.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(trim(entry)).ok()?.trim_matches('"');
    let found = text
        .parse::<IpAddr>()
        .or_else(|_| text.parse::<SocketAddr>().map(|found| found.ip()))
        .or_else(|_| text.trim_start_matches('[').trim_end_matches(']').parse())
        .ok()?;
    Some(found.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets() -> Vec<IpNet> {
        ["10.0.0.0/8", "fd00::/8"].iter().map(|net| net.parse().unwrap()).collect()
    }

    #[test]
    fn the_rightmost_untrusted_address_is_the_client() {
        for (plain, standard, want) in [
            (&["203.0.113.7"][..], &[][..], Some("203.0.113.7")),
            (&["6.6.6.6, 203.0.113.7, 10.0.0.2"], &[], Some("203.0.113.7")),
            (&["6.6.6.6", "203.0.113.7", "10.0.0.2"], &[], Some("203.0.113.7")),
            (&["10.9.9.9, 10.0.0.2"], &[], Some("10.9.9.9")),
            (&["203.0.113.7, unknown, 10.0.0.2"], &[], Some("10.0.0.2")),
            (&["unknown"], &[], None),
            (&["203.0.113.7:4711"], &[], Some("203.0.113.7")),
            (&["[2001:db8::1]:4711"], &[], Some("2001:db8::1")),
            (&["::ffff:10.0.0.5, ::ffff:203.0.113.7"], &[], Some("203.0.113.7")),
            (&[], &["for=192.0.2.60;proto=http;by=203.0.113.43"], Some("192.0.2.60")),
            (&[], &["for=6.6.6.6, For=\"[2001:db8:cafe::17]:4711\""], Some("2001:db8:cafe::17")),
            (&["6.6.6.6"], &["for=192.0.2.60"], None),
            (&["192.0.2.60"], &["for=192.0.2.60"], Some("192.0.2.60")),
            (&[], &[], None),
        ] {
            let plain: Vec<_> = plain.iter().map(|line| line.as_bytes()).collect();
            let standard: Vec<_> = standard.iter().map(|line| line.as_bytes()).collect();
            let want = want.map(|text| text.parse::<IpAddr>().unwrap());
            assert_eq!(client(&plain, &standard, &nets()), want, "{plain:?} {standard:?}");
        }
    }
}
