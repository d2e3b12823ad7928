"""When the files of an edition ask for a reload; what comes of one is in tests/e2e/test_service_reload.py."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any, cast

import pytest
import structlog

from gateway.alipayplus.keys import private_pem
from gateway.server import reload
from gateway.server.edition import read_edition
from gateway.server.reload import Reloads
from gateway.simulator import Ports
from gateway.simulator.configuration import render
from gateway.simulator.keys import Keys
from gateway.telemetry.metrics import ServiceMetrics
from tests.upstream.peer import until


def reloads_of(tmp_path: Path, keys: Keys, on_key: Callable[[bool], None] = lambda _: None) -> Reloads:
    path, log = tmp_path / "gateway.yaml", structlog.testing.CapturingLogger()
    path.write_text(render(Ports(0, 0), {"alipayplus": {"tls": None}}))
    (tmp_path / "keys").mkdir()
    keys.write(tmp_path / "keys")
    return Reloads(
        read_edition(path, ()),
        (),
        lambda _: asyncio.sleep(0),
        ServiceMetrics(),
        lambda: cast("Any", log),
        asked=asyncio.Event(),
        on_begin=lambda: None,
        on_end=lambda: None,
        on_outcome=lambda _: None,
        on_key=on_key,
    )


async def test_of_another_active_signing_key_it_is_told_and_of_its_return_too(tmp_path: Path, keys: Keys) -> None:
    told: list[bool] = []
    reloads = reloads_of(tmp_path, keys, told.append)
    for key, expected in ((keys.stranger, [True]), (keys.mpp, [True, False])):
        (tmp_path / "keys" / "mpp-1.pem").write_bytes(private_pem(key))
        assert not reloads._have_changed(reloads._files())
        assert told == expected


async def test_probes_and_scrapes_are_answered_while_the_files_are_looked_for(
    tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To find them takes as long as to read the configuration: seconds, with thousands of routes."""
    has_gone_on, found = Event(), list[bool]()

    def watched_files(file: Path) -> tuple[Path, ...]:
        found.append(has_gone_on.wait(5))
        return (file,)

    monkeypatch.setattr(reload, "watched_files", watched_files)
    task = asyncio.create_task(reloads_of(tmp_path, keys).run())
    asyncio.get_running_loop().call_soon(has_gone_on.set)
    await until(lambda: bool(found))
    task.cancel()
    await asyncio.wait((task,))
    assert found[0]
