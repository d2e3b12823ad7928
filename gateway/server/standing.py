"""The system's queue of new connections, where each takes long to open: how long they wait there, and whether they do all the time.

A handshake of TLS takes as long as a request or longer, and nothing can be answered without one. Where clients connect faster than that,
all of them would wait for as long as the queue is, seconds, and none would be served in time. A burst is no such case: it passes, however
long that takes. So what tells is a standing queue, as in CoDel (RFC 8289): for a good while, all that came have waited for too long.
"""

import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Final

from structlog.typing import FilteringBoundLogger

LONG: Final = 0.05
"""Seconds. Who has waited longer has waited too long."""
SHORT: Final = 0.008
"""The same while connections are refused: as many wait as can be opened meanwhile, and who is refused is told so in time."""
TERM: Final = 1.0
"""Seconds for which all that came, and all that were taken, must have waited too long. The first bounds a burst, the second a pause of the
process. So long after the last refusal nobody is refused any more."""
CROWD: Final = 128
"""With fewer waiting nobody is refused, however slow it gets: their number is the bound."""
REFUSAL: Final = bytes((21, 3, 3, 0, 2, 2, 80))
"""A fatal alert, internal_error, as a server may send it instead of its first message (RFC 8446, 5.1 and 6.2): none tells of overloads."""
_READ_AWAY: Final = 16 * 1024
# Where struct tcp_info (linux/tcp.h) has these:
_WAITING: Final = 24  # tcpi_unacked: of a listening socket, how many connections wait there
_HEARD: Final = 52  # tcpi_last_data_recv: how many milliseconds ago the last bytes came, or the connection if there were none


class StandingQueue:
    """Tells which connections of a listening socket have waited too long. `has_crowd` tells whether many wait there."""

    def __init__(self, has_crowd: Callable[[], bool], log: FilteringBoundLogger, now: Callable[[], float] = monotonic) -> None:
        self._has_crowd = has_crowd
        self._log = log
        self._now = now
        self._first: tuple[float, float] | None = None  # of those that all have waited too long: when it was taken, and came
        self._refused_at = 0.0
        self._refused = 0  # since nobody was

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
        if self._first is None:
            self._first = now, came
        taken_first, came_first = self._first
        return now - taken_first >= TERM and came - came_first >= TERM and self._has_crowd()


def has_crowd(listening: socket.socket) -> bool:
    """Tell whether many connections wait at a listening socket. False where the system does not tell."""
    return _tcp_info(listening, _WAITING) >= CROWD


def waited(connection: socket.socket) -> float:
    """Return for how many seconds a connection has waited, unless its client has sent more meanwhile; 0 where the system does not tell."""
    return _tcp_info(connection, _HEARD) / 1000


def refuse(connection: socket.socket) -> None:
    """Tell a client that there will be no handshake, and close."""
    with suppress(OSError):
        connection.recv(_READ_AWAY)  # closing with unread bytes would be a reset, and the alert would be lost
    with suppress(OSError):
        connection.send(REFUSAL)
    connection.close()


def _tcp_info(sock: socket.socket, offset: int) -> int:
    try:
        value: int = struct.unpack_from("=I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, offset + 4), offset)[0]
    except (OSError, AttributeError, struct.error):  # a unix socket, or another system
        return 0
    return value
