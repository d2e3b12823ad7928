"""The loop of production for every asynchronous test, and the standard one too where the loops differ; certificates; the rig."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvloop

from tests.server.rig import Rig, StartRig

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.SelectorEventLoop}


WORKERS = {
    "test_acceptor.py",
    "test_acceptor_memory.py",
    "test_admission.py",
    "test_control.py",
    "test_early_refusals.py",
    "test_secure.py",
}
SUPERVISORS = {"test_generation.py", "test_supervisor.py", "test_watch.py"}


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.path.name in WORKERS:
        return LOOPS
    name = "asyncio" if item.path.name in SUPERVISORS else "uvloop"
    return {name: LOOPS[name]}


@pytest.fixture
async def start_rig() -> AsyncIterator[StartRig]:
    """Start listeners with an edge behind them: `rig = await start_rig(...)`, see `Rig.start`."""
    rigs: list[Rig] = []

    async def start(**settings: Any) -> Rig:
        rigs.append(Rig(**settings))
        rigs[-1].acceptor.start()
        return rigs[-1]

    yield start
    for rig in rigs:
        await rig.close()
