"""An HTTP server that writes one line to standard output for each call of its handler: handled.py SERVER.

The line is "client 'method target'", written before the body is read. The port goes to standard error as "LISTEN port".
"""
import os
import socket
import sys

BODY = b"handled\n"
# Connections that a server with a pool of threads serves at a time.
THREADS = 200


def handled(client, method, target):
    if isinstance(target, bytes):
        target = target.decode("latin-1")
    os.write(1, f"{client} {ascii(f'{method} {target}')}\n".encode())


def listening(port):
    os.write(2, f"LISTEN {port}\n".encode())


def listener():
    sock = socket.create_server(("127.0.0.1", 0), backlog=256)
    return sock


def wsgi(environ, start_response):
    target = environ.get("RAW_URI") or environ.get("REQUEST_URI") or environ["PATH_INFO"]
    handled(environ["REMOTE_ADDR"], environ["REQUEST_METHOD"], target)
    while environ["wsgi.input"].read(65536):
        pass
    start_response("200 OK", [("Content-Length", str(len(BODY)))])
    return [BODY]


async def asgi(scope, receive, send):
    handled(scope["client"][0], scope["method"], scope["raw_path"])
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-length", str(len(BODY)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY})


def http_server():
    import http.server

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_):
            pass

        def __getattr__(self, name):
            if name.startswith("do_"):
                return self.reply
            raise AttributeError(name)

        # As handlers do it: numbers as int() reads them, the coding as it is spelled most often.
        def body(self):
            if self.headers.get("Transfer-Encoding", "").strip().lower() == "chunked":
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    self.rfile.read(size)
                    self.rfile.readline()
                while self.rfile.readline().strip():
                    pass
            else:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def reply(self):
            handled(self.client_address[0], self.command, self.path)
            self.body()
            self.send_response(200)
            self.send_header("Content-Length", str(len(BODY)))
            self.end_headers()
            self.wfile.write(BODY)

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

        def handle_error(self, *_):
            pass

    server = Server(("127.0.0.1", 0), Handler)
    listening(server.server_address[1])
    server.serve_forever()


def aiohttp():
    import asyncio

    from aiohttp import web

    async def handler(request):
        handled(request.remote, request.method, request.raw_path)
        await request.read()
        return web.Response(body=BODY)

    async def main():
        runner = web.ServerRunner(web.Server(handler))
        await runner.setup()
        sock = listener()
        await web.SockSite(runner, sock).start()
        listening(sock.getsockname()[1])
        await asyncio.Event().wait()

    asyncio.run(main())


def uvicorn(kind):
    from uvicorn import Config, Server

    class Ready(Server):
        async def startup(self, sockets=None):
            await super().startup(sockets)
            listening(sockets[0].getsockname()[1])

    config = Config(asgi, http=kind, ws="none", lifespan="off", log_config=None, access_log=False)
    Ready(config).run(sockets=[listener()])


def gunicorn():
    from gunicorn.app.base import BaseApplication

    class Application(BaseApplication):
        def load_config(self):
            options = {
                "bind": "127.0.0.1:0",
                "worker_class": "gthread",
                "threads": THREADS,
                "loglevel": "critical",
                "worker_tmp_dir": "/dev/shm",
                "post_worker_init": lambda worker: listening(worker.sockets[0].getsockname()[1]),
            }
            for key, value in options.items():
                self.cfg.set(key, value)

        def load(self):
            return wsgi

    Application().run()


def tornado():
    import asyncio

    from tornado.httpserver import HTTPServer
    from tornado.httputil import HTTPHeaders, ResponseStartLine

    def handler(request):
        handled(request.remote_ip, request.method, request.uri)
        headers = HTTPHeaders({"Content-Length": str(len(BODY))})
        request.connection.write_headers(ResponseStartLine("HTTP/1.1", 200, "OK"), headers, BODY)
        request.connection.finish()

    async def main():
        sock = listener()
        sock.setblocking(False)
        HTTPServer(handler).add_socket(sock)
        listening(sock.getsockname()[1])
        await asyncio.Event().wait()

    asyncio.run(main())


def cheroot():
    from cheroot.wsgi import Server

    server = Server(("127.0.0.1", 0), wsgi, numthreads=THREADS, request_queue_size=256)
    server.error_log = lambda *_, **__: None
    # It closes connections above these behind their first answer.
    server.keep_alive_conn_limit = 10 * THREADS
    server.prepare()
    listening(server.bind_addr[1])
    server.serve()


def waitress():
    from waitress.server import create_server

    server = create_server(wsgi, host="127.0.0.1", port=0, threads=THREADS, connection_limit=10 * THREADS)
    listening(server.effective_port)
    server.run()


SERVERS = {
    "http.server": http_server,
    "aiohttp": aiohttp,
    "uvicorn-h11": lambda: uvicorn("h11"),
    "uvicorn-httptools": lambda: uvicorn("httptools"),
    "gunicorn": gunicorn,
    "tornado": tornado,
    "cheroot": cheroot,
    "waitress": waitress,
}
SERVERS[sys.argv[1]]()
