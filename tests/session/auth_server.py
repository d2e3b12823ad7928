"""An auth service made of sockets: it answers each request as a test says, and keeps what it got."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from gateway.config.model import Session
from gateway.session import Check, Sessions, Work

ABORT: Final = b"abort"
"""What a script returns to have the connection reset instead of an answer."""

WAITING: Final = 60.0
"""A timeout that no test reaches."""

REQUEST_ID: Final = "0123456789abcdef"
TRACEPARENT: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass(frozen=True)
class Received:
    """One request as it came."""

    head: bytes
    body: bytes = b""

    @property
    def line(self) -> bytes:
        return self.head.split(b"\r\n")[0]

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        pairs = [line.partition(b": ") for line in self.head.split(b"\r\n")[1:-2]]
        return [(name, value) for name, _, value in pairs]

    def all(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.fields if key.lower() == name.lower()]


Script = Callable[[Received], Awaitable[bytes]]


def answer(status: int = 200, fields: Mapping[str, str] | None = None, body: bytes = b"") -> bytes:
    """Return the bytes of an answer."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in (fields or {}).items())
    return f"HTTP/1.1 {status} Text\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode("latin-1") + body


def valid(customer_id: str = "user-1", **fields: str) -> bytes:
    return answer(200, {"X-Customer-Id": customer_id, **{name.replace("_", "-"): value for name, value in fields.items()}})


def document(value: object, status: int = 200, **fields: str) -> bytes:
    named = {name.replace("_", "-"): text for name, text in fields.items()}
    return answer(status, {"Content-Type": "application/json", **named}, msgspec.json.encode(value))


def always(data: bytes) -> Script:
    async def script(_received: Received) -> bytes:
        return data

    return script


def owner(received: Received) -> str:
    """Return the id of the user whose token came."""
    return "id-of-" + received.all(b"Authorization")[0].decode("latin-1").removeprefix("Bearer ")


async def by_token(received: Received) -> bytes:
    return valid(owner(received))


@dataclass
class AuthServer:
    """A running auth service. `arrived` is given each request before it is answered; `hold` keeps answers back until it is set."""

    script: Script = field(default=always(valid()))
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    arrived: asyncio.Queue[Received] = field(default_factory=asyncio.Queue)
    hold: asyncio.Event = field(default_factory=asyncio.Event)
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        self.hold.set()
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        self.port = self.server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self.server.close()
        self.reset_connections()
        await self.server.wait_closed()

    def reset_connections(self) -> None:
        for writer in tuple(self.writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.add(writer)
        try:
            while True:
                received = await self._read(reader)
                self.received.append(received)
                self.arrived.put_nowait(received)
                data = await self.script(received)
                await self.hold.wait()
                if data == ABORT:
                    writer.transport.abort()
                    return
                writer.write(data)
                if b"\r\nconnection: close" in data.lower():
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.writers.discard(writer)
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> Received:
        head = await reader.readuntil(b"\r\n\r\n")
        lengths = Received(head).all(b"Content-Length")
        return Received(head, await reader.readexactly(int(lengths[0])) if lengths else b"")


@dataclass
class Gateway:
    """Sessions in front of an auth service."""

    auth: AuthServer
    sessions: Sessions
    observed: list[str]

    async def check(self, *headers: tuple[str, str], work: Work = "sdk") -> Check:
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        return await self.sessions.check(raw, work, request_id=REQUEST_ID, traceparent=lambda: TRACEPARENT)

    async def bearer(self, token: str = "t-1", work: Work = "sdk") -> Check:
        return await self.check(("Authorization", f"Bearer {token}"), work=work)

    def several(self, count: int, token: str = "t-1") -> list["asyncio.Task[Check]"]:
        return [asyncio.create_task(self.bearer(token)) for _ in range(count)]


@dataclass
class Clock:
    """A clock that stands until it is moved."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def session(section: Mapping[str, object], kind: str = "forward", **more: object) -> Session:
    """Return the session configuration with this section of it, read as from a file but for durations (numbers, in seconds)."""
    return msgspec.convert({kind: section, **more}, Session, strict=False, dec_hook=lambda kind_, value: kind_(value))
