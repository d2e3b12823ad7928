"""The supervisor: it holds the sockets and the operators' listener, keeps the workers alive, and replaces one generation by the next.

No traffic waits for it: what it does is done beside the workers, which accept by themselves (architecture, decisions 4 to 6).
"""

import asyncio
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final

from structlog.typing import FilteringBoundLogger

from gateway import __version__
from gateway.admin.server import Health, admin_app
from gateway.admin.site import Site
from gateway.admin.status import ReloadShown, ServiceStatus
from gateway.config import Duration
from gateway.edge.memory import MemoryWatch
from gateway.server.certificates import expiries
from gateway.server.children import Child, Children
from gateway.server.edition import Checks, Edition
from gateway.server.generation import Generation, NotReady
from gateway.server.inherited import Inherited
from gateway.server.member import Member
from gateway.server.notify import Notifier
from gateway.server.place import Place
from gateway.server.race import first
from gateway.server.reload import Reloads
from gateway.server.showing import Showing
from gateway.server.signals import Signals
from gateway.server.tally import Tally
from gateway.telemetry.log import Logs
from gateway.telemetry.metrics import ServiceMetrics
from gateway.upstream.addresses import NameBook

OK, FAILED = 0, 1

TICK: Final = 0.5
"""Seconds between two looks of the watchdog."""

CLOSED_WITHIN: Final = 2.0
"""Seconds for workers to say that they accept no more."""

CUT_WITHIN: Final = 0.5
"""Seconds for workers to log what they cut, after the second signal."""

WORKER_SIZE: Final = 40 << 20
"""Bytes of memory that a worker takes before it has anything in hand."""


class Supervisor:
    """Serves an edition and those that reloads bring after it. `memory` tells whether there is room for the workers of a reload."""

    def __init__(
        self,
        edition: Edition,
        checks: Checks,
        children: Children,
        *,
        metrics: ServiceMetrics,
        logs: Logs,
        memory: MemoryWatch | None = None,
    ) -> None:
        self._edition = edition
        self._checks = checks
        self._children = children
        self._metrics = metrics
        self._logs = logs
        self._memory = memory or MemoryWatch()
        self._log_settings = edition.config.telemetry.log
        self._own_logs: Logs | None = None  # since the settings have changed
        self._signals = Signals()
        self._notifier = Notifier()
        self._health = Health()
        self._tally = Tally(metrics.registry, self._members)
        self._showing = Showing(edition, self._tally, self._health, self.log)
        self._site = Site(admin_app(self._tally.collect, self._health, self.status))
        self._generations: list[Generation] = []
        self._current: Generation | None = None  # the one in use; others start or drain
        self._number = 0
        self._names = NameBook()
        self._spare: Child | None = None
        self._inherited: Inherited
        self._place: Place
        self._tasks: asyncio.TaskGroup

    def log(self) -> FilteringBoundLogger:
        """Return the log as the edition in use has it."""
        return self._logs.log

    async def run(self, place: Place, inherited: Inherited, *, spare: Child) -> int:
        """Serve until told to stop. Returns the exit code: 0 after a drain, 1 when it did not start or was told to end at once.

        `place` is what is open for the first edition, `spare` a worker process that has been started already.
        """
        self._place, self._inherited = place, inherited
        self._signals.watch(on_child=self._children.reap)
        await self._site.start()
        try:
            await self._site.listen(place.admin)
            async with asyncio.TaskGroup() as self._tasks:
                watching = self._tasks.create_task(self._watch())
                code = await self._serve(spare)
                watching.cancel()
        finally:
            self._signals.ignore()
            await self._site.close()
            self._place.close()
            if self._own_logs is not None:
                self._own_logs.close()
        return code

    async def _serve(self, spare: Child) -> int:
        generation = self._current = self._begin(self._edition)
        try:
            await first(generation.start(self._place.listeners, self._tasks, spare=spare), self._signals.stop.wait())
        except NotReady as error:
            self.log().error("cannot start", reason=str(error))
            await generation.drain()
            return FAILED
        if not self._signals.stop.is_set():
            await self._keep_serving(generation)
        return await self._stop()

    async def _keep_serving(self, generation: Generation) -> None:
        self._show_edition()
        self._health.started = True
        self.log().info(
            "serving",
            version=__version__,
            listen=self._place.listeners.names,
            admin=self._place.admin_name,
            workers=generation.serving,
            pid=os.getpid(),
        )
        self._notifier.ready(self._status())
        reloads = Reloads(
            self._edition,
            self._checks,
            self._switch,
            self._metrics,
            self.log,
            asked=self._signals.reload,
            on_begin=self._begin_reload,
            on_end=self._end_reload,
            on_outcome=self._note_reload,
            on_key=self._showing.hold_back_key,
        )
        await first(reloads.run(), self._signals.stop.wait())

    def _begin(self, edition: Edition) -> Generation:
        self._number += 1
        generation = Generation(
            self._number,
            edition,
            self._children,
            self._metrics,
            self.log,
            on_change=self._note_change,
            on_end=self._retire_member,
            names=self._names,
        )
        self._generations.append(generation)
        return generation

    # What a reload does.

    def _begin_reload(self) -> None:
        """Start a worker at once, if there is room for all: it loads while the configuration is read."""
        self._notifier.reloading()
        with suppress(OSError, NotReady):
            self._require_memory(len(self._place.listeners.slots))
            self._spare = self._children.start()

    def _require_memory(self, workers: int) -> None:
        """Raise NotReady where there is none for so many more workers: the kernel would kill one that serves, if not all."""
        size = workers * WORKER_SIZE
        if not self._memory.fits(size):
            room = f"for {size >> 20} MiB of new workers beside the former ones, below 90 % of the memory limit"
            raise NotReady(f"there is no room {room}: raise it, reload later, or restart the gateway")

    def _end_reload(self) -> None:
        spare, self._spare = self._spare, None
        if spare is not None:  # the configuration was faulty
            spare.discard()
        self._notifier.ready(self._status())

    async def _switch(self, edition: Edition) -> None:
        """Put another edition into service and return when nothing more is accepted under the former one.

        Raises CannotListen, CannotHold and NotReady, and then nothing has changed. What fails once it serves is logged.
        """
        place = Place.open(edition.config, self._inherited, self._place)
        generation = self._begin(edition)
        try:
            self._require_memory(len(place.listeners.slots) - (self._spare is not None))
            spare, self._spare = self._spare, None
            await generation.start(place.listeners, self._tasks, spare=spare)
            place.listeners.set_mode(int(edition.config.server.unix_mode, 8))
        except BaseException as error:
            place.close(but=self._place)
            if isinstance(error, Exception) or self._signals.stop.is_set():  # else an error elsewhere ends all, and no task can be added
                self._tasks.create_task(self._retire(generation, "the generation of a failed reload has ended"))
            raise
        former, self._current = self._current, generation
        former_place, self._place = self._place, place
        self._edition = edition
        assert former is not None
        try:
            if place.admin is not former_place.admin:
                await self._site.listen(place.admin)
            self._note_change()
            self._show_edition()
        except Exception as error:  # noqa: BLE001  whatever it is, there is no way back, and the former generation has to end
            self.log().error("the new configuration serves, but cannot be shown", exc_info=error)
        finally:
            former_place.close(but=place)
            self._tasks.create_task(self._retire(former, "a former generation has ended"))
        await first(former.closed(), timeout=CLOSED_WITHIN)

    async def _retire(self, generation: Generation, event: str) -> None:
        """See a generation that is not in use to its end, and log that."""
        await generation.drain(self._place.listeners)
        self._generations.remove(generation)
        self.log().info(event, generation=generation.number)

    def _retire_member(self, member: Member) -> None:
        self._tally.retire(member)
        self._showing.retire(member)

    def _show_edition(self) -> None:
        """Let log, metrics and status page be those of the edition in use."""
        self._tasks.create_task(self._showing.take_up(self._edition))
        self._metrics.certificate_expiry.clear()
        for file, end in expiries(self._edition.config, self._edition.contents).items():
            self._metrics.certificate_expiry.labels(file).set(end)
        settings = self._edition.config.telemetry.log
        if settings != self._log_settings:
            former, self._own_logs = self._own_logs, Logs(settings, on_drop=self._metrics.log_lines_dropped.inc, is_limited=False)
            self._logs, self._log_settings = self._own_logs, settings
            if former is not None:
                former.close(timeout=0)

    # The end.

    async def _stop(self) -> int:
        self._health.draining = True
        has_grace = self._signals.has_grace and self._health.started  # else no balancer sends anything here yet
        grace = self._edition.config.server.accept_grace if has_grace else Duration(0)
        self.log().info("stopping", accept_grace=str(grace))
        self._notifier.stopping(f"stopping; accepting for {grace} more")
        await first(self._signals.end.wait(), timeout=grace)
        self._place.listeners.close()
        draining = [self._tasks.create_task(generation.drain()) for generation in self._generations]
        closed = [generation.closed() for generation in self._generations]
        await first(asyncio.gather(*closed), self._signals.end.wait(), timeout=CLOSED_WITHIN)
        self.log().info("draining", in_flight=sum(member.in_flight for member in self._members()))
        await first(asyncio.wait(draining), self._signals.end.wait())
        if any(not task.done() for task in draining):
            await self._cut(draining)
            return FAILED
        self.log().info("stopped")
        return OK

    async def _cut(self, draining: Iterable[asyncio.Task[None]]) -> None:
        """End at once: the workers log what they cut."""
        self.log().warning("ending at once: told to a second time")
        for member in self._members():
            member.cut()
        await asyncio.wait(draining, timeout=CUT_WITHIN)
        self._children.kill()

    # What goes on all the time.

    async def _watch(self) -> None:
        """Be the watchdog of the workers, and give systemd's a sign of life while one of them serves, or what is left is finished."""
        loop = asyncio.get_running_loop()
        last = loop.time()
        while True:
            await asyncio.sleep(TICK)
            self._showing.look()
            self._logs.tell_held_back()
            for generation in self._generations:
                generation.watch()
            is_due = self._notifier.watchdog is not None and loop.time() - last >= self._notifier.watchdog / 2 - TICK
            if is_due and (self._signals.stop.is_set() or any(member.serves for member in self._members())):
                self._notifier.alive()
                last = loop.time()

    async def status(self) -> ServiceStatus:
        """Return how the service and each of its workers is."""
        return await self._showing.status(self._generations, self._current, self._place)

    def _members(self) -> Iterator[Member]:
        return (member for generation in self._generations for member in tuple(generation.members))

    def _note_reload(self, outcome: ReloadShown) -> None:
        self._showing.reload = outcome

    def _note_change(self) -> None:
        """Take that a worker has got ready, or has ended."""
        current = self._current
        serving = current.serving if current is not None else 0
        self._metrics.workers.set(serving)
        self._health.reasons = ["no worker serves"] if not serving else []
        if current is not None and current.is_failing:
            self._health.reasons.append("a worker fails again and again")

    def _status(self) -> str:
        assert self._current is not None
        return f"serving with {self._current.serving} workers, generation {self._current.number}"
