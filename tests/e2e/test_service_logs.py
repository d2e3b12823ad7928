"""Logs that nobody takes, and what the metrics say of certificates, on a running gateway."""

import os
import signal
from collections.abc import Callable
from time import time
from typing import Any

import aiohttp
import pytest

from tests.e2e.load import Load, echo
from tests.e2e.watching import metrics, until_counted, until_said_times


def full_disk() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def reader_that_is_gone() -> int:
    read, write = os.pipe()
    os.close(read)
    return write


@pytest.mark.parametrize("stream", [full_disk, reader_that_is_gone], ids=["F5-full-disk", "F5-dead-reader"])
async def test_F5_requests_go_on_when_the_access_log_takes_no_lines_and_these_are_counted(start: Any, stream: Callable[[], int]) -> None:
    sim = await start.simulator()
    echo(sim)
    out = stream()
    gateway = await start(sim, {"server": {"workers": 2}}, out=out)
    os.close(out)
    async with Load(gateway.port, clients=2) as load:
        await load.more(20)
    assert load.failures == []
    await until_counted(gateway, "gateway_log_lines_dropped_total", load.answered)
    assert await gateway.stop() == 0


async def test_F5_requests_go_on_when_the_reader_of_the_access_log_is_stuck_and_what_it_has_not_got_is_counted(start: Any) -> None:
    sim = await start.simulator()
    echo(sim)
    read, write = os.pipe()
    os.set_blocking(write, False)
    while True:  # no room is left
        try:
            os.write(write, b"x" * 4096)
        except BlockingIOError:
            break
    os.set_blocking(write, True)
    gateway = await start(sim, out=write)
    os.close(write)
    async with Load(gateway.port, clients=2) as load:
        await load.more(20)
    assert load.failures == []
    gateway.process.send_signal(signal.SIGHUP)
    await until_said_times(gateway, "a former generation has ended", 1)
    await until_counted(gateway, "gateway_log_lines_dropped_total", load.answered)
    assert await gateway.stop() == 0
    os.close(read)


async def test_E7_the_ends_of_the_certificates_in_use_are_in_the_metrics(start: Any) -> None:
    sim = await start.simulator()
    gateway = await start(sim)
    series = await metrics(gateway)
    [(labels, end)] = [
        (labels, value) for (name, labels), value in series.items() if name == "gateway_certificate_expiry_timestamp_seconds"
    ]
    assert labels == (("file", str(sim.ca)),)
    assert 364 < (end - time()) / 86_400 < 366
    assert await gateway.stop() == 0


async def test_of_successful_API_requests_the_share_is_logged_and_all_else_always(start: Any) -> None:
    sim = await start.simulator()
    gateway = await start(sim, {"telemetry": {"log": {"sample": 0.0}}})
    login = {"Authorization": "Bearer demo-token-anna"}
    call = {"proxyRequestHeader": "", "proxyRequestData": ""}
    async with aiohttp.ClientSession(f"http://127.0.0.1:{gateway.port}", headers=login) as http:
        for method, path in (("GET", "/api/balance"), ("GET", "/api/none"), ("POST", "/alipayplus/v1/sdkProxy")):
            async with http.request(method, path, json=call if method == "POST" else None) as answer:
                await answer.read()
    await until_counted(gateway, "gateway_requests_total", 3)
    assert await gateway.stop() == 0
    assert [(line["route"], line["status"]) for line in gateway.lines()] == [("/api", 404), ("sdk", 200)]
