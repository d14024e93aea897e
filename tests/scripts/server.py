"""An HTTP/1.1 server that writes one line to standard output per request: server.py threading|asyncio [CERT KEY].

The port goes to standard error as "LISTEN port". Request bodies, with a length or chunked, are read to their end.
"""
import asyncio
import http.server
import os
import ssl
import sys


def served(method, path):
    os.write(1, f"{method} {path}\n".encode())


def context():
    if len(sys.argv) < 4:
        return None
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(sys.argv[2], sys.argv[3])
    return tls


def answer(path):
    """The body for a path: /bytes/N has N bytes."""
    return b"x" * int(path[7:]) if path.startswith("/bytes/") else b"ok\n"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                self.rfile.read(size + 2)
            while self.rfile.readline().strip():
                pass
        else:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def reply(self):
        self.body()
        body = answer(self.path)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        served(self.command, self.path)

    do_GET = do_POST = do_HEAD = do_PUT = do_DELETE = reply


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


def threading_server():
    server = Server(("127.0.0.1", 0), Handler)
    tls = context()
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    print(f"LISTEN {server.server_address[1]}", file=sys.stderr, flush=True)
    server.serve_forever()


async def connection(reader, writer):
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.split("\r\n")
            method, path, version = first.split(" ")
            fields = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
            if fields.get("transfer-encoding", "").lower() == "chunked":
                while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
                    await reader.readexactly(size + 2)
                while (await reader.readuntil(b"\r\n")) != b"\r\n":
                    pass
            else:
                await reader.readexactly(int(fields.get("content-length", 0)))
            body = answer(path)
            if version == "HTTP/1.0":
                # An answer that ends with the connection.
                writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + (body if method != "HEAD" else b""))
                await writer.drain()
                served(method, path)
                break
            # A chunked answer, head and chunks in writes of their own.
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            if method != "HEAD":
                writer.write(b"%x;ext=1\r\n%s\r\n" % (len(body), body) if body else b"")
                writer.write(b"0\r\nTrailer-Field: 1\r\n\r\n")
            await writer.drain()
            served(method, path)
            if fields.get("connection", "").lower() == "close":
                break
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def asyncio_server():
    server = await asyncio.start_server(connection, "127.0.0.1", 0, ssl=context(), limit=1 << 20)
    print(f"LISTEN {server.sockets[0].getsockname()[1]}", file=sys.stderr, flush=True)
    await server.serve_forever()


if sys.argv[1] == "threading":
    threading_server()
else:
    asyncio.run(asyncio_server())
