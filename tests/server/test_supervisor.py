"""A supervisor whose workers are simple programs; what it does with real ones is in tests/e2e."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import structlog

from gateway.server.children import Child, Children
from gateway.server.edition import read_edition
from gateway.server.place import Place
from gateway.server.supervisor import Supervisor
from gateway.simulator import Ports
from gateway.simulator.configuration import render
from gateway.simulator.keys import Keys
from gateway.telemetry.metrics import ServiceMetrics
from tests.server.test_generation import HANGS, READY


class Log:
    """Takes what is logged; `started` is set when a worker of the second generation has been."""

    def __init__(self) -> None:
        self.log = structlog.wrap_logger(None, processors=[self._note])
        self.started = asyncio.Event()

    def _note(self, _logger: object, _method: str, event: Any) -> Any:
        if event["event"] == "a worker is started" and event["generation"] == 2:
            self.started.set()
        raise structlog.DropEvent

    def tell_held_back(self) -> None:
        pass


class FirstServes(Children):
    """Worker processes of which the first one serves, and the others hang."""

    def start(self, openssl: Mapping[str, str] | None = None) -> Child:
        self._command = (sys.executable, "-c", HANGS if list(self) else READY)
        return super().start(openssl)


async def test_an_error_that_ends_it_does_so_also_while_a_reload_waits_for_workers(tmp_path: Path, keys: Keys) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(render(Ports(0, 0), {"alipayplus": {"tls": None}}))
    (tmp_path / "keys").mkdir()
    keys.write(tmp_path / "keys")
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
