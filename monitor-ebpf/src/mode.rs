//! Where the bytes come from that a request is found in. Types, so that each program has the code of its own mode only.

/// What decisions and records need to know of a mode; what the framing does in it is [`crate::framing::Driver`].
pub trait Mode {
    /// The bytes are packets: no process has them yet, and the request is decided about ahead of its server.
    const PACKETS: bool;
    /// Denied requests get a response in the server's place, and the connection goes on.
    const REPLIES: bool;
}

/// Bytes of a call that a process made: sockets and TLS libraries, both directions.
pub struct Calls;
/// Packets on their way to a server: [`crate::hooks::gate`].
pub struct Ingress;
/// Packets on their way to a server whose denied callers get a response: [`crate::hooks::answer`].
pub struct LocalReply;

impl Mode for Calls {
    const PACKETS: bool = false;
    const REPLIES: bool = false;
}
impl Mode for Ingress {
    const PACKETS: bool = true;
    const REPLIES: bool = false;
}
impl Mode for LocalReply {
    const PACKETS: bool = true;
    const REPLIES: bool = true;
}
