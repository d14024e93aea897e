//! The whole stream at once, byte by byte, sharing nothing with the machine but the definition of a fingerprint.

use super::{HEADERS, KEEP, KEY, Message};
use monitor_common::http1::flag;
use monitor_common::siphash::{Carrier, fingerprint};

fn trim(v: &[u8]) -> &[u8] {
    let blank = |b: &u8| *b == b' ' || *b == b'\t';
    let from = v.iter().position(|b| !blank(b)).unwrap_or(v.len());
    let to = v.iter().rposition(|b| !blank(b)).map_or(from, |at| at + 1);
    &v[from..to]
}

fn line(d: &[u8], p: usize) -> Option<(usize, usize, bool)> {
    let n = d.get(p..)?.iter().position(|&b| b == b'\n')? + p;
    Some(if n > p && d[n - 1] == b'\r' { (n - 1, n + 1, false) } else { (n, n + 1, true) })
}

fn last_coding_is_chunked(v: &[u8]) -> bool {
    let text = String::from_utf8_lossy(trim(v)).to_ascii_lowercase();
    text.rsplit([',', ' ', '\t']).next() == Some("chunked")
}

/// The kind of the credential in a header, as the kernel side numbers it.
fn cred(name: &str, value: &[u8]) -> u8 {
    let Some(at) = HEADERS.iter().position(|header| *header == name) else { return 0 };
    if name != "authorization" {
        return 8 + at as u8;
    }
    let value = String::from_utf8_lossy(trim(value)).into_owned();
    let (scheme, rest) = value.split_once([' ', '\t']).unwrap_or((&value, ""));
    let aws4 =
        scheme.eq_ignore_ascii_case("AWS4-HMAC-SHA256") && trim(rest.as_bytes()).starts_with(b"Credential=");
    if aws4 || scheme.eq_ignore_ascii_case("AWS") { 2 } else { 1 }
}

/// The messages of a stream. `methods` are those of the requests that responses answer.
pub fn messages(resp: bool, d: &[u8], methods: &[u8]) -> Vec<Message> {
    let mut out: Vec<Message> = vec![];
    let (mut p, mut answered) = (0, 0);
    'message: loop {
        while p < d.len() && (d[p] == b'\n' || d[p..].starts_with(b"\r\n")) {
            p += if d[p] == b'\n' { 1 } else { 2 };
        }
        let start = p;
        let Some((e, n, bare)) = line(d, p) else { return out };
        let mut f = if bare { flag::BARE_LF } else { 0 };
        let l = &d[p..e];
        let (mut method, mut status) = (0, 0);
        if resp {
            status = std::str::from_utf8(&l[9..12]).unwrap().parse().unwrap();
            if l[7] == b'0' {
                f |= flag::V10;
            }
        } else {
            let known: [&[u8]; 8] =
                [b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"PATCH", b"CONNECT"];
            let token = l.split(|&b| b == b' ').next().unwrap();
            method = known.iter().position(|m| *m == token).map_or(0, |at| at as u8 + 1);
            if l.ends_with(b"HTTP/1.0") {
                f |= flag::V10;
            }
        }
        p = n;
        let (mut cl, mut folds_te) = (0u64, false);
        let mut creds: Vec<(u8, u64)> = vec![];
        loop {
            let Some((e, n, bare)) = line(d, p) else { return out };
            if bare {
                f |= flag::BARE_LF;
            }
            let l = &d[p..e];
            p = n;
            if l.is_empty() {
                break;
            }
            if l[0] == b' ' || l[0] == b'\t' {
                f |= flag::FOLD;
                if folds_te {
                    f = if last_coding_is_chunked(l) { f | flag::CHUNKED } else { f & !flag::CHUNKED };
                }
                continue;
            }
            folds_te = false;
            let Some(c) = l.iter().position(|&b| b == b':') else { continue };
            let name = String::from_utf8_lossy(&l[..c]).to_ascii_lowercase();
            let v = trim(&l[c + 1..]);
            match &name[..] {
                "content-length" => {
                    cl = std::str::from_utf8(v).unwrap().parse().unwrap();
                    f |= flag::CL;
                }
                "transfer-encoding" => {
                    folds_te = true;
                    f |= flag::TE;
                    f = if last_coding_is_chunked(v) { f | flag::CHUNKED } else { f & !flag::CHUNKED };
                }
                _ if resp => {}
                "connection" => {
                    if v.to_ascii_lowercase().starts_with(b"close") {
                        f |= flag::CONN_CLOSE;
                    }
                }
                "upgrade" => f |= flag::UPGRADE,
                "expect" => f |= flag::EXPECT,
                _ => {
                    let kind = cred(&name, v);
                    let carrier = if name == "authorization" {
                        Carrier::Authorization
                    } else {
                        Carrier::Header(name.as_bytes())
                    };
                    if kind != 0
                        && let Some(fp) = fingerprint(KEY, carrier, v)
                    {
                        creds.push((kind, fp));
                    }
                }
            }
        }
        creds.sort_by_key(|(kind, _)| *kind);
        let mut message = Message {
            method,
            status,
            flags: f & KEEP,
            length: if f & flag::CHUNKED != 0 || f & flag::CL == 0 { 0 } else { cl },
            fp: [0; 4],
            cred: [0; 4],
            more: u8::from(creds.len() > 4),
            host: 0,
            head: if resp { vec![] } else { d[start..p].to_vec() },
            head_len: p - start,
            body: None,
        };
        for (at, (kind, fp)) in creds.into_iter().take(4).enumerate() {
            (message.cred[at], message.fp[at]) = (kind, fp);
        }
        out.push(message);
        let body = &mut out.last_mut().unwrap().body;
        if resp {
            if status == 101 {
                *body = Some(0);
                return out;
            }
            if status < 200 {
                continue;
            }
            let method = methods[answered];
            answered += 1;
            if method == 8 && status < 300 {
                *body = Some(0);
                return out;
            }
            if method == 4 || status == 204 || status == 304 {
                *body = Some(0);
                continue;
            }
        } else if method == 8 {
            *body = Some(0);
            continue;
        }
        if f & flag::CHUNKED != 0 {
            let mut sum = 0;
            loop {
                let Some((e, n, _)) = line(d, p) else { return out };
                let l = &d[p..e];
                p = n;
                let hex: Vec<u8> = l.iter().copied().take_while(u8::is_ascii_hexdigit).collect();
                let size = usize::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap();
                sum += size as u64;
                if size == 0 {
                    loop {
                        let Some((e, n, _)) = line(d, p) else { return out };
                        let empty = e == p;
                        p = n;
                        if empty {
                            *body = Some(sum);
                            continue 'message;
                        }
                    }
                }
                p += size;
                if p >= d.len() {
                    return out;
                }
                p += if d[p] == b'\n' { 1 } else { 2 };
            }
        } else if f & flag::CL != 0 {
            p += cl as usize;
            if p > d.len() {
                return out;
            }
            *body = Some(cl);
        } else if resp {
            return out;
        } else {
            *body = Some(0);
        }
    }
}
