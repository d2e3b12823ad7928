"""Scripted servers and certificates, and both event loops for every asynchronous test."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import uvloop

from gateway.upstream import Connection, Endpoint, Pool
from tests.upstream.certificates import Authority, Pair
from tests.upstream.clusters import Rig
from tests.upstream.peer import Call, Connect, Peer, Script, StartPeer, until


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run each asynchronous test of this folder under both loops."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.SelectorEventLoop}


@pytest.fixture
async def start_peer() -> AsyncIterator[StartPeer]:
    """Start servers: `peer = await start_peer(script, tls=..., path=...)`."""
    peers: list[Peer] = []

    async def start(script: Script, *, tls: ssl.SSLContext | None = None, path: Path | None = None) -> Peer:
        peer = Peer(script)
        await peer.start(tls=tls, path=path)
        peers.append(peer)
        return peer

    yield start
    for peer in peers:
        await peer.stop()
    assert [failure for peer in peers for failure in peer.failures] == []


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


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture(scope="session")
def other_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("other"), "other")


@pytest.fixture(scope="session")
def server_pair(authority: Authority) -> Pair:
    return authority.issue("localhost", "localhost", "127.0.0.1")


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
