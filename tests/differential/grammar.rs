//! Payloads: requests out of parts, each part plain or in one of the forms of [`FORMS`], and how they are sent.
//!
//! Everything is made from a seed, so that a payload can be made again. Shrinking drops requests and forms, never bytes:
//! what is left of a difference is the name of what makes it.

use super::forms::{FORMS, Form, Slot};

/// Where a request without odd parts goes to.
pub const ALLOWED: &str = "/v1/x";

/// Random numbers that are the same everywhere for a seed: splitmix64.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// How a payload is cut into writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// One write.
    Whole,
    /// A write for each request.
    Requests,
    /// The same, each sent once the one before it was answered, or not for a while.
    Answered,
    /// A write for each line.
    Lines,
    /// A write for each byte.
    Bytes,
    /// Two writes, cut at this thousandth of the bytes.
    At(usize),
}

/// How the client ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It closes its side when nothing more comes.
    Quiet,
    /// It closes its side right behind the last byte.
    Fin,
}

/// One connection's worth of bytes.
#[derive(Clone)]
pub struct Payload {
    /// The requests, each with the forms of its parts that are not plain.
    pub requests: Vec<Vec<&'static Form>>,
    pub split: Split,
    pub end: End,
}

impl Payload {
    /// `forms` in one request: first on the connection, behind another, alone in every request, and in single bytes.
    pub fn in_every_place(forms: &[&'static Form]) -> Vec<Self> {
        let odd = forms.to_vec();
        let plain = Vec::new;
        let place = |requests, split, end| Self { requests, split, end };
        vec![
            place(vec![odd.clone(), plain(), plain()], Split::Whole, End::Quiet),
            place(vec![odd.clone(), plain(), plain()], Split::Answered, End::Quiet),
            place(vec![plain(), odd.clone(), plain()], Split::Bytes, End::Quiet),
            place(vec![odd.clone(), odd.clone(), odd], Split::Lines, End::Fin),
        ]
    }

    /// One to four requests with up to three forms each, none of which `avoid` refuses.
    pub fn random(random: &mut Random, avoid: impl Fn(&[&'static Form]) -> bool) -> Self {
        let count = 1 + random.below(4);
        let mut requests = Vec::new();
        let mut all = Vec::new();
        for _ in 0..count {
            let mut forms: Vec<&'static Form> = Vec::new();
            for _ in 0..random.pick(&[0, 1, 1, 1, 2, 2, 3]) {
                let form = &FORMS[random.below(FORMS.len())];
                all.push(form);
                if forms.iter().any(|other| other.meets(form)) || avoid(&all) {
                    all.pop();
                } else {
                    forms.push(form);
                }
            }
            requests.push(forms);
        }
        let at = Split::At(random.below(1000));
        let split = random.pick(&[
            Split::Whole,
            Split::Whole,
            Split::Requests,
            Split::Answered,
            Split::Lines,
            Split::Bytes,
            at,
        ]);
        let end = random.pick(&[End::Quiet, End::Quiet, End::Fin]);
        Self { requests, split, end }
    }

    /// Names of the forms in it, each once, in order.
    pub fn classes(&self) -> Vec<&'static str> {
        let mut classes: Vec<_> = self.requests.iter().flatten().map(|form| form.class).collect();
        classes.sort_unstable();
        classes.dedup();
        classes
    }

    /// Everything that is one step smaller.
    pub fn smaller(&self) -> Vec<Self> {
        let mut found = Vec::new();
        for (at, forms) in self.requests.iter().enumerate() {
            if self.requests.len() > 1 {
                let mut less = self.clone();
                less.requests.remove(at);
                found.push(less);
            }
            for form in 0..forms.len() {
                let mut less = self.clone();
                less.requests[at].remove(form);
                found.push(less);
            }
        }
        if self.split != Split::Whole {
            found.push(Self { split: Split::Whole, ..self.clone() });
        }
        if self.end != End::Quiet {
            found.push(Self { end: End::Quiet, ..self.clone() });
        }
        found
    }

    /// The bytes, a part a write.
    pub fn writes(&self, target: &str) -> Vec<Vec<u8>> {
        let requests = self.rendered(target);
        let whole = requests.concat();
        match self.split {
            Split::Whole => vec![whole],
            Split::Requests | Split::Answered => requests,
            Split::Lines => whole.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect(),
            // What is long is long by repetition: a write for each byte of its ends is enough.
            Split::Bytes => {
                let (head, rest) = whole.split_at(whole.len().min(400));
                let mut writes: Vec<_> = head.chunks(1).map(<[u8]>::to_vec).collect();
                writes.extend((!rest.is_empty()).then(|| rest.to_vec()));
                writes
            }
            Split::At(thousandth) => {
                let (head, rest) = whole.split_at(whole.len() * thousandth / 1000);
                [head, rest].into_iter().filter(|part| !part.is_empty()).map(<[u8]>::to_vec).collect()
            }
        }
    }

    /// What is sent and how, for a person.
    pub fn shown(&self, target: &str) -> String {
        let bytes = self.rendered(target).concat().escape_ascii().to_string();
        let (split, end) = (self.split, self.end);
        if bytes.len() > 600 {
            let (head, tail) = (&bytes[..400], &bytes[bytes.len() - 150..]);
            return format!("{split:?} {end:?} \"{head}[...]{tail}\"");
        }
        format!("{split:?} {end:?} \"{bytes}\"")
    }

    /// The requests' bytes; one that is cut off is the last.
    fn rendered(&self, target: &str) -> Vec<Vec<u8>> {
        let mut requests = Vec::new();
        for forms in &self.requests {
            requests.push(render(forms, if forms.is_empty() { ALLOWED } else { target }));
            if forms.iter().any(|form| form.sets(Slot::Cut).is_some()) {
                break;
            }
        }
        requests
    }
}

/// The order of the parts of a request.
const ORDER: &[Slot] = &[
    Slot::Front,
    Slot::Method,
    Slot::Gap,
    Slot::Target,
    Slot::Version,
    Slot::Behind,
    Slot::LineEnd,
    Slot::Host,
    Slot::Header,
    Slot::Length,
    Slot::HeadEnd,
    Slot::Body,
];

fn render(forms: &[&'static Form], target: &str) -> Vec<u8> {
    let set = |slot| forms.iter().find_map(|form| form.sets(slot));
    let has_body = set(Slot::Body).is_some();
    let plain = |slot| -> &'static [u8] {
        match slot {
            Slot::Method if has_body => b"POST",
            Slot::Method => b"GET",
            Slot::Gap => b" ",
            Slot::Target => b"{t}",
            Slot::Version => b" HTTP/1.1",
            Slot::LineEnd | Slot::HeadEnd => b"\r\n",
            Slot::Host => b"Host: h\r\n",
            Slot::Content => b"hello",
            Slot::Front | Slot::Behind | Slot::Header | Slot::Length | Slot::Body | Slot::Cut => b"",
        }
    };
    let part = |slot| set(slot).unwrap_or_else(|| plain(slot));
    let content = fill(part(Slot::Content), target, b"");
    let mut request = Vec::new();
    let last = match set(Slot::Cut) {
        Some(b"line") => Slot::Target,
        Some(b"version") => Slot::Version,
        Some(b"head") => Slot::Length,
        _ => Slot::Body,
    };
    for slot in ORDER {
        request.extend(fill(part(*slot), target, &content));
        if *slot == last {
            break;
        }
    }
    if set(Slot::Cut) == Some(b"body") {
        request.truncate(request.len().saturating_sub(3));
    }
    request
}

/// Fills in what stands in braces: a letter and perhaps a number, see [`filled`].
fn fill(template: &[u8], target: &str, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = template;
    while let Some(open) = rest.iter().position(|byte| *byte == b'{') {
        let close = rest.iter().position(|byte| *byte == b'}').unwrap();
        out.extend_from_slice(&rest[..open]);
        let number = std::str::from_utf8(&rest[open + 2..close]).unwrap().parse().unwrap_or(0);
        out.extend(filled(rest[open + 1], number, target, content));
        rest = &rest[close + 1..];
    }
    out.extend_from_slice(rest);
    out
}

fn filled(what: u8, number: usize, target: &str, content: &[u8]) -> Vec<u8> {
    let len = content.len() as u128;
    match what {
        // the target, the content, the content as the body of a chunked message
        b't' => target.into(),
        b'd' => content.into(),
        b'c' => [format!("{len:x}\r\n").as_bytes(), content, b"\r\n0\r\n\r\n"].concat(),
        // the content's length: decimal, hexadecimal, with that many digits; and what is the same in 32 and 64 bits
        b'n' => format!("{len:0number$}").into(),
        b'x' => format!("{len:0number$x}").into(),
        b'X' => format!("{len:0number$X}").into(),
        b'v' => (len + (1 << 32)).to_string().into(),
        b'w' => (len + (1 << 64)).to_string().into(),
        b'y' => format!("{:x}", len + (1 << 64)).into(),
        // that many letters, digits, empty lines, header lines
        b'a' => vec![b'A'; number],
        b'z' => vec![b'0'; number],
        b'l' => b"\r\n".repeat(number),
        b'h' => b"X-Line: x\r\n".repeat(number),
        _ => panic!("no such filling: {}", what as char),
    }
}

#[test]
fn payloads_are_made_of_their_parts() {
    let of = |classes: &[&str]| -> Vec<&'static Form> {
        classes.iter().map(|class| FORMS.iter().find(|form| form.class == *class).unwrap()).collect()
    };
    let text = |classes: &[&str]| String::from_utf8(render(&of(classes), "/v1/x")).unwrap();
    assert_eq!(text(&[]), "GET /v1/x HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(
        text(&["length/plus", "front/crlf"]),
        "\r\nPOST /v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: +5\r\n\r\nhello"
    );
    assert_eq!(
        text(&["chunk/0x", "content/request"]),
        "POST /v1/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0x1f\r\nGET /v1/x HTTP/1.1\r\nHost: h\r\n\r\n\
         \r\n0\r\n\r\n"
    );
    assert_eq!(text(&["cut/line"]), "GET /v1/x");
    let mut classes: Vec<_> = FORMS.iter().map(|form| form.class).collect();
    classes.sort_unstable();
    classes.dedup();
    assert_eq!(classes.len(), FORMS.len(), "a form is there twice");
    for form in FORMS {
        for payload in Payload::in_every_place(&[form]) {
            let whole = Payload { split: Split::Whole, ..payload.clone() };
            assert_eq!(payload.writes("/v1/x").concat(), whole.writes("/v1/x").concat(), "{}", form.class);
        }
    }
    let made = |seed| Payload::random(&mut Random(seed), |_| false).shown(ALLOWED);
    assert_eq!(made(7), made(7));
    assert_ne!(made(7), made(8));
}
