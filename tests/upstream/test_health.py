import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.model import HealthCheck
from gateway.config.values import Duration
from gateway.upstream import Endpoint, Pool
from gateway.upstream.health import Checker, Health
from tests.upstream.clusters import OK, Pulse, Wallet, refusing
from tests.upstream.peer import Call, StartPeer, until


@pytest.mark.parametrize(
    ("results", "states"),
    [
        pytest.param("---", "111", id="too-few-bad-ones"),
        pytest.param("----", "1110", id="enough-bad-ones"),
        pytest.param("---+----", "11111110", id="a-good-one-between"),
        pytest.param("----++", "111001", id="back-after-two"),
        pytest.param("----+-+-++", "1110000001", id="a-bad-one-between"),
        pytest.param("----++---+----", "11100111111110", id="all-over-again"),
    ],
)
def test_so_many_in_a_row_change_the_state(results: str, states: str) -> None:
    health = Health(healthy=2, unhealthy=4)
    seen = []
    for result in results:
        before = health.is_healthy
        changed = health.observe(passed=result == "+")
        assert changed == (health.is_healthy != before)
        seen.append("1" if health.is_healthy else "0")
    assert "".join(seen) == states


@given(st.integers(1, 4), st.integers(1, 4), st.lists(st.booleans(), max_size=60))
def test_the_state_is_that_of_the_last_full_row(healthy: int, unhealthy: int, results: list[bool]) -> None:
    health, expected = Health(healthy=healthy, unhealthy=unhealthy), True
    for end, result in enumerate(results, start=1):
        health.observe(passed=result)
        row = healthy if result else unhealthy
        if results[max(0, end - row) : end] == [result] * row:
            expected = result
        assert health.is_healthy == expected


class Results:
    """What a checker said, and the pulse that makes it check again."""

    def __init__(self) -> None:
        self.pulse = Pulse()
        self.all: list[str | None] = []

    async def next(self) -> str | None:
        """Wait for the result of the check that is under way, and start the next one."""
        count = len(self.all) + 1
        await until(lambda: len(self.all) >= count and len(self.pulse.slept) >= count)
        self.pulse.beat()
        return self.all[count - 1]


@asynccontextmanager
async def checking(
    url: str, *, path: str = "/healthz", timeout: float = 5, chance: Callable[[], float] = lambda: 0.5, pool: Pool | None = None
) -> AsyncIterator[Results]:
    results = Results()
    pool = pool or Pool(Endpoint.parse(url), idle=20, age=600, connect_timeout=5)
    check = HealthCheck(path=path, interval=Duration(5), timeout=Duration(timeout))
    task = asyncio.create_task(Checker(pool, check, results.all.append, sleep=results.pulse, chance=chance).run())
    yield results
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await pool.close()
    assert pool.open == 0


@pytest.mark.parametrize(
    ("status", "wrong"),
    [
        (200, None),
        (204, None),
        (301, None),
        (399, None),
        (400, "health check: status 400"),
        (404, "health check: status 404"),
        (503, "health check: status 503"),
    ],
)
async def test_statuses_from_200_to_399_are_healthy(start_peer: StartPeer, status: int, wrong: str | None) -> None:
    peer = await start_peer(Wallet(b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\nhi" % status))
    async with checking(peer.url) as results:
        assert await results.next() == wrong


async def test_interim_answers_are_skipped_and_the_body_is_not_read(start_peer: StartPeer) -> None:
    peer = await start_peer(Wallet(b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\nbegin"))
    async with checking(peer.url) as results:
        assert await results.next() is None


async def test_each_check_is_a_plain_get_on_a_connection_of_its_own(start_peer: StartPeer) -> None:
    peer = await start_peer(Wallet())
    async with checking(peer.url, path="/live?deep=1") as results:
        assert [await results.next() for _ in range(3)] == [None] * 3
    request = f"GET /live?deep=1 HTTP/1.1\r\nHost: 127.0.0.1:{peer.port}\r\nUser-Agent: alipayplus-gateway\r\nConnection: close\r\n\r\n"
    assert [call.received for call in peer.calls[:3]] == [request.encode()] * 3


async def test_a_check_takes_no_kept_connection_and_keeps_none(start_peer: StartPeer) -> None:
    pool = Pool(Endpoint.parse((await start_peer(Wallet())).url), idle=20, age=600, connect_timeout=5)
    kept = await pool.acquire()
    pool.release(kept)
    async with checking("", pool=pool) as results:
        await results.next()
        assert pool.idle == 1
        assert await pool.acquire() is kept


async def drip(call: Call) -> None:
    await call.read_request()
    call.write(b"HTTP/1.1 200 OK\r\n")
    await call.read_to_end()


async def hang(call: Call) -> None:
    await call.read_to_end()


async def junk(call: Call) -> None:
    await call.read_request()
    call.write(b"SSH-2.0-OpenSSH\r\n")
    await call.read_to_end()


async def leave(call: Call) -> None:
    await call.read_request()


@pytest.mark.parametrize(
    ("script", "wrong"),
    [
        pytest.param(hang, "health check: no answer in time", id="D10-hangs"),
        pytest.param(drip, "health check: no answer in time", id="D10-stops-in-its-head"),
        pytest.param(junk, "health check: not HTTP/1.1", id="D10-no-http"),
        pytest.param(leave, "health check: closed before an answer", id="D10-leaves"),
    ],
)
async def test_what_is_wrong_is_told_in_fixed_words(start_peer: StartPeer, script: Callable[[Call], Awaitable[None]], wrong: str) -> None:
    peer = await start_peer(script)
    async with checking(peer.url, timeout=0.05 if "time" in wrong else 5) as results:
        assert await results.next() == wrong


async def test_D10_a_refused_connection_is_a_bad_check() -> None:
    with refusing() as url:
        async with checking(url) as results:
            assert await results.next() == "health check: connection refused"
            assert await results.next() == "health check: connection refused"


async def test_the_first_check_is_at_once_and_the_others_come_at_intervals_that_differ_a_little(start_peer: StartPeer) -> None:
    chances = iter([0.0, 0.5, 1.0, 0.0, 0.0, 0.0])
    peer = await start_peer(Wallet(OK))
    async with checking(peer.url, chance=lambda: next(chances)) as results:
        for _ in range(3):
            await results.next()
        assert results.pulse.slept[:3] == pytest.approx([4.5, 5.0, 5.5])
