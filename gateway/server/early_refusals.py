"""Refusals before a connection is opened for a request: all that is done for one, only to close it, would cost as much as the work refused.

Clients that connect for each request send it with the connection; so do those of which many others have connections already, as a proxy
that keeps a few. While work is refused, what has come of them is read before anything else, and their connection ends with the refusal.
"""

import asyncio
import socket
from collections.abc import Callable

from msgspec import Struct

from gateway.edge.connection import UNIX
from gateway.edge.forwarded import unmapped
from gateway.edge.receiver import READ
from gateway.edge.server import EdgeServer, Refusal

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

    `admit` opens a connection, of which so many bytes have been read.
    """

    def __init__(self, edge: EdgeServer, admit: Admit) -> None:
        self._edge = edge
        self._admit = admit
        self._refused: list[tuple[socket.socket, Refusal]] = []

    def ask(self, sock: socket.socket, peer: str, now: float) -> bool:
        """Read what has come on a new connection and have it refused, or admit it. `peer` is its address, empty on a unix socket.

        Return whether more may be refused now, without too much of the time going into that.
        """
        try:
            data = sock.recv(READ)
        except OSError:  # nothing has come yet, or the client has left, which is found out again
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
        self._edge.recorder.record(*[refusal.exchange for _, refusal in refused])
