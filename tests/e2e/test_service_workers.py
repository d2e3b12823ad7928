"""Workers that die, hang or lose their supervisor, on a running gateway."""

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.alipayplus.keys import generate_private_key
from gateway.alipayplus.multibuffer import find_library
from tests.e2e.load import Load, echo
from tests.e2e.watching import backwards, counters, metrics, probe, said, total, until_gone, until_said_times, workers

ENDED = "a worker has ended"
SERVES = "a worker serves"
SEVERAL = "signatures are made several at a time"
NO_MORE = "the process for signatures beside API requests has ended"


async def test_workers_are_direct_children_and_there_are_no_other_processes(start: Any) -> None:
    sim = await start.simulator()
    gateway = await start(sim, {"server": {"workers": 3}})
    pids = workers(gateway.process.pid)
    assert len(pids) == 3
    assert [child for pid in pids for child in workers(pid)] == []
    assert total(await metrics(gateway), "gateway_workers") == 3
    assert await gateway.stop() == 0
    await until_gone(pids)


async def test_beside_api_requests_a_process_of_the_worker_signs_and_no_call_is_lost_when_it_dies(start: Any) -> None:
    start.keys = replace(start.keys, mpp=generate_private_key(2304))  # a size for which no machine makes several signatures at a time
    sim = await start.simulator()
    echo(sim)
    gateway = await start(sim)
    [worker] = workers(gateway.process.pid)

    async def ask(http: aiohttp.ClientSession) -> None:
        login = {"Authorization": "Bearer demo-token-anna"}
        while True:
            async with http.get(f"http://127.0.0.1:{gateway.port}/api/balance", headers=login) as answer:
                assert answer.status == 200

    async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as group, Load(gateway.port, clients=12, pause=0) as load:
        api = group.create_task(ask(http))
        await load.until(lambda: workers(worker) != [])
        [signing] = workers(worker)
        await load.more(50)
        os.kill(signing, signal.SIGKILL)
        await load.until(lambda: said(gateway, NO_MORE) != [])
        await load.more(50)
        api.cancel()
    assert load.failures == []
    assert workers(gateway.process.pid) == [worker]
    assert await gateway.stop() == 0


async def test_a_worker_that_makes_several_signatures_at_a_time_says_so_and_needs_no_process(start: Any) -> None:
    sim = await start.simulator()
    echo(sim)
    gateway = await start(sim)
    library = find_library()
    if library is None:
        assert said(gateway, SEVERAL) == []
    else:
        await until_said_times(gateway, SEVERAL, 1)
        assert said(gateway, SEVERAL)[0]["library"] == Path(library._name).name
    async with Load(gateway.port, clients=12, pause=0) as load:
        await load.more(100)
    assert load.failures == []
    [worker] = workers(gateway.process.pid)
    assert workers(worker) == []
    assert await gateway.stop() == 0


async def test_a_worker_keeps_room_for_pieces_of_bodies_unless_it_is_told_otherwise(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "100000")
    sim = await start.simulator()
    gateway = await start(sim)
    [worker] = workers(gateway.process.pid)
    environment = Path(f"/proc/{worker}/environ").read_bytes().split(b"\0")  # noqa: ASYNC240  no disk
    assert {b"MALLOC_TRIM_THRESHOLD_=100000", b"MALLOC_MMAP_THRESHOLD_=524288"} <= set(environment)
    assert await gateway.stop() == 0


async def test_auto_is_a_worker_for_each_CPU_that_may_be_used(start: Any) -> None:
    sim = await start.simulator()
    gateway = await start(sim, {"server": {"workers": "auto"}})
    assert 1 <= len(workers(gateway.process.pid)) <= len(os.sched_getaffinity(0))
    assert await gateway.stop() == 0


async def test_F2_killed_workers_are_replaced_and_only_what_was_in_flight_in_them_is_lost(start: Any) -> None:
    sim = await start.simulator()
    echo(sim)
    gateway = await start(sim, {"server": {"workers": 2}})
    before = counters(await metrics(gateway))
    async with Load(gateway.port, clients=4) as load:
        for kill in range(1, 6):
            victim = workers(gateway.process.pid)[0]
            os.kill(victim, signal.SIGKILL)
            await until_said_times(gateway, SERVES, 2 + kill)
            assert await probe(gateway, "/readyz") == (200, [])
            await load.more(10)
            after = counters(await metrics(gateway))
            assert backwards(before, after) == {}
            before = after
    assert len(load.failures) <= 5 * 4, "a client has one request in flight"
    assert all(failure.startswith(("IncompleteReadError", "ConnectionResetError")) for failure in load.failures), load.failures
    assert load.answered <= sim.alipayplus.count <= load.sent
    assert total(await metrics(gateway), "gateway_worker_restarts_total") == 5
    assert {entry["reason"] for entry in said(gateway, ENDED)} == {"killed by SIGKILL"}
    assert {entry["replaced_in_seconds"] for entry in said(gateway, ENDED)} == {0}
    assert await gateway.stop() == 0


async def test_F2_a_connection_that_waits_to_be_accepted_is_served_by_the_replacement(start: Any) -> None:
    sim = await start.simulator()
    gateway = await start(sim)
    [worker] = workers(gateway.process.pid)
    os.kill(worker, signal.SIGSTOP)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    os.kill(worker, signal.SIGKILL)
    assert b"404 Not Found" in await asyncio.wait_for(reader.read(), 30)
    writer.close()
    assert await gateway.stop() == 0


async def test_F2_a_hung_worker_is_replaced_and_neither_probes_nor_scrapes_wait_for_it(start: Any) -> None:
    sim = await start.simulator()
    gateway = await start(sim, {"server": {"workers": 2}})
    hung = workers(gateway.process.pid)[0]
    os.kill(hung, signal.SIGSTOP)
    assert await probe(gateway, "/livez") == (200, [])
    assert total(await metrics(gateway), "gateway_alipayplus_max_in_flight") == 2 * 256, "what it said last counts"
    await until_said_times(gateway, SERVES, 3)
    assert [entry["reason"] for entry in said(gateway, ENDED)] == ["it hung"]
    assert hung not in workers(gateway.process.pid)
    assert await probe(gateway, "/readyz") == (200, [])
    assert await gateway.stop() == 0


async def test_F2_workers_whose_supervisor_is_killed_finish_and_end(start: Any) -> None:
    sim = await start.simulator()
    echo(sim)
    gateway = await start(sim, {"server": {"workers": 2}})
    pids = workers(gateway.process.pid)
    async with Load(gateway.port, clients=4) as load:
        gateway.process.kill()
        await load.until(lambda: len(load.failures) > 0)
    assert [failure for failure in load.failures if "Connect call failed" not in failure] == []
    assert await gateway.ended() == -signal.SIGKILL  # nobody holds its streams any more
    await until_gone(pids)
    assert len([line for line in gateway.lines() if line["status"] == 200]) == load.answered == sim.alipayplus.count


async def test_F2_a_crash_loop_is_slowed_down_and_makes_the_gateway_not_ready(start: Any) -> None:
    sim = await start.simulator()
    gateway = await start(sim, {"telemetry": {"log": {"level": "debug"}}})
    for kill in range(1, 5):  # the worker, and then each replacement before it is ready
        await until_said_times(gateway, "a worker is started", kill)
        os.kill(said(gateway, "a worker is started")[-1]["worker_pid"], signal.SIGKILL)
        await until_said_times(gateway, ENDED, kill)
    assert [entry["replaced_in_seconds"] for entry in said(gateway, ENDED)] == [0, 0, 0.1, 0.2]
    assert await probe(gateway, "/readyz") == (503, ["no worker serves", "a worker fails again and again"])
    assert await probe(gateway, "/livez") == (200, [])
    await until_said_times(gateway, SERVES, 2)
    assert await probe(gateway, "/readyz") == (200, [])
    assert await gateway.stop() == 0
