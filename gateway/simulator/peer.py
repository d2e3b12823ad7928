"""A simulated peer: what it is told to answer (the script), what it got (the record), and the server that ties them to the wire.

What a request is worth and what an answer says is the `respond` function of each peer (`alipayplus`, `auth`); the script and the
record over HTTP are in `gateway.simulator.control`.
"""

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Generic, TypeVar

import msgspec
from msgspec import Struct

from gateway.simulator import control
from gateway.simulator.delivery import Answer, Delivery, Headers
from gateway.simulator.wire import MAX_BODY, Request, Server

KEEP: Final = 1000
"""How many received requests a record keeps by default; it counts all."""

KEEP_BYTES: Final = MAX_BODY
"""How many bytes their bodies may have together."""

B = TypeVar("B", bound=Delivery)


class Received(Struct, frozen=True, kw_only=True):
    """One request as a peer got it. `reason` says why it was not what it should be, and is None where all was right."""

    number: int
    time: datetime
    method: str
    target: str
    headers: Headers
    body: bytes
    verified: bool
    reason: str | None

    def get(self, name: str) -> str | None:
        """Give the value of a header (name in lower case) that stands there exactly once, else None."""
        return Request(self.method, self.target, self.headers).get(name)


class Script(Generic[B]):
    """What is answered next: a queue, and a default when it is empty."""

    def __init__(self, default: B) -> None:
        self.default = default
        self.queue: deque[B] = deque()
        self._first = default

    def add(self, *behaviours: B, times: int | None) -> None:
        """Queue the behaviours, in order, `times` times; with None the (single) behaviour is the default until the next reset."""
        if times is not None:
            self.queue.extend(behaviours * times)
            return
        (self.default,) = behaviours
        self.queue.clear()

    def reset(self) -> None:
        """Forget everything that was scripted."""
        self.queue.clear()
        self.default = self._first

    def peek(self) -> B:
        """Give what is answered next."""
        return self.queue[0] if self.queue else self.default

    def take(self) -> B:
        """Give what is answered next, and use it up."""
        return self.queue.popleft() if self.queue else self.default


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a peer makes of a request: the answer, and why the request was not what it should be (None: it was)."""

    answer: Answer
    reason: str | None = None


class Peer(Generic[B]):
    """One simulated service. Tests script it and read what it got; `gateway.simulator.Simulator` starts it.

    `respond` gives the outcome of a request; it calls the function that it gets for the next behaviour of the script, which is
    used up then. `default` is that behaviour when nothing is scripted.
    """

    def __init__(self, respond: Callable[[Request, Callable[[], B]], Outcome], default: B, *, keep: int = KEEP) -> None:
        self._respond = respond
        self._script = Script(default)
        self._received: deque[Received] = deque()
        self._received_bytes = 0
        self._keep = keep
        self._total = 0
        self._pulse = asyncio.Event()
        self._server = Server(self, self._changed)
        self._listeners: list[asyncio.Server] = []
        self.port = 0

    # What tests and people use.

    def script(self, *behaviours: B, times: int | None = 1) -> None:
        """Answer the next calls so: the behaviours in order, `times` times. With `times=None`, one behaviour, until changed."""
        self._script.add(*behaviours, times=times)

    def reset(self) -> None:
        """Answer as at the start, let held answers go, and forget what was received."""
        self._script.reset()
        self.release()
        self.forget()

    def release(self) -> None:
        """Let every answer go that is held now (`Delivery.hold`)."""
        self._server.release()

    def forget(self) -> None:
        """Forget what was received, and count from zero."""
        self._received.clear()
        self._received_bytes = 0
        self._total = 0

    @property
    def scripted(self) -> Script[B]:
        """What is answered next."""
        return self._script

    @property
    def received(self) -> tuple[Received, ...]:
        """What was received, oldest first; the last ones of `count`."""
        return tuple(self._received)

    @property
    def count(self) -> int:
        """How many requests were received since the start or the last `forget`."""
        return self._total

    @property
    def connections(self) -> int:
        """How many connections were accepted since the start."""
        return self._server.accepted

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        return self._server.open

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Return when `is_so()` holds; it is asked again after each request received and each connection made or lost."""
        while not is_so():
            self._pulse.clear()
            await self._pulse.wait()

    async def until_received(self, count: int) -> None:
        """Return when that many requests were received in all."""
        await self.until(lambda: self._total >= count)

    # What the wire asks.

    async def start(self, sock: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Serve on a bound socket; several may be given one after the other, and `port` is that of the first."""
        self.port = self.port or sock.getsockname()[1]
        self._listeners.append(await self._server.start(sock, tls))

    async def close(self) -> None:
        """Stop listening and break what is open."""
        for listener in self._listeners:
            listener.close()
        await self._server.close()
        for listener in self._listeners:
            await listener.wait_closed()

    def refuses(self, request: Request) -> bool:
        """Tell whether the script says to break the connection before the body is read."""
        if control.is_meant(request) or self._script.peek().drop != "before_reading":
            return False
        self._script.take()
        self._record(request, "dropped before its body was read")
        return True

    def answer(self, request: Request) -> Answer:
        """Answer a request for the control of this peer, or as the peer would."""
        if control.is_meant(request):
            return control.answer(request, self)
        outcome = self._respond(request, self._script.take)
        self._record(request, outcome.reason)
        return outcome.answer

    def behaviours(self, body: bytes) -> list[B]:
        """Read one behaviour or a list of them from JSON. Raises msgspec.DecodeError, whose text says what is wrong."""
        kind = type(self._script.default)
        decoded: B | list[B] = msgspec.json.decode(body, type=kind | list[kind])  # type: ignore[valid-type]
        return decoded if isinstance(decoded, list) else [decoded]

    def _record(self, request: Request, reason: str | None) -> None:
        self._total += 1
        self._received.append(
            Received(
                number=self._total,
                time=datetime.now(UTC),
                method=request.method,
                target=request.target,
                headers=request.headers,
                body=request.body,
                verified=reason is None,
                reason=reason,
            )
        )
        self._received_bytes += len(request.body)
        while len(self._received) > self._keep or self._received_bytes > KEEP_BYTES:
            self._received_bytes -= len(self._received.popleft().body)
        self._changed()

    def _changed(self) -> None:
        self._pulse.set()
