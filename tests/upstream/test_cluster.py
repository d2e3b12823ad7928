import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from gateway.config import model
from gateway.config.values import Duration, Share
from gateway.upstream import ConnectionLost, Endpoint, Pool, Unreachable
from gateway.upstream.balance import BALANCES, RoundRobin
from gateway.upstream.cluster import Cluster, Full, Lease, NoneAvailable, Outcome
from gateway.upstream.health import Health
from gateway.upstream.member import Member
from gateway.upstream.retry import RetryBudget, may_repeat
from tests.upstream.clusters import DOWN, GET, NO_EJECTION, OK, Clock, Pulse, Seen, Wallet, ask, names, refusing, use
from tests.upstream.peer import Call, Peer, StartPeer, until

EJECTION = model.Ejection(failures=2, interval=Duration(10), duration=Duration(30), max_share=Share(0.5))
CHECK = model.HealthCheck(path="/healthz", interval=Duration(5), timeout=Duration(5), healthy=2, unhealthy=2)
FAILED: tuple[Outcome, ...] = ("error", "timeout", "unreachable", "invalid")


class Rig:
    """Clusters with a clock, a pulse and an observer of the test's."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self.clock = Clock()
        self.pulse = Pulse()
        self.seen = Seen()

    async def __call__(
        self,
        urls: Sequence[str],
        *,
        balance: str = "round_robin",
        ejection: model.Ejection = NO_EJECTION,
        check: model.HealthCheck | None = None,
        weights: Sequence[int] = (),
        backups: Sequence[str] = (),
        limit: int | None = None,
        connect_timeout: float = 5,
        **options: Any,
    ) -> Cluster:
        members = [
            Member(
                Pool(Endpoint.parse(url), idle=20, age=600, connect_timeout=connect_timeout, clock=self.clock),
                ejection=ejection,
                weight=weight,
                backup=url in backups,
                limit=limit,
                health=Health(healthy=check.healthy, unhealthy=check.unhealthy) if check else None,
            )
            for url, weight in zip(urls, weights or [1] * len(urls), strict=True)
        ]
        cluster = Cluster(
            "wallet",
            members,
            observer=self.seen,
            balance=BALANCES[balance](),  # type: ignore[index]  # the test says one of them
            ejection=ejection,
            health_check=check,
            **{"clock": self.clock, "sleep": self.pulse, **options},
        )
        return await self._stack.enter_async_context(cluster)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    tasks = asyncio.all_tasks()
    async with AsyncExitStack() as stack:
        yield Rig(stack)
    await until(lambda: asyncio.all_tasks() <= tasks | {asyncio.current_task()})


async def fail(cluster: Cluster, times: int, outcome: Outcome = "error") -> None:
    for _ in range(times):
        await use(cluster, outcome)


async def start_peers(start_peer: StartPeer, count: int) -> tuple[list[str], list[str]]:
    peers = [await start_peer(Wallet()) for _ in range(count)]
    return [peer.url for peer in peers], names(peers)


# Balancing, and places.


async def test_requests_go_around_by_weight(start_peer: StartPeer, rig: Rig) -> None:
    urls, (one, other) = await start_peers(start_peer, 2)
    cluster = await rig(urls, weights=[3, 1])
    assert Counter([await ask(cluster) for _ in range(8)]) == {one: 6, other: 2}
    assert rig.seen.requests == {(one, "ok"): 6, (other, "ok"): 2}


async def test_the_one_with_the_fewest_requests_is_next(start_peer: StartPeer, rig: Rig) -> None:
    urls, (one, other) = await start_peers(start_peer, 2)
    cluster = await rig(urls, balance="least_requests")
    leases = [await cluster.acquire() for _ in range(6)]
    assert Counter(lease.endpoint.name for lease in leases) == {one: 3, other: 3}
    for lease in leases:
        if lease.endpoint.name == other:
            cluster.release(lease, "ok")
    assert [(await cluster.acquire()).endpoint.name for _ in range(3)] == [other] * 3


async def test_a_backup_serves_while_no_other_can(start_peer: StartPeer, rig: Rig) -> None:
    urls, (one, backup) = await start_peers(start_peer, 2)
    cluster = await rig(urls, backups=urls[1:], ejection=EJECTION)
    assert {await ask(cluster) for _ in range(4)} == {one}
    await fail(cluster, 2)
    assert {await ask(cluster) for _ in range(4)} == {backup}
    rig.clock.now += 30
    assert {await ask(cluster) for _ in range(4)} == {one}


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


@pytest.fixture
async def silent(start_peer: StartPeer) -> str:
    """A URL at which connections are accepted and TLS is never answered."""

    async def hang(call: Call) -> None:
        await call.read_to_end()

    return f"https://127.0.0.1:{(await start_peer(hang)).port}"


# Connecting.


async def test_D1_the_next_endpoint_is_tried_when_no_connection_can_be_made(start_peer: StartPeer, rig: Rig) -> None:
    urls, (good,) = await start_peers(start_peer, 1)
    with refusing() as dead:
        cluster = await rig([dead, *urls], balance="ordered", attempts=1)
        lease = await cluster.acquire()
        assert (lease.endpoint.name, len(lease.tried)) == (good, 1)
        assert not cluster.may_repeat(lease), "that was the one attempt more"
        cluster.release(lease, "ok")
        name = dead.removeprefix("http://")
        assert rig.seen.requests == {(name, "unreachable"): 1, (good, "ok"): 1}
        assert rig.seen.repeats == 1
        assert cluster.status().endpoints[0].last_failure == "connection refused"
        assert [endpoint.in_flight for endpoint in cluster.status().endpoints] == [0, 0]


@pytest.mark.parametrize("attempts", [0, 1, 2])
async def test_D1_no_more_endpoints_are_tried_than_there_are_attempts(start_peer: StartPeer, rig: Rig, attempts: int) -> None:
    urls, (good,) = await start_peers(start_peer, 1)
    with refusing() as dead, refusing() as dead_too:
        cluster = await rig([dead, dead_too, *urls], balance="ordered", attempts=attempts)
        if attempts == 2:
            assert (await cluster.acquire()).endpoint.name == good
        else:
            with pytest.raises(Unreachable, match="connection refused") as refused:
                await cluster.acquire()
            assert refused.value.endpoint == [dead, dead_too][attempts].removeprefix("http://")
        assert rig.seen.repeats == attempts


async def test_D1_the_only_endpoint_is_not_tried_twice_when_it_refuses(rig: Rig) -> None:
    with refusing() as dead:
        cluster = await rig([dead], attempts=3)
        with pytest.raises(Unreachable, match="connection refused") as refused:
            await cluster.acquire()
        assert not isinstance(refused.value, NoneAvailable)
        assert (rig.seen.repeats, sum(rig.seen.requests.values())) == (0, 1)


async def test_D1_one_that_does_not_shake_hands_in_time_is_passed_over(start_peer: StartPeer, rig: Rig, silent: str) -> None:
    urls, (good,) = await start_peers(start_peer, 1)
    cluster = await rig([silent, *urls], balance="ordered", attempts=1, connect_timeout=0.5)
    assert (await cluster.acquire()).endpoint.name == good


async def test_C1_a_timeout_for_all_is_shared_among_those_left(start_peer: StartPeer, rig: Rig, silent: str) -> None:
    urls, (good,) = await start_peers(start_peer, 1)
    cluster = await rig([silent, *urls], balance="ordered", attempts=1, clock=time.monotonic)  # it runs out while one connects
    assert (await cluster.acquire(timeout=1)).endpoint.name == good
    cluster = await rig([silent], attempts=1)
    with pytest.raises(Unreachable, match="connect timeout"):
        await cluster.acquire(timeout=0.05)
    assert rig.seen.requests[silent.removeprefix("https://"), "unreachable"] == 2


async def test_unix_sockets_and_addresses_are_members_alike(start_peer: StartPeer, rig: Rig, tmp_path: Path) -> None:
    path = tmp_path / "wallet.sock"
    await start_peer(Wallet(), path=path)
    urls, (good,) = await start_peers(start_peer, 1)
    cluster = await rig([f"unix:{path}", *urls])
    assert {await ask(cluster) for _ in range(2)} == {f"unix:{path}", good}


# Repeating.


async def leave_without_an_answer(call: Call) -> None:
    await call.read_request()


async def test_a_request_is_repeated_elsewhere_over_a_new_connection(start_peer: StartPeer, rig: Rig) -> None:
    bad = await start_peer(leave_without_an_answer)
    urls, (good,) = await start_peers(start_peer, 1)
    cluster = await rig([bad.url, *urls], balance="ordered", attempts=1)
    kept = await cluster.members[1].pool.acquire()
    cluster.members[1].pool.release(kept)
    lease = await cluster.acquire()
    with pytest.raises(ConnectionLost):
        await lease.connection.exchange(GET, limit=10, method="GET")
    cluster.release(lease, "error")
    assert may_repeat("GET", has_body=False, sent=lease.connection.sent, response_begun=False)
    assert cluster.may_repeat(lease)
    again = await cluster.acquire(after=lease)
    assert (again.endpoint.name, again.tried, again.connection.reused) == (good, (lease.member,), False)
    assert not cluster.may_repeat(again)
    assert rig.seen.repeats == 1


async def test_C4_the_only_endpoint_is_asked_again_over_a_new_connection(start_peer: StartPeer, rig: Rig) -> None:
    urls, (good,) = await start_peers(start_peer, 1)
    cluster = await rig(urls, attempts=2)
    lease = await cluster.acquire()
    cluster.release(lease, "error")
    assert cluster.may_repeat(lease)
    again = await cluster.acquire(after=lease)
    assert (again.endpoint.name, again.connection.reused) == (good, False)
    assert again.connection is not lease.connection
    cluster.release(again, "error")
    assert cluster.may_repeat(again)
    last = await cluster.acquire(after=again)
    assert len(last.tried) == 2
    assert not cluster.may_repeat(last)


async def test_no_more_is_repeated_than_the_budget_has(start_peer: StartPeer, rig: Rig) -> None:
    urls, _ = await start_peers(start_peer, 1)
    cluster = await rig(urls, attempts=1, budget=RetryBudget(0.25, clock=rig.clock))
    granted = 0
    for _ in range(200):
        lease = await cluster.acquire()
        cluster.release(lease, "error")
        granted += cluster.may_repeat(lease)
    assert granted == rig.seen.repeats == 10 + 50
    with refusing() as dead:
        cluster = await rig([dead, *urls], balance="ordered", attempts=1, budget=RetryBudget(0, clock=rig.clock))
        with pytest.raises(Unreachable):
            await cluster.acquire()


# Ejection.


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
