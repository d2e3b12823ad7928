"""One call-out under way and those who wait for it. It belongs to none of them: one who leaves does not fail the others."""

import asyncio
from typing import Final

from gateway.session.check import Verdict, Work, unavailable

_QUEUED: Final = unavailable("no place among max_in_flight in time")
_SLOW: Final = unavailable("the auth service did not answer in time")


class Flight:
    """What is shared by those who wait for one verdict, which `settle` or `fail` gives to all of them at once.

    `began` is the monotonic time of its start; `has_place` tells whether it waits for a place or for the peer; `status` is that of the
    answer, when there is one. `work` is that of the check that started it.
    """

    __slots__ = ("_waiters", "began", "has_place", "status", "work")

    def __init__(self, began: float, work: Work) -> None:
        self.began = began
        self.work = work
        self.has_place = False
        self.status: int | None = None
        self._waiters: list[asyncio.Future[Verdict]] = []

    @property
    def late(self) -> Verdict:
        """The verdict when the deadline has come."""
        return _SLOW if self.has_place else _QUEUED

    async def join(self) -> Verdict:
        """Wait for the verdict. May be cancelled without harm to the others."""
        waiter: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        return await waiter

    def settle(self, verdict: Verdict) -> None:
        """Give the verdict to all who still wait."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(verdict)

    def fail(self, error: BaseException) -> bool:
        """Raise an error, which is a bug, in all who still wait; tell whether anybody did."""
        waiting = [waiter for waiter in self._waiters if not waiter.done()]
        for waiter in waiting:
            waiter.set_exception(error)
        return bool(waiting)
