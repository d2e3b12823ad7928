"""A supervisor whose workers are simple programs; what it does with real ones is in tests/e2e."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import structlog

from gateway.edge.memory import LIMITS_PERIOD, MemoryWatch
from gateway.server.children import SUPERVISORS_SIGNALS, Child, Children
from gateway.server.edition import read_edition
from gateway.server.place import Place
from gateway.server.supervisor import Supervisor
from gateway.simulator import Ports
from gateway.simulator.configuration import render
from gateway.simulator.keys import Keys
from gateway.telemetry.metrics import ServiceMetrics
from tests.edge.test_memory import Cgroup, Clock
from tests.server.test_generation import HANGS, READY


class Log:
    """Takes what is logged. `began` is set when a worker of the first generation has been started, `started` when one of the second has.

    `ended` has the former generations that have, `failed` those of failed reloads.
    """

    def __init__(self) -> None:
        self.log = structlog.wrap_logger(None, processors=[self._note])
        self.began, self.started, self.draining = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.ended: asyncio.Queue[int] = asyncio.Queue()
        self.failed: asyncio.Queue[int] = asyncio.Queue()
        self.events: list[str] = []

    def _note(self, _logger: object, _method: str, event: Any) -> Any:
        self.events.append(event["event"])
        if event["event"] == "a worker is started":
            (self.began if event["generation"] == 1 else self.started).set()
        if event["event"] == "draining":
            self.draining.set()
        if event["event"] == "a former generation has ended":
            self.ended.put_nowait(event["generation"])
        if event["event"] == "the generation of a failed reload has ended":
            self.failed.put_nowait(event["generation"])
        raise structlog.DropEvent

    def tell_held_back(self) -> None:
        pass


class FirstServes(Children):
    """Worker processes of which the first one serves, and the others hang or do something else."""

    others = HANGS

    def start(self, openssl: Mapping[str, str] | None = None) -> Child:
        self._command = (sys.executable, "-c", self.others if list(self) else READY)
        return super().start(openssl)


def write(path: Path, level: str = "info", *, grace: str = "0s") -> None:
    path.write_text(
        render(Ports(0, 0), {"server": {"accept_grace": grace}, "alipayplus": {"tls": None}, "telemetry": {"log": {"level": level}}})
    )


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Give the signals back that a supervisor takes for the rest of its process."""
    before = {number: signal.getsignal(number) for number in SUPERVISORS_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def path(tmp_path: Path, keys: Keys) -> Path:
    """A configuration."""
    path = tmp_path / "gateway.yaml"
    write(path)
    (tmp_path / "keys").mkdir()
    keys.write(tmp_path / "keys")
    return path


async def test_an_error_that_ends_it_does_so_also_while_a_reload_waits_for_workers(path: Path) -> None:
    edition, children, log = read_edition(path, ()), FirstServes(), Log()
    supervisor = Supervisor(edition, (), children, metrics=ServiceMetrics(), logs=log)  # type: ignore[arg-type]
    supervisor._signals.reload.set()
    running = asyncio.create_task(supervisor.run(Place.open(edition.config, {}), {}, spare=children.start()))
    await asyncio.wait_for(log.started.wait(), 30)

    async def fail() -> None:
        raise ValueError

    supervisor._tasks.create_task(fail())
    with pytest.raises(ExceptionGroup) as raised:
        await asyncio.wait_for(running, 30)
    assert [type(error) for error in raised.value.exceptions] == [ValueError]
    children.kill()
    for member in tuple(supervisor._members()):
        await member.ended.wait()


async def test_E3_a_generation_that_does_not_get_ready_ends_and_the_former_one_stays(path: Path) -> None:
    edition, children, log = read_edition(path, ()), FirstServes(), Log()
    children.others = ""  # ends at once
    supervisor = Supervisor(edition, (), children, metrics=ServiceMetrics(), logs=log)  # type: ignore[arg-type]
    supervisor._signals.reload.set()
    running = asyncio.create_task(supervisor.run(Place.open(edition.config, {}), {}, spare=children.start()))
    assert await asyncio.wait_for(log.failed.get(), 30) == 2
    assert log.ended.empty()  # who rotates keys would give up the old one
    assert "the configuration could not be reloaded; the former one stays in use" in log.events
    assert [generation.number for generation in supervisor._generations] == [1]
    assert supervisor._current is supervisor._generations[0]
    supervisor._signals.stop.set()
    assert await asyncio.wait_for(running, 30) == 0


async def test_a_reload_for_whose_workers_there_is_no_memory_fails_before_any_is_started(path: Path, tmp_path: Path) -> None:
    edition, children, log = read_edition(path, ()), Children((sys.executable, "-c", READY)), Log()
    cgroup = Cgroup(tmp_path / "root", 2, str(200 << 20))
    cgroup.use(141 << 20)  # 39 MiB below 90 % of the limit
    memory = MemoryWatch(cgroup.root, now=(clock := Clock()))
    supervisor = Supervisor(edition, (), children, metrics=ServiceMetrics(), logs=log, memory=memory)  # type: ignore[arg-type]
    supervisor._signals.reload.set()
    running = asyncio.create_task(supervisor.run(Place.open(edition.config, {}), {}, spare=children.start()))
    assert await asyncio.wait_for(log.failed.get(), 30) == 2
    assert not log.started.is_set()
    assert len(list(children)) == 1
    cgroup.use(139 << 20)
    clock.time += LIMITS_PERIOD
    supervisor._signals.reload.set()
    assert await asyncio.wait_for(log.ended.get(), 30) == 1
    supervisor._signals.stop.set()
    assert await asyncio.wait_for(running, 30) == 0


async def test_E3_the_former_generation_ends_also_where_the_new_one_serves_and_cannot_be_shown(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(*_: object, **__: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("gateway.server.supervisor.Logs", no_thread)
    edition, children, log = read_edition(path, ()), Children((sys.executable, "-c", READY)), Log()
    write(path, "debug")
    supervisor = Supervisor(edition, (), children, metrics=ServiceMetrics(), logs=log)  # type: ignore[arg-type]
    supervisor._signals.reload.set()
    running = asyncio.create_task(supervisor.run(Place.open(edition.config, {}), {}, spare=children.start()))
    assert await asyncio.wait_for(log.ended.get(), 30) == 1
    assert supervisor._edition.config.telemetry.log.level == "debug"
    assert "the new configuration serves, but cannot be shown" in log.events
    assert "the configuration could not be reloaded; the former one stays in use" not in log.events
    supervisor._signals.stop.set()
    assert await asyncio.wait_for(running, 30) == 0


async def test_the_streams_of_a_log_whose_settings_have_changed_are_closed_and_nobody_waits_for_them(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, streams = Log(), []

    class Streams:
        def __init__(self, *_: object, **__: object) -> None:
            self.log = log.log
            self.closed: list[float | None] = []
            streams.append(self)

        def tell_held_back(self) -> None:
            pass

        def close(self, timeout: float | None = None) -> None:
            self.closed.append(timeout)

    monkeypatch.setattr("gateway.server.supervisor.Logs", Streams)
    edition, children = read_edition(path, ()), Children((sys.executable, "-c", READY))
    supervisor = Supervisor(edition, (), children, metrics=ServiceMetrics(), logs=log)  # type: ignore[arg-type]
    running = asyncio.create_task(supervisor.run(Place.open(edition.config, {}), {}, spare=children.start()))
    for former, level in enumerate(("debug", "warning"), 1):
        write(path, level)
        supervisor._signals.reload.set()
        assert await asyncio.wait_for(log.ended.get(), 30) == former
    assert [each.closed for each in streams] == [[0], []]
    supervisor._signals.stop.set()
    assert await asyncio.wait_for(running, 30) == 0
    assert [each.closed for each in streams] == [[0], [None]]


async def test_F1_no_signal_changes_the_exit_code_of_one_that_has_ended(path: Path) -> None:
    edition, children, log = read_edition(path, ()), Children((sys.executable, "-c", READY)), Log()
    supervisor = Supervisor(edition, (), children, metrics=ServiceMetrics(), logs=log)  # type: ignore[arg-type]
    supervisor._signals.stop.set()
    assert await supervisor.run(Place.open(edition.config, {}), {}, spare=children.start()) == 0
    for number in SUPERVISORS_SIGNALS:
        assert signal.getsignal(number) is signal.SIG_IGN, "else it would end the process in its own way"
        os.kill(os.getpid(), number)


async def test_F1_one_that_is_stopped_before_it_serves_waits_for_no_balancer(path: Path) -> None:
    write(path, grace="1h")
    edition, log = read_edition(path, ()), Log()
    children = Children((sys.executable, "-c", HANGS))
    supervisor = Supervisor(edition, (), children, metrics=ServiceMetrics(), logs=log)  # type: ignore[arg-type]
    running = asyncio.create_task(supervisor.run(Place.open(edition.config, {}), {}, spare=children.start()))
    await asyncio.wait_for(log.began.wait(), 30)
    supervisor._signals.stop.set()
    await asyncio.wait_for(log.draining.wait(), 5)
    children.kill()
    await asyncio.wait_for(running, 30)
