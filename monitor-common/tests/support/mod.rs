//! A host for the framing machine, a byte-by-byte reference parser, and a generator of streams.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_safety_doc,
    missing_docs,
    dead_code,
    clippy::many_single_char_names
)]
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "pointers to what the host itself owns or borrows for its whole life"
)]

pub mod checks;
pub mod generate;
pub mod path;
pub mod reference;

use monitor_common::http1::*;

/// The installation key of the tests.
pub const KEY: [u64; 2] = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
/// The credential headers of the tests, in order of priority.
pub const HEADERS: [&str; 7] = [
    "x-api-key",
    "authorization",
    "api-key",
    "x-auth-token",
    "ocp-apim-subscription-key",
    "x-api-token",
    "x-key",
];

/// Flags that the reference computes too.
pub const KEEP: u16 = flag::CHUNKED
    | flag::TE
    | flag::CL
    | flag::BARE_LF
    | flag::FOLD
    | flag::CONN_CLOSE
    | flag::UPGRADE
    | flag::EXPECT
    | flag::V10;

/// A complete head, and its body once it is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub method: u8,
    pub status: u16,
    pub flags: u16,
    pub length: u64,
    pub fp: [u64; 4],
    pub cred: [u8; 4],
    pub more: u8,
    pub host: u64,
    /// The bytes of the head (requests), or their number.
    pub head: Vec<u8>,
    pub head_len: usize,
    /// Bytes of the body, once `end` was called.
    pub body: Option<u64>,
}

/// A stream that is fed.
pub struct Host<'a> {
    resp: bool,
    win: Vec<u8>,
    cur: Cur,
    conn: *mut Conn,
    names: &'a Names,
    src: &'a [u8],
    at: usize,
    junk: usize,
    head: Vec<u8>,
    pub messages: Vec<Message>,
    pub desync: u32,
    pub ends: u32,
    pub same: u32,
}

impl<'a> Host<'a> {
    pub fn new(resp: bool, conn: &'a mut Conn, names: &'a Names, src: &'a [u8]) -> Self {
        Self {
            resp,
            win: vec![0xAA; WIN + SLACK],
            cur: Cur::NEW,
            conn,
            names,
            src,
            at: 0,
            junk: 0,
            head: vec![],
            messages: vec![],
            desync: 0,
            ends: 0,
            same: 0,
        }
    }

    /// For a stream of which an earlier host saw the last head.
    pub fn after_head(mut self) -> Self {
        self.messages.push(Message {
            method: 0,
            status: 0,
            flags: 0,
            length: 0,
            fp: [0; 4],
            cred: [0; 4],
            more: 0,
            host: 0,
            head: vec![],
            head_len: 0,
            body: None,
        });
        self
    }

    /// Feeds the bytes up to `to`.
    pub fn feed(&mut self, to: usize) {
        if to <= self.at {
            return;
        }
        // another connection used the window in between
        self.junk = self.junk.wrapping_add(1);
        self.win.fill(b"\nx 0\xff\rH:"[self.junk & 7]);
        begin(self, self.at as u64, (to - self.at) as u32);
        let mut ticks = 0u64;
        while !tick(self) {
            ticks += 1;
            assert!(ticks < 10_000_000, "no progress");
        }
        self.at = to;
    }

    pub fn eof(&mut self) -> Eof {
        eof(self)
    }

    pub fn skip(&mut self, n: u64) {
        skip(self, n);
        self.at += n as usize;
    }

    fn state(&self) -> &Stream {
        unsafe { &*self.stream() }
    }
}

unsafe impl Env for Host<'_> {
    fn resp(&self) -> bool {
        self.resp
    }
    fn at(&self, off: u32) -> *mut u8 {
        unsafe { self.win.as_ptr().cast_mut().add(off as usize & (WIN - 1)) }
    }
    fn cur(&self) -> *mut Cur {
        (&raw const self.cur).cast_mut()
    }
    fn stream(&self) -> *mut Stream {
        unsafe { if self.resp { &raw mut (*self.conn).resp } else { &raw mut (*self.conn).req } }
    }
    fn other(&self) -> *mut Stream {
        unsafe { if self.resp { &raw mut (*self.conn).req } else { &raw mut (*self.conn).resp } }
    }
    fn shared(&self) -> *mut Shared {
        unsafe { &raw mut (*self.conn).shared }
    }
    fn names(&self) -> *const Names {
        self.names
    }
    fn memo(&self) -> *mut Memo {
        unsafe { if self.resp { &raw mut (*self.conn).resp_memo } else { &raw mut (*self.conn).req_memo } }
    }
    fn fill(&mut self, to: u32, src: u64, n: u32) -> bool {
        assert!((1..=FILL).contains(&n) && to <= HOLD);
        let (to, src, n) = (to as usize, src as usize, n as usize);
        self.win[to..to + n].copy_from_slice(&self.src[src..src + n]);
        true
    }
    fn head(&mut self) {
        let s = *self.state();
        assert_eq!(s.open, 1);
        let (from, to) = (self.cur.head_at as usize, self.cur.pos as usize);
        assert!(from <= to && to < WIN, "{from} {to}");
        if !self.resp && s.shipped < HEAD_MAX {
            assert_eq!(s.shipped as usize, self.head.len());
            self.head.extend(&self.win[from..to]);
            assert_eq!(s.head as usize, self.head.len());
        }
        self.same += u32::from(s.same);
        self.messages.push(Message {
            method: if self.resp { 0 } else { s.method },
            status: s.status,
            flags: s.flags & KEEP,
            length: if s.flags & flag::CHUNKED != 0 || s.flags & flag::CL == 0 { 0 } else { s.remaining },
            fp: s.fp,
            cred: s.cred,
            more: s.more,
            host: s.host,
            head: std::mem::take(&mut self.head),
            head_len: s.head as usize,
            body: None,
        });
    }
    fn part(&mut self, from: u32, to: u32) {
        assert!(!self.resp && from < to && to as usize <= WIN);
        assert_eq!(self.state().shipped as usize, self.head.len());
        self.head.extend(&self.win[from as usize..to as usize]);
    }
    fn end(&mut self) {
        let body = self.state().body;
        // what stands in front of the first request ends, too
        let Some(last) = self.messages.last_mut() else { return };
        self.ends += 1;
        assert_eq!(last.body, None, "two ends of one message");
        last.body = Some(body);
    }
    fn desync(&mut self) {
        self.desync += 1;
        self.head.clear();
    }
}

/// The names of requests.
pub fn request_names() -> Names {
    Names::request(&HEADERS, KEY).unwrap()
}

/// Runs one stream through the machine, cut at `cuts`.
pub fn run(resp: bool, conn: &mut Conn, names: &Names, data: &[u8], cuts: &[usize]) -> (Vec<Message>, u32) {
    let mut host = Host::new(resp, conn, names, data);
    for cut in cuts {
        host.feed(*cut);
    }
    host.feed(data.len());
    (host.messages, host.desync)
}

/// A fixed sequence of numbers.
pub struct Rng(pub u64);
impl Rng {
    pub fn n(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % below
    }
    pub fn one(&mut self, of: usize) -> bool {
        self.n(of) == 0
    }
    pub fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.n(list.len())]
    }
    pub fn text(&mut self, n: usize) -> String {
        (0..n).map(|_| b"abcdefghijklmnopqrstuvwxyzABCDEF0123456789-_.~/+=;, :"[self.n(53)] as char).collect()
    }
    pub fn case(&mut self, s: &str) -> String {
        s.chars().map(|c| if self.one(2) { c.to_ascii_uppercase() } else { c }).collect()
    }
}
