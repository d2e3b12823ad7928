import time
from collections import Counter
from pathlib import Path

import pytest

from gateway.upstream import ConnectionLost, Unreachable
from gateway.upstream.cluster import NoneAvailable
from gateway.upstream.retry import RetryBudget, may_repeat
from tests.upstream.clusters import EJECTION, GET, Rig, Wallet, ask, fail, refusing, start_peers
from tests.upstream.peer import Call, StartPeer

# Balancing.


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
