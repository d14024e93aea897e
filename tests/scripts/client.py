"""Makes requests and prints "DONE n": client.py http.client|urllib|asyncio URL COUNT.

Gets, posts whose body holds a request line, heads, and chunked posts take turns, on kept-alive connections where the
library keeps them.
"""
import asyncio
import http.client
import ssl
import sys
import urllib.parse
import urllib.request

KIND, URL, COUNT = sys.argv[1], urllib.parse.urlsplit(sys.argv[2]), int(sys.argv[3])
TLS = ssl._create_unverified_context() if URL.scheme == "https" else None
BODY = b"GET /inside-a-body HTTP/1.1\r\nHost: x\r\n\r\n"


def check(status):
    if status != 200:
        sys.exit(f"status {status}")


def with_http_client():
    if TLS:
        connection = http.client.HTTPSConnection(URL.hostname, URL.port, context=TLS)
    else:
        connection = http.client.HTTPConnection(URL.hostname, URL.port)
    for n in range(COUNT):
        if n % 4 == 0:
            connection.request("GET", f"/python/get?n={n}")
        elif n % 4 == 1:
            connection.request("POST", "/python/post", body=BODY)
        elif n % 4 == 2:
            connection.request("HEAD", "/python/head")
        else:
            connection.request("POST", "/python/chunked", body=iter([BODY, BODY]), encode_chunked=True)
        response = connection.getresponse()
        response.read()
        check(response.status)
    connection.close()


def with_urllib():
    for n in range(COUNT):
        body = BODY if n % 2 else None
        with urllib.request.urlopen(URL.geturl() + "/python/urllib", data=body, context=TLS) as response:
            response.read()
            check(response.status)


async def read_response(reader, head_only):
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    check(int(head.split(" ")[1]))
    if head_only:
        return
    if "transfer-encoding: chunked" in head:
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            await reader.readexactly(size + 2)
        while (await reader.readuntil(b"\r\n")) != b"\r\n":
            pass
    else:
        length = next(line for line in head.split("\r\n") if line.startswith("content-length:"))
        await reader.readexactly(int(length.partition(":")[2]))


async def one_connection(count):
    reader, writer = await asyncio.open_connection(URL.hostname, URL.port, ssl=TLS)
    host = f"{URL.hostname}:{URL.port}".encode()
    # Five at a time, one write each: pipelined.
    done = 0
    while done < count:
        batch = min(5, count - done)
        for n in range(batch):
            if n == 1:
                writer.write(b"POST /python/post HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n" % (host, len(BODY)))
                writer.write(BODY)
            elif n == 2:
                writer.write(b"HEAD /python/head HTTP/1.1\r\nHost: %s\r\n\r\n" % host)
            else:
                writer.write(b"GET /python/get HTTP/1.1\r\nHost: %s\r\n\r\n" % host)
        await writer.drain()
        for n in range(batch):
            await read_response(reader, n == 2)
        done += batch
    writer.close()
    await writer.wait_closed()


async def with_asyncio():
    share, rest = divmod(COUNT, 4)
    await asyncio.gather(*(one_connection(share + (n < rest)) for n in range(4)))


if KIND == "http.client":
    with_http_client()
elif KIND == "urllib":
    with_urllib()
else:
    asyncio.run(with_asyncio())
print(f"DONE {COUNT}")
