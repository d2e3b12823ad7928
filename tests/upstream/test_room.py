import asyncio

import pytest

from gateway.upstream.room import Room
from tests.upstream.peer import until


async def waiting(room: Room, count: int) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(room.wait(60)) for _ in range(count)]
    await until(lambda: room.waiting == count)
    return tasks


async def test_those_who_wait_are_woken_in_order() -> None:
    room = Room()
    tasks = await waiting(room, 3)
    room.wake()
    await tasks[0]
    assert [task.done() for task in tasks] == [True, False, False]
    room.wake_all()
    await asyncio.gather(*tasks)
    room.wake()
    assert room.waiting == 0


async def test_who_waits_too_long_is_told_so_and_forgotten() -> None:
    room = Room()
    with pytest.raises(TimeoutError):
        await room.wait(0.01)
    with pytest.raises(TimeoutError):
        await room.wait(-1)
    assert room.waiting == 0


async def test_who_leaves_passes_its_turn_on() -> None:
    room = Room()
    tasks = await waiting(room, 3)
    tasks[1].cancel()
    room.wake()
    tasks[0].cancel()
    room.wake()
    await tasks[2]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(result, asyncio.CancelledError) for result in results] == [True, True, False]
