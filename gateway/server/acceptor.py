"""The accept loop of a worker: takes connections from its listening sockets, never more than it may hold.

The loop's own servers will not do: uvloop's closes connections when descriptors run out, and both take as many as come. What stands before
HTTP on a connection is left to `gateway.server.admission`.
"""

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Sequence
from functools import partial
from os import urandom
from time import monotonic
from typing import Final, Protocol

from structlog.typing import FilteringBoundLogger

from gateway.edge.answer import failure_answer
from gateway.edge.connection import Connection
from gateway.edge.forwarded import TrustedProxies
from gateway.edge.growth import Growth
from gateway.edge.server import TOGETHER, EdgeServer
from gateway.edge.tls import server_context
from gateway.errors import GatewayError
from gateway.runtime import Runtime
from gateway.server.admission import Admission
from gateway.server.descriptors import Reserve, descriptor_limit
from gateway.server.early_refusals import EarlyRefusals
from gateway.server.sockets import BACKLOG
from gateway.server.standing import REFUSAL, StandingQueue, has_crowd, refuse, waited

BATCH: Final = 4
"""Connections taken from one socket in one turn: few, so that workers who share it get a like number of a burst."""
MOST: Final = 256
"""So many at most. More than a BATCH are taken where connections end with their first request as fast as they come: those of clients that
connect for each request. What waits in the system's queue nobody sees, nor for how long; so it is to be empty before there is too much to
do. Clients that come back all at once, and stay, are taken few by few, beside the work in hand."""
_FADES: Final = 0.98
"""Of the connections that were opened, and of those that ended with their first request, so many are still counted a turn later."""
RETRY: Final = 0.1
"""Seconds until accepting is tried again after it has failed."""
AGAIN: Final = 60.0
"""Seconds after which it is counted once more that clients wait: fewer than those over which alerts look (deploy/prometheus)."""
TAKES: Final = 48 * 1024
TAKES_TLS: Final = 128 * 1024
"""Bytes that a connection may take, with what its first request holds of a body."""
FOR_CLIENTS: Final = 0.75
"""The share of all descriptors that clients may have: without one for its peers a worker does nothing for those that it has."""
_NO_DESCRIPTOR: Final = (errno.EMFILE, errno.ENFILE)


class Admit(Protocol):
    """Takes an accepted connection (`gateway.server.admission.Admission`). `has_tls` says whether it has TLS."""

    has_tls: bool

    def sends_header(self, peer: str) -> bool:
        """Whether a PROXY header stands before all else on the connections of a peer."""

    async def admit(self, sock: socket.socket, peer: str, first: bytes) -> bool:
        """Open a connection, of which `first` has been read, and return True, or close it."""


class Acceptor:
    """Accepts while it is started and holds fewer than `connections`; above that, connections wait in the system's queue.

    `open` is how many it holds, with those that are being opened, or wait for that. Every connection of `edge` must come from here. A
    client for whose connection there is no descriptor gets what `refusal` gives; so does one above the limit if that `is_short` for want
    of them.

    Connections are refused with what `refusal` gives when there is no memory for them: `has_room` tells of so many bytes.

    While work is refused, connections of clients that connect for each request are given to `EarlyRefusals`. Connections with TLS are
    always taken few by few, as each takes as long as a request; who has waited too long for that is refused (`StandingQueue`).
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        edge: EdgeServer,
        admission: Admit,
        log: FilteringBoundLogger,
        *,
        connections: int,
        is_short: bool,
        refusal: Callable[[], bytes],
        has_room: Callable[[int], bool] = lambda _: True,
        again: float = AGAIN,
    ) -> None:
        self._sockets = tuple(sockets)
        self._edge = edge
        self._admission = admission
        self._log = log
        self._limit = connections
        self._is_short = is_short
        self._refusal = refusal
        self._has_room = has_room
        self._growth = Growth()
        self._takes = TAKES_TLS if admission.has_tls else TAKES
        self._again = again
        self._reserve = Reserve()
        self._early = EarlyRefusals(edge, self._open, admission.sends_header, self._go_on)
        self._queues = {sock: StandingQueue(partial(has_crowd, sock), log) for sock in sockets}
        self._ended = 0  # connections that had one request at most, since some were taken last
        self._opened_lately = self._ended_lately = 0.0
        self._opening: set[asyncio.Task[bool]] = set()
        self._loop: asyncio.AbstractEventLoop
        self._timer: asyncio.TimerHandle | None = None
        self._question: asyncio.TimerHandle | None = None
        self._taken = 0
        self._is_started = False
        self._is_accepting = False
        self._accepts_since = 0.0
        edge.on_closed = self._note_closed

    @property
    def open(self) -> int:
        """How many connections there are."""
        return self._taken + self._early.waiting

    def start(self) -> None:
        """Begin to accept, and to listen where nobody has yet. Raises OSError."""
        self._loop = asyncio.get_running_loop()
        for sock in self._sockets:
            if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                sock.listen(BACKLOG)
        self._is_started = True
        self._go_on()

    def stop(self) -> None:
        """Accept no more. What waits is left to those who share the sockets; what is open, and what is being opened, stays."""
        self._is_started = False
        self._hold()
        self._early.admit_waiting()
        self._stop_timer()
        self._stop_question()

    def take_waiting(self, sock: socket.socket) -> None:
        """Accept all that waits at one of the sockets, when nobody else is going to."""
        while self._accept_one(sock, self._open):
            pass

    def close(self) -> None:
        """Stop, and give up what is being opened."""
        self.stop()
        self._reserve.close()
        for task in self._opening:
            task.cancel()

    def _go_on(self) -> None:
        """Accept again, if nothing speaks against it any more."""
        if self._is_started and not self._is_accepting and self._timer is None and self.open < self._limit:
            self._listen()

    def _listen(self) -> None:
        self._stop_question()
        self._is_accepting, self._accepts_since = True, self._loop.time()
        for sock in self._sockets:
            self._loop.add_reader(sock, self._accept, sock)

    def _hold(self) -> None:
        if self._is_accepting:
            self._is_accepting = False
            for sock in self._sockets:
                self._loop.remove_reader(sock)

    def _accept(self, sock: socket.socket) -> None:
        if self.open >= self._limit and self._is_short:
            self._failed(sock, OSError(errno.EMFILE, "descriptors are kept for peers"))
        elif self.open >= self._limit:
            self._full()
        elif self._admission.has_tls:
            self._accept_in_time(sock)
        else:
            ended, self._ended = self._ended, 0
            self._opened_lately *= _FADES
            self._ended_lately = self._ended_lately * _FADES + ended
            if self._edge.is_shedding and self._ended_lately >= self._opened_lately / 2:
                self._accept_refusing()
            else:
                self._accept_some(sock, min(BATCH + 2 * ended, MOST), self._open)

    def _accept_some(self, sock: socket.socket, count: int, take: Callable[[socket.socket, str], bool]) -> None:
        """Accept so many connections, if as many wait."""
        for _ in range(min(count, self._limit - self.open)):
            if not self._accept_one(sock, take):
                return

    def _turn_away(self, connection: socket.socket) -> bool:
        """Refuse a connection because of the memory that it may take."""
        self._log.warning("memory is nearly used up: refusing new connections")
        refuse(connection, self._refusal())
        self._edge.metrics.rejected("overload").inc()
        return True

    def _accept_in_time(self, sock: socket.socket) -> None:
        """Accept few connections, and refuse those before and between them that have waited too long: that costs little.

        Only the time counts in which connections were accepted: to wait because there are too many of them is no overload.
        """
        queue, left, accepts_for = self._queues[sock], BATCH, self._loop.time() - self._accepts_since

        def take(connection: socket.socket, peer: str) -> bool:
            nonlocal left
            if queue.refuses(min(waited(connection), accepts_for)):
                refuse(connection, REFUSAL)
                self._edge.metrics.rejected("overload").inc()
                return True
            left -= 1
            return self._open(connection, peer) and left > 0

        self._accept_some(sock, MOST, take)

    def _accept_refusing(self) -> None:
        """Accept all that waits, unless to refuse what cannot begin takes more of the time than it is meant to. Look again in a moment."""
        self._hold()
        try:
            for sock in self._sockets:
                self._accept_some(sock, MOST, self._ask)
            self._early.send()
        finally:
            if self._timer is None:
                self._timer = self._loop.call_later(TOGETHER, self._ask_again)

    def _ask(self, sock: socket.socket, peer: str) -> bool:
        return self._early.ask(sock, peer, self._loop.time())

    def _ask_again(self) -> None:
        self._stop_timer()
        self._listen()

    def _full(self) -> None:
        """Let those that wait do so until a connection ends. Count that there are some, and again after a while if there still are."""
        self._hold()
        self._question = self._loop.call_later(self._again, self._listen)
        self._edge.metrics.rejected("connections").inc()
        self._log.warning("connections wait for others to end", connections=self._limit)

    def _accept_one(self, sock: socket.socket, take: Callable[[socket.socket, str], bool]) -> bool:
        """Accept a connection and have it taken; say whether to go on."""
        try:
            connection, address = sock.accept()
        except ConnectionAbortedError:  # the client did not wait
            return True
        except BlockingIOError:
            return False
        except OSError as error:
            self._failed(sock, error)
            return False
        connection.setblocking(False)
        self._growth.turn(monotonic())
        if not self._has_room(self._growth.expected(self.open * self._takes) + self._takes):
            return self._turn_away(connection)
        return take(connection, str(address[0]) if isinstance(address, tuple) else "")

    def _open(self, connection: socket.socket, peer: str, first: bytes = b"") -> bool:
        task = self._loop.create_task(self._admission.admit(connection, peer, first))
        self._opening.add(task)
        self._growth.turn(monotonic())
        self._growth.add(self._takes)
        self._opened_lately += 1
        task.add_done_callback(self._opened)
        self._taken += 1
        return True

    def _opened(self, task: asyncio.Task[bool]) -> None:
        self._opening.discard(task)
        error = task.exception() if not task.cancelled() else None
        if error is not None:
            self._log.error("a connection could not be opened", exc_info=error)
        if task.cancelled() or error is not None or not task.result():
            self._ended += 1
            self._give_back()

    def _note_closed(self, connection: Connection) -> None:
        if connection.requests <= 1:
            self._ended += 1
        self._give_back()

    def _give_back(self) -> None:
        self._taken -= 1
        self._go_on()

    def _failed(self, sock: socket.socket, error: OSError) -> None:
        """Try again in a moment: what has failed would fail at once again."""
        if error.errno in _NO_DESCRIPTOR and self._reserve.refuse(sock, self._refusal()):
            self._edge.metrics.rejected("connections").inc()
        self._log.warning("cannot accept connections", why=os.strerror(error.errno or 0))
        self._hold()
        if self._is_started and self._timer is None:
            self._timer = self._loop.call_later(RETRY, self._retry)

    def _retry(self) -> None:
        self._stop_timer()
        if self._is_short and self._is_started and not self._is_accepting:
            self._listen()  # and tell the next one
        else:
            self._go_on()

    def _stop_question(self) -> None:
        if self._question is not None:
            self._question.cancel()
            self._question = None

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._reserve.restore()


def acceptor(parts: Runtime, sockets: Sequence[socket.socket], log: FilteringBoundLogger) -> Acceptor:
    """Return the acceptor of a worker, as its configuration says. Raises OSError where a TLS file can't be used."""
    server = parts.config.server
    trusted = TrustedProxies(server.trusted_proxies)
    tls = server_context(server.tls) if server.tls is not None else None
    admission = Admission(parts.edge, log, tls=tls, proxies=trusted if server.proxy_protocol else None)
    connections = server.limits.connections
    is_short = (spare := int(FOR_CLIENTS * descriptor_limit())) < connections
    if is_short:
        log.warning(
            "fewer descriptors than server.limits.connections", descriptors=descriptor_limit(), connections=connections, taken=spare
        )
        connections = spare
    refusal = _overloaded if tls is None else lambda: REFUSAL
    has_room = parts.memory.fits
    return Acceptor(sockets, parts.edge, admission, log, connections=connections, is_short=is_short, refusal=refusal, has_room=has_room)


def _overloaded() -> bytes:
    return failure_answer(GatewayError("OVERLOADED", "no descriptors or memory"), urandom(16).hex()).whole()
