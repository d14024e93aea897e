"""What a local user without rights can do to the daemon: attack.py KIND ARGS. Says "ready" once the attack is under way, and
goes on until it is killed, unless it is said otherwise.
"""
import socket
import struct
import sys
import threading
import time


def ready():
    print("ready", flush=True)


def forever():
    while True:
        time.sleep(3600)


def clients(port, count):
    """One request from each of so many addresses; ends by itself."""
    for n in range(int(count)):
        source = f"127.{1 + (n >> 16)}.{n >> 8 & 255}.{n & 255 or 1}"
        with socket.create_connection(("127.0.0.1", int(port)), source_address=(source, 0)) as stream:
            stream.sendall(b"GET /client HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            while stream.recv(65536):
                pass


def from_port(target, port, count):
    """So many requests with a credential, one connection after the other, from one port; says how many were served."""
    served = 0
    for _ in range(int(count)):
        with socket.socket() as stream:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # a reset instead of a port that cannot be used again
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            stream.settimeout(5)
            stream.bind(("127.0.0.2", int(port)))
            try:
                stream.connect(("127.0.0.1", int(target)))
                stream.sendall(
                    b"GET /from HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer acme-secret\r\n\r\n"
                )
                answer(stream)
                served += 1
            except OSError:
                pass
    print(f"served {served}", flush=True)


def visit(address, port, count):
    """So many requests to a server; ends by itself once they are answered."""
    with socket.create_connection((address, int(port))) as stream:
        for _ in range(int(count)):
            stream.sendall(b"GET /visit HTTP/1.1\r\nHost: x\r\n\r\n")
            answer(stream)
    ready()
    forever()


def hold(port, count):
    """So many connections to the metrics endpoint that are kept alive, and made again when they are cut."""

    def loop():
        while True:
            try:
                with socket.create_connection(("127.0.0.1", int(port))) as stream:
                    while True:
                        stream.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                        answer(stream)
                        held.release()
                        # until it is cut, or for as long as the server waits for a head
                        stream.settimeout(4)
                        try:
                            if not stream.recv(1):
                                break
                        except TimeoutError:
                            pass
            except OSError:
                pass

    held = threading.Semaphore(0)
    for _ in range(int(count)):
        threading.Thread(target=loop, daemon=True).start()
    for _ in range(int(count)):
        held.acquire()
    ready()
    forever()


def tails(path, count):
    """So many clients of the control socket that follow the requests and never read any."""
    held = []
    for _ in range(int(count)):
        stream = socket.socket(socket.AF_UNIX)
        stream.connect(path)
        stream.sendall(b"GET /v1/tail HTTP/1.1\r\nHost: x\r\n\r\n")
        # the head of the answer: it is under way
        stream.recv(12)
        held.append(stream)
    ready()
    forever()


def tls(count, free):
    """So many TLS connections over one socket that never carry a byte; with `free` each ends before the next."""
    import ctypes

    ssl = ctypes.CDLL("libssl.so.3")
    for name, result, arguments in [
        ("TLS_client_method", ctypes.c_void_p, []),
        ("SSL_CTX_new", ctypes.c_void_p, [ctypes.c_void_p]),
        ("SSL_new", ctypes.c_void_p, [ctypes.c_void_p]),
        ("SSL_set_fd", ctypes.c_int, [ctypes.c_void_p, ctypes.c_int]),
        ("SSL_free", None, [ctypes.c_void_p]),
    ]:
        function = getattr(ssl, name)
        function.restype, function.argtypes = result, arguments
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = socket.create_connection(server.getsockname())
    context = ssl.SSL_CTX_new(ssl.TLS_client_method())
    for _ in range(int(count)):
        connection = ssl.SSL_new(context)
        assert ssl.SSL_set_fd(connection, here.fileno()) == 1
        if free == "free":
            ssl.SSL_free(connection)
    ready()
    forever()


def scrape(port, connections):
    """Reads the metrics without a pause."""

    def loop():
        while True:
            try:
                with socket.create_connection(("127.0.0.1", int(port))) as stream:
                    while True:
                        stream.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                        answer(stream)
                        under_way.set()
            except OSError:
                pass

    under_way = threading.Event()
    for _ in range(int(connections)):
        threading.Thread(target=loop, daemon=True).start()
    under_way.wait()
    ready()
    forever()


def answer(stream):
    """Reads one response with a length."""
    got = b""
    while b"\r\n\r\n" not in got:
        part = stream.recv(65536)
        if not part:
            raise OSError("closed")
        got += part
    head, _, body = got.partition(b"\r\n\r\n")
    lines = [line.split(b":", 1) for line in head.lower().split(b"\r\n")[1:]]
    left = next(int(line[1]) for line in lines if line[0] == b"content-length") - len(body)
    while left > 0:
        part = stream.recv(min(left, 1 << 20))
        if not part:
            raise OSError("closed")
        left -= len(part)
    return head


def leases(count):
    """So many mapped files named like a TLS library, each with a write lease that is never given back."""
    import fcntl
    import mmap
    import signal
    import tempfile

    signal.signal(signal.SIGIO, signal.SIG_IGN)
    held = []
    for n in range(int(count)):
        place = tempfile.mkdtemp()
        path = f"{place}/libssl.so.3"
        with open(path, "wb") as file:
            file.write(bytes(4096 * (n + 1)))
        # a write lease is for who alone has the file open: the mapping is of the same opening
        lease = open(path, "r+b", buffering=0)
        mapped = mmap.mmap(lease.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)
        fcntl.fcntl(lease, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        held.append((mapped, lease))
    ready()
    forever()


def pipes(count):
    """So many mapped files named like a TLS library, and a pipe in the place of each."""
    import mmap
    import os
    import tempfile

    held = []
    for n in range(int(count)):
        path = f"{tempfile.mkdtemp()}/libssl.so.3"
        with open(path, "wb") as file:
            file.write(bytes(4096 * (n + 1)))
        with open(path, "rb") as file:
            held.append(mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC))
        os.unlink(path)
        os.mkfifo(path)
    ready()
    forever()


KINDS = {
    "clients": clients,
    "from_port": from_port,
    "hold": hold,
    "leases": leases,
    "pipes": pipes,
    "scrape": scrape,
    "tails": tails,
    "tls": tls,
    "visit": visit,
}
KINDS[sys.argv[1]](*sys.argv[2:])
