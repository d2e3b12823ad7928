"""Overload by TLS handshakes: which connections that waited in the system's queue are refused.

A handshake takes as long as a request or longer, and nothing can be answered without one. Where clients connect faster than that, the queue
grows to seconds, and nobody in it is served in time. A burst is no such case: it passes, however long that takes. So what tells is a
standing queue, as in CoDel (RFC 8289): for a good while, each connection that was taken has waited for too long.
"""

import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Final

from structlog.typing import FilteringBoundLogger

LONG: Final = 0.05
"""Seconds. A connection that has waited for longer has waited too long."""
SHORT: Final = 0.008
"""The same once connections are refused. So no more wait than can be opened meanwhile, and who is refused is told so soon."""
TERM: Final = 1.0
"""Seconds. Refusing begins when all connections have waited too long that came, and that were taken, within so long a time: a burst comes
within a shorter one, and what waits behind a pause of the process is taken within a shorter one. It ends so long after the last refusal."""
CROWD: Final = 128
"""Refusing does not begin while fewer wait, however slow it gets for them: their number is the bound."""
REFUSAL: Final = bytes((21, 3, 3, 0, 2, 2, 80))
"""A fatal alert, internal_error, as a server may send it instead of its first message (RFC 8446, 5.1 and 6.2): none tells of overloads."""
_READ_AWAY: Final = 16 * 1024
# Where struct tcp_info (linux/tcp.h) has these:
_WAITING: Final = 24  # tcpi_unacked: of a listening socket, how many connections wait there
_HEARD: Final = 52  # tcpi_last_data_recv: how many milliseconds ago the last bytes came, or the connection if there were none


class StandingQueue:
    """Tells which connections of one listening socket to refuse. `has_crowd` tells whether a CROWD waits there."""

    def __init__(self, has_crowd: Callable[[], bool], log: FilteringBoundLogger, now: Callable[[], float] = monotonic) -> None:
        self._has_crowd = has_crowd
        self._log = log
        self._now = now
        self._first: tuple[float, float] | None = None  # when the first was taken, and came, since which all have waited too long
        self._refused_at = 0.0  # the last one
        self._refused = 0  # so many since refusing began; 0 while nobody is refused

    def refuses(self, waited: float) -> bool:
        """Take that a connection is taken which has waited for so many seconds, and tell whether to refuse it."""
        now = self._now()
        if self._refused and now - self._refused_at >= TERM:
            self._log.warning("taking all connections again", refused=self._refused)
            self._refused, self._first = 0, None
        if waited <= (SHORT if self._refused else LONG):
            self._first = None
            return False
        if not self._refused and not self._stands(now, now - waited):
            return False
        if not self._refused:
            self._log.warning("overloaded: refusing new connections, which wait for their TLS handshakes", waited_seconds=round(waited, 3))
        self._refused += 1
        self._refused_at = now
        return True

    def _stands(self, now: float, came: float) -> bool:
        """Take that a connection is taken now which has waited too long, and tell whether the queue has been standing for a TERM."""
        if self._first is None:
            self._first = now, came
        taken_first, came_first = self._first
        return now - taken_first >= TERM and came - came_first >= TERM and self._has_crowd()


def has_crowd(listening: socket.socket) -> bool:
    """Tell whether a CROWD of connections waits at a listening socket. False where the system does not tell."""
    return _tcp_info(listening, _WAITING) >= CROWD


def waited(connection: socket.socket) -> float:
    """Return for how many seconds a connection has waited, unless its client has sent more meanwhile; 0 where the system does not tell."""
    return _tcp_info(connection, _HEARD) / 1000


def refuse(connection: socket.socket, answer: bytes) -> None:
    """Give a client `answer`, and close."""
    with suppress(OSError):
        connection.recv(_READ_AWAY)  # closing with unread bytes would be a reset, and the answer would be lost
    with suppress(OSError):
        connection.send(answer)
    connection.close()


def _tcp_info(sock: socket.socket, offset: int) -> int:
    try:
        value: int = struct.unpack_from("=I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, offset + 4), offset)[0]
    except (OSError, AttributeError, struct.error):  # a unix socket, or another system
        return 0
    return value
