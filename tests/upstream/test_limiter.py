import asyncio
import random

import pytest

from gateway.upstream import Limiter
from tests.upstream.clusters import Clock
from tests.upstream.peer import until


async def test_lets_in_up_to_the_limit_and_no_more() -> None:
    limiter = Limiter(2)
    await limiter.acquire(1)
    await limiter.acquire(1)
    with pytest.raises(TimeoutError):
        await limiter.acquire(0)
    with pytest.raises(TimeoutError):
        await limiter.acquire(0.001)
    assert (limiter.in_flight, limiter.waiting) == (2, 0)
    limiter.release()
    await limiter.acquire(0)
    assert limiter.in_flight == 2


async def test_those_who_wait_come_in_in_order() -> None:
    limiter = Limiter(1)
    await limiter.acquire(1)
    order: list[int] = []

    async def come(number: int) -> None:
        await limiter.acquire(10)
        order.append(number)
        limiter.release()

    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(come(number))
        await until(lambda: limiter.waiting == 5)
        limiter.release()
    assert order == [0, 1, 2, 3, 4]
    assert (limiter.in_flight, limiter.waiting) == (0, 0)


async def test_a_place_given_to_one_who_is_cancelled_in_that_moment_is_passed_on() -> None:
    limiter = Limiter(1)
    await limiter.acquire(1)
    first = asyncio.create_task(limiter.acquire(10))
    second = asyncio.create_task(limiter.acquire(10))
    await until(lambda: limiter.waiting == 2)
    limiter.release()
    first.cancel()
    await second
    assert first.cancelled() or first.cancelling()
    assert (limiter.in_flight, limiter.waiting) == (1, 0)


async def test_one_given_to_the_last_who_waits_and_is_cancelled_is_free() -> None:
    limiter = Limiter(1)
    await limiter.acquire(1)
    last = asyncio.create_task(limiter.acquire(10))
    await until(lambda: limiter.waiting == 1)
    limiter.release()
    last.cancel()
    await asyncio.wait([last])
    assert (limiter.in_flight, limiter.waiting) == (0, 0)


async def test_in_a_queue_that_lasts_no_more_wait_than_are_in() -> None:
    clock = Clock()
    limiter = Limiter(8, clock=clock)
    tasks = [asyncio.create_task(limiter.acquire(60)) for _ in range(32)]
    await until(lambda: limiter.waiting == 24)
    for _ in range(16):
        clock.now += 1
        limiter.release()
    await asyncio.gather(*tasks[:24])
    assert limiter.waiting == 8
    with pytest.raises(TimeoutError):
        await limiter.acquire(60)
    limiter.release()
    tasks.append(asyncio.create_task(limiter.acquire(60)))
    await until(lambda: limiter.waiting == 8)
    for _ in range(16):
        limiter.release()
    await asyncio.gather(*tasks)
    assert (limiter.in_flight, limiter.waiting) == (0, 0)


async def test_kinds_that_wait_are_let_in_by_turns_each_in_order() -> None:
    limiter = Limiter(1, ("many", "few"))
    await limiter.acquire(1, "many")
    order: list[str] = []

    async def come(kind: str, name: str) -> None:
        await limiter.acquire(10, kind)
        order.append(name)
        limiter.release()

    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(come("many", f"many {number}"))
        await until(lambda: limiter.waiting == 4)
        for number in range(2):
            group.create_task(come("few", f"few {number}"))
        await until(lambda: limiter.waiting == 6)
        limiter.release()
    assert order == ["many 0", "few 0", "many 1", "few 1", "many 2", "many 3"]
    assert (limiter.in_flight, limiter.waiting) == (0, 0)


async def test_no_place_is_lost_under_random_cancellation_and_timeouts() -> None:
    kinds = ("one", "other")
    limiter = Limiter(3, kinds)
    seed = random.Random(7)
    peak = 0

    async def work(timeout: float, kind: str, length: float) -> None:
        nonlocal peak
        await limiter.acquire(timeout, kind)
        try:
            peak = max(peak, limiter.in_flight)
            await asyncio.sleep(length)
        finally:
            limiter.release()

    tasks = [asyncio.create_task(work(seed.choice([0.0, 0.002, 5]), seed.choice(kinds), seed.random() / 500)) for _ in range(300)]
    for task in seed.sample(tasks, 100):
        await asyncio.sleep(seed.random() / 1000)
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert peak == 3
    assert (limiter.in_flight, limiter.waiting) == (0, 0)
