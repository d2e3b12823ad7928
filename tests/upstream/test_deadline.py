import asyncio
import gc
import weakref
from collections.abc import Callable

import pytest

from gateway.upstream.deadline import Deadline, within
from tests.upstream.peer import hold_up


async def test_it_is_reached_once() -> None:
    reached = asyncio.Event()
    deadline = Deadline()
    deadline.set(0.02, reached.set)
    await asyncio.wait_for(reached.wait(), 5)
    reached.clear()
    await asyncio.sleep(0.05)
    assert not reached.is_set()


async def test_it_moves_later_and_earlier() -> None:
    loop, reached = asyncio.get_running_loop(), asyncio.Event()
    deadline = Deadline()
    begun = loop.time()
    deadline.set(0.02, reached.set)
    deadline.set(0.2, reached.set)
    await asyncio.wait_for(reached.wait(), 5)
    assert loop.time() - begun >= 0.19
    reached.clear()
    deadline.set(60, reached.set)
    deadline.set(0.02, reached.set)
    await asyncio.wait_for(reached.wait(), 5)


async def test_one_that_was_cleared_can_be_set_again() -> None:
    reached = asyncio.Event()
    deadline = Deadline()
    deadline.set(0.02, reached.set)
    deadline.clear()
    await asyncio.sleep(0.06)
    assert not reached.is_set()
    deadline.set(0.02, reached.set)
    await asyncio.wait_for(reached.wait(), 5)


async def test_nothing_is_left_of_one_that_has_ended() -> None:
    reached = asyncio.Event()
    deadline = Deadline()
    deadline.set(0.01, reached.set)
    deadline.end()
    deadline.end()
    await asyncio.sleep(0.05)
    assert not reached.is_set()


@pytest.mark.parametrize("let_go", [Deadline.clear, Deadline.end])
async def test_one_that_was_cleared_or_has_ended_keeps_nobody(let_go: Callable[[Deadline], None]) -> None:
    class Owner:
        def __init__(self) -> None:
            self.deadline = Deadline()
            self.deadline.set(60, self.reached)

        def reached(self) -> None:
            pass

    owner = Owner()
    kept = weakref.ref(owner)
    deadline = owner.deadline
    let_go(deadline)
    gc.disable()
    try:
        del owner
        assert kept() is None
    finally:
        gc.enable()
    deadline.end()


@pytest.mark.parametrize("seconds", [0.02, pytest.param(0.0001, id="for less than half a millisecond uvloop makes no timer")])
async def test_what_was_set_last_is_called(seconds: float) -> None:
    first, second = asyncio.Event(), asyncio.Event()
    deadline = Deadline()
    deadline.set(seconds, first.set)
    deadline.set(0.04, second.set)
    await asyncio.wait_for(second.wait(), 5)
    assert not first.is_set()


async def test_what_comes_within_its_time_is_returned() -> None:
    assert await within(5, lambda: asyncio.sleep(0.01, "it")) == "it"


async def test_what_does_not_come_within_its_time_is_a_timeout() -> None:
    with pytest.raises(TimeoutError):
        await within(0.02, asyncio.Event().wait)


async def test_what_came_within_its_time_is_returned_though_the_loop_is_late() -> None:
    come = asyncio.Event()
    waiting = asyncio.create_task(within(0.1, come.wait))
    await asyncio.sleep(0)
    await hold_up(0.1, lambda: asyncio.get_running_loop().call_soon(come.set))
    assert await waiting
