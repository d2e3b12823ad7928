"""The scrape that the Prometheus operator makes of deploy/kubernetes' ServiceMonitor, by a real Prometheus: no label of ours is lost."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.simulator.keys import Keys
from tests.deploy.conftest import start_prometheus
from tests.deploy.kubernetes import the
from tests.deploy.watched import JOB, Watched, needs_prometheus, write_configuration
from tests.e2e.conftest import StartProcess


def as_the_operator_does(config: dict[str, Any]) -> None:
    """Name the targets as the operator does for an endpoint with `port`, then as the ServiceMonitor wants it."""
    [endpoint] = the("production", "ServiceMonitor")["spec"]["endpoints"]
    named = {"namespace": "alipayplus-gateway", "service": "gateway-admin", "container": "gateway", "pod": "gateway-0"}
    job = config["scrape_configs"][0]
    job["relabel_configs"] = [
        *({"target_label": label, "replacement": value} for label, value in {**named, "endpoint": endpoint["port"]}.items()),
        *({"regex": rule["regex"], "action": rule["action"]} for rule in endpoint.get("relabelings", ())),
    ]
    job["honor_labels"] = endpoint.get("honorLabels", False)


@pytest.fixture
async def watched(tmp_path: Path, keys: Keys) -> AsyncIterator[Watched]:
    async with AsyncExitStack() as stack:
        start = StartProcess(tmp_path, keys, stack)
        sim = await start.simulator()
        servers = [f"http://127.0.0.1:{sim.ports.mpp}", f"http://localhost:{sim.ports.mpp}"]
        api = {"upstreams": {"wallet": {"servers": servers}}, "routes": [{"prefix": "/api", "upstream": "wallet"}]}
        gateway = await start(sim, {"api": api})
        http = await stack.enter_async_context(aiohttp.ClientSession())
        path = write_configuration(tmp_path, [f"127.0.0.1:{gateway.admin}"])
        config = json.loads(path.read_text())
        as_the_operator_does(config)
        path.write_text(json.dumps(config))
        yield Watched(sim, gateway, await start_prometheus(tmp_path, path, http, stack), http)


@needs_prometheus
async def test_the_operators_labels_take_none_of_ours(watched: Watched) -> None:
    await watched.traffic()
    servers = await watched.prometheus.until('count by (job, namespace, pod, endpoint) (gateway_upstream_healthy{upstream="wallet"})')
    ours = {"job": JOB, "namespace": "alipayplus-gateway", "pod": "gateway-0"}
    port = watched.sim.ports.mpp
    assert sorted(server["metric"].pop("endpoint") for server in servers) == [f"127.0.0.1:{port}", f"localhost:{port}"]
    assert [server["metric"] for server in servers] == [ours, ours]
    async with watched.http.get(f"{watched.prometheus.url}/api/v1/labels") as answer:
        labels = (await answer.json())["data"]
    assert [label for label in labels if label.startswith("exported_")] == []
