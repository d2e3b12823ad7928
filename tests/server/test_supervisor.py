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

from gateway.server.children import SUPERVISORS_SIGNALS, Child, Children
from gateway.server.edition import read_edition
from gateway.server.place import Place
from gateway.server.supervisor import Supervisor
from gateway.simulator import Ports
from gateway.simulator.configuration import render
from gateway.simulator.keys import Keys
from gateway.telemetry.metrics import ServiceMetrics
from tests.server.test_generation import HANGS, READY


class Log:
    """Takes what is logged. `started` is set when a worker of the second generation has been, `ended` when the first one has."""

    def __init__(self) -> None:
        self.log = structlog.wrap_logger(None, processors=[self._note])
        self.started, self.ended = asyncio.Event(), asyncio.Event()
        self.events: list[str] = []

    def _note(self, _logger: object, _method: str, event: Any) -> Any:
        self.events.append(event["event"])
        if event["event"] == "a worker is started" and event["generation"] == 2:
            self.started.set()
        if event["event"] == "a former generation has ended" and event["generation"] == 1:
            self.ended.set()
        raise structlog.DropEvent

    def tell_held_back(self) -> None:
        pass


class FirstServes(Children):
    """Worker processes of which the first one serves, and the others hang."""

    def start(self, openssl: Mapping[str, str] | None = None) -> Child:
        self._command = (sys.executable, "-c", HANGS if list(self) else READY)
        return super().start(openssl)


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
    path.write_text(render(Ports(0, 0), {"alipayplus": {"tls": None}}))
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


async def test_E3_the_former_generation_ends_also_where_the_new_one_serves_and_cannot_be_shown(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(*_: object, **__: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("gateway.server.supervisor.Logs", no_thread)
    edition, children, log = read_edition(path, ()), Children((sys.executable, "-c", READY)), Log()
    path.write_text(render(Ports(0, 0), {"alipayplus": {"tls": None}, "telemetry": {"log": {"level": "debug"}}}))  # noqa: ASYNC240  nothing runs yet
    supervisor = Supervisor(edition, (), children, metrics=ServiceMetrics(), logs=log)  # type: ignore[arg-type]
    supervisor._signals.reload.set()
    running = asyncio.create_task(supervisor.run(Place.open(edition.config, {}), {}, spare=children.start()))
    await asyncio.wait_for(log.ended.wait(), 30)
    assert supervisor._edition.config.telemetry.log.level == "debug"
    assert "the new configuration serves, but cannot be shown" in log.events
    assert "the configuration could not be reloaded; the former one stays in use" not in log.events
    supervisor._signals.stop.set()
    assert await asyncio.wait_for(running, 30) == 0


async def test_F1_no_signal_changes_the_exit_code_of_one_that_has_ended(path: Path) -> None:
    edition, children, log = read_edition(path, ()), Children((sys.executable, "-c", READY)), Log()
    supervisor = Supervisor(edition, (), children, metrics=ServiceMetrics(), logs=log)  # type: ignore[arg-type]
    supervisor._signals.stop.set()
    assert await supervisor.run(Place.open(edition.config, {}), {}, spare=children.start()) == 0
    for number in SUPERVISORS_SIGNALS:
        assert signal.getsignal(number) is signal.SIG_IGN, "else it would end the process in its own way"
        os.kill(os.getpid(), number)
