"""Several endpoints that do the same thing: which of them gets a request, which are left alone, what is tried again.

Sending is the caller's: it acquires a connection, and releases it with what came of the request. The policies stand in `balance`,
`health`, `ejection` and `retry`; a failure that a peer answered in good HTTP (a 503, a result F) is none here.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Literal, Protocol, Self

from msgspec import Struct

from gateway.config import model
from gateway.upstream.balance import Balance, candidates
from gateway.upstream.connection import Connection
from gateway.upstream.ejection import may_eject
from gateway.upstream.endpoint import Endpoint
from gateway.upstream.errors import Unreachable
from gateway.upstream.health import Checker, Sleep
from gateway.upstream.member import EndpointStatus, Member
from gateway.upstream.queue import Queue
from gateway.upstream.retry import RetryBudget

Outcome = Literal["ok", "error", "timeout", "unreachable", "invalid", "abandoned"]
"""What came of a request: an answer of any status; lost after it was sent; too slow; not sent; no HTTP. `abandoned` (by who asked) says
nothing of the endpoint and is not counted."""

State = Literal["healthy", "unhealthy", "ejected"]

_LATER: Final = 0.005  # seconds: a loop's timers may come a little early

FAILURES: Final = frozenset[Outcome]({"error", "timeout", "unreachable", "invalid"})
"""What counts towards ejection."""


class NoneAvailable(Unreachable):
    """No endpoint is left to be tried: each is unhealthy or ejected, or has been tried."""


class Full(Unreachable):
    """No endpoint had a place for another request in time."""


class Observer(Protocol):
    """Learns what happens in a cluster, to count and to log it."""

    def requested(self, endpoint: str, outcome: Outcome) -> None:
        """Count a request that has ended, or a connection that could not be made."""

    def repeated(self) -> None:
        """Count a request that is tried once more."""

    def turned(self, endpoint: str, state: State, reason: str) -> None:
        """Take that an endpoint has been ejected, or has become healthy or unhealthy by its checks; `reason` may be logged."""


class Lease(Struct, frozen=True, eq=False):
    """A connection for one request, and where it leads to. `tried` are the members that this request was tried with before."""

    connection: Connection
    member: Member
    tried: tuple[Member, ...] = ()

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint that the connection leads to."""
        return self.member.endpoint


class ClusterStatus(Struct, frozen=True):
    """How a cluster is, to be shown."""

    name: str
    endpoints: tuple[EndpointStatus, ...]
    waiting: int


class Cluster:
    """The endpoints of one upstream. For one event loop; an async context, in which health checks run and connections are kept.

    A request is tried at most `attempts` times more, and only while `budget` allows (None: always). `patience` is how long (seconds) a
    request waits for a place when all endpoints are full. Outcomes in `failures` count towards ejection; of the members, never
    more than `ejection.max_share` are out when one is ejected, those that are unhealthy counted.
    """

    def __init__(
        self,
        name: str,
        members: Sequence[Member],
        *,
        observer: Observer,
        balance: Balance,
        ejection: model.Ejection,
        health_check: model.HealthCheck | None = None,
        attempts: int = 0,
        budget: RetryBudget | None = None,
        patience: float = 0.0,
        failures: frozenset[Outcome] = FAILURES,
        clock: Callable[[], float] = time.monotonic,
        sleep: Sleep = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self.members = tuple(members)
        self._only = members[0] if len(members) == 1 else None
        self._observer = observer
        self._balance = balance
        self._max_share = float(ejection.max_share)
        self._health_check = health_check
        self._attempts = attempts
        self._budget = budget
        self._patience = patience
        self._failures = failures
        self._clock = clock
        self._sleep = sleep
        self._chance = chance
        self._queue = Queue(clock=clock)
        self._checks: list[asyncio.Task[None]] = []

    async def acquire(self, *, after: Lease | None = None, timeout: float | None = None) -> Lease:
        """Return a connection for one request, to be given to `release` in any case.

        An endpoint to which no connection can be made is passed over as long as attempts and budget allow. `after` is the lease with
        which this request failed, and for which `may_repeat` was granted: other endpoints come first then, and the connection is a
        new one. `timeout` (seconds) bounds connecting to all endpoints together, each having an equal part of what is left; without
        it each has its pool's own. Raises Unreachable, NoneAvailable, Full: nothing was sent.
        """
        if after is None and self._budget is not None:
            self._budget.deposit()
        tried = () if after is None else (*after.tried, after.member)
        chosen = self._choose(tried)
        if after is None and chosen is not None and (kept := chosen.pool.take()) is not None:
            chosen.in_flight += 1
            return Lease(kept, chosen)
        deadline = None if timeout is None else self._clock() + timeout
        member = chosen or await self._wait(tried)
        while True:
            try:
                connection = await self._connect(member, tried, deadline, fresh=after is not None)
            except Unreachable:
                tried = (*tried, member)
                eligible = self._eligible(tried)
                if not eligible or not self._grant(len(tried)):
                    raise
                member = self._balance.choose(eligible)
            else:
                return Lease(connection, member, tried)

    def release(self, lease: Lease, outcome: Outcome) -> None:
        """Take a connection back, and learn what came of the request."""
        connection, member = lease.connection, lease.member
        member.pool.release(connection)
        self._vacate(member)
        if outcome == "abandoned":
            return
        self._observer.requested(member.name, outcome)
        if outcome == "ok":
            member.ejection.succeed()
        elif outcome != "unreachable" or not connection.reused:  # a kept connection that had ended says nothing
            self._fail(member, outcome, outcome)

    def may_repeat(self, lease: Lease) -> bool:
        """Grant another attempt at the request of a lease that failed, or refuse it; what is granted is counted as done.

        Whether it is harmless is asked of `retry.may_repeat` before.
        """
        return self._grant(len(lease.tried) + 1)

    def is_in(self, member: Member) -> bool:
        """Tell whether a member is healthy and not ejected."""
        return member.is_in(self._clock())

    def status(self) -> ClusterStatus:
        """Return how the endpoints are now."""
        now = self._clock()
        return ClusterStatus(self.name, tuple([member.status(now) for member in self.members]), self._queue.waiting)

    async def __aenter__(self) -> Self:
        """Start the health checks."""
        if self._health_check is not None:
            self._checks = [self._start_checks(member, self._health_check) for member in self.members]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End the health checks and close all connections."""
        for check in self._checks:
            check.cancel()
        await asyncio.gather(*self._checks, return_exceptions=True)
        for member in self.members:
            await member.pool.close()

    # Choosing.

    def _eligible(self, tried: tuple[Member, ...]) -> Sequence[Member]:
        now = self._clock()
        return candidates([member for member in self.members if member.is_available(now)], tried)

    def _choose(self, tried: tuple[Member, ...]) -> Member | None:
        if self._only is not None:
            return self._only if not tried and self._only.is_available(self._clock()) else None
        eligible = self._eligible(tried)
        if len(eligible) > 1:
            return self._balance.choose(eligible)
        return eligible[0] if eligible else None

    async def _wait(self, tried: tuple[Member, ...]) -> Member:
        """Return a member though there is none that is untried and has a place."""
        deadline = self._clock() + self._patience
        again = False
        while True:
            now = self._clock()
            places = sum([member.limit for member in self.members if member.is_in(now)])
            if not places:
                raise NoneAvailable("no endpoint available")
            if tried and (member := self._choose(())):
                return member
            try:
                await self._queue.wait(deadline - now, places, again=again)
            except TimeoutError:
                raise Full("all endpoints full") from None
            if member := self._choose(tried):
                return member
            again = True

    async def _connect(self, member: Member, tried: tuple[Member, ...], deadline: float | None, *, fresh: bool) -> Connection:
        member.in_flight += 1
        try:
            if not fresh and (kept := member.pool.take()) is not None:
                return kept
            if deadline is None:
                return await member.pool.acquire(fresh=fresh)
            return await self._connect_by(deadline, member, tried, fresh=fresh)
        except BaseException as error:
            self._vacate(member)
            if isinstance(error, Unreachable):
                error.endpoint = member.name
                self._observer.requested(member.name, "unreachable")
                self._fail(member, "unreachable", error.reason)
            raise

    async def _connect_by(self, deadline: float, member: Member, tried: tuple[Member, ...], *, fresh: bool) -> Connection:
        parts = 1 + len(self._eligible((*tried, member)))
        try:
            async with asyncio.timeout(max((deadline - self._clock()) / parts, 0)):
                return await member.pool.acquire(fresh=fresh)
        except TimeoutError:
            raise Unreachable("connect timeout") from None

    def _vacate(self, member: Member) -> None:
        member.in_flight -= 1
        if self._queue.waiting:
            self._queue.wake()

    def _grant(self, attempts: int) -> bool:
        if attempts > self._attempts or (self._budget is not None and not self._budget.withdraw()):
            return False
        self._observer.repeated()
        return True

    # Judging.

    def _fail(self, member: Member, outcome: Outcome, reason: str) -> None:
        member.last_failure = reason
        now = self._clock()
        if outcome not in self._failures or not member.ejection.fail(now):
            return
        out = sum([not one.is_in(now) for one in self.members])
        if member.is_in(now) and may_eject(out, len(self.members), self._max_share):
            member.ejection.eject(now)
            asyncio.get_running_loop().call_later(member.ejection.remaining(now) + _LATER, self._queue.wake_all)
            self._observer.turned(member.name, "ejected", reason)

    def _start_checks(self, member: Member, check: model.HealthCheck) -> asyncio.Task[None]:
        def take(wrong: str | None) -> None:
            if wrong is not None:
                member.last_failure = wrong
            if member.health.observe(passed=wrong is None):
                self._observer.turned(member.name, "healthy" if wrong is None else "unhealthy", wrong or "health check passed")
                self._queue.wake_all()

        checker = Checker(member.pool, check, take, sleep=self._sleep, chance=self._chance)
        task = asyncio.get_running_loop().create_task(checker.run())
        task.add_done_callback(_report)
        return task


def _report(check: asyncio.Task[None]) -> None:
    if not check.cancelled() and (error := check.exception()) is not None:
        check.get_loop().call_exception_handler({"message": "the health checks of an endpoint have ended", "exception": error})
