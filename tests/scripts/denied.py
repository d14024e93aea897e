"""Makes TLS requests that end their connection, beside a calm caller: denied.py URL CREDENTIAL CALM COUNT.

Prints one JSON object: how many calls were cut and answered, the bytes that came before a cut, how long after the request
no end of the connection was left on this host, and what the calm caller (whose credential is CALM) met meanwhile.
"""
import json
import multiprocessing
import socket
import ssl
import struct
import sys
import time
import urllib.parse

URL, CREDENTIAL, CALM, COUNT = urllib.parse.urlsplit(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
OK, END = b"HTTP/1.1 200", b"ok\n"


def request(credential):
    return f"GET /tls HTTP/1.1\r\nHost: localhost\r\nAuthorization: {credential}\r\n\r\n".encode()


class Caller:
    """One connection, with the bytes as they come from the socket in sight.

    TLS 1.2: unlike 1.3, where session tickets come late, its server says nothing between the handshake and the answer.
    """

    def __init__(self):
        context = ssl._create_unverified_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        self.raw = socket.create_connection((URL.hostname, URL.port), timeout=10)
        self.raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.raw.sendall(self.outgoing.read())
                self.incoming.write(self.raw.recv(65536))
        self.raw.sendall(self.outgoing.read())
        self.received = 0

    def call(self, credential):
        """The decrypted answer: what there is of it when the connection ends."""
        self.tls.write(request(credential))
        self.raw.sendall(self.outgoing.read())
        text = b""
        while not text.endswith(END):
            piece = self.raw.recv(65536)
            if not piece:
                break
            self.received += len(piece)
            self.incoming.write(piece)
            try:
                text += self.tls.read(65536)
            except ssl.SSLWantReadError:
                pass
        return text


def is_there(diag, local, remote):
    """Whether there is an end of a connection: neither only the listener nor one that waits for its time.

    Asks `diag` for one socket: linux/inet_diag.h, `inet_diag_req_v2` in, `inet_diag_msg` or an error out.
    """
    get = struct.pack("=IHHIIBBBBI", 72, 20, 1, 0, 0, socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF)
    ports = struct.pack(">HH", local[1], remote[1])
    addresses = b"".join(socket.inet_aton(host) + bytes(12) for host in (local[0], remote[0]))
    diag.send(get + ports + addresses + struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF))
    answer = diag.recv(4096)
    (kind,) = struct.unpack_from("=H", answer, 4)
    time_wait, listen = 6, 10
    return kind == 20 and answer[17] not in (time_wait, listen)


def calm(ready, stop, out):
    caller, times, errors = Caller(), [], 0
    ready.set()
    while not stop.wait(0.002):
        start = time.monotonic()
        try:
            if not caller.call(CALM).startswith(OK):
                raise OSError("no answer")
            times.append(time.monotonic() - start)
        except OSError:
            errors += 1
            caller = Caller()
    out.send((times, errors))


def share(times, part):
    return round(sorted(times)[int(part * (len(times) - 1))] * 1e6)


def main():
    ready, stop = multiprocessing.Event(), multiprocessing.Event()
    inbox, outbox = multiprocessing.Pipe()
    beside = multiprocessing.Process(target=calm, args=(ready, stop, outbox), daemon=True)
    beside.start()
    if not ready.wait(10):
        sys.exit("the calm caller cannot connect")
    said = {"answered": 0, "cut": 0, "bytes": 0}
    times = []
    diag = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4)
    for _ in range(COUNT):
        caller = Caller()
        here, there = caller.raw.getsockname(), caller.raw.getpeername()
        start = time.monotonic()
        try:
            said["answered"] += caller.call(CREDENTIAL).startswith(OK)
            caller.raw.close()
        except ConnectionResetError:
            said["cut"] += 1
            said["bytes"] += caller.received
        while is_there(diag, here, there) or is_there(diag, there, here):
            pass
        times.append(time.monotonic() - start)
    stop.set()
    calm_times, errors = inbox.recv()
    beside.join()
    said |= {"gone_p99_us": share(times, 0.99), "gone_max_us": share(times, 1)}
    said |= {"calm": len(calm_times), "calm_errors": errors}
    said |= {"calm_p50_us": share(calm_times, 0.5), "calm_p99_us": share(calm_times, 0.99)}
    print(json.dumps(said))


main()
