"""The MPP's own API under what is large and much: memory, CPU and connections of a real process."""

import asyncio
import re
import urllib.request
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, Self

import pytest

from gateway.upstream.connection import BUFFER
from tests.bench.machine import cpu_seconds, resident_mib
from tests.upstream.peer import Call, Peer

MIB = 1 << 20
SIZE = 1024 * MIB
PIECE = bytes(range(256)) * 256
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n"
ASK = (
    b"GET /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def api(peer: Peer, **upstream: Any) -> dict[str, Any]:
    """Give the configuration of one open route to the peer."""
    return {
        "upstreams": {"wallet": {"servers": peer.url, **upstream}},
        "routes": [{"prefix": "/", "upstream": "wallet", "session": "none", "max_body": "1GiB"}],
    }


@pytest.fixture
async def peers() -> AsyncIterator[Any]:
    async with AsyncExitStack() as stack:

        async def start(script: Any) -> Peer:
            peer = Peer(script)
            await peer.start()
            stack.push_async_callback(peer.stop)
            return peer

        yield start


async def send(writer: asyncio.StreamWriter, size: int) -> None:
    for _ in range(size // len(PIECE)):
        writer.write(PIECE)
        await writer.drain()


async def take(reader: asyncio.StreamReader, size: int, *, pauses: int) -> None:
    """Take so many bytes and check them; stand still now and then."""
    taken, pause_at = 0, size // (pauses + 1)
    while taken < size:
        piece = await reader.readexactly(len(PIECE))
        assert piece == PIECE
        taken += len(piece)
        if pauses and taken >= pause_at:
            pauses, pause_at = pauses - 1, pause_at + size // 8
            await asyncio.sleep(0.3)


class Highest:
    """The most memory (MiB) that a process had while this was entered, looked at all the while."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.before = resident_mib(pid)
        self.most = self.before
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()

    async def _watch(self) -> None:
        while True:
            self.most = max(self.most, resident_mib(self._pid))
            await asyncio.sleep(0.02)


async def test_D4_a_large_download_by_a_slow_reader_takes_no_memory(start: Any, peers: Any) -> None:
    async def script(call: Call) -> None:
        await call.read_head()
        call.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
        await send(call.writer, SIZE)
        await call.read_to_end()

    process = await start(await start.simulator(), {"api": api(await peers(script))})
    reader, writer = await asyncio.open_connection("127.0.0.1", process.port, limit=MIB)
    async with Highest(process.process.pid) as memory:
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        await take(reader, SIZE, pauses=4)
    writer.close()
    assert memory.most - memory.before < 20


@pytest.mark.parametrize("chunked", [False, True])
async def test_D4_a_large_upload_to_a_slow_server_takes_no_memory(start: Any, peers: Any, *, chunked: bool) -> None:
    async def script(call: Call) -> None:
        head = await call.reader.readuntil(b"\r\n\r\n")
        if b"chunked" not in head.lower():
            await take(call.reader, SIZE, pauses=4)
        else:
            total = 0
            while size := int(await call.reader.readuntil(b"\r\n"), 16):
                await call.reader.readexactly(size + 2)
                total += size
            assert total == SIZE
            await call.reader.readexactly(2)
        call.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await call.read_to_end()

    process = await start(await start.simulator(), {"api": api(await peers(script))})
    reader, writer = await asyncio.open_connection("127.0.0.1", process.port)
    async with Highest(process.process.pid) as memory:
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % SIZE
        writer.write(b"PUT / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n")
        for _ in range(SIZE // len(PIECE)):
            writer.write(b"%x\r\n%b\r\n" % (len(PIECE), PIECE) if chunked else PIECE)
            await writer.drain()
        writer.write(b"0\r\n\r\n" if chunked else b"")
        assert b" 204 " in await reader.readuntil(b"\r\n\r\n")
    writer.close()
    assert memory.most - memory.before < 20


async def test_A9_many_readers_that_take_nothing_hold_little_and_are_cut_off(start: Any, peers: Any) -> None:
    async def script(call: Call) -> None:
        await call.read_head()
        call.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            call.write(PIECE)
            await call.writer.drain()

    changes = {"api": api(await peers(script)), "server": {"limits": {"write_idle_timeout": "2s"}}}
    process = await start(await start.simulator(), changes)
    count = 200
    async with Highest(process.process.pid) as memory:
        writers = []
        for _ in range(count):
            reader, writer = await asyncio.open_connection("127.0.0.1", process.port, limit=1024)
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writers.append(writer)
        await until_count(process, 'gateway_rejected_total{reason="slow_reader"}', count)
    for writer in writers:
        writer.transport.abort()
    each = BUFFER + 128 * 1024  # bytes: what a connection to a server holds unread at most, and what else a request takes
    assert memory.most - memory.before < count * each / MIB


async def test_1000_event_streams_and_1000_websockets_are_open_at_once(start: Any, peers: Any) -> None:
    count, go = 1000, asyncio.Event()

    async def script(call: Call) -> None:
        if (await call.read_head()).startswith(b"GET /socket "):
            call.write(SWITCH)
            while data := await call.reader.read(100):
                call.write(data)
        else:
            call.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n7\r\ndata: 0\r\n")
            await go.wait()
            call.write(b"7\r\ndata: 1\r\n")
            await call.read_to_end()

    process = await start(await start.simulator(), {"api": api(await peers(script), connections=2 * count, idle_timeout="60s")})
    opened: list[tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]] = []

    async def open_one(first: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", process.port)
        opened.append((reader, writer, b"" if first is ASK else b"data: 1\r\n"))
        writer.write(first)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 101 "))

    for _ in range(count // 50):
        requests = [b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n", ASK] * 50
        await asyncio.gather(*map(open_one, requests))
    assert await metric(process, 'gateway_in_flight_requests{route="/"}') == 2 * count
    go.set()
    for number, (_, writer, _) in enumerate(opened):
        writer.write(b"message %d" % number)
    for number, (reader, _, end) in enumerate(opened):
        await asyncio.wait_for(reader.readuntil(end or b"message %d" % number), 30)
    for _, writer, _ in opened:
        writer.transport.abort()
    await until_count(process, 'gateway_in_flight_requests{route="/"}', 0)
    assert await process.stop() == 0
    assert sum(line.get("route") == "/" for line in process.lines()) == 2 * count


async def test_A10_pipelined_requests_are_answered_in_order(start: Any, peers: Any) -> None:
    count = 10_000

    async def script(call: Call) -> None:
        while True:
            number = (await call.reader.readuntil(b"\r\n\r\n")).split(b" ")[1][1:]
            call.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(number), number))

    process = await start(await start.simulator(), {"api": api(await peers(script)), "telemetry": {"log": {"access": False}}})
    reader, writer = await asyncio.open_connection("127.0.0.1", process.port, limit=1 << 24)
    async with Highest(process.process.pid) as memory:
        writer.write(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(count)))
        for number in range(count):
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"Content-Length: ([0-9]+)", head)
            assert length
            assert await reader.readexactly(int(length[1])) == b"%d" % number
    writer.close()
    assert memory.most - memory.before < 10


HEAD = b"POST /x HTTP/1.1\r\nHost: a\r\n"
SMALL = {
    "one-byte-chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 1600 + b"0\r\n\r\n",
    "chunk-extensions": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"a" * 9000 + b"\r\nx\r\n0\r\n\r\n",
    "trailers": HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 90 + b"\r\n",
    "a-target-of-escapes": b"GET /" + b"%41" * 3000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "a-target-of-twice-encoded-escapes": b"GET /" + b"%2541" * 1900 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "a-target-of-slashes": b"GET /" + b"/" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "a-target-of-parameters": b"GET /" + b";a/" * 3000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "a-target-of-segments": b"GET /" + b"a/" * 4500 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "connection-options": b"GET / HTTP/1.1\r\nHost: a\r\nConnection: " + b"a," * 4500 + b"\r\n\r\n",
    "forwarded-addresses": b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: " + b"127.0.0.1," * 900 + b"\r\n\r\n",
    "many-fields": b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X-%d: %b\r\n" % (n, b"y" * 80) for n in range(98)) + b"\r\n",
    "tracestate": b"GET / HTTP/1.1\r\nHost: a\r\ntracestate: " + b"a=b," * 2200 + b"\r\n\r\n",
    "pipelined-refusals": b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n" * 270,
}


@pytest.mark.parametrize("request_bytes", SMALL.values(), ids=SMALL)
async def test_G12_no_small_request_takes_much_cpu_or_memory(start: Any, peers: Any, request_bytes: bytes) -> None:
    async def script(call: Call) -> None:
        await call.read_head()
        call.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")

    assert len(request_bytes) <= 10 * 1024
    changes = {"api": api(await peers(script)), "server": {"trusted_proxies": ["127.0.0.1"], "limits": {"header_size": "16KiB"}}}
    process = await start(await start.simulator(), changes)

    async def once() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", process.port, limit=MIB)
        writer.write(request_bytes)
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).startswith(b"HTTP/1.1 ")
        writer.transport.abort()

    for _ in range(10):
        await once()
    pid, count = process.process.pid, 60
    cpu, resident = cpu_seconds(pid), resident_mib(pid)
    for _ in range(count):
        await once()
    assert (cpu_seconds(pid) - cpu) / count < 0.050
    assert (resident_mib(pid) - resident) / count < 1


async def metric(process: Any, name: str) -> float:
    """Give the value of one metric, by its name with its labels as they are printed."""
    text = await asyncio.to_thread(_scrape, process.admin)
    values = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(name)]
    return sum(map(float, values))


def _scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text: str = answer.read().decode()
        return text


async def until_count(process: Any, name: str, value: float) -> None:
    async with asyncio.timeout(60):
        while await metric(process, name) != value:  # noqa: ASYNC110  a metric has no event
            await asyncio.sleep(0.2)
