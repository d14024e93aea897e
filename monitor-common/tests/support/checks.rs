//! What must hold for any bytes. The fuzzer calls these, and a test replays its corpus.

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::sync::LazyLock;

use monitor_common::event::{Event, decode};
use monitor_common::http1::{Conn, Names, method};
use monitor_common::siphash::{Carrier, fingerprint};

use super::generate::message;
use super::{HEADERS, KEY, Rng, reference, run};

fn seed(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish() | 1
}

/// Requests with everything configured. Built once: the search for a multiplier takes longer than a stream.
static REQUEST: LazyLock<Names> = LazyLock::new(|| {
    Names::request_with(&HEADERS, &["api_key", "k"], &["sid", "session"], false, KEY).unwrap()
});
static PLAIN: LazyLock<Names> = LazyLock::new(super::request_names);
static RESPONSE: LazyLock<Names> = LazyLock::new(Names::response);

/// One read, many reads and one byte a read give the same result; nothing hangs or leaves the window.
pub fn framing(bytes: &[u8]) {
    let Some((options, stream)) = bytes.split_first() else { return };
    let resp = options & 1 != 0;
    let names: &Names = if resp { &RESPONSE } else { &REQUEST };
    let mut r = Rng(seed(bytes));
    let outcome = |cuts: &[usize]| {
        let mut conn = Conn::NEW;
        conn.shared.head_bits = u64::from(options >> 1 & 3);
        let result = run(resp, &mut conn, names, stream, cuts);
        (result, conn.shared)
    };
    let whole = outcome(&[]);
    let mut cuts: Vec<usize> = (0..r.n(9)).map(|_| r.n(stream.len() + 1)).collect();
    cuts.sort_unstable();
    assert_eq!(outcome(&cuts), whole, "cuts {cuts:?}");
    assert_eq!(outcome(&(1..stream.len()).collect::<Vec<_>>()), whole, "a byte a read");
}

/// Streams made from the bytes as a seed, against the reference parser.
pub fn reference(bytes: &[u8]) {
    let mut r = Rng(seed(bytes));
    let resp = r.one(2);
    let names: &Names = if resp { &RESPONSE } else { &PLAIN };
    let methods: Vec<u8> = (0..=r.n(5)).map(|_| r.pick(&[method::GET, method::HEAD, method::POST])).collect();
    let mut stream = vec![];
    let mut conn = Conn::NEW;
    for (i, m) in methods.iter().enumerate() {
        stream.extend(message(&mut r, resp, Some(*m), i + 1 == methods.len()));
        conn.shared.head_bits |= u64::from(*m == method::HEAD) << i;
    }
    let want = reference::messages(resp, &stream, &methods);
    let mut cuts: Vec<usize> = (0..r.n(12)).map(|_| r.n(stream.len() + 1)).collect();
    cuts.sort_unstable();
    assert_eq!(run(resp, &mut conn, names, &stream, &cuts), (want, 0), "cuts {cuts:?}");
}

/// Decoding ends, and what it understood is what was there.
pub fn event(bytes: &[u8]) {
    let fixed = match decode(bytes) {
        Ok(Event::Conn(record)) => record.as_bytes().to_vec(),
        Ok(Event::Request(record, rest)) => [record.as_bytes(), rest].concat(),
        Ok(Event::HeadPart(record, rest)) => [record.as_bytes(), rest].concat(),
        Ok(Event::Response(record)) => record.as_bytes().to_vec(),
        Ok(Event::Close(record)) => record.as_bytes().to_vec(),
        Ok(Event::Exec(record, rest)) => [record.as_bytes(), rest].concat(),
        Ok(Event::Exit(record)) => record.as_bytes().to_vec(),
        Ok(Event::Verdict(record)) => record.as_bytes().to_vec(),
        Ok(Event::Due(record)) => record.as_bytes().to_vec(),
        Err(_) => return,
    };
    assert!(bytes.starts_with(&fixed));
}

/// The fingerprint that the machine makes of a value in pieces is that of the definition.
pub fn siphash(bytes: &[u8]) {
    let value: Vec<u8> = bytes.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n')).collect();
    let mut r = Rng(seed(bytes));
    for (name, carrier) in
        [("Authorization", Carrier::Authorization), ("X-Api-Key", Carrier::Header(b"x-api-key"))]
    {
        let stream = [b"GET / HTTP/1.1\r\n", name.as_bytes(), b":", &value[..], b"\r\n\r\n"].concat();
        let mut cuts: Vec<usize> = (0..r.n(6)).map(|_| r.n(stream.len() + 1)).collect();
        cuts.sort_unstable();
        let (messages, lost) = run(false, &mut { Conn::NEW }, &PLAIN, &stream, &cuts);
        let found = messages.first().and_then(|m| (m.cred[0] != 0).then_some(m.fp[0]));
        let want = fingerprint(KEY, carrier, &value);
        assert_eq!((found, lost), (want, 0), "{name}: {:?} cuts {cuts:?}", String::from_utf8_lossy(&value));
    }
}
