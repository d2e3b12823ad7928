"""Random well-formed answers, cut anywhere, are read as aiohttp's client reads them."""

import asyncio
from itertools import pairwise
from typing import NamedTuple

import aiohttp
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.upstream import Endpoint, Head, Pool, UpstreamError, request_head
from tests.upstream.peer import Call, Peer

TOKEN = st.text("abcXYZ019-_", min_size=1, max_size=12).map(lambda text: f"x-{text}".encode())
VALUE = st.text("ab ,;=\"'%\xe9\t/", max_size=30).map(lambda text: text.strip(" \t").encode("latin-1"))
REASON = st.sampled_from([b" OK", b" ", b"", b" Not at all", b" caf\xe9"])
STATUS = st.sampled_from([200, 201, 204, 206, 301, 304, 400, 401, 404, 429, 500, 503, 599])
INTERIM = st.sampled_from([b"", b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 2])
EXTENSION = st.sampled_from([b"", b"", b";a", b";a=b", b';a="b c"'])


class Sent(NamedTuple):
    wire: bytes
    method: str
    closes: bool


@st.composite
def answers(draw: st.DrawFn) -> Sent:
    status, method = draw(STATUS), draw(st.sampled_from(["GET", "POST", "HEAD"]))
    fields = draw(st.lists(st.tuples(TOKEN, VALUE), max_size=8))
    body = draw(st.binary(max_size=3000))
    framing = draw(st.sampled_from(["length", "chunked", "close"]))
    bodiless = method == "HEAD" or status in {204, 304}
    if bodiless and framing == "close":
        framing = "length"
    lines = [b"%b: %b" % field for field in fields]
    position = draw(st.integers(0, len(lines)))
    if framing == "length" and status != 204:
        lines.insert(position, b"Content-Length: %d" % len(body))
    if framing == "chunked" and status != 204:
        lines.insert(position, b"Transfer-Encoding: chunked")
    closes = framing == "close" or draw(st.booleans())
    if closes:
        lines.append(b"Connection: close")
    head = b"HTTP/1.1 %d%b\r\n" % (status, draw(REASON)) + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    coded = draw(chunked(body)) if framing == "chunked" else body
    return Sent(draw(INTERIM) + head + (b"" if bodiless else coded), method, closes)


@st.composite
def chunked(draw: st.DrawFn, body: bytes) -> bytes:
    coded = b""
    while body:
        size = draw(st.integers(1, len(body)))
        coded += b"%x%b\r\n%b\r\n" % (size, draw(EXTENSION), body[:size])
        body = body[size:]
    trailers = b"".join(b"%b: %b\r\n" % field for field in draw(st.lists(st.tuples(TOKEN, VALUE), max_size=2)))
    return coded + b"0\r\n" + trailers + b"\r\n"


Result = tuple[int, list[tuple[str, str]], bytes]


async def read_ours(pool: Pool, sent: Sent) -> Result:
    connection = await pool.acquire()
    try:
        answer = await connection.exchange(request_head(sent.method, b"/", [(b"Host", b"peer")]), limit=10_000, method=sent.method)
        assert connection.reusable is not sent.closes
    finally:
        pool.release(connection)
    return answer.status, _texts(answer.head), answer.body


async def read_streamed(pool: Pool, sent: Sent) -> Result:
    connection = await pool.acquire()
    try:
        connection.start(sent.method)
        connection.send(request_head(sent.method, b"/", [(b"Host", b"peer")]))
        connection.finish()
        while (head := await connection.read_head()).interim:
            pass
        body = b""
        while data := await connection.read_body():
            body += data
        assert connection.reusable is not sent.closes
    finally:
        pool.release(connection)
    return head.status, _texts(head), body


def _texts(head: Head) -> list[tuple[str, str]]:
    return [(name.decode().lower(), value.decode("latin-1")) for name, value in head.fields]


async def read_reference(client: aiohttp.ClientSession, url: str, sent: Sent) -> Result:
    async with client.request(sent.method, url, allow_redirects=False) as response:
        fields = [(name.decode().lower(), value.decode("latin-1")) for name, value in response.raw_headers]
        return response.status, fields, await response.read()


class Wire:
    """What the peer sends next, piece by piece, and whether it closes then."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.closes = False

    def load(self, wire: bytes, cuts: list[int], *, closes: bool) -> None:
        borders = sorted({cut % (len(wire) + 1) for cut in cuts} | {0, len(wire)})
        self.pieces = [wire[start:end] for start, end in pairwise(borders)]
        self.closes = closes

    async def script(self, call: Call) -> None:
        while True:
            await call.read_head()
            for piece in self.pieces:
                call.write(piece)
                await asyncio.sleep(0)
            if self.closes:
                return


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(answers(), st.lists(st.integers(0, 4000), max_size=6)), min_size=1, max_size=4))
def test_answers_are_read_as_the_reference_reads_them(cases: list[tuple[Sent, list[int]]]) -> None:
    async def run() -> None:
        wire = Wire()
        peer = Peer(wire.script)
        await peer.start()
        pool = Pool(Endpoint.parse(peer.url), idle=60, age=60, connect_timeout=5)
        async with aiohttp.ClientSession(auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()) as client:
            for sent, cuts in cases:
                wire.load(sent.wire, cuts, closes=sent.closes)
                expected = await read_reference(client, peer.url, sent)
                assert await read_ours(pool, sent) == expected
                assert await read_streamed(pool, sent) == expected
        await pool.close()
        await peer.stop()
        assert not peer.failures

    asyncio.run(run())


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(st.binary(max_size=200), answers().map(lambda sent: sent.wire)),
    st.lists(st.tuples(st.integers(0, 3000), st.binary(max_size=3)), max_size=4),
    st.sampled_from(["GET", "HEAD"]),
)
def test_garbage_neither_hangs_nor_raises_anything_but_the_errors(wire: bytes, changes: list[tuple[int, bytes]], method: str) -> None:
    for position, junk in changes:
        cut = position % (len(wire) + 1)
        wire = wire[:cut] + junk + wire[cut + 1 :]

    async def run() -> None:
        source = Wire()
        source.load(wire, [100, 200, 300], closes=True)
        peer = Peer(source.script)
        await peer.start()
        pool = Pool(Endpoint.parse(peer.url), idle=60, age=60, connect_timeout=5)
        connection = await pool.acquire()
        try:
            async with asyncio.timeout(30):
                await connection.exchange(request_head(method, b"/", []), limit=10_000, method=method)
            failed = False
        except UpstreamError:
            failed = True
        assert connection.transport.is_closing() or not failed
        pool.release(connection)
        await pool.close()
        await peer.stop()
        assert not peer.failures

    asyncio.run(run())
