"""A worker's place: it is kept filled, one worker after the other, until it is given up.

A worker that dies is replaced at once. One that does not get ready, or dies soon after, again and again, is replaced ever later.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from structlog.typing import FilteringBoundLogger

from gateway.server.member import Member
from gateway.server.race import first

READY_WITHIN: Final = 30.0
"""Seconds. A worker that is not ready by then is killed."""

STABLE_AFTER: Final = 10.0
"""Seconds. A worker that has served for so long did not fail to start."""

FAILING: Final = 3
"""So many failures in a row are no accident."""

FIRST_DELAY: Final = 0.1
LAST_DELAY: Final = 10.0

Start = Callable[[], Awaitable[Member]]


def delay(failures: int) -> float:
    """Return how long to wait (seconds) before the next worker is started, after so many failures in a row."""
    return min(LAST_DELAY, FIRST_DELAY * 2.0 ** min(failures - 2, 16)) if failures > 1 else 0.0


class Seat:
    """One place. `start` starts a worker for it (raises OSError); `on_change` is called when a worker has got ready or has ended.

    `on_loss` is called when the last worker, which was to finish, has broken off.
    """

    def __init__(
        self,
        slot: int,
        start: Start,
        log: Callable[[], FilteringBoundLogger],
        on_change: Callable[[], None],
        on_loss: Callable[[], None],
        *,
        ready_within: float,
    ) -> None:
        self._slot = slot
        self._start = start
        self._log = log
        self._on_change = on_change
        self._on_loss = on_loss
        self._ready_within = ready_within
        self._given_up = asyncio.Event()
        self._time = asyncio.get_running_loop().time
        self.member: Member | None = None
        self.failures = 0
        self.fault = ""

    @property
    def serves(self) -> bool:
        """Whether a worker accepts connections here."""
        return self.member is not None and self.member.serves

    async def keep(self) -> None:
        """Keep the place filled until it is given up and its last worker has ended."""
        while not self._given_up.is_set():
            lived = await self._fill()
            self._on_change()
            if not self._given_up.is_set():
                await self._wait(lived)

    def give_up(self, *, is_final: bool, last: list[int]) -> None:
        """Let the worker finish (`Member.drain`), and start no other one."""
        self._given_up.set()
        if self.member is not None:
            self.member.drain(is_final=is_final, last=last)

    async def _fill(self) -> float:
        """Start a worker and see it to its end; return for how long it has served (seconds)."""
        try:
            member = self.member = await self._start()
        except OSError as error:
            self.fault, self.failures = error.strerror or "no process can be started", self.failures + 1
            return 0.0
        except Exception as error:  # noqa: BLE001  whatever it is, the other places are kept filled
            self._log().error("a worker could not be started", worker=self._slot, exc_info=error)
            self.fault, self.failures = f"the gateway itself failed: {type(error).__name__}; see the log", self.failures + 1
            return 0.0
        if self._given_up.is_set():
            member.kill()
        lived = await self._see_through(member)
        self.member = None
        self.fault = member.end
        if self._given_up.is_set() and member.broke_off:
            self._log().error("a worker has ended before it had finished", worker=self._slot, reason=self.fault)
            self._on_loss()
        is_sound = lived >= STABLE_AFTER or (lived > 0 and member.was_killed)
        self.failures = 0 if is_sound else self.failures + 1
        return lived

    async def _see_through(self, member: Member) -> float:
        if not await self._gets_ready(member):
            member.kill()
            await member.ended.wait()
            return 0.0
        began = self._time()
        self._log().info("a worker serves", worker=self._slot, worker_pid=member.pid)
        self._on_change()
        await member.ended.wait()
        return self._time() - began

    async def _gets_ready(self, member: Member) -> bool:
        await first(member.ready.wait(), member.ended.wait(), timeout=self._ready_within)
        return member.ready.is_set()

    async def _wait(self, lived: float) -> None:
        """Say that the worker has ended, and wait before the next one, but not when the place is given up."""
        seconds = delay(self.failures)
        self._log().error(
            "a worker has ended", worker=self._slot, reason=self.fault, served_seconds=round(lived, 1), replaced_in_seconds=seconds
        )
        try:
            await asyncio.wait_for(self._given_up.wait(), seconds)
        except TimeoutError:
            return
