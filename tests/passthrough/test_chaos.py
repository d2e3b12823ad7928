"""Clients and upstreams that do anything at any time: whatever happens, nothing is left behind, sent twice, or a bug."""

import asyncio
import gc
import random
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from gateway.config import Duration
from tests.passthrough.rig import Rig, StartRig
from tests.passthrough.test_tunnel import ASK, SWITCH
from tests.upstream.peer import Call, StartPeer, until

REQUESTS = (
    b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /a HTTP/1.0\r\nHost: a\r\n\r\n",
    b"HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000,
    b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"5000\r\n" + b"x" * 0x5000 + b"\r\n0\r\n\r\n",
    b"PUT /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
    ASK + b"\x82\x85maskhello" * 20,
)
ANSWERS = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 413 Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"garbage",
    SWITCH + b"\x82\x05hello",
)


def upstream_of(choice: random.Random) -> Callable[[Call], Awaitable[None]]:
    async def script(call: Call) -> None:
        with suppress(asyncio.LimitOverrunError, OSError, AttributeError):  # of a connection that has just ended
            await misbehave(call)

    async def misbehave(call: Call) -> None:
        while True:
            if choice.random() < 0.8:
                await call.read_head()
            if choice.random() < 0.3:
                await call.reader.read(choice.choice((10, 100_000)))
            answer = choice.choice(ANSWERS)
            cut = choice.randrange(len(answer)) if choice.random() < 0.3 else len(answer)
            call.write(answer[:cut])
            await asyncio.sleep(choice.choice((0, 0, 0.001, 0.02)))
            ending = choice.random()
            if ending < 0.15:
                call.reset()
                return
            if ending < 0.4:
                return
            if ending < 0.5:
                await call.read_to_end()
                return

    return script


async def client(rig: Rig, choice: random.Random, numbers: Iterator[int]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    with suppress(ConnectionError, TimeoutError, RuntimeError):  # RuntimeError: uvloop's word for a connection that has ended
        for _ in range(choice.randint(1, 3)):
            request = choice.choice(REQUESTS).replace(b"/a ", b"/a?%d " % next(numbers))
            cut = choice.randrange(len(request)) if choice.random() < 0.25 else len(request)
            writer.write(request[: cut // 2])
            await asyncio.sleep(choice.choice((0, 0.001, 0.01)))
            writer.write(request[cut // 2 : cut])
            if choice.random() < 0.8:
                async with asyncio.timeout(choice.choice((0.001, 0.02, 0.3))):
                    await reader.read(choice.choice((1, 1000, 1_000_000)))
    if choice.random() < 0.5:
        writer.transport.abort()
    writer.close()


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize("seed", range(4))
async def test_nothing_is_left_behind(start_rig: StartRig, start_peer: StartPeer, seed: int) -> None:
    choice, numbers = random.Random(seed), count()
    peer = await start_peer(upstream_of(choice))
    times = {"response_timeout": Duration(0.2), "idle_timeout": Duration(0.2)}
    rig = await start_rig(peer.url, settings=times)
    tasks, files = len(asyncio.all_tasks()), open_files()
    for _ in range(4):
        await asyncio.gather(*(client(rig, choice, numbers) for _ in range(50)))
    await until(lambda: not rig.edge.connections and not rig.front.in_flight and not rig.tunnels)
    assert rig.log.calls == []
    assert rig.count("gateway_connections") == 0
    assert rig.count("gateway_in_flight_requests", route="/") == 0
    await peer.stop()
    for pool in rig.pools.values():
        await pool.close()
    await until(lambda: not any(pool.open for pool in rig.pools.values()))
    await until(lambda: len(asyncio.all_tasks()) <= tasks)
    gc.collect()
    await until(lambda: open_files() <= files)
    assert all(line["status"] != 500 for line in rig.lines.lines)
    posted = Counter(number for call in peer.calls for number in re.findall(rb"POST /a\?(\d+) ", call.received))
    assert max(posted.values()) == 1, "what is not idempotent is not sent twice"
