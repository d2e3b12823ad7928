"""Sessions in front of an auth service on port 0."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest
import uvloop

from gateway.session import Sessions
from gateway.session.peer import Observe
from tests.session.auth_server import AuthServer, Clock, Gateway, session

StartSessions = Callable[..., Gateway]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run each asynchronous test of this folder under both loops."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.SelectorEventLoop}


@pytest.fixture
async def auth() -> AsyncIterator[AuthServer]:
    server = AuthServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def start(auth: AuthServer) -> AsyncIterator[StartSessions]:
    """Start sessions: keywords are keys of `session.forward` (or of the other `kind`), and what `Sessions` takes."""
    running: list[Sessions] = []

    def start_sessions(
        *,
        kind: str = "forward",
        cache: Mapping[str, object] | None = None,
        clock: Clock | None = None,
        wall_clock: Clock | None = None,
        observe: Observe | None = None,
        **section: Any,
    ) -> Gateway:
        section = {"url": f"http://127.0.0.1:{auth.port}/session?from=gateway", **section}
        if kind == "forward":
            section.setdefault("customer_id", {"header": "X-Customer-Id"})
        else:
            section |= {"client_id": "gate way", "client_secret": "s:e+c"}
        clocks = {name: value for name, value in (("clock", clock), ("wall_clock", wall_clock)) if value is not None}
        observed: list[str] = []
        config = session(section, kind, cache=cache or {})
        sessions = Sessions(config, observe=observe or (lambda _endpoint, outcome: observed.append(outcome)), **clocks)
        running.append(sessions)
        return Gateway(auth, sessions, observed)

    yield start_sessions
    for sessions in running:
        await sessions.close()
        assert not sessions._tasks
        assert not sessions._flights
        assert sessions._peer._limiter.in_flight == 0
        assert sessions._peer._pool.open == 0
