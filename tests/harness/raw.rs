//! Both ends of a connection in one thread: what is written is read at the other end before anything else happens,
//! so that every read has exactly the boundaries that the test wants.

use std::io::{IoSlice, IoSliceMut, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// Makes connections to itself.
pub struct Wire {
    listener: TcpListener,
}

impl Wire {
    /// A listener on loopback, `127.0.0.1:0` or `[::1]:0`.
    pub fn new(address: &str) -> Self {
        Self { listener: TcpListener::bind(address).unwrap() }
    }

    /// A new connection.
    pub fn open(&self) -> Pair {
        let client = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        let (server, _) = self.listener.accept().unwrap();
        for end in [&client, &server] {
            end.set_nodelay(true).unwrap();
            end.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            end.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
        }
        Pair { client, server, step: usize::MAX }
    }
}

/// The two ends of a connection.
pub struct Pair {
    client: TcpStream,
    server: TcpStream,
    /// Most bytes of one read.
    pub step: usize,
}

impl Pair {
    /// The client writes `bytes` with one call and the server reads them all.
    pub fn up(&mut self, bytes: impl AsRef<[u8]>) {
        pass(&mut self.client, &mut self.server, bytes.as_ref(), self.step);
    }

    /// The server writes `bytes` with one call and the client reads them all.
    pub fn down(&mut self, bytes: impl AsRef<[u8]>) {
        pass(&mut self.server, &mut self.client, bytes.as_ref(), self.step);
    }

    /// The client writes `parts` with one call, and the server looks at the bytes before it reads them.
    pub fn up_vectored(&mut self, parts: &[&[u8]]) {
        let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let len: usize = parts.iter().map(|part| part.len()).sum();
        assert_eq!(self.client.write_vectored(&slices).unwrap(), len);
        let mut seen = vec![0; len];
        while self.server.peek(&mut seen).unwrap() < len {}
        let (front, back) = seen.split_at_mut(len / 3);
        let got = self.server.read_vectored(&mut [IoSliceMut::new(front), IoSliceMut::new(back)]).unwrap();
        assert_eq!(got, len);
    }

    /// The server closes, and the client sees the end.
    pub fn server_closes(self) {
        let Self { mut client, server, .. } = self;
        drop(server);
        let mut rest = [0; 1];
        assert_eq!(client.read(&mut rest).unwrap(), 0, "bytes that nobody expected");
    }
}

fn pass(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8], step: usize) {
    // Never more than a socket buffer holds for certain, so that one thread can do both sides.
    for part in bytes.chunks(32 * 1024) {
        from.write_all(part).unwrap();
        take(to, part.len(), step);
    }
}

fn take(from: &mut TcpStream, len: usize, step: usize) {
    let mut buffer = vec![0; len.min(step)];
    let mut got = 0;
    while got < len {
        let want = buffer.len().min(len - got);
        let count = from.read(&mut buffer[..want]).unwrap();
        assert!(count > 0, "closed after {got} of {len} bytes");
        got += count;
    }
}
