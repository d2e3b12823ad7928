import asyncio
from itertools import pairwise
from typing import Any, cast

import pytest

from gateway.upstream import Connection
from gateway.upstream.wants import AT_ONCE, Wants

FREE = cast("Connection", object())


class Released(list[Any]):
    """The connections that nobody took."""


@pytest.fixture
def released() -> Released:
    return Released()


@pytest.fixture
def wants(released: Released) -> Wants:
    return Wants(released.append)


async def begun(wants: Wants, count: int) -> "list[asyncio.Task[Connection | None]]":
    """Let so many want one, and return when each has begun to wait."""
    tasks = [asyncio.create_task(wants.wait()) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


def done(tasks: "list[asyncio.Task[Connection | None]]") -> int:
    return sum(task.done() for task in tasks)


async def test_a_few_make_one_in_each_turn_in_the_order_in_which_they_came(wants: Wants) -> None:
    tasks = await begun(wants, 3 * AT_ONCE + 1)
    assert done(tasks) == done(tasks[:AT_ONCE]) == AT_ONCE
    seen = []
    while done(tasks) < len(tasks):
        await asyncio.sleep(0)
        seen.append(done(tasks))
        assert done(tasks[: seen[-1]]) == seen[-1]
    assert next(size for size in seen if size > AT_ONCE) == 2 * AT_ONCE
    assert all(after - before <= AT_ONCE for before, after in pairwise(seen))
    assert {task.result() for task in tasks} == {None}


async def test_later_as_many_make_one_again(wants: Wants) -> None:
    for _ in range(2):
        assert done(await begun(wants, AT_ONCE)) == AT_ONCE
        for _ in range(3):
            await asyncio.sleep(0)


async def test_who_waits_gets_what_comes_free_the_first_first(wants: Wants, released: Released) -> None:
    tasks = await begun(wants, AT_ONCE + 2)
    assert wants.give(FREE)
    assert await tasks[AT_ONCE] is FREE
    assert await tasks[-1] is None
    assert not wants.give(FREE), "nobody waits"
    assert released == []


async def test_who_has_left_gets_none(wants: Wants) -> None:
    tasks = await begun(wants, AT_ONCE + 2)
    tasks[AT_ONCE].cancel()
    assert wants.give(FREE)
    assert await tasks[-1] is FREE
    await asyncio.wait(tasks)
    assert tasks[AT_ONCE].cancelled()


async def test_what_comes_to_one_who_just_leaves_is_released(wants: Wants, released: Released) -> None:
    tasks = await begun(wants, AT_ONCE + 1)
    assert wants.give(FREE)
    tasks[-1].cancel()
    await asyncio.wait(tasks)
    assert (tasks[-1].cancelled(), released) == (True, [FREE])


async def test_one_who_leaves_when_it_is_time_to_make_one_releases_nothing(wants: Wants, released: Released) -> None:
    tasks = await begun(wants, AT_ONCE + 1)
    wants.end()
    tasks[-1].cancel()
    await asyncio.wait(tasks)
    assert (tasks[-1].cancelled(), released) == (True, [])


async def test_at_the_end_nobody_waits(wants: Wants) -> None:
    tasks = await begun(wants, 5 * AT_ONCE)
    wants.end()
    await asyncio.sleep(0)
    assert done(tasks) == len(tasks)
