"""What the status page is told; the page itself is tested in tests/admin and tests/e2e."""

import resource
from pathlib import Path
from typing import Any

import pytest
import structlog

from gateway.admin.in_force import InForce
from gateway.admin.server import Health
from gateway.server.edition import Edition, read_edition
from gateway.server.showing import Showing
from gateway.server.tally import Tally
from gateway.simulator import Ports
from gateway.simulator.configuration import render
from gateway.simulator.keys import Keys
from gateway.telemetry.metrics import ServiceMetrics


@pytest.fixture
def edition(tmp_path: Path, keys: Keys) -> Edition:
    path = tmp_path / "gateway.yaml"
    path.write_text(render(Ports(), {"alipayplus": {"tls": None}}))
    (tmp_path / "keys").mkdir()
    keys.write(tmp_path / "keys")
    return read_edition(path, ())


async def test_F3_without_descriptors_for_a_look_at_the_keys_none_are_shown_until_the_next_one(edition: Edition) -> None:
    said: list[dict[str, Any]] = []

    def note(_logger: object, _method: str, event: Any) -> Any:
        said.append(event)
        raise structlog.DropEvent

    log = structlog.wrap_logger(None, processors=[note])
    showing = Showing(edition, Tally(ServiceMetrics().registry, lambda: ()), Health(), lambda: log)
    await showing.take_up(edition)
    assert [key.use for key in showing._in_force.keys] == ["signing", "verification"]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        await showing.take_up(edition)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert showing._in_force == InForce()
    [failed] = said
    assert (failed["event"], type(failed["exc_info"])) == ("the status page cannot show what is in force", OSError)
    await showing.take_up(edition)
    assert showing._in_force.keys
