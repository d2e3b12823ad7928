"""What a real Prometheus has counted after reloads and a killed worker: no counter went back, and the sums are what others counted."""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from gateway.simulator import Simulator
from gateway.simulator.keys import Keys
from tests.deploy.conftest import start_prometheus
from tests.deploy.expressions import METRICS
from tests.deploy.watched import Watched, needs_prometheus, write_configuration
from tests.e2e.conftest import StartProcess
from tests.e2e.load import Load, echo
from tests.e2e.watching import metrics, total, until_said_times, workers

COUNTERS = [name for name in METRICS if name.endswith(("_total", "_count", "_sum", "_bucket"))]
CLIENTS = 6
UNWRITTEN = 0.5
"""Seconds of its log that a killed worker takes along, on a busy machine (README: a line may come a tenth of a second late)."""


@pytest.fixture
async def three_workers(tmp_path: Path, keys: Keys) -> AsyncIterator[Watched]:
    async with AsyncExitStack() as stack:
        start = StartProcess(tmp_path, keys, stack)
        sim = await start.simulator()
        echo(sim)
        gateway = await start(sim, {"server": {"workers": 3}})
        http = await stack.enter_async_context(aiohttp.ClientSession())
        prometheus = await start_prometheus(tmp_path, write_configuration(tmp_path, [f"127.0.0.1:{gateway.admin}"]), http, stack)
        yield Watched(sim, gateway, prometheus, http)


async def exactly(watched: Watched, expression: str, value: int) -> None:
    """Wait until Prometheus has counted so much; it must not count more."""
    [sample] = await watched.prometheus.until(f"sum({expression}) >= {value}")
    assert float(sample["value"][1]) == value, expression


async def scraped(watched: Watched, times: int = 2) -> None:
    """Wait for so many more scrapes."""
    scrapes = "count_over_time(gateway_workers[15m])"
    [sample] = await watched.prometheus.until(scrapes)
    await watched.prometheus.until(f"{scrapes} >= {int(sample['value'][1]) + times}")


async def reloads_under_load(watched: Watched) -> int:
    """Return how many requests were answered, which are all that were sent."""
    gateway = watched.gateway
    async with Load(gateway.port, clients=CLIENTS) as load:
        for number in (1, 2):
            gateway.process.send_signal(signal.SIGHUP)
            await until_said_times(gateway, "a former generation has ended", number)
            await scraped(watched)
    assert load.failures == []
    return load.answered


async def kill_under_load(watched: Watched) -> tuple[int, int, float]:
    """Return how many requests were sent, how many of them may have been in the killed worker since it told what it had counted, and when
    it was killed.
    """
    gateway = watched.gateway
    before = total(await metrics(gateway), "gateway_requests_total")
    async with Load(gateway.port, clients=CLIENTS) as load:
        await scraped(watched)
        told = total(await metrics(gateway), "gateway_requests_total") - before
        untold = load.sent + CLIENTS - int(told)
        killed_at = time.time()
        os.kill(workers(gateway.process.pid)[0], signal.SIGKILL)
        await until_said_times(gateway, "a worker serves", 3 * 3 + 1)
        await scraped(watched)
    assert len(load.failures) <= CLIENTS
    return load.sent, untold, killed_at


async def traces(watched: Watched) -> dict[str, float]:
    """Return the traces that Prometheus has of requests' durations, and when the requests ended."""
    asked = {"query": "gateway_request_duration_seconds_bucket", "start": str(time.time() - 600), "end": str(time.time() + 60)}
    async with watched.http.post(f"{watched.prometheus.url}/api/v1/query_exemplars", data=asked) as response:
        series = (await response.json())["data"]
    return {exemplar["labels"]["trace_id"]: float(exemplar["timestamp"]) for one in series for exemplar in one["exemplars"]}


async def as_counted_by_others(watched: Watched, sim: Simulator, requests: int) -> None:
    assert sim.alipayplus.count == requests
    for expression, value in (
        ('gateway_requests_total{route="sdk",method="POST",status="200"}', requests),
        ("gateway_requests_total", requests),
        ('gateway_request_duration_seconds_count{route="sdk"}', requests),
        ('gateway_alipayplus_results_total{result_code="SUCCESS",source="alipayplus"}', requests),
        ("gateway_alipayplus_duration_seconds_count", requests),
        ('gateway_phase_duration_seconds_count{phase="verify"}', requests),
        ('gateway_session_checks_total{outcome="valid"}', requests),
        ('gateway_session_checks_total{source="call"}', sim.auth.count),
        ('gateway_upstream_requests_total{upstream="session",outcome="ok"}', sim.auth.count),
        ('gateway_upstream_requests_total{upstream="alipayplus",outcome="ok"}', requests),
    ):
        await exactly(watched, expression, value)


@needs_prometheus
async def test_F2_over_reloads_and_a_killed_worker_no_counter_goes_back_and_sums_are_what_others_counted(three_workers: Watched) -> None:
    sim, gateway, prometheus = three_workers.sim, three_workers.gateway, three_workers.prometheus
    answered = await reloads_under_load(three_workers)
    await as_counted_by_others(three_workers, sim, answered)

    sent, untold, killed_at = await kill_under_load(three_workers)
    counted = int(total(await metrics(gateway), "gateway_requests_total"))
    assert answered + sent - untold <= counted <= answered + sent
    await exactly(three_workers, "gateway_requests_total", counted)
    await exactly(three_workers, "gateway_worker_restarts_total", 1)
    await exactly(three_workers, "gateway_workers", 3)
    assert counted <= sim.alipayplus.count <= answered + sent

    for name in COUNTERS:
        assert await prometheus.query(f"resets({name}[15m]) > 0") == [], name
    marked = await traces(three_workers)
    assert await gateway.stop() == 0
    await asyncio.gather(*gateway.readers)
    logged = {json.loads(line)["trace_id"] for line in gateway.out.decode().splitlines()}
    assert marked
    assert not [trace for trace, ended in marked.items() if trace not in logged and not killed_at - UNWRITTEN < ended <= killed_at]
