"""A gateway process under mixed traffic, scraped by a real Prometheus with the rules of deploy/prometheus."""

import asyncio
import json
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
import yaml

from gateway.simulator import Behaviour, Simulator
from gateway.simulator.auth import Login
from tests.e2e.conftest import Process

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
JOB: Final = "alipayplus-gateway"
PATIENCE: Final = 30.0  # seconds

needs_prometheus = pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs the package prometheus")

APP: Final = {"Content-Type": "application/json", "Authorization": "Bearer demo-token-anna"}
BODY: Final = b'{"proxyRequestHeader":"","proxyRequestData":""}'
BODIES: Final = (
    b'{"scene":"PROXY_SCENE_PAY","proxyRequestHeader":"","proxyRequestData":""}',
    b'{"scene":"something else","proxyRequestHeader":"","proxyRequestData":""}',
    BODY,
)
ANSWERS: Final = (
    Behaviour(code="PROCESS_FAIL"),
    Behaviour(code="KEY_NOT_FOUND", signed=False),
    Behaviour(code="REQUEST_TRAFFIC_EXCEED_LIMIT"),
    Behaviour(code="UNKNOWN_EXCEPTION"),
    Behaviour(tampered=True),
    Behaviour(key_version="99"),
    Behaviour(http_status=500),
    Behaviour(drop="after_reading"),
)


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus, asked over its HTTP API."""

    url: str
    http: aiohttp.ClientSession

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the samples of an instant query; a scalar counts as one. Fails when the expression is not accepted."""
        async with self.http.post(f"{self.url}/api/v1/query", data={"query": expression}) as response:
            answer = await response.json()
        assert answer["status"] == "success", f"{expression}: {answer.get('error')}"
        samples = answer["data"]["result"]
        return samples if answer["data"]["resultType"] == "vector" else [{"metric": {}, "value": samples}]

    async def until(self, expression: str) -> list[dict[str, Any]]:
        """Return the samples of a query as soon as there are any. Prometheus tells nobody of them, so it is asked again and again."""
        deadline = time.monotonic() + PATIENCE
        while not (samples := await self.query(expression)):
            assert time.monotonic() < deadline, f"no data in time for {expression}"
            await asyncio.sleep(0.1)
        return samples

    async def rules(self) -> list[dict[str, Any]]:
        """Return the groups of rules, each evaluated at least once."""
        deadline = time.monotonic() + PATIENCE
        while True:
            async with self.http.get(f"{self.url}/api/v1/rules") as response:
                groups: list[dict[str, Any]] = (await response.json())["data"]["groups"]
            if groups and all(rule["health"] != "unknown" for group in groups for rule in group["rules"]):
                return groups
            assert time.monotonic() < deadline, "rules were not evaluated in time"
            await asyncio.sleep(0.1)


@dataclass
class Watched:
    """A gateway with its simulator and its Prometheus. `seen` counts the statuses that SDK requests were answered with."""

    sim: Simulator
    gateway: Process
    prometheus: Prometheus
    http: aiohttp.ClientSession
    seen: Counter[int] = field(default_factory=Counter)

    async def traffic(self) -> None:
        """Send requests of every kind, and return when Prometheus has scraped them."""
        for body in BODIES:
            await self._sdk(body)
        for behaviour in ANSWERS:
            self.sim.alipayplus.script(behaviour)
            await self._sdk()
        await self._sdk(Authorization="")
        await self._sdk(Authorization="Bearer nobody")
        self.sim.auth.script(Login(status=500))
        await self._sdk()
        await self._sdk(b"no JSON")
        await self._sdk(method="GET")
        for path in ("/api/balance", "/nowhere"):
            async with self.http.get(f"http://127.0.0.1:{self.gateway.port}{path}", headers=APP) as answer:
                await answer.read()
        await self._malformed()
        await self.prometheus.until(f'sum(gateway_requests_total{{route="sdk"}}) == {self.seen.total()}')

    async def _sdk(self, body: bytes = BODY, *, method: str = "POST", **headers: str) -> None:
        url = f"http://127.0.0.1:{self.gateway.port}/alipayplus/v1/sdkProxy"
        sent = {name: value for name, value in {**APP, **headers}.items() if value}
        async with self.http.request(method, url, data=body, headers=sent) as answer:
            await answer.read()
            self.seen[answer.status] += 1

    async def _malformed(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.gateway.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        assert b" 400 " in await reader.readline()
        writer.close()
        await writer.wait_closed()


def write_configuration(folder: Path, targets: Sequence[str]) -> Path:
    """Write deploy/prometheus as it is, but in a hurry and for these targets."""
    shutil.copytree(DEPLOY / "prometheus" / "rules", folder / "rules")
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    config["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    [job] = config["scrape_configs"]
    assert job.pop("dns_sd_configs")
    assert job["job_name"] == JOB
    job["static_configs"] = [{"targets": list(targets)}]
    path = folder / "prometheus.yml"
    path.write_text(json.dumps(config))  # which is YAML too
    return path
