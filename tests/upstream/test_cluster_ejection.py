import asyncio
import random
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from gateway.config import model
from gateway.config.values import Duration, Share
from gateway.upstream import Endpoint, Pool, Unreachable
from gateway.upstream.balance import RoundRobin
from gateway.upstream.cluster import Cluster, Full, NoneAvailable, Outcome
from gateway.upstream.health import Health
from gateway.upstream.member import Member
from tests.upstream.clusters import (
    DOWN,
    EJECTION,
    OK,
    Rig,
    Seen,
    Wallet,
    ask,
    fail,
    names,
    start_peers,
    use,
)
from tests.upstream.peer import Peer, StartPeer, until

CHECK = model.HealthCheck(path="/healthz", interval=Duration(5), timeout=Duration(5), healthy=2, unhealthy=2)
FAILED: tuple[Outcome, ...] = ("error", "timeout", "unreachable", "invalid")


@pytest.mark.parametrize("outcome", FAILED)
async def test_D10_one_that_fails_is_ejected_and_comes_back_on_probation(start_peer: StartPeer, rig: Rig, outcome: Outcome) -> None:
    urls, (bad, good) = await start_peers(start_peer, 2)
    cluster = await rig(urls, balance="ordered", ejection=EJECTION)
    if outcome == "unreachable":
        cluster.members[0].pool._keep = 0  # new connections only: a kept one that has ended says nothing
    await fail(cluster, 2, outcome)
    assert rig.seen.turns == [(bad, "ejected", outcome)]
    assert [endpoint.ejected_for for endpoint in cluster.status().endpoints] == [30, 0]
    assert cluster.status().endpoints[0].last_failure == outcome
    assert [cluster.is_in(member) for member in cluster.members] == [False, True]
    rig.clock.now += 29.9
    assert await ask(cluster) == good
    rig.clock.now += 0.1
    assert await use(cluster, outcome) == bad, "back, and ejected by one failure"
    assert await ask(cluster) == good
    rig.clock.now += 30
    assert await use(cluster, "ok") == bad
    assert await use(cluster, outcome) == bad, "the probation is over"
    assert await use(cluster, "ok") == bad
    assert len(rig.seen.turns) == 2


@pytest.mark.parametrize("outcome", ["ok", "abandoned"])
async def test_what_says_nothing_against_an_endpoint_ejects_none(start_peer: StartPeer, rig: Rig, outcome: Outcome) -> None:
    urls, (one, _) = await start_peers(start_peer, 2)
    cluster = await rig(urls, balance="ordered", ejection=EJECTION)
    for _ in range(10):
        await use(cluster, outcome)
        assert await use(cluster, "error" if outcome == "ok" else "abandoned") == one
    assert rig.seen.turns == []
    assert rig.seen.requests == ({(one, "ok"): 10, (one, "error"): 10} if outcome == "ok" else {})


async def test_a_kept_connection_that_had_ended_says_nothing_of_its_endpoint(start_peer: StartPeer, rig: Rig) -> None:
    urls, (one, _) = await start_peers(start_peer, 2)
    cluster = await rig(urls, balance="ordered", ejection=EJECTION)
    await ask(cluster)
    for _ in range(5):
        lease = await cluster.acquire()
        assert lease.connection.reused
        cluster.release(lease, "unreachable")
    assert rig.seen.turns == []
    assert rig.seen.requests[one, "unreachable"] == 5


async def test_D10_the_only_endpoint_is_never_ejected(start_peer: StartPeer, rig: Rig) -> None:
    urls, (one,) = await start_peers(start_peer, 1)
    cluster = await rig(urls, ejection=EJECTION)
    await fail(cluster, 20)
    assert await ask(cluster) == one
    assert rig.seen.turns == []


async def test_D10_all_may_be_out_where_max_share_allows_it(start_peer: StartPeer, rig: Rig) -> None:
    urls, _ = await start_peers(start_peer, 2)
    rules = model.Ejection(failures=2, max_share=Share(1))
    cluster = await rig(urls, ejection=rules, attempts=1, patience=60)
    await fail(cluster, 4)
    with pytest.raises(NoneAvailable, match="no endpoint available") as out:
        await cluster.acquire()
    assert not isinstance(out.value, Full)
    rig.clock.now += 30
    await ask(cluster)


@pytest.mark.parametrize("seed", range(8))
async def test_D10_never_more_than_max_share_are_out_whatever_happens(start_peer: StartPeer, rig: Rig, seed: int) -> None:
    chance = random.Random(seed)
    count, share = chance.choice([(1, 0.5), (2, 0.5), (3, 0.5), (4, 0.25), (5, 0.6), (3, 0.1)])
    peer = await start_peer(Wallet())
    rules = model.Ejection(failures=2, interval=Duration(10), duration=Duration(30), max_share=Share(share))
    cluster = await rig([peer.url] * count, ejection=rules)
    for _ in range(600):
        lease = await cluster.acquire()
        cluster.release(lease, chance.choice(["ok", *FAILED, *FAILED]))
        rig.clock.now += chance.random() * 4
        out = sum(not cluster.is_in(member) for member in cluster.members)
        assert out <= share * count
    assert bool(rig.seen.turns) == (int(share * count) > 0)


# Health checks.


async def test_D10_all_endpoints_out_and_back(start_peer: StartPeer, rig: Rig) -> None:
    wallets = [Wallet(), Wallet()]
    peers = [await start_peer(wallet) for wallet in wallets]
    one, other = names(peers)
    cluster = await rig([peer.url for peer in peers], check=CHECK, attempts=1, patience=60)

    await until(lambda: len(rig.pulse.slept) == 2)
    for wallet in wallets:
        wallet.answer = DOWN
    await rig.pulse.turn(2)
    assert {await ask(cluster) for _ in range(2)} == {one, other}, "one bad check is not enough"
    await rig.pulse.turn(2)
    assert sorted(rig.seen.turns) == sorted((name, "unhealthy", "health check: status 503") for name in (one, other))
    with pytest.raises(NoneAvailable):
        await cluster.acquire()
    assert not any(endpoint.healthy for endpoint in cluster.status().endpoints)
    wallets[1].answer = OK
    await rig.pulse.turn(2, rounds=2)
    assert rig.seen.turns[-1] == (other, "healthy", "health check passed")
    assert {await ask(cluster) for _ in range(4)} == {other}
    wallets[0].answer = OK
    await rig.pulse.turn(2, rounds=2)
    assert {await ask(cluster) for _ in range(4)} == {one, other}


async def test_D10_one_that_flaps_is_out_while_it_is_down(start_peer: StartPeer, rig: Rig, tmp_path: Path) -> None:
    path = tmp_path / "flapping.sock"
    urls, (steady,) = await start_peers(start_peer, 1)
    flapping = f"unix:{path}"
    cluster = await rig([flapping, *urls], balance="ordered", check=CHECK, attempts=1)

    await until(lambda: len(rig.pulse.slept) == 2)
    for _ in range(3):
        assert await ask(cluster) == steady, "tried elsewhere while no check has found out"
        await rig.pulse.turn(2, rounds=2)
        repeats = rig.seen.repeats
        assert await ask(cluster) == steady
        assert rig.seen.repeats == repeats, "known to be out"
        path.unlink(missing_ok=True)
        peer = Peer(Wallet())
        await peer.start(path=path)
        await rig.pulse.turn(2, rounds=2)
        assert await ask(cluster) == flapping
        await peer.stop()
        await until(lambda: cluster.members[0].pool.open == 0)
    assert [state for name, state, _ in rig.seen.turns if name == flapping] == ["unhealthy", "healthy"] * 3


async def test_D10_unhealthy_ones_count_among_those_that_are_out(start_peer: StartPeer, rig: Rig) -> None:
    """Else the last healthy one could be ejected."""
    sick = Wallet(DOWN)
    sick_peer = await start_peer(sick)
    urls, (good,) = await start_peers(start_peer, 1)
    cluster = await rig([sick_peer.url, *urls], check=CHECK, ejection=EJECTION)
    await until(lambda: len(rig.pulse.slept) == 2)
    await rig.pulse.turn(2)
    await fail(cluster, 10)
    assert await ask(cluster) == good
    assert [state for _, state, _ in rig.seen.turns] == ["unhealthy"]


async def test_D10_one_that_is_unhealthy_already_is_not_ejected_too(start_peer: StartPeer, rig: Rig) -> None:
    """Else it would stay out for the time of an ejection after it has become healthy."""
    sick = Wallet(DOWN)
    peer = await start_peer(sick)
    urls, _ = await start_peers(start_peer, 1)
    ejection = model.Ejection(failures=2, max_share=Share(1))
    cluster = await rig([peer.url, *urls], check=CHECK, ejection=ejection, balance="ordered")
    leases = [await cluster.acquire() for _ in range(2)]
    await until(lambda: len(rig.pulse.slept) == 2)
    await rig.pulse.turn(2)
    for lease in leases:
        cluster.release(lease, "error")
    sick.answer = OK
    await rig.pulse.turn(2, rounds=2)
    assert [state for _, state, _ in rig.seen.turns] == ["unhealthy", "healthy"]
    assert await ask(cluster) == f"127.0.0.1:{peer.port}"


async def test_one_that_becomes_healthy_serves_those_who_wait(start_peer: StartPeer, rig: Rig) -> None:
    sick = Wallet(DOWN)
    peer = await start_peer(sick)
    urls, _ = await start_peers(start_peer, 1)
    check = model.HealthCheck(path="/", healthy=1, unhealthy=1)
    cluster = await rig([peer.url, *urls], check=check, limit=2, patience=60)
    await until(lambda: len(rig.pulse.slept) == 2)
    held = [await cluster.acquire() for _ in range(2)]
    waiting = [asyncio.create_task(cluster.acquire()) for _ in range(2)]
    await until(lambda: cluster.status().waiting == 2)
    sick.answer = OK
    rig.pulse.beat(2)
    assert [(await task).endpoint.name for task in waiting] == names([peer]) * 2
    assert len(held) == 2


async def test_a_closed_cluster_checks_no_more_and_keeps_no_connection(start_peer: StartPeer, rig: Rig) -> None:
    wallet = Wallet()
    wallet.hangs = True
    peer = await start_peer(wallet)
    async with AsyncExitStack() as stack:
        own = Rig(stack)
        cluster = await own([peer.url], check=CHECK)
        await until(lambda: len(wallet.asked) == 1)
        used = await cluster.acquire()
    assert cluster.members[0].pool.open == 0
    assert own.pulse.slept == []
    cluster.release(used, "abandoned")
    with pytest.raises(Unreachable, match="pool closed"):
        await cluster.acquire()


async def test_checks_that_end_by_a_fault_are_reported(start_peer: StartPeer) -> None:
    class Broken(Seen):
        def turned(self, endpoint: str, state: str, reason: str) -> None:
            raise RuntimeError("broken")

    peer = await start_peer(Wallet(DOWN))
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context))
    pool = Pool(Endpoint.parse(peer.url), idle=20, age=600, connect_timeout=5)
    check = model.HealthCheck(path="/", unhealthy=1)
    member = Member(pool, ejection=EJECTION, health=Health(healthy=1, unhealthy=1))
    async with Cluster("wallet", [member], observer=Broken(), balance=RoundRobin(), ejection=EJECTION, health_check=check):
        await until(lambda: bool(reported))
    assert str(reported[0]["exception"]) == "broken"


async def test_a_status_is_a_value_of_its_moment(start_peer: StartPeer, rig: Rig) -> None:
    urls, _ = await start_peers(start_peer, 1)
    cluster = await rig(urls)
    before = cluster.status()
    lease = await cluster.acquire()
    during = cluster.status()
    cluster.release(lease, "error")
    after = cluster.status().endpoints[0]
    assert [(each.endpoints[0].in_flight, each.endpoints[0].last_failure) for each in (before, during)] == [(0, None), (1, None)]
    assert (after.in_flight, after.idle, after.last_failure, after.healthy) == (0, 1, "error", True)
