"""A server made of sockets that does exactly what a test says, and keeps every byte that it got."""

import asyncio
import os
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from gateway.upstream import Connection
from gateway.upstream.connection import BUFFER
from gateway.upstream.dial import Dialer


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until something is so that no event tells of."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0)


async def hold_up(seconds: float, meanwhile: Callable[[], object]) -> None:
    """Keep the loop for so long from its timers and from what has come: it looks at the timers first then, if it is uvloop."""
    loop = asyncio.get_running_loop()
    held_up = loop.create_future()
    ours, theirs = socket.socketpair()

    def block() -> None:
        loop.remove_reader(ours)
        meanwhile()
        time.sleep(seconds)
        held_up.set_result(None)

    with ours, theirs:
        loop.add_reader(ours, block)
        theirs.send(b"x")
        await held_up


async def cancel_connecting(dialer: Dialer, turns: int) -> None:
    """Begin to connect, and give that up after so many turns of the loop."""
    lost = asyncio.Event()
    connecting = asyncio.create_task(dialer.connect(5, lambda _: lost.set()))
    for _ in range(turns):
        await asyncio.sleep(0)
    connecting.cancel()
    with suppress(asyncio.CancelledError):
        (await connecting).abort()
        await lost.wait()


@dataclass
class Call:
    """One connection that was made to a peer. `received` is every byte of it that the script has read."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    received: bytes = b""

    async def read(self, count: int) -> bytes:
        data = await self.reader.readexactly(count)
        self.received += data
        return data

    async def read_head(self) -> bytes:
        head = await self.reader.readuntil(b"\r\n\r\n")
        self.received += head
        return head

    async def read_request(self) -> bytes:
        """Read a request whose body, if any, has a Content-Length."""
        head = await self.read_head()
        lengths = [int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        return head + (await self.read(lengths[0]) if lengths else b"")

    async def read_to_end(self) -> bytes:
        """Wait until the client closes (or resets) and return what came meanwhile."""
        rest = b""
        try:
            while data := await self.reader.read(65536):
                rest += data
        except ConnectionError:
            pass
        self.received += rest
        return rest

    def write(self, data: bytes) -> None:
        if self.writer.transport.is_closing():
            raise ConnectionResetError
        self.writer.write(data)

    async def close(self) -> None:
        self.writer.close()

    def cut(self) -> None:
        """End what is sent beneath TLS, so that TLS itself has no end."""
        with socket.socket(fileno=os.dup(self.writer.get_extra_info("socket").fileno())) as sock:
            sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Call], Awaitable[None]]


class Peer:
    """A server that runs `script` for each connection and closes it when the script ends."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.calls: list[Call] = []
        self.failures: list[BaseException] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self, *, tls: ssl.SSLContext | None = None, path: Path | None = None) -> None:
        if path is not None:
            self._server = await asyncio.start_unix_server(self._serve, path)
        else:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        call = Call(reader, writer)
        self.calls.append(call)
        try:
            await self.script(call)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            pass
        except Exception as error:  # noqa: BLE001 - shown by the fixture
            self.failures.append(error)
        finally:
            writer.close()
            self._tasks.discard(task)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for call in self.calls:
            with suppress(AttributeError):  # asyncio's, where TLS has ended
                call.writer.transport.abort()
        await asyncio.sleep(0)


Connect = Callable[[Peer], "asyncio.Future[Connection]"]
StartPeer = Callable[..., Awaitable[Peer]]


@asynccontextmanager
async def peers() -> AsyncIterator[StartPeer]:
    """Give what starts peers, which are stopped afterwards; the script of none has failed."""
    started: list[Peer] = []

    async def start(script: Script, *, tls: ssl.SSLContext | None = None, path: Path | None = None) -> Peer:
        peer = Peer(script)
        await peer.start(tls=tls, path=path)
        started.append(peer)
        return peer

    yield start
    for peer in started:
        await peer.stop()
    assert [failure for peer in started for failure in peer.failures] == []


async def taken_slowly(connection: Connection) -> bytes:
    """Ask for a streamed answer and return its body, with no more of it held than is meant to be while it is not taken."""
    connection.start("GET")
    connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    connection.finish()
    await connection.read_head()
    received = []
    for _ in range(20):
        await until(lambda: not connection.transport.is_reading())
        assert sum(map(len, connection._parser.chunks)) <= BUFFER
        received.append(await connection.read_body())
    while data := await connection.read_body():
        received.append(data)
    return b"".join(received)
