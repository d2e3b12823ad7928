"""Scripted servers and certificates, and both event loops for every asynchronous test."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import uvloop

from tests.upstream.certificates import Authority, Pair
from tests.upstream.peer import Peer, Script, StartPeer


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


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture(scope="session")
def other_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("other"), "other")


@pytest.fixture(scope="session")
def server_pair(authority: Authority) -> Pair:
    return authority.issue("localhost", "localhost", "127.0.0.1")
