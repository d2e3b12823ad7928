"""The HTTP server towards clients: what all its connections share, and which there are.

The parser must be aiohttp's C parser (faults E8).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import http_parser
from msgspec import Struct

from gateway.edge.answer import Reply
from gateway.edge.connection import Connection, Sender
from gateway.edge.exchange import CLIENT_ABORT, Exchange, Recorder
from gateway.edge.malformed import UnknownMethod
from gateway.edge.receiver import Receiver
from gateway.edge.request import Request
from gateway.edge.shedding import Shedder
from gateway.edge.turns import AT_ONCE, Turns
from gateway.telemetry.metrics import Metrics

TOGETHER: Final = 0.002
"""Seconds for which what clients send is put off while work is refused, so that it is looked at together.

A request that is refused, or begins, between other work finds nothing that it needs in the processor's caches; of ten at a time each takes
a quarter less. With four milliseconds no more is done, and all wait longer.
"""


class Refusal(Struct, frozen=True, eq=False):
    """A request that was refused at once: the answer, for how many seconds its client is not to be heard then, and the record.

    Where the connection ends with it (`is_last`), nobody is left to be held: `held` then says, if it is not 0, that no more new connections
    are to be taken for a moment. Of its body, `missing` bytes are still to come.
    """

    answer: bytes
    held: float
    is_last: bool
    missing: int
    exchange: Exchange

    def note_unsent(self) -> None:
        """Take that its client has left before it was written."""
        self.exchange.reason, self.exchange.bytes_out = CLIENT_ABORT, 0


Handler = Callable[[Request], Awaitable[Reply]]
Refuse = Callable[[Sender, bytes], Refusal | None]


class ParserMissing(RuntimeError):
    """aiohttp runs on its pure Python parser, which the smuggling advisories concern."""


def require_c_parser() -> None:
    """Raise ParserMissing unless aiohttp parses requests in C."""
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise ParserMissing("aiohttp runs without its C parser: install a build of aiohttp with extensions for this platform")


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Limits of one connection: bytes of a request's head, seconds to send it, between requests, and without taking of an answer."""

    header_size: int
    header_timeout: float
    idle_timeout: float
    write_idle_timeout: float = 30.0


class EdgeServer:
    """Makes a `Connection` for each client. `unknown_method` says how a method outside the parser's list is answered on a path.

    While `shedder` refuses work, `refuse` may do that with a request whose head has come, before `handler` is called: it returns the
    `Refusal` if it has. `turns` lets requests begin, and `note_unbegun` is told of those that never
    will, and why. `open` is how many connections there are, and `on_closed` is told of each that has closed.
    """

    def __init__(
        self,
        handler: Handler,
        limits: ServerLimits,
        recorder: Recorder,
        metrics: Metrics,
        unknown_method: UnknownMethod,
        *,
        turns: Turns,
        shedder: Shedder | None = None,
        refuse: Refuse = lambda _connection, _data: None,
        note_unbegun: Callable[[Request, str], None] = lambda _request, _reason: None,
    ) -> None:
        self.handler = handler
        self.shedder = shedder
        self.refuse = refuse
        self.note_unbegun = note_unbegun
        self.limits = limits
        self.recorder = recorder
        self.metrics = metrics
        self.unknown_method = unknown_method
        self.turns = turns
        self.connections: set[Connection] = set()
        self._put_off: list[Connection] = []
        self._unwritten: list[tuple[asyncio.Transport, Refusal]] = []
        self._held: deque[tuple[float, Connection]] = deque()  # clients that are not heard, by the loop's time when they are again
        self.on_closed: Callable[[Connection], None] = lambda _connection: None

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self.connections)

    def active(self, seconds: float) -> int:
        """Return how many connections have brought something in so many seconds."""
        since = asyncio.get_running_loop().time() - seconds
        return sum(connection.heard_at >= since for connection in self.connections)

    def receiver(self, client: str | None = None, first: bytes = b"") -> Receiver:
        """Return the protocol of a new connection; `client` is the client's address if it is not the peer's (PROXY protocol).

        `first` is what has been read of it, which is not refused at once any more.
        """
        return Receiver(Connection(self, client, first))

    @property
    def is_shedding(self) -> bool:
        """Whether work is refused."""
        return self.shedder is not None and self.shedder.is_shedding

    def has_memory(self) -> bool:
        """Whether there is memory for what has come of a request that cannot begin yet."""
        return self.shedder is None or self.shedder.has_memory()

    def may_wait(self) -> bool:
        """Whether one more request may wait to begin: a few may, since they are refused when they begin, and others if there is memory."""
        return self.turns.queue_length + len(self._put_off) < AT_ONCE or self.has_memory()

    def puts_off(self, connection: Connection) -> bool:
        """Let a connection go on soon, together with others, if one more may wait."""
        if not self.may_wait():
            return False
        if not self._put_off:
            asyncio.get_running_loop().call_later(TOGETHER, self._go_on)
        self._put_off.append(connection)
        return True

    def _go_on(self) -> None:
        """Let them go on in one turn: those that begin do so in the next, behind the answers that have come for work in hand."""
        loop, put_off, self._put_off = asyncio.get_running_loop(), self._put_off, []
        loop.call_soon(self._go_on_together, put_off)

    def _go_on_together(self, put_off: list[Connection]) -> None:
        for connection in put_off:
            connection.go_on()

    def write_soon(self, transport: asyncio.Transport, refusal: Refusal) -> None:
        """Write with the others of this turn of the loop: each client that a write wakes up alone costs as much as a refusal."""
        if not self._unwritten:
            asyncio.get_running_loop().call_soon(self._write)
        self._unwritten.append((transport, refusal))

    def _write(self) -> None:
        unwritten, self._unwritten = self._unwritten, []
        for transport, refusal in unwritten:
            if transport.is_closing():
                refusal.note_unsent()
                continue
            transport.write(refusal.answer)
            if refusal.is_last:
                transport.close()
        self.recorder.record(*[refusal.exchange for _, refusal in unwritten])

    def hold(self, connection: Connection, seconds: float) -> None:
        """Do not hear a client for so many seconds, if any. Whoever is held later is not to be heard earlier."""
        if seconds:
            connection.hold()
            loop = asyncio.get_running_loop()
            self._held.append((loop.time() + seconds, connection))
            if len(self._held) == 1:
                loop.call_later(seconds, self._hear)

    def _hear(self) -> None:
        loop = asyncio.get_running_loop()
        while self._held and self._held[0][0] <= loop.time():
            self._held.popleft()[1].hear()
        if self._held:
            loop.call_at(self._held[0][0], self._hear)

    def _settle(self) -> None:
        """Do what was put off."""
        for connection in self._put_off:
            connection.go_on()
        self._write()

    def close_idle(self, seconds: float = 0.0) -> None:
        """Close the connections on which no request has begun for so many seconds, as far as that can be known here."""
        self._settle()
        for connection in tuple(self.connections):
            if connection.is_idle and connection.idle_seconds >= seconds:
                connection.force_close()

    async def shutdown(self, timeout: float) -> None:
        """Close all connections; requests in hand have so many seconds to end by themselves, and as many to see that they do not."""
        self._settle()
        await asyncio.gather(*[connection.shutdown(timeout) for connection in tuple(self.connections)])

    def opened(self, connection: Connection) -> None:
        """Count a connection that opens."""
        self.connections.add(connection)
        self.metrics.connections.inc()

    def closed(self, connection: Connection) -> None:
        """Count a connection that closes."""
        self.connections.discard(connection)
        self.metrics.connections.dec()
        self.on_closed(connection)
