//! What a denial does to the connection, and to nothing else.

use std::io::Read as _;
use std::net::TcpStream;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use serde_json::Value;

use super::*;
use crate::harness::script;

/// A thousand denials over TLS: not a byte of an answer, both ends gone at once, and the others on the server do not notice.
#[test]
fn a_thousand_denials_over_tls() {
    need!("nginx", "python3", "openssl");
    let _turn = turn();
    let mut findings = Findings::default();
    let certificate = Certificate::new();
    let weir = Weir::start();
    let server = servers::nginx(Some(&certificate));
    cap(&weir, "acme", ACME, &["--rate", "1/h", "--burst", "1"]);
    let call = |credential: &str, count: u32| -> Value {
        let mut python = Command::new(tool("python3").unwrap());
        python.arg(script("denied.py")).args([&server.url, credential, "Bearer calm"]).arg(count.to_string());
        serde_json::from_str(&run(&mut python).ok().out).unwrap()
    };
    let answered = call("Bearer nobody-limits-this", 1000);
    // the first one is the burst
    let denied = call(ACME, 1001);
    findings.equal("answered without a cap", answered["answered"].as_u64(), Some(1000));
    findings.equal("cut", denied["cut"].as_u64(), Some(1000));
    findings.equal("denied", row(&weir, "acme").denied, 1000);
    findings.equal("admitted", denied["answered"].as_u64(), Some(1));
    for none in ["bytes", "calm_errors"] {
        findings.equal(&format!("{none} beside or after a denial: {denied}"), denied[none].as_u64(), Some(0));
    }
    let time = |said: &Value, name: &str| said[name].as_u64().unwrap();
    findings.equal(&format!("gone: {denied}"), time(&denied, "gone_p99_us") <= 50_000, true);
    let bound = 2 * time(&answered, "calm_p50_us") + 2_000;
    findings.equal(
        &format!("the calm caller beside answers {answered}, beside denials {denied}"),
        time(&denied, "calm_p50_us") <= bound,
        true,
    );
    note(&format!("1,000 calls answered over TLS: {answered}"));
    note(&format!("1,000 calls denied over TLS: {denied}"));
    findings.none();
}

/// A packet with data may be for a listener: with a SYN, or when it overtakes the end of the handshake on another CPU.
/// Whatever is in it, the server goes on to accept.
#[test]
fn a_listener_is_never_fenced() {
    need!("nginx");
    let _turn = turn();
    let weir = Weir::start();
    let server = servers::nginx(None);
    let to = address(&server);
    cap(&weir, "acme", ACME, &["--rate", "1/h", "--burst", "1"]);
    assert_eq!(Caller::new(to).call(&acme("/")), Met::Answer(200));
    assert_eq!(Caller::new(to).call(&acme("/")), Met::Cut);
    let mut early = send_with_syn(to, &acme("/"));
    assert!(!matches!(early.read(&mut [0; 64]), Ok(1..)), "a denied request was answered");
    let other = get("/", "Authorization: Bearer other-secret\r\n");
    for _ in 0..10 {
        assert_eq!(Caller::new(to).call(&other), Met::Answer(200), "the listener must still be there");
    }
}

/// Connects with a SYN that carries `bytes` already (RFC 7413, 4.1.3 allows it; a server that does not take them acknowledges
/// the SYN alone, and they are sent again).
fn send_with_syn(to: SocketAddr, bytes: &[u8]) -> TcpStream {
    /// `TCP_FASTOPEN_NO_COOKIE` of linux/tcp.h.
    const NO_COOKIE: i32 = 34;
    let SocketAddr::V4(to) = to else { panic!("{to} is not IPv4") };
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: to.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(to.ip().octets()) },
        sin_zero: [0; 8],
    };
    let on = 1i32;
    // SAFETY: the pointers are to live values of the sizes given; the descriptor is checked and owned from then on.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        assert!(fd >= 0);
        let socket = OwnedFd::from_raw_fd(fd);
        let size = size_of_val(&on) as u32;
        let set =
            libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, NO_COOKIE, (&raw const on).cast(), size);
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
        let sent = libc::sendto(
            socket.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            libc::MSG_FASTOPEN,
            (&raw const address).cast(),
            size_of_val(&address) as u32,
        );
        assert_eq!(sent, bytes.len() as isize, "{}", std::io::Error::last_os_error());
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream
    }
}
