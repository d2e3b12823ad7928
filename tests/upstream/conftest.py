"""Scripted servers and certificates, and both event loops for every asynchronous test."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest
import uvloop

from gateway.upstream import Connection, Endpoint, Pool
from tests.upstream.clusters import Rig
from tests.upstream.peer import Call, Connect, Peer, StartPeer, peers, until


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run each asynchronous test of this folder under both loops."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.SelectorEventLoop}


@pytest.fixture
async def start_peer() -> AsyncIterator[StartPeer]:
    """Start servers: `peer = await start_peer(script, tls=..., path=...)`."""
    async with peers() as start:
        yield start


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Connect to a peer; all is closed afterwards."""
    pools: list[Pool] = []

    async def open_one(peer: Peer) -> Connection:
        pool = Pool(Endpoint.parse(peer.url), idle=60, age=60, connect_timeout=10)
        pools.append(pool)
        return await pool.acquire()

    yield lambda peer: asyncio.ensure_future(open_one(peer))
    for pool in pools:
        await pool.close()
        assert pool.open == 0


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    tasks = asyncio.all_tasks()
    async with AsyncExitStack() as stack:
        yield Rig(stack)
    await until(lambda: asyncio.all_tasks() <= tasks | {asyncio.current_task()})


@pytest.fixture
async def silent(start_peer: StartPeer) -> str:
    """A URL at which connections are accepted and TLS is never answered."""

    async def hang(call: Call) -> None:
        await call.read_to_end()

    return f"https://127.0.0.1:{(await start_peer(hang)).port}"
