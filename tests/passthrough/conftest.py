"""A running gateway in front of scripted upstreams, under both event loops."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
import uvloop

from gateway.config import ApiRoute, Limits, Upstream
from tests.passthrough.rig import LIMITS, Rig, StartRig, configuration, route, upstream
from tests.upstream.peer import StartPeer, peers


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run each asynchronous test of this folder under both loops."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.SelectorEventLoop}


@pytest.fixture
async def start_peer() -> AsyncIterator[StartPeer]:
    """Start upstreams: `peer = await start_peer(script)`."""
    async with peers() as start:
        yield start


@pytest.fixture
async def start_rig(start_peer: StartPeer) -> AsyncIterator[StartRig]:
    """Start gateways: `rig = await start_rig(url)` with one route for all, or with routes and upstreams.

    Afterwards nothing is left of any request, and nothing of it was a bug.
    """
    rigs: list[Rig] = []

    async def start(
        url: str | None = None,
        *,
        routes: Sequence[ApiRoute] = (),
        upstreams: dict[str, Upstream] | None = None,
        limits: Limits = LIMITS,
        trusted: Sequence[str] = (),
        settings: dict[str, Any] | None = None,
        tls: ssl.SSLContext | None = None,
        **route_settings: Any,
    ) -> Rig:
        given = upstreams or {"wallet": upstream(url or "http://127.0.0.1:1", **(settings or {}))}
        rig = Rig(configuration(routes or [route(**route_settings)], given, limits=limits), trusted=trusted)
        await rig.start(tls)
        rigs.append(rig)
        return rig

    yield start
    for rig in rigs:
        await rig.stop()
        assert rig.log.calls == []
        assert not rig.front.in_flight
        assert (rig.in_hand[-1], min(rig.in_hand)) == (0, 0), "each is counted once, until its answer begins"
        assert not rig.tunnels
        assert not any(pool.open for pool in rig.pools.values())
