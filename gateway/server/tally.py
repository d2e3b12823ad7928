"""The metrics of the whole service: those of all workers that live, of all that have ended, and the supervisor's own, added up.

No counter goes back when workers are replaced, but for what a killed worker had not told (architecture, decision 6).
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client import CollectorRegistry

from gateway.server.member import Member
from gateway.telemetry import snapshot
from gateway.telemetry.snapshot import Exposition, Snapshot

ANSWER_WITHIN: Final = 0.2
"""Seconds. Of a worker that does not answer by then, what it told last counts."""


class Tally:
    """Adds up. `living` gives the workers whose metrics count; each is to be `retire`d when it has ended."""

    def __init__(self, own: CollectorRegistry, living: Callable[[], Iterable[Member]]) -> None:
        self._own = own
        self._living = living
        self._ended: Snapshot = []
        self._asking: asyncio.Task[object] | None = None

    async def collect(self) -> Exposition:
        """Ask all workers and return the sums."""
        await self.refresh()
        return Exposition(self.told())

    async def refresh(self) -> None:
        """Let all workers tell how they are now; those who come while it is being asked share the answer."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        await asyncio.shield(self._asking)

    def told(self) -> Snapshot:
        """Return the sums of what has been told so far."""
        return snapshot.add([snapshot.take(self._own), self._ended, *(member.snapshot for member in self._living())])

    def retire(self, member: Member) -> None:
        """Keep the totals of a worker that has ended."""
        self._ended = snapshot.add([self._ended, snapshot.lasting(member.snapshot)])

    async def _ask(self) -> None:
        questions = [member.ask() for member in self._living() if member.ready.is_set()]
        if not questions:
            return
        _, unanswered = await asyncio.wait(questions, timeout=ANSWER_WITHIN)
        for question in unanswered:
            question.cancel()
