"""Reloads: on SIGHUP and when files have changed, one after the other. What is in use stays until another configuration serves.

How another edition is put into service is left to the supervisor.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from time import time
from typing import Any, Final, TypeVar

from structlog.typing import FilteringBoundLogger

from gateway.admin.status import ReloadShown
from gateway.config import ConfigError
from gateway.config.changes import changes
from gateway.server.edition import Checks, Edition, digests, read_edition, watched_files
from gateway.server.generation import NotReady
from gateway.server.pid_file import CannotHold
from gateway.server.race import first
from gateway.server.sockets import CannotListen
from gateway.server.watch import look, until_changed
from gateway.telemetry.metrics import ServiceMetrics

KEY_HELD_BACK: Final = "the file of the active signing key has changed; it is used after SIGHUP (gateway reload) only"
FAILED: Final = "the configuration could not be reloaded; the former one stays in use"

Found = TypeVar("Found")
Switch = Callable[[Edition], Awaitable[None]]
"""Puts an edition into service: new connections are served under it when this returns.

Raises CannotListen, CannotHold or NotReady, and then nothing has changed."""


class Reloads:
    """Keeps the edition in use up to date. `log` gives the log in use; `on_begin` and `on_end` frame each reload, whatever comes of it.

    `on_outcome` is told what came of each, the start included; `on_key`, when the file of the active signing key has changed alone,
    whether it holds another one now than is used.
    When `asked` is set (SIGHUP), a reload follows whether files have changed or not, and the active signing key is what its file holds.
    """

    def __init__(
        self,
        edition: Edition,
        checks: Checks,
        switch: Switch,
        metrics: ServiceMetrics,
        log: Callable[[], FilteringBoundLogger],
        *,
        asked: asyncio.Event,
        on_begin: Callable[[], None],
        on_end: Callable[[], None],
        on_outcome: Callable[[ReloadShown], None],
        on_key: Callable[[bool], None],
    ) -> None:
        self._edition = edition
        self._file = edition.file.absolute()  # wherever the working directory goes, as when what is deployed there is removed
        self._checks = checks
        self._switch = switch
        self._metrics = metrics
        self._log = log
        self._on_begin = on_begin
        self._on_end = on_end
        self._on_outcome = on_outcome
        self._on_key = on_key
        self._asked = asked
        self._digests = {file.absolute(): digest for file, digest in edition.digests.items()}  # of the edition in use
        self._known = dict(self._digests)  # what stood in the files when they were last read
        self._succeeded()

    async def run(self) -> None:
        """Reload when asked to and when files have changed, for ever."""
        while True:
            is_asked = await self._until_wanted()
            self._on_begin()
            try:
                await self._reload(is_asked=is_asked)
            finally:
                self._on_end()

    async def _until_wanted(self) -> bool:
        """Wait for a reason to reload; return whether somebody has asked."""
        while not self._asked.is_set():
            files = await _beside(self._files)
            seen = look(files)
            if self._have_changed(files):
                return False
            await first(self._asked.wait(), until_changed(seen))
        self._asked.clear()
        return True

    def _files(self) -> set[Path]:
        """Return what decides what comes of the configuration. To find it, all of that is read: seconds, with thousands of routes."""
        return {*watched_files(self._file), *self._digests}

    def _have_changed(self, files: Iterable[Path]) -> bool:
        found = digests(files)
        changed = {file for file, digest in found.items() if digest != self._known.get(file)}
        signing = self._edition.signing_key.entry.file
        if changed == {signing}:
            self._log().warning(KEY_HELD_BACK, file=str(signing))
            self._known[signing] = found[signing]
            self._on_key(self._edition.is_other_key(found[signing]))
            return False
        return bool(changed)

    async def _reload(self, *, is_asked: bool) -> None:
        former, found = self._edition, digests(await _beside(self._files))
        self._known = found
        try:
            kept = None if is_asked else former.signing_key
            edition = await _beside(partial(read_edition, self._file, self._checks, kept=kept))
            await self._switch(edition)
        except ConfigError as error:
            faults = [str(fault) for fault in error.faults]
            self._failed(*faults, faults=faults)
        except (CannotListen, CannotHold, NotReady) as error:
            self._failed(str(error), reason=str(error))
        except Exception as error:  # noqa: BLE001  whatever it is, what is in use serves on
            self._failed(f"the gateway itself failed: {type(error).__name__}; see the log", exc_info=error)
        else:
            self._edition, self._digests = edition, dict(edition.digests)
            self._known = {**found, **edition.digests}
            self._succeeded()
            self._tell(former, edition)

    def _succeeded(self) -> None:
        self._in_use_since = time()
        self._metrics.reload_successful.set(1)
        self._metrics.reload_time.set(self._in_use_since)
        self._on_outcome(ReloadShown(self._in_use_since, True, self._in_use_since))

    def _failed(self, *why: str, **fields: Any) -> None:
        self._metrics.reload_successful.set(0)
        self._on_outcome(ReloadShown(time(), False, self._in_use_since, why))
        self._log().error(FAILED, **fields)

    def _tell(self, former: Edition, edition: Edition) -> None:
        log = self._log()
        log.info(
            "reloaded",
            changes=[str(change) for change in changes(former.config, edition.config)],
            files=[file for file, data in edition.contents.items() if former.contents.get(file, data) != data],
        )
        for warning in edition.warnings:
            log.warning("configuration", fault=str(warning))
        if edition.holds_back_key:
            log.warning(KEY_HELD_BACK, file=str(edition.signing_key.entry.file))


async def _beside(find: Callable[[], Found]) -> Found:
    """Call this in a thread, since it takes long; on the loop at the limit of processes and threads, where there is none."""
    try:
        finding = asyncio.get_running_loop().run_in_executor(None, find)
    except RuntimeError:
        return find()
    return await finding
