"""A whole gateway in the test's own process, on the loop of production, in front of the simulator, on port 0."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvloop

from gateway.config import load
from gateway.edge.front import Front
from gateway.edge.server import Refusal
from gateway.edge.shedding import Shedder
from gateway.runtime import CHECKS, Runtime, running
from gateway.simulator import Behaviour, Login, Simulator
from gateway.simulator.keys import Keys
from gateway.telemetry.log import Logs
from gateway.telemetry.metrics import Metrics
from tests.sdkproxy.client import Client

PATH = "/alipayplus/v1/sdkProxy"
LOGIN = {"Authorization": "Bearer demo-token-anna"}
JSON = {"Content-Type": "application/json"}
BODY = b'{"scene":"PROXY_SCENE_PAY","proxyRequestHeader":"{\\"a\\":1}","proxyRequestData":"x=%5B&y=\\u2028"}'


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@dataclass
class Reply:
    """What the app got."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        decoded: dict[str, Any] = json.loads(self.body)
        return decoded


@dataclass
class Gateway:
    """The gateway, its simulator, its log and an HTTP client for the app's side."""

    parts: Runtime
    logs: Logs
    log_file: Path
    sim: Simulator
    port: int
    http: aiohttp.ClientSession

    async def post(self, body: bytes = BODY, *, headers: Mapping[str, str] | None = None, path: str = PATH) -> Reply:
        sent = {**JSON, **LOGIN} if headers is None else dict(headers)
        async with self.http.post(f"http://127.0.0.1:{self.port}{path}", data=body, headers=sent) as answer:
            return Reply(answer.status, answer.headers, await answer.read())

    async def raw(self, data: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        try:
            return await asyncio.wait_for(reader.read(), 20)
        finally:
            writer.close()

    async def fail(self, result: str, status: int, letter: str, /, **behaviour: Any) -> Reply:
        """Script one answer of Alipay+, send one request, and check what the app, the log and the metrics say of it."""
        before = self.sim.alipayplus.count
        if behaviour:
            self.sim.alipayplus.script(Behaviour(**behaviour))
        reply = await self.post()
        assert (reply.status, reply.json["resultCode"], reply.json["resultStatus"]) == (status, result, letter)
        assert reply.json["isSuccess"] is False
        assert set(reply.json) >= {"isSuccess", "resultCode", "resultStatus", "resultMessage", "source", "requestId"}
        assert reply.headers["Cache-Control"] == "no-store"
        if reply.json["source"] == "gateway":
            assert "proxyResponseHeader" not in reply.json
            assert "proxyResponseData" not in reply.json
        assert self.sim.alipayplus.count - before <= 1
        return reply

    def count(self, name: str, **labels: str) -> float:
        return self.parts.metrics.registry.get_sample_value(name, labels) or 0.0

    def results(self, code: str, status: str, source: str, scene: str = "PROXY_SCENE_PAY") -> float:
        return self.count("gateway_alipayplus_results_total", scene=scene, result_status=status, result_code=code, source=source)

    def lines(self) -> list[dict[str, Any]]:
        """Close the log and return its access lines."""
        list(self.parts.metrics.registry.collect())  # what has ended is counted and logged
        self.logs.close()
        lines = [json.loads(line) for line in self.log_file.read_text().splitlines()]
        return [line for line in lines if line["event"] == "request"]

    def script_auth(self, **login: Any) -> None:
        self.sim.auth.script(Login(**login))


class StartGateway:
    """Starts gateways with changes to the demo's configuration; all end with the test."""

    def __init__(self, directory: Path, keys: Keys, stack: AsyncExitStack) -> None:
        self._directory = directory
        self._keys = keys
        self._stack = stack

    async def __call__(self, changes: Mapping[str, Any] | None = None, **simulator: Any) -> Gateway:
        sim = await self._stack.enter_async_context(Simulator(self._directory, keys=self._keys, **simulator))
        config = load(sim.write_configuration(changes), CHECKS).config
        log_file = self._directory / "log"
        fd = os.open(log_file, os.O_WRONLY | os.O_CREAT)
        self._stack.callback(os.close, fd)
        metrics = Metrics()
        logs = Logs(config.telemetry.log, out=fd, err=fd)
        self._stack.callback(logs.close)
        parts = await self._stack.enter_async_context(running(config, metrics, logs))
        server = await asyncio.get_running_loop().create_server(parts.edge.receiver, "127.0.0.1", 0)
        self._stack.callback(server.close)
        http = await self._stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
        return Gateway(parts, logs, log_file, sim, server.sockets[0].getsockname()[1], http)


@pytest.fixture
async def start(tmp_path: Path, keys: Keys) -> AsyncIterator[StartGateway]:
    async with AsyncExitStack() as stack:
        yield StartGateway(tmp_path, keys, stack)


@pytest.fixture
async def gateway(start: StartGateway) -> Gateway:
    return await start()


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Let all SDK calls be refused because the loop is late. What is given holds whether each request was refused at once."""
    at_once: list[bool] = []
    refuse = Front.refuse

    def noted(*arguments: Any) -> Refusal | None:
        refusal = refuse(*arguments)
        at_once.append(refusal is not None)
        return refusal

    monkeypatch.setattr(Shedder, "is_shedding", property(lambda _: True, lambda *_: None), raising=False)
    monkeypatch.setattr(Shedder, "_switch", lambda *_: None)
    monkeypatch.setattr(Shedder, "_has_place", lambda *_: False)
    monkeypatch.setattr(Front, "refuse", noted)
    return at_once


@pytest.fixture
async def client(gateway: Any) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    yield Client(reader, writer)
    writer.transport.abort()


@pytest.fixture
async def other(gateway: Any) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    yield Client(reader, writer)
    writer.transport.abort()
