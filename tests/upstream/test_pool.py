import asyncio
import os
import random
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial

import pytest

from gateway.config.model import Tls
from gateway.upstream import Connection, Endpoint, Pool, Unreachable, UpstreamError, request_head
from gateway.upstream.addresses import Address
from gateway.upstream.dial import Dialer
from gateway.upstream.pool import MOMENT
from gateway.upstream.tls import client_context
from gateway.upstream.wants import AT_ONCE
from tests.upstream.certificates import Authority, Pair
from tests.upstream.peer import Call, Peer, StartPeer, until

GET = request_head("GET", b"/", [(b"Host", b"peer")])
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


MakePool = Callable[..., Pool]


@pytest.fixture
async def make_pool() -> AsyncIterator[MakePool]:
    pools: list[Pool] = []

    def make(peer: Peer, *, idle: float = 20, age: float = 600, limit: int | None = None, clock: Callable[[], float] | None = None) -> Pool:
        pool = Pool(Endpoint.parse(peer.url), idle=idle, age=age, connect_timeout=5, limit=limit, clock=clock or Clock())
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        await pool.close()
        assert (pool.open, pool.idle) == (0, 0)


async def answer_all(call: Call) -> None:
    while True:
        await call.read_request()
        call.write(OK)


async def ask(pool: Pool) -> Connection:
    connection = await pool.acquire()
    try:
        await connection.exchange(GET, limit=10, method="GET")
    finally:
        pool.release(connection)
    return connection


async def test_a_kept_connection_is_used_again_the_newest_first(start_peer: StartPeer, make_pool: MakePool) -> None:
    pool = make_pool(await start_peer(answer_all))
    first, second = await pool.acquire(), await pool.acquire()
    assert (first.reused, pool.open, pool.idle) == (False, 2, 0)
    pool.release(second)
    pool.release(first)
    assert pool.idle == 2
    assert await pool.acquire() is first
    assert first.reused
    assert await pool.acquire() is second
    assert pool.idle == 0
    pool.release(first)
    pool.release(second)


async def many_want(pool: Pool) -> "list[asyncio.Task[Connection]]":
    """Let as many want a connection as make one at once, and two more, who wait when this returns."""
    tasks = [asyncio.create_task(pool.acquire()) for _ in range(AT_ONCE + 2)]
    await asyncio.sleep(0)
    return tasks


async def given(pool: Pool, tasks: "list[asyncio.Task[Connection]]", freed: Connection) -> list[Connection]:
    """Let a connection come free, and return those that all got who wanted one; they are released again."""
    pool.release(freed)
    connections = [await task for task in tasks]
    for connection in connections:
        pool.release(connection)
    return connections


async def test_who_waits_gets_a_connection_that_comes_free(start_peer: StartPeer, make_pool: MakePool) -> None:
    pool = make_pool(await start_peer(answer_all))
    kept = await pool.acquire()
    tasks = await many_want(pool)
    connections = await given(pool, tasks, kept)
    assert connections[AT_ONCE] is kept
    assert len(set(connections)) == pool.open == AT_ONCE + 2
    assert [connection.reused for connection in connections] == [False] * AT_ONCE + [True, False]


async def test_who_waits_makes_one_when_another_has_ended(start_peer: StartPeer, make_pool: MakePool) -> None:
    pool = make_pool(await start_peer(answer_all), limit=0)
    ended = [await pool.acquire() for _ in range(3)]
    tasks = await many_want(pool)
    assert pool._wants.any
    for connection in ended:
        pool.release(connection)
    assert not pool._wants.any, "nothing comes free where none is kept"
    for task in tasks:
        pool.release(await task)


async def test_C4_who_waits_gets_none_that_is_too_old(start_peer: StartPeer, make_pool: MakePool) -> None:
    clock = Clock()
    pool = make_pool(await start_peer(answer_all), age=60, clock=clock)
    old = await pool.acquire()
    clock.now += 60
    tasks = await many_want(pool)
    assert old not in await given(pool, tasks, old)


async def test_who_waits_gets_none_on_which_something_has_come(start_peer: StartPeer, make_pool: MakePool) -> None:
    peer = await start_peer(answer_all)
    pool = make_pool(peer)
    ended = await pool.acquire()
    await until(lambda: bool(peer.calls))
    tasks = await many_want(pool)
    os.write(peer.calls[0].writer.get_extra_info("socket").fileno(), b"what nobody has asked for")  # the loop has not read it yet
    assert ended not in await given(pool, tasks, ended)


async def test_who_waits_is_told_that_the_pool_is_closed(start_peer: StartPeer, make_pool: MakePool) -> None:
    pool = make_pool(await start_peer(answer_all))
    tasks = await many_want(pool)
    await pool.close()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(outcome, Unreachable)


async def test_C4_a_connection_is_not_used_after_its_idle_limit(start_peer: StartPeer, make_pool: MakePool) -> None:
    clock = Clock()
    pool = make_pool(await start_peer(answer_all), idle=20, clock=clock)
    first = await ask(pool)
    clock.now += 19.9
    assert await ask(pool) is first
    clock.now += 20
    assert await ask(pool) is not first
    assert first.transport.is_closing()


async def test_C4_a_connection_is_not_used_after_its_age_limit(start_peer: StartPeer, make_pool: MakePool) -> None:
    clock = Clock()
    pool = make_pool(await start_peer(answer_all), idle=20, age=60, clock=clock)
    first = await ask(pool)
    for _ in range(5):
        clock.now += 11
        assert await ask(pool) is first
    clock.now += 5
    assert await ask(pool) is not first


async def test_a_connection_that_was_used_lately_stays_when_others_are_closed_in_time(start_peer: StartPeer, make_pool: MakePool) -> None:
    clock = Clock()
    pool = make_pool(await start_peer(answer_all), idle=20, clock=clock)
    long_ago, lately = [await pool.acquire() for _ in range(2)]
    pool.release(long_ago)
    clock.now += 15
    pool.release(lately)
    clock.now += 5
    pool._close_worn()
    assert long_ago.transport.is_closing()
    assert await ask(pool) is lately


async def test_idle_connections_are_closed_in_time_though_nobody_comes(start_peer: StartPeer) -> None:
    ended = asyncio.Event()

    async def script(call: Call) -> None:
        await call.read_request()
        call.write(OK)
        await call.read_to_end()
        ended.set()

    peer = await start_peer(script)
    pool = Pool(Endpoint.parse(peer.url), idle=0.05, age=600, connect_timeout=5)
    for _ in range(2):
        await ask(pool)
        await until(lambda: pool.open == 0)
        await ended.wait()
        assert pool.idle == 0
        ended.clear()
    await pool.close()


async def test_C4_a_connection_that_the_peer_closes_leaves_the_pool_at_once(start_peer: StartPeer, make_pool: MakePool) -> None:
    async def answer_one(call: Call) -> None:
        await call.read_request()
        call.write(OK)

    pool = make_pool(await start_peer(answer_one))
    for _ in range(5):
        await ask(pool)
        await until(lambda: pool.idle == 0 and pool.open == 0)


@pytest.mark.parametrize("last", [b"", b"x", OK])
async def test_C4_what_the_peer_did_in_the_last_moment_is_noticed_before_the_loop_tells(
    start_peer: StartPeer, make_pool: MakePool, last: bytes
) -> None:
    answered = asyncio.Event()

    async def script(call: Call) -> None:
        await call.read_request()
        call.write(OK)
        await answered.wait()
        with socket.socket(fileno=os.dup(call.writer.get_extra_info("socket").fileno())) as sock:
            if last:
                sock.send(last)
            else:
                sock.shutdown(socket.SHUT_WR)
        # From here to the acquire the loop does not look at sockets: both run in one turn.
        noticed.append((await pool.acquire()) is not first)
        await call.read_to_end()

    pool = make_pool(await start_peer(script))
    noticed: list[bool] = []
    first = await ask(pool)
    answered.set()
    await until(lambda: bool(noticed))
    assert noticed == [True]


async def test_C4_a_connection_whose_peer_does_not_take_the_rest_of_a_request_is_not_used_again(
    start_peer: StartPeer, authority: Authority, server_pair: Pair
) -> None:
    body, closed = bytes(16 << 20), asyncio.Event()

    async def script(call: Call) -> None:
        await call.read_head()
        call.write(OK)
        await closed.wait()

    peer = await start_peer(script, tls=server_pair.server_context())
    tls = client_context(Tls(ca=authority.ca))
    pool = Pool(Endpoint.parse(f"https://localhost:{peer.port}", tls=tls), idle=20, age=600, connect_timeout=5)
    connection = await pool.acquire()
    head = request_head("POST", b"/", [(b"Host", b"peer"), (b"Content-Length", b"%d" % len(body))])
    assert (await connection.exchange(head, body, limit=10)).body == b"hi"

    def is_given_up() -> bool:
        pool.release(connection)
        return pool.take() is None

    await until(is_given_up)  # at first, the system takes some for the peer
    closed.set()
    await pool.close()


async def test_closing_ends_a_lookup_that_somebody_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = asyncio.Event()

    async def resolve(host: str, port: int) -> Sequence[Address]:
        asked.set()
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr("gateway.upstream.pool.Dialer", partial(Dialer, resolve=resolve))
    pool = Pool(Endpoint.parse("http://peer"), idle=20, age=600, connect_timeout=5)
    waiting = asyncio.create_task(pool.acquire())
    await asked.wait()
    await pool.close()
    with pytest.raises(Unreachable, match="no connection"):  # not: connect timeout
        await waiting


async def test_F7_a_kept_connection_is_not_used_again_when_its_name_leads_elsewhere(
    start_peer: StartPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = await start_peer(answer_all), await start_peer(answer_all)
    leads_to, asked = old, asyncio.Event()

    async def resolve(host: str, port: int) -> Sequence[Address]:
        asked.set()
        return [(socket.AF_INET, ("127.0.0.1", leads_to.port))]

    async def is_renewed() -> None:
        for _ in range(2):  # the first one may have begun before
            asked.clear()
            await asyncio.wait_for(asked.wait(), 10)

    monkeypatch.setattr("gateway.upstream.pool.Dialer", partial(Dialer, resolve=resolve))
    monkeypatch.setattr("gateway.upstream.pool.TTL", 0.01)
    pool = Pool(Endpoint.parse("http://peer"), idle=20, age=600, connect_timeout=5)
    kept = await ask(pool)
    await is_renewed()
    busy = await pool.acquire()
    assert busy is kept
    leads_to = new
    await is_renewed()
    await busy.exchange(GET, limit=10, method="GET")
    pool.release(busy)
    assert await ask(pool) is not kept
    assert (len(old.calls), len(new.calls)) == (1, 1)
    await until(lambda: pool.open == 1)
    await pool.close()


async def test_only_so_many_are_kept_for_longer_than_a_moment(
    start_peer: StartPeer, make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.upstream.pool.MOMENT", 0.05)
    pool = make_pool(await start_peer(answer_all), limit=2, clock=time.monotonic)
    for _ in range(2):
        connections = [await pool.acquire() for _ in range(5)]
        for connection in connections:
            pool.release(connection)
        assert pool.idle == 5
        await until(lambda: pool.open == 2)
        assert pool.idle == 2
    assert [await pool.acquire(), await pool.acquire()] == [connections[4], connections[3]]
    for connection in connections[3:]:
        pool.release(connection)


async def test_where_none_is_to_be_kept_none_is_for_a_moment(start_peer: StartPeer, make_pool: MakePool) -> None:
    pool = make_pool(await start_peer(answer_all), limit=0)
    assert await ask(pool) is not await ask(pool)
    assert pool.idle == 0


async def test_what_is_used_in_waves_is_not_connected_again_for_each(start_peer: StartPeer, make_pool: MakePool) -> None:
    clock = Clock()
    pool = make_pool(await start_peer(answer_all), limit=2, clock=clock)
    first = {await pool.acquire() for _ in range(5)}
    for _ in range(3):
        for connection in first:
            pool.release(connection)
        clock.now += MOMENT / 2
        pool._close_surplus()
        assert {await pool.acquire() for _ in range(5)} == first
    for connection in first:
        pool.release(connection)
    clock.now += MOMENT
    pool._close_surplus()
    assert pool.idle == 2


async def test_what_may_not_be_used_again_is_closed(start_peer: StartPeer, make_pool: MakePool) -> None:
    async def script(call: Call) -> None:
        await call.read_request()
        call.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi")
        await call.read_to_end()

    pool = make_pool(await start_peer(script))
    first = await ask(pool)
    assert pool.idle == 0
    assert await ask(pool) is not first
    for is_sent in (False, True):
        started = await pool.acquire()
        started.start("GET")
        if is_sent:
            started.send(GET)
            started.finish()
        pool.release(started)
        assert pool.idle == 0
        assert started.transport.is_closing()


async def test_an_unused_connection_is_kept(start_peer: StartPeer, make_pool: MakePool) -> None:
    pool = make_pool(await start_peer(answer_all))
    connection = await pool.acquire()
    pool.release(connection)
    assert await pool.acquire() is connection
    pool.release(connection)


async def test_a_closed_pool_closes_all_and_gives_out_none(start_peer: StartPeer, make_pool: MakePool) -> None:
    pool = make_pool(await start_peer(answer_all))
    used = await pool.acquire()
    await ask(pool)
    await pool.close()
    assert pool.open == 0
    with pytest.raises(Unreachable):
        await used.exchange(GET, limit=10, method="GET")
    pool.release(used)
    with pytest.raises(Unreachable, match="pool closed"):
        await pool.acquire()
    await pool.close()


@pytest.mark.parametrize(("is_known", "reason"), [(False, "no connection"), (True, "pool closed")], ids=["looked-up", "connected"])
async def test_a_connection_that_is_being_made_while_the_pool_closes_is_closed_too(
    start_peer: StartPeer, make_pool: MakePool, reason: str, *, is_known: bool
) -> None:
    pool = make_pool(await start_peer(answer_all))
    if is_known:
        await ask(pool)
    task = asyncio.create_task(pool.acquire(fresh=True))
    await asyncio.sleep(0)
    await pool.close()
    with pytest.raises(Unreachable, match=reason):
        await task
    await until(lambda: pool.open == 0)


def unreliable(seed: random.Random) -> Callable[[Call], Awaitable[None]]:
    """Answer with the target of each request, but close, reset or add bytes now and then."""

    async def script(call: Call) -> None:
        while True:
            target = (await call.read_request()).split(b" ")[1]
            kind = seed.random()
            if kind < 0.1:
                return
            if kind < 0.2:
                call.reset()
                return
            for piece in (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(target), target, b"extra" if kind < 0.3 else b""):
                call.write(piece)
                await asyncio.sleep(seed.random() / 500)

    return script


async def test_nobody_gets_anothers_answer_and_nothing_is_left_over(start_peer: StartPeer, make_pool: MakePool) -> None:
    seed = random.Random(11)
    pool = make_pool(await start_peer(unreliable(seed)))
    answered: list[tuple[bytes, bytes]] = []
    failed: set[str] = set()

    async def worker(number: int) -> None:
        for turn in range(20):
            target = b"/%d/%d" % (number, turn)
            connection = await pool.acquire()
            try:
                async with asyncio.timeout(seed.choice([0.001, 5])):
                    answer = await connection.exchange(request_head("GET", target, []), limit=100, method="GET")
                answered.append((target, answer.body))
            except TimeoutError:
                failed.add("timeout")
            except UpstreamError as error:
                failed.add(error.reason)
            finally:
                pool.release(connection)

    tasks = [asyncio.create_task(worker(number)) for number in range(30)]
    for task in tasks[:5]:
        await asyncio.sleep(seed.random() / 100)
        task.cancel()
    await asyncio.gather(*tasks[:5], return_exceptions=True)
    await asyncio.gather(*tasks[5:])
    assert len(answered) > 50
    assert all(target == body for target, body in answered)
    # The last: the extra bytes came when the next request was on its way.
    assert failed <= {"timeout", "connection reset", "closed before an answer", "bytes after the answer", "not HTTP/1.1"}
    await until(lambda: pool.open == pool.idle)


async def test_cancelling_while_connecting_leaves_nothing_behind(start_peer: StartPeer, make_pool: MakePool) -> None:
    peer = await start_peer(answer_all)
    pool = make_pool(peer)
    for turns in range(12):
        task = asyncio.create_task(pool.acquire())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        result = (await asyncio.gather(task, return_exceptions=True))[0]
        if isinstance(result, Connection):
            pool.release(result)
    await until(lambda: pool.open == pool.idle)
    await pool.close()
    assert pool.open == 0
