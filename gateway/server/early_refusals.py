"""Refusals before a connection is opened for a request: all that is done for one, only to close it, would cost as much as the work refused.

Clients that connect for each request send it with the connection; so do those of which many others have connections already, as a proxy
that keeps a few. While work is refused, what has come of them is read before anything else, and their connection ends with the refusal.
A proxy that is busy connects a good while before it sends; so those that bring nothing are opened only when they still have not after a
second.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from gateway.edge.connection import UNIX
from gateway.edge.forwarded import unmapped
from gateway.edge.receiver import READ
from gateway.edge.server import EdgeServer, Refusal

SILENT: Final = 1.0
"""Seconds after which a connection is opened on which nothing has come."""
Admit = Callable[[socket.socket, str, bytes], object]


class Newcomer(Struct, eq=False, gc=False):
    """Who has sent a request on a connection that is not opened yet (`gateway.edge.connection.Sender`)."""

    client: str
    heard_at: float
    is_new: bool = True
    subject: str | None = None
    is_secure: bool = False


class EarlyRefusals:
    """Refuses what new connections bring, together: `ask` for each of them, then `send`.

    `admit` opens a connection, of which these bytes have been read. `waiting` is how many have brought nothing yet, and `on_fewer` is
    called when some of these may have ended. All belongs to one loop, which runs.
    """

    def __init__(self, edge: EdgeServer, admit: Admit, on_fewer: Callable[[], None]) -> None:
        self._edge = edge
        self._admit = admit
        self._on_fewer = on_fewer
        self._refused: list[tuple[socket.socket, Refusal]] = []
        self._silent: dict[socket.socket, tuple[str, float]] = {}  # whose each is, and when it came, in that order
        self._timer: asyncio.TimerHandle | None = None  # for the first of these

    @property
    def waiting(self) -> int:
        """How many connections have brought nothing yet."""
        return len(self._silent)

    def ask(self, sock: socket.socket, peer: str, now: float) -> bool:
        """Read what has come on a new connection and have it refused, or admit it. `peer` is its address, empty on a unix socket.

        Return whether more may be refused now, without too much of the time going into that.
        """
        try:
            data = sock.recv(READ)
        except BlockingIOError:
            self._wait_for(sock, peer, now)
            return True
        except OSError:  # the client has left, which is found out again
            data = b""
        try:
            refusal = self._edge.refuse(Newcomer(unmapped(peer) if peer else UNIX, now), data) if data else None
        except Exception as error:  # noqa: BLE001  a failure of our own ends this connection; the others go on
            asyncio.get_running_loop().call_exception_handler({"message": "reading a request failed", "exception": error, "socket": sock})
            sock.close()
            return True
        if refusal is None:
            self._admit(sock, peer, data)
            return True
        self._refused.append((sock, refusal))
        return not refusal.held

    def send(self) -> None:
        """Send the answers: what wakes up one client after the other costs less when nothing else is done between."""
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
        """Admit all that have brought nothing yet."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for sock in tuple(self._silent):
            self._admit(sock, self._take(sock), b"")

    def _wait_for(self, sock: socket.socket, peer: str, now: float) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is None:
            self._timer = loop.call_later(SILENT, self._look)
        self._silent[sock] = peer, now
        loop.add_reader(sock, self._heard, sock)

    def _take(self, sock: socket.socket) -> str:
        """Wait for this one no more, and return whose it is."""
        asyncio.get_running_loop().remove_reader(sock)
        peer, _ = self._silent.pop(sock)
        return peer

    def _heard(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        if not self._refused:
            loop.call_soon(self._answer)
        self.ask(sock, self._take(sock), loop.time())

    def _answer(self) -> None:
        self.send()
        self._on_fewer()

    def _look(self) -> None:
        """Admit those that have been silent for long."""
        self._timer = None
        loop = asyncio.get_running_loop()
        for sock, (_, came) in tuple(self._silent.items()):
            if loop.time() < came + SILENT:
                self._timer = loop.call_at(came + SILENT, self._look)
                return
            self._admit(sock, self._take(sock), b"")
