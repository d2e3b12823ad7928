"""What the supervisor knows, told to the status page: it keeps the history, the failures of workers that ended, what is in force.

How it is shown is left to `gateway.admin`.
"""

import asyncio
from collections.abc import Callable, Iterable
from time import monotonic, time

from msgspec import structs
from structlog.typing import FilteringBoundLogger

from gateway.admin.counts import counts
from gateway.admin.history import History
from gateway.admin.in_force import InForce, in_force
from gateway.admin.overview import Seen, overview
from gateway.admin.server import Health
from gateway.admin.status import ReloadShown, ServiceStatus, WorkerShown, WorkerStatus, read_worker_status
from gateway.server.certificates import expiries
from gateway.server.copies import Copies
from gateway.server.edition import Edition
from gateway.server.generation import Generation
from gateway.server.member import Member
from gateway.server.place import Place
from gateway.server.tally import Tally
from gateway.telemetry.failures import Failed, LastFailures


class Showing:
    """Shows the service from its start on; the supervisor tells what changes."""

    def __init__(self, edition: Edition, tally: Tally, health: Health, log: Callable[[], FilteringBoundLogger]) -> None:
        self._edition = edition
        self._tally = tally
        self._health = health
        self._log = log
        self._since = time()
        self._history = History(monotonic(), self._since)
        self._ended = LastFailures()
        self._in_force = InForce()
        self.reload = ReloadShown(self._since, True, self._since)

    async def take_up(self, edition: Edition) -> None:
        """Take that this edition is in use now. Its keys are read beside the loop, since that takes a while.

        Where that cannot be done, for want of descriptors perhaps, nothing is shown of it, and the service goes on.
        """
        self._edition = edition
        try:
            found = await asyncio.to_thread(_in_force, edition)
        except Exception as error:  # noqa: BLE001  whatever it is, a page is not worth the service
            self._log().error("the status page cannot show what is in force", exc_info=error)
            found = InForce()
        if edition is self._edition:
            self._in_force = found

    def hold_back_key(self, is_held_back: bool) -> None:  # noqa: FBT001  the one thing that is told
        """Take that the file of the signing key holds another key than is used, or no more."""
        self._in_force = structs.replace(self._in_force, holds_back_key=is_held_back)

    def look(self) -> None:
        """Look at the counters, where that is due."""
        self._history.look(monotonic(), time(), lambda: counts(self._tally.told()))

    def retire(self, member: Member) -> None:
        """Keep what a worker that has ended told of failures."""
        for failed in _failures(member):
            self._ended.note(failed)

    async def status(self, generations: Iterable[Generation], current: Generation | None, place: Place) -> ServiceStatus:
        """Return how the service and each of its workers is."""
        await self._tally.refresh()
        members = [(generation.number, member) for generation in generations for member in tuple(generation.members)]
        members.sort(key=lambda pair: (-pair[0], pair[1].slot))
        seen = Seen(
            reasons=tuple(self._health.not_ready()),
            generation=current.number if current is not None else 0,
            slots=len(place.listeners.slots),
            told=tuple(_shown(generation, member) for generation, member in members),
            config=str(self._edition.file),
            listen=place.listeners.names,
            sdk_prefix=self._edition.config.sdk_proxy.path_prefix,
            reload=self.reload,
            warnings=tuple(map(str, self._edition.warnings)),
            in_force=self._in_force,
            snapshot=self._tally.told(),
            ended=self._ended.all(),
        )
        return overview(seen, self._history, since=self._since, now=monotonic())


def _in_force(edition: Edition) -> InForce:
    ends = expiries(edition.config, edition.contents)
    with Copies(edition.contents) as copies:
        return in_force(edition.config, copies.apply(edition.config), ends=ends, holds_back_key=edition.holds_back_key)


def _shown(generation: int, member: Member) -> tuple[WorkerShown, WorkerStatus | None]:
    told = read_worker_status(member.status)
    load = told.load if told is not None else None
    return WorkerShown(member.slot, member.pid, generation, member.serves, member.since, load), told


def _failures(member: Member) -> tuple[Failed, ...]:
    told = read_worker_status(member.status)
    return told.failures if told is not None else ()
