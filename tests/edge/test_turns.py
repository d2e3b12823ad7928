import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import uvloop

from gateway.edge.turns import AT_ONCE, Turns
from tests.upstream.peer import until

CALL = b"POST /alipayplus/v1/sdkProxy HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"


class Loop:
    """A loop whose turns end when the test says."""

    def __init__(self) -> None:
        self.now = 100.0
        self.soon: list[Callable[[], object]] = []

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[[], object], /) -> None:
        self.soon.append(callback)

    def turn(self, lasted: float = 0.25) -> None:
        """End a turn that has lasted so many seconds, and do what was left to the next."""
        self.now += lasted
        callbacks, self.soon = self.soon, []
        for callback in callbacks:
            callback()


class Rig:
    def __init__(self) -> None:
        self.loop = Loop()
        self.turns = Turns(self.loop, now=self.loop.time)
        self.begun: list[tuple[int, float]] = []
        self.come = 0

    def requests(self, count: int) -> None:
        for number in range(self.come, self.come + count):
            self.turns.begin(partial(self._begin, number))
        self.come += count

    def _begin(self, number: int, waited: float) -> None:
        self.begun.append((number, waited))


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_few_requests_begin_at_once(rig: Rig) -> None:
    for _ in range(3):
        rig.requests(AT_ONCE)
        rig.loop.turn()
    assert rig.begun == [(number, 0.0) for number in range(3 * AT_ONCE)]
    assert rig.loop.soon == [], "without requests no turn is waited for"


def test_more_than_that_wait_for_the_next_turns_in_the_order_in_which_they_came(rig: Rig) -> None:
    rig.requests(2 * AT_ONCE + 3)
    assert rig.turns.waiting() == (AT_ONCE + 3, 0.0)
    rig.loop.turn()
    assert rig.turns.waiting() == (3, 0.25)
    rig.requests(2)
    assert len(rig.begun) == 2 * AT_ONCE, "nobody overtakes those who wait"
    rig.loop.turn()
    assert rig.turns.waiting() == (0, 0.0)
    waits = [0.0] * AT_ONCE + [0.25] * AT_ONCE + [0.5] * 3 + [0.25] * 2
    assert rig.begun == list(enumerate(waits))


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_turns_of_a_real_loop_take_as_many_each_however_long_they_last(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def begin() -> list[int]:
        loop = asyncio.get_running_loop()
        turns, begun, done = Turns(loop), [0], loop.create_future()

        def start(_waited: float) -> None:
            begun[-1] += 1
            if sum(begun) == 5 * AT_ONCE:
                done.set_result(None)

        def count() -> None:
            begun.append(0)
            if not done.done():
                loop.call_soon(count)

        loop.call_soon(count)
        for number in range(5 * AT_ONCE):
            turns.begin(start)
            now = loop.time()
            while number % 10 == 0 and loop.time() == now:
                pass
        await done
        return [each for each in begun if each]

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(begin()) == [AT_ONCE] * 5


async def test_a_request_that_waits_keeps_its_connection_and_its_wait_is_part_of_how_long_it_took(start_edge: Any) -> None:
    rig = Rig()
    edge = await start_edge(idle_timeout=0.1, turns=rig.turns)
    rig.requests(AT_ONCE)
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(CALL)
    await until(lambda: rig.turns.waiting()[0] > 0)
    await asyncio.sleep(0.3)  # longer than a connection may be idle
    edge.server.close_idle()
    rig.loop.turn(2.5)
    assert b'{"length":3}' in await reader.readuntil(b"}")
    writer.write(CALL)
    await reader.readuntil(b"}")
    assert [line["duration"] >= 2.5 for line in edge.lines.lines] == [True, False]
    assert await reader.read() == b"", "idle at last"
    writer.close()


@pytest.mark.parametrize(("path", "route"), [(b"/alipayplus/v1/sdkProxy", "sdk"), (b"/profile", "none")])
async def test_a_client_that_leaves_before_its_turn_is_not_served_but_recorded(start_edge: Any, path: bytes, route: str) -> None:
    rig = Rig()
    edge = await start_edge(turns=rig.turns)
    rig.requests(AT_ONCE)
    _, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(CALL.replace(b"/alipayplus/v1/sdkProxy", path))
    await until(lambda: rig.turns.waiting()[0] > 0)
    writer.transport.abort()
    await until(lambda: not edge.server.open)
    rig.loop.turn()
    await until(lambda: edge.lines.lines != [])
    (line,) = edge.lines.lines
    assert (line["route"], line["status"], line["reason"], line["bytes_in"]) == (route, 499, "client_abort", 3)
    assert line.get("result_code") == ("OVERLOADED" if route == "sdk" else None)
    assert line["duration"] < 10


async def test_F1_a_request_that_has_not_begun_when_all_ends_is_closed_and_recorded(start_edge: Any) -> None:
    rig = Rig()
    edge = await start_edge(turns=rig.turns)
    rig.requests(AT_ONCE)
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(CALL)
    await until(lambda: rig.turns.waiting()[0] > 0)
    await edge.server.shutdown(0.1)
    assert await reader.read() == b""
    writer.close()
    await until(lambda: not edge.server.open)
    (line,) = edge.lines.lines
    assert (line["route"], line["status"], line["reason"], line["bytes_in"]) == ("sdk", 0, "shutdown", 3)
    assert (line["result_code"], line["sent"]) == ("OVERLOADED", "not_sent")
    assert edge.count("gateway_requests_total", route="sdk", method="POST", status="0") == 1
