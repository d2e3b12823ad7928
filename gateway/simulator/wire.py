"""An HTTP/1.1 server that can also misbehave: it reads requests exactly as they came and carries out the steps of an answer.

A server that always keeps to the rules (aiohttp's) can't drop a connection in the middle of its headers. Only what the simulated
peers need is here: requests with a Content-Length, one after the other.
"""

import asyncio
import re
import socket
import ssl
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final, Protocol, cast

from gateway.simulator.delivery import Answer, Headers, Mark, Pause, Step, steps

MAX_HEAD: Final = 64 * 1024
MAX_BODY: Final = 64 * 1024 * 1024

_LINGER_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER of zero seconds: closing sends a reset


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came: `target` and header values as on the wire (ISO-8859-1), `body` its exact bytes."""

    method: str
    target: str
    headers: Headers
    body: bytes = b""

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    def all(self, name: str) -> list[str]:
        """Give every value of a header (name in lower case)."""
        return [value for key, value in self.headers if key.lower() == name]

    def get(self, name: str) -> str | None:
        """Give the value of a header that stands there exactly once, else None."""
        values = self.all(name)
        return values[0] if len(values) == 1 else None


class Service(Protocol):
    """Decides what is answered; both methods return at once."""

    def refuses(self, request: Request) -> bool:
        """Tell whether the connection is to be reset before the request's body is read."""

    def answer(self, request: Request) -> Answer:
        """Give the answer to a whole request."""


class Malformed(ValueError):
    """What came is not a request that this server reads."""


def parse_head(head: bytes) -> Request:
    """Read the request line and the header fields, without the empty line at the end. Raises Malformed."""
    first, *lines = head.decode("latin-1").split("\r\n")
    match first.split(" "):
        case [method, target, "HTTP/1.1" | "HTTP/1.0"] if method and target:
            return Request(method, target, tuple(_field(line) for line in lines))
    raise Malformed("no request line")


def _field(line: str) -> tuple[str, str]:
    name, separator, value = line.partition(":")
    if not separator or not name or name != name.strip():
        raise Malformed("no header field")
    return name, value.strip(" \t")


def body_length(request: Request) -> int:
    """Give the length of a request's body in bytes. Raises Malformed for a body of unknown or unreasonable length."""
    text = request.get("content-length")
    if request.all("transfer-encoding") or (text is None and request.all("content-length")):
        raise Malformed("a Content-Length is needed")
    if text is None:
        return 0
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) > MAX_BODY:
        raise Malformed("no usable Content-Length")
    return int(text)


class Server:
    """Serves one address. `changed` is called whenever a connection comes or goes; `open` and `accepted` count them."""

    def __init__(self, service: Service, changed: Callable[[], None]) -> None:
        self.accepted = 0
        self._service = service
        self._changed = changed
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._gate = asyncio.Event()
        self._idle = asyncio.Event()

    @property
    def open(self) -> int:
        """How many connections are open now."""
        return len(self._connections)

    async def start(self, sock: socket.socket, tls: ssl.SSLContext | None) -> asyncio.Server:
        """Listen on a bound socket; with `tls`, over TLS."""
        return await asyncio.get_running_loop().create_server(lambda: Connection(self), sock=sock, ssl=tls, backlog=1024)

    def release(self) -> None:
        """Let every answer go that is held now."""
        self._gate.set()
        self._gate = asyncio.Event()

    async def close(self) -> None:
        """Reset all connections and return when they are gone."""
        for connection in tuple(self._connections):
            connection.reset()
        while self._connections:
            self._idle.clear()
            await self._idle.wait()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _made(self, connection: "Connection") -> asyncio.Task[None]:
        self.accepted += 1
        self._connections.add(connection)
        task = asyncio.get_running_loop().create_task(connection.serve(self._service))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._changed()
        return task

    def _lost(self, connection: "Connection") -> None:
        self._connections.discard(connection)
        self._idle.set()
        self._changed()

    async def _released(self) -> None:
        await self._gate.wait()


class Connection(asyncio.Protocol):
    """One connection of a `Server`; a task of its own serves its requests and ends with it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._buffer = bytearray()
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class is not derived from it
        self._transport.set_write_buffer_limits(high=1)  # what was written has left before a reset follows
        self._task = self._server._made(self)  # noqa: SLF001  the two are one subject

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request."""
        self._buffer += data
        self._arrived.set()

    def pause_writing(self) -> None:
        """Wait before writing more."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Write on."""
        self._writable.set()

    def connection_lost(self, _error: Exception | None) -> None:
        """End the serving task: nobody waits for its answer."""
        self._task.cancel()
        self._server._lost(self)  # noqa: SLF001  the two are one subject

    def reset(self) -> None:
        """Break the connection: the other side sees a reset."""
        sock = self._transport.get_extra_info("socket")
        if sock is not None:  # TLS over a connection that the other side has ended tells of none
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
        self._transport.abort()

    async def serve(self, service: Service) -> None:
        """Answer one request after the other until the connection ends."""
        try:
            while await self._serve_one(service):
                pass
        except Malformed as error:
            self._transport.write(f"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nx-reason: {error}\r\n\r\n".encode())
            self._transport.close()
        except Exception:
            self.reset()
            raise

    async def _serve_one(self, service: Service) -> bool:
        request = parse_head(await self._take_head())
        length = body_length(request)
        if service.refuses(request):
            self.reset()
            return False
        if request.get("expect") == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        answer = service.answer(replace(request, body=await self._take(length)))
        is_kept = await self._deliver(steps(answer, only_head=request.method == "HEAD"))
        if is_kept and (request.get("connection") or "").lower() == "close":
            self._transport.close()
            return False
        return is_kept

    async def _deliver(self, delivery: Iterable[Step]) -> bool:
        for step in delivery:
            match step:
                case Pause(seconds):
                    await asyncio.sleep(seconds)
                case Mark.HOLD:
                    await self._server._released()  # noqa: SLF001  the two are one subject
                case Mark.RESET:
                    self.reset()
                    return False
                case Mark.CLOSE:
                    self._transport.close()
                    return False
                case bytes():
                    self._transport.write(step)
                    await asyncio.sleep(0)  # an endless answer must let others run, and notice that its client has left
                    await self._writable.wait()
        return True

    async def _take_head(self) -> bytes:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > MAX_HEAD:
                raise Malformed("too long a head")
            await self._more()
        head = bytes(self._buffer[:end])
        del self._buffer[: end + 4]
        return head

    async def _take(self, length: int) -> bytes:
        while len(self._buffer) < length:
            await self._more()
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        return body

    async def _more(self) -> None:
        self._arrived.clear()
        await self._arrived.wait()
