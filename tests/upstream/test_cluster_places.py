import asyncio
from contextlib import suppress

import pytest

from gateway.upstream.cluster import Cluster, Full, Lease
from tests.upstream.clusters import (
    Rig,
    ask,
    start_peers,
)
from tests.upstream.peer import StartPeer, until


async def test_a_full_endpoint_is_passed_over_and_a_full_cluster_waited_for(start_peer: StartPeer, rig: Rig) -> None:
    urls, (one, other) = await start_peers(start_peer, 2)
    cluster = await rig(urls, balance="ordered", limit=2, patience=60)
    leases = [await cluster.acquire() for _ in range(4)]
    assert [lease.endpoint.name for lease in leases] == [one, one, other, other]
    waiting = [asyncio.create_task(cluster.acquire()) for _ in range(3)]
    await until(lambda: cluster.status().waiting == 3)
    cluster.release(leases[2], "ok")
    cluster.release(leases[0], "ok")
    got = [await waiting[0], await waiting[1]]
    assert {lease.endpoint.name for lease in got} == {one, other}
    assert not waiting[2].done()
    cluster.release(got[0], "abandoned")
    await waiting[2]
    assert [endpoint.in_flight for endpoint in cluster.status().endpoints] == [2, 2]


async def test_who_waits_too_long_for_a_place_is_told_so(start_peer: StartPeer, rig: Rig) -> None:
    urls, _ = await start_peers(start_peer, 1)
    cluster = await rig(urls, limit=1, patience=0.05)
    held = await cluster.acquire()
    with pytest.raises(Full, match="all endpoints full"):
        await cluster.acquire()
    cluster.release(held, "ok")
    await ask(cluster)
    assert cluster.status().waiting == 0


async def test_in_a_queue_that_lasts_no_more_wait_than_there_are_places(start_peer: StartPeer, rig: Rig) -> None:
    urls, _ = await start_peers(start_peer, 2)
    cluster = await rig(urls, limit=4, patience=60)
    requests = [asyncio.create_task(cluster.acquire()) for _ in range(32)]
    await until(lambda: cluster.status().waiting == 24)
    for done in range(16):
        rig.clock.now += 1
        cluster.release(await requests[done], "ok")
    await asyncio.gather(*requests[:24])
    assert cluster.status().waiting == 8
    with pytest.raises(Full):
        await cluster.acquire()
    for request in requests[16:]:
        cluster.release(await request, "ok")
    assert cluster.status().waiting == 0


async def two_waiting(start_peer: StartPeer, rig: Rig) -> tuple[Cluster, Lease, asyncio.Task[Lease], asyncio.Task[Lease]]:
    """Return a cluster with one place, who has that, and two who wait for it."""
    urls, _ = await start_peers(start_peer, 1)
    cluster = await rig(urls, limit=1, patience=60)
    held = await cluster.acquire()
    first, second = asyncio.create_task(cluster.acquire()), asyncio.create_task(cluster.acquire())
    await until(lambda: cluster.status().waiting == 2)
    return cluster, held, first, second


async def test_who_was_woken_for_a_place_that_another_took_waits_as_the_first(start_peer: StartPeer, rig: Rig) -> None:
    cluster, held, first, second = await two_waiting(start_peer, rig)
    cluster.release(held, "ok")
    faster = await cluster.acquire()
    await until(lambda: cluster.status().waiting == 2)
    cluster.release(faster, "ok")
    cluster.release(await first, "ok")
    cluster.release(await second, "ok")


async def test_one_who_gives_up_waiting_leaves_the_place_to_the_next(start_peer: StartPeer, rig: Rig) -> None:
    cluster, held, first, second = await two_waiting(start_peer, rig)
    cluster.release(held, "ok")
    first.cancel()
    assert isinstance(await second, Lease)
    with suppress(asyncio.CancelledError):
        await first
    assert cluster.members[0].in_flight == 1


async def test_a_client_that_leaves_while_connecting_gives_its_place_back(rig: Rig, silent: str) -> None:
    cluster = await rig([silent])
    task = asyncio.create_task(cluster.acquire())
    await until(lambda: cluster.members[0].in_flight == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cluster.members[0].in_flight == 0
    assert not rig.seen.requests
