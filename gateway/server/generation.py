"""The workers of one edition of the configuration: started together, kept alive, and drained together.

Crash recovery, key rotation and reload are one mechanism (architecture, decision 4): a worker never changes what it serves.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from structlog.typing import FilteringBoundLogger

from gateway.server.children import Child, Children
from gateway.server.control import Assignment
from gateway.server.drain import GOODBYE
from gateway.server.edition import Edition
from gateway.server.member import Member
from gateway.server.processor import openssl_settings
from gateway.server.seat import FAILING, READY_WITHIN, Seat
from gateway.server.sockets import Listeners
from gateway.telemetry.metrics import ServiceMetrics
from gateway.upstream.addresses import NameBook

Sockets = Sequence[socket.socket]

OVERTIME: Final = 5.0
"""Seconds for a worker to end when all times of its drain are over; then it is killed."""


class NotReady(Exception):
    """A generation did not come to serve; the text says why."""


class Generation:
    """`members` are its workers that have not ended. `on_change` is called when one gets ready or ends, `on_end` when one has ended.

    `names` are what workers have found for names: what one tells, those that start later are told.
    """

    def __init__(
        self,
        number: int,
        edition: Edition,
        children: Children,
        metrics: ServiceMetrics,
        log: Callable[[], FilteringBoundLogger],
        *,
        on_change: Callable[[], None],
        on_end: Callable[[Member], None],
        names: NameBook,
        ready_within: float = READY_WITHIN,
        overtime: float = OVERTIME,
    ) -> None:
        self.number = number
        self.edition = edition
        self.members: set[Member] = set()
        self._children = children
        self._metrics = metrics
        self._log = log
        self._on_change = on_change
        self._on_end = on_end
        self._names = names
        self._ready_within = ready_within
        self._overtime = overtime
        self._pickled = edition.pickled()
        self._openssl = openssl_settings(edition.signing_key.bits)
        self._changed = asyncio.Event()
        self._slots: Sequence[Sockets] = ()
        self._seats: list[Seat] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._has_served = False
        self._spare: Child | None = None

    async def start(self, listeners: Listeners, tasks: asyncio.TaskGroup, *, spare: Child | None = None) -> None:
        """Fill a place for each slot of the listeners and return when all serve. Raises NotReady; the generation is then to be drained.

        `spare` is a process that has been started already. `tasks` own what goes on afterwards.
        """
        self._spare = spare
        self._slots = listeners.slots
        for slot, sockets in enumerate(self._slots):
            start, count = partial(self._start, slot, sockets), self._metrics.worker_restarts.inc
            seat = Seat(slot, start, self._log, self._note_change, count, ready_within=self._ready_within)
            self._seats.append(seat)
            self._tasks.append(tasks.create_task(seat.keep()))
        try:
            async with asyncio.timeout(self._ready_within):
                await self._until_all_serve()
        except TimeoutError:
            raise NotReady("its workers did not get ready in time") from None
        self._has_served = True

    @property
    def serving(self) -> int:
        """How many of its workers accept connections."""
        return sum(seat.serves for seat in self._seats)

    @property
    def is_failing(self) -> bool:
        """Whether a worker cannot be kept alive."""
        return any(seat.failures >= FAILING and not seat.serves for seat in self._seats)

    async def drain(self, successor: Listeners | None = None) -> None:
        """Let the workers finish, and return when all have ended: within `drain_timeout` and a little, then they are killed.

        `successor` has the sockets that others accept from afterwards; without it, the service ends.
        """
        others = {sock for slot in successor.slots for sock in slot} if successor is not None else set()
        for seat, sockets in zip(self._seats, self._slots, strict=True):
            seat.give_up(is_final=successor is None, last=[index for index, sock in enumerate(sockets) if sock not in others])
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=self.edition.config.server.drain_timeout + GOODBYE + self._overtime)
        if late:
            self._log().error("workers did not end in time and are killed", workers=len(self.members))
            for member in self.members:
                member.kill()
            await asyncio.wait(late)

    async def closed(self) -> int:
        """Wait until no worker accepts connections any more, once they drain; return how many requests are in flight."""
        members = tuple(self.members)
        for member in members:
            await member.closed.wait()
        return sum(member.in_flight for member in members)

    def watch(self) -> None:
        """Take a tick of the watchdog: workers that hang are killed."""
        for member in tuple(self.members):
            if member.tick():
                self._log().error("a worker hangs and is killed", worker=member.slot, worker_pid=member.pid)

    async def _start(self, slot: int, sockets: Sockets) -> Member:
        """Start a worker. Raises OSError."""
        child = self._take_spare() or self._children.start(self._openssl)
        if self._has_served:
            self._metrics.worker_restarts.inc()
        member = Member(child, slot, on_end=self._member_ended, on_name=self._names.take)
        self.members.add(member)
        self._log().debug("a worker is started", worker=slot, worker_pid=member.pid, generation=self.number)
        await member.assign(Assignment(self.number, slot, self._pickled, self.edition.contents, self._names.found), sockets)
        return member

    def _take_spare(self) -> Child | None:
        """Return the process that has been started already, if it lives and suits the signing key; it was started before that was known."""
        spare, self._spare = self._spare, None
        if spare is not None and (spare.poll() or spare.openssl != self._openssl):
            spare.discard()
            return None
        return spare

    def _member_ended(self, member: Member) -> None:
        self.members.discard(member)
        self._on_end(member)
        self._note_change()

    def _note_change(self) -> None:
        self._changed.set()
        self._on_change()

    async def _until_all_serve(self) -> None:
        while self.serving < len(self._seats):
            failed = next((seat for seat in self._seats if seat.failures >= FAILING), None)
            if failed is not None:
                raise NotReady(f"a worker does not start: {failed.fault}")
            self._changed.clear()
            await self._changed.wait()
