"""When the files of an edition ask for a reload; what comes of one is in tests/e2e/test_service_reload.py."""

import asyncio
from pathlib import Path
from typing import Any

import structlog

from gateway.alipayplus.keys import private_pem
from gateway.server.edition import read_edition
from gateway.server.reload import Reloads
from gateway.simulator import Ports
from gateway.simulator.configuration import render
from gateway.simulator.keys import Keys
from gateway.telemetry.metrics import ServiceMetrics


async def test_of_another_active_signing_key_it_is_told_and_of_its_return_too(tmp_path: Path, keys: Keys) -> None:
    path, folder, told = tmp_path / "gateway.yaml", tmp_path / "keys", list[bool]()
    path.write_text(render(Ports(0, 0), {"alipayplus": {"tls": None}}))
    folder.mkdir()
    keys.write(folder)
    log: Any = structlog.testing.CapturingLogger()
    reloads = Reloads(
        read_edition(path, ()),
        (),
        lambda _: asyncio.sleep(0),
        ServiceMetrics(),
        lambda: log,
        asked=asyncio.Event(),
        on_begin=lambda: None,
        on_end=lambda: None,
        on_outcome=lambda _: None,
        on_key=told.append,
    )
    for key, expected in ((keys.stranger, [True]), (keys.mpp, [True, False])):
        (folder / "mpp-1.pem").write_bytes(private_pem(key))
        assert not reloads._have_changed(reloads._files())
        assert told == expected
