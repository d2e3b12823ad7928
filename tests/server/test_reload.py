"""When the files of an edition ask for a reload; what comes of one is in tests/e2e/test_service_reload.py."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any, cast

import pytest
import structlog

from gateway.alipayplus.keys import private_pem
from gateway.server import reload
from gateway.server.edition import Edition, read_edition
from gateway.server.reload import Reloads, Switch
from gateway.simulator import Ports
from gateway.simulator.configuration import render
from gateway.simulator.keys import Keys
from gateway.telemetry.metrics import ServiceMetrics
from tests.upstream.peer import until


class NoThreads(ThreadPoolExecutor):
    """What the loop's own executor does at the limit of processes and threads."""

    def submit(self, *_: Any, **__: Any) -> Future[Any]:
        raise RuntimeError("can't start new thread")


async def nowhere(_: Edition) -> None:
    """Put an edition into service nowhere."""


def reloads_of(
    tmp_path: Path,
    keys: Keys,
    on_key: Callable[[bool], None] = lambda _: None,
    *,
    switch: Switch = nowhere,
    asked: asyncio.Event | None = None,
) -> Reloads:
    path, log = tmp_path / "gateway.yaml", structlog.testing.CapturingLogger()
    tmp_path.mkdir(exist_ok=True)
    path.write_text(render(Ports(0, 0), {"alipayplus": {"tls": None}}))
    (tmp_path / "keys").mkdir()
    keys.write(tmp_path / "keys")
    return Reloads(
        read_edition(path, ()),
        (),
        switch,
        ServiceMetrics(),
        lambda: cast("Any", log),
        asked=asked or asyncio.Event(),
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


async def test_the_files_are_found_though_the_working_directory_is_removed(
    tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when `gateway run -c gateway.yaml` runs in a release that is removed later."""
    release = tmp_path / "release"
    release.mkdir()
    monkeypatch.chdir(release)
    reloads = reloads_of(Path("..") / "config", keys)
    assert not reloads._have_changed(reloads._files())
    release.rmdir()
    (tmp_path / "config" / "gateway.yaml").unlink()
    assert reloads._have_changed(reloads._files())


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


async def test_the_service_goes_on_and_reloads_where_no_thread_can_be_started(tmp_path: Path, keys: Keys) -> None:
    asyncio.get_running_loop().set_default_executor(NoThreads())
    served, asked = list[Edition](), asyncio.Event()

    async def serve(edition: Edition) -> None:
        served.append(edition)

    task = asyncio.create_task(reloads_of(tmp_path, keys, switch=serve, asked=asked).run())
    await asyncio.sleep(0)
    asked.set()
    await until(lambda: bool(served) or task.done())
    assert not task.done()
    task.cancel()
    await asyncio.wait((task,))
    assert len(served) == 1
