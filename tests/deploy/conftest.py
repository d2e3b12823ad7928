"""The rig of `tests.deploy.watched`, started and stopped."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from gateway.simulator.keys import Keys
from tests.deploy.watched import Prometheus, Watched, write_configuration
from tests.e2e.conftest import StartProcess
from tests.ports import free_port


async def start_prometheus(folder: Path, config: Path, http: aiohttp.ClientSession, stack: AsyncExitStack) -> Prometheus:
    """Start Prometheus and return when it is ready, as it says itself."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *("prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}"),
        "--enable-feature=exemplar-storage",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    said = b""

    async def end() -> None:
        process.kill()
        await process.communicate()

    stack.push_async_callback(end)
    async with asyncio.timeout(30):
        while b"ready to receive web requests" not in said:
            line = await process.stderr.readline()
            assert line, said.decode()
            said += line
    drained = asyncio.create_task(process.stderr.read())
    stack.callback(drained.cancel)
    return Prometheus(f"http://127.0.0.1:{port}", http)


@pytest.fixture
async def watched(tmp_path: Path, keys: Keys) -> AsyncIterator[Watched]:
    """A gateway that two rounds of traffic went through, scraped."""
    async with AsyncExitStack() as stack:
        start = StartProcess(tmp_path, keys, stack)
        sim = await start.simulator()
        routes = [{"prefix": "/api", "upstream": "wallet"}]
        upstreams = {"wallet": {"servers": [f"http://127.0.0.1:{sim.ports.mpp}"]}}
        gateway = await start(sim, {"api": {"upstreams": upstreams, "routes": routes}})
        http = await stack.enter_async_context(aiohttp.ClientSession())
        config = write_configuration(tmp_path, [f"127.0.0.1:{gateway.admin}"])
        running = Watched(sim, gateway, await start_prometheus(tmp_path, config, http, stack), http)
        await running.traffic()
        await running.traffic()
        yield running
