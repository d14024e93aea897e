"""Ordinary callers on a network that loses packets: a server and 40 callers on the loopback of a namespace of their own. Prints how
many of their requests were answered."""

import http.server
import socket
import subprocess
import threading
import time

LOSS = "table inet loss { chain in { type filter hook input priority 0; meta l4proto tcp numgen random mod 100 < 4 drop; }; }"
REQUEST = b"GET /lossy HTTP/1.1\r\nHost: localhost\r\nX-Filler: " + b"f" * 120 + b"\r\n\r\n"
CALLERS, REQUESTS = 40, 4
# What takes as long hangs. A piece that comes too early at the gate is dropped and sent again by its sender's timer, so a request can take
# some seconds.
HANGS = 45


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 64


def call(to, answered):
    try:
        with socket.create_connection(to, timeout=HANGS) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(REQUESTS):
                # in pieces, so that what is sent again is cut in another way
                for at in range(0, len(REQUEST), 16):
                    sock.sendall(REQUEST[at:at + 16])
                    time.sleep(0.001)
                answer = b""
                while not answer.endswith(b"\r\n\r\nok"):
                    more = sock.recv(4096)
                    if not more:
                        return
                    answer += more
                answered.append(1)
    except OSError:
        pass


subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
subprocess.run(["nft", "-f", "-"], input=LOSS.encode(), check=True)
server = Server(("127.0.0.1", 0), Handler)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
answered = []
callers = [threading.Thread(target=call, args=(server.server_address, answered)) for _ in range(CALLERS)]
for caller in callers:
    caller.start()
for caller in callers:
    caller.join()
print(f"{len(answered)} of {CALLERS * REQUESTS} answered")
