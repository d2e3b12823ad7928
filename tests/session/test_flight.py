import asyncio

import pytest

from gateway.session.check import valid
from gateway.session.flight import Flight


async def waiting(flight: Flight, count: int) -> list["asyncio.Task[object]"]:
    tasks: list[asyncio.Task[object]] = [asyncio.create_task(flight.join()) for _ in range(count)]
    while len(flight._waiters) < count:  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(0)
    return tasks


async def test_all_who_wait_get_the_verdict() -> None:
    flight = Flight(0.0, "sdk")
    tasks = await waiting(flight, 3)
    flight.settle(valid("user-1"))
    assert await asyncio.gather(*tasks) == [valid("user-1")] * 3


async def test_one_who_leaves_does_not_fail_the_others() -> None:
    flight = Flight(0.0, "sdk")
    tasks = await waiting(flight, 3)
    tasks[0].cancel()
    await asyncio.wait([tasks[0]])
    flight.settle(valid("user-1"))
    assert await asyncio.gather(*tasks[1:]) == [valid("user-1")] * 2
    assert tasks[0].cancelled()


async def test_only_the_first_verdict_counts() -> None:
    flight = Flight(0.0, "sdk")
    tasks = await waiting(flight, 1)
    flight.settle(valid("user-1"))
    flight.settle(valid("user-2"))
    assert await tasks[0] == valid("user-1")


async def test_a_bug_fails_all_who_wait_and_says_whether_anybody_learnt_of_it() -> None:
    flight = Flight(0.0, "sdk")
    assert not flight.fail(RuntimeError("bug"))
    tasks = await waiting(flight, 2)
    assert flight.fail(RuntimeError("bug"))
    for task in tasks:
        with pytest.raises(RuntimeError, match="bug"):
            await task


def test_who_is_late_learns_what_it_waited_for() -> None:
    flight = Flight(0.0, "sdk")
    assert (flight.late.outcome, flight.late.reason) == ("unavailable", "no place among max_in_flight in time")
    flight.has_place = True
    assert (flight.late.outcome, flight.late.reason) == ("unavailable", "the auth service did not answer in time")
