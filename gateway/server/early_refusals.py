"""Overload by clients that connect for each request: their requests are refused before their connections are opened.

To open a connection, only to refuse its one request and close it, would cost as much as the work that is refused. Most such clients send
their requests at once. So while work is refused, what has come on a new connection is read before anything else, a balancer's PROXY header
too, and the connection ends with the refusal. What cannot be refused so is opened, with what has been read of it.

A busy proxy connects a good while before it sends. So a connection on which nothing has come is waited for, and opened after a second.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from gateway.edge.connection import UNIX
from gateway.edge.forwarded import unmapped
from gateway.edge.plain import PlainFields
from gateway.edge.server import EdgeServer, Refusal
from gateway.server.proxy_protocol import HeaderInvalid, parse
from gateway.upstream.pieces import READ

SILENT: Final = 1.0
"""Seconds after which a connection is opened on which no request has come."""
Admit = Callable[[socket.socket, str, bytes], object]


class Newcomer(Struct, eq=False, gc=False):
    """Who has sent a request on a connection that is not opened yet (`gateway.edge.connection.Sender`)."""

    client: str
    heard_at: float
    is_new: bool = True
    subject: str | None = None
    is_secure: bool = False
    last_fields: PlainFields | None = None


class EarlyRefusals:
    """Refuses what new connections bring: `ask` for each of them, then `send`, which answers all that were refused.

    `admit` opens a connection, of which these bytes have been read. `sends_header` tells whether those of a peer begin with a PROXY header.
    `on_fewer` is called when some of those that were `waiting` may have ended. For the running event loop.
    """

    def __init__(self, edge: EdgeServer, admit: Admit, sends_header: Callable[[str], bool], on_fewer: Callable[[], None]) -> None:
        self._edge = edge
        self._admit = admit
        self._sends_header = sends_header
        self._on_fewer = on_fewer
        self._refused: list[tuple[socket.socket, Refusal]] = []
        self._silent: dict[socket.socket, _Silent] = {}  # in the order in which they came
        self._timer: asyncio.TimerHandle | None = None  # for the first of these

    @property
    def waiting(self) -> int:
        """How many connections have brought no request yet."""
        return len(self._silent)

    def ask(self, sock: socket.socket, peer: str, now: float, first: bytes = b"") -> bool:
        """Read what has come on a new connection, and have it refused, admit it, or wait for more.

        `peer` is its address, empty on a unix socket; `first` is what has been read before. Return whether more may be asked now: False
        when refusals take more of the time than they are meant to.
        """
        try:
            came = sock.recv(READ)
        except BlockingIOError:
            self._wait_for(sock, _Silent(peer, first, now))
            return True
        except OSError:  # the client has left, which is found out again
            came = b""
        data = first + came
        try:
            begun = self._begun(peer, data) if came else None
            if begun is not None and not begun[1]:
                self._wait_for(sock, _Silent(peer, data, now))
                return True
            refusal = self._edge.refuse(Newcomer(begun[0], now), begun[1]) if begun is not None else None
        except Exception as error:  # noqa: BLE001  a failure of our own ends this connection; the others go on
            asyncio.get_running_loop().call_exception_handler({"message": "reading a request failed", "exception": error, "socket": sock})
            sock.close()
            return True
        if refusal is None:
            self._admit(sock, peer, data)
            return True
        self._refused.append((sock, refusal))
        return not refusal.held

    def _begun(self, peer: str, data: bytes) -> tuple[str, bytes] | None:
        """Return who has sent this, and the request as far as it has come. None if its PROXY header is none, or is not whole yet."""
        own = unmapped(peer) if peer else UNIX
        if not self._sends_header(peer):
            return own, data
        try:
            header = parse(data)
        except HeaderInvalid:
            return None
        return None if header is None else (header.client or own, data[header.size :])

    def send(self) -> None:
        """Send the answers, one after the other: to wake up clients costs less when nothing else is done between."""
        refused, self._refused = self._refused, []
        for sock, refusal in refused:
            try:
                sock.send(refusal.answer)  # an empty buffer takes it whole
            except OSError:
                refusal.note_unsent()
            sock.close()
        if refused:
            self._edge.recorder.record(*[refusal.exchange for _, refusal in refused])

    def admit_waiting(self) -> None:
        """Admit all that have brought no request yet."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for sock in tuple(self._silent):
            self._admit_silent(sock)

    def _wait_for(self, sock: socket.socket, silent: "_Silent") -> None:
        loop = asyncio.get_running_loop()
        if self._timer is None:
            self._timer = loop.call_later(SILENT, self._look)
        self._silent[sock] = silent
        loop.add_reader(sock, self._heard, sock)

    def _take(self, sock: socket.socket) -> "_Silent":
        """Wait for this one no more, and return what is known of it."""
        asyncio.get_running_loop().remove_reader(sock)
        return self._silent.pop(sock)

    def _admit_silent(self, sock: socket.socket) -> None:
        silent = self._take(sock)
        self._admit(sock, silent.peer, silent.first)

    def _heard(self, sock: socket.socket) -> None:
        loop, silent = asyncio.get_running_loop(), self._take(sock)
        if not self._refused:
            loop.call_soon(self._answer)
        self.ask(sock, silent.peer, loop.time(), silent.first)

    def _answer(self) -> None:
        self.send()
        self._on_fewer()

    def _look(self) -> None:
        """Admit those that have been silent for long."""
        self._timer = None
        loop = asyncio.get_running_loop()
        for sock, silent in tuple(self._silent.items()):
            if loop.time() < silent.came + SILENT:
                self._timer = loop.call_at(silent.came + SILENT, self._look)
                return
            self._admit_silent(sock)


class _Silent(Struct, frozen=True, eq=False, gc=False):
    """A connection without a request yet: its peer, what has been read of it (a PROXY header, or nothing), and when it was last read."""

    peer: str
    first: bytes
    came: float
