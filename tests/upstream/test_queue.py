import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from gateway.upstream.queue import FEW, LASTING, PART, Queue
from tests.upstream.clusters import Clock
from tests.upstream.peer import until

StartQueue = Callable[..., Awaitable[tuple[Queue, Clock]]]

LONG = 60.0


async def waiting(queue: Queue, count: int, *, timeout: float = LONG, places: float = 1000) -> list[asyncio.Task[None]]:
    before = queue.waiting
    tasks = [asyncio.create_task(queue.wait(timeout, places)) for _ in range(count)]
    await until(lambda: queue.waiting == before + count)
    return tasks


async def test_those_who_wait_are_woken_in_order() -> None:
    queue = Queue()
    tasks = await waiting(queue, 3)
    assert queue.wake()
    await tasks[0]
    assert [task.done() for task in tasks] == [True, False, False]
    queue.wake_all()
    await asyncio.gather(*tasks)
    assert not queue.wake()
    assert queue.waiting == 0


async def test_who_waits_too_long_is_told_so_and_forgotten() -> None:
    queue = Queue()
    with pytest.raises(TimeoutError):
        await queue.wait(0.01, 1)
    with pytest.raises(TimeoutError):
        await queue.wait(-1, 1)
    assert queue.waiting == 0


async def test_who_leaves_passes_its_turn_on() -> None:
    queue = Queue()
    tasks = await waiting(queue, 3)
    tasks[1].cancel()
    queue.wake()
    tasks[0].cancel()
    queue.wake()
    await tasks[2]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(result, asyncio.CancelledError) for result in results] == [True, True, False]


async def test_who_has_to_wait_again_comes_first_and_is_let_in_however_many_wait() -> None:
    clock = Clock()
    queue = Queue(clock=clock)
    first, *others = await waiting(queue, FEW + 4, places=1)
    await come_free(queue, clock, 3, every=LASTING)
    await first
    assert not await may_wait(queue, places=1)
    again = asyncio.create_task(queue.wait(LONG, 1, again=True))
    await until(lambda: queue.waiting == FEW + 2)
    queue.wake()
    await again
    assert [other.done() for other in others] == [True, True, *[False] * (FEW + 1)]
    queue.wake_all()
    await asyncio.gather(*others)


# Time in the queue.


async def come_free(queue: Queue, clock: Clock, count: int, *, every: float) -> None:
    """Let places come free one after the other, the first one now."""
    for number in range(count):
        clock.now += every if number else 0
        queue.wake()
    await asyncio.sleep(0)


async def may_wait(queue: Queue, *, timeout: float = LONG, places: float = 1000) -> bool:
    """Tell whether one more may wait, and let it leave again."""
    task = asyncio.create_task(queue.wait(timeout, places))
    await asyncio.sleep(0)
    if task.done():
        assert isinstance(task.exception(), TimeoutError)
        return False
    task.cancel()
    await asyncio.wait([task])
    return True


@pytest.fixture
async def queued() -> StartQueue:
    """Return what makes a queue in which so many wait, and the clock that it goes by."""

    async def start(count: int, **allowed: float) -> tuple[Queue, Clock]:
        clock = Clock()
        queue = Queue(clock=clock)
        for task in await waiting(queue, count, **allowed):
            task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return queue, clock

    return start


async def test_a_burst_waits_however_many_it_has(queued: StartQueue) -> None:
    queue, clock = await queued(500)
    await come_free(queue, clock, 50, every=LASTING / 100)
    assert await may_wait(queue, places=10)


async def test_nor_is_it_more_than_a_burst_before_all_places_have_come_free(queued: StartQueue) -> None:
    queue, clock = await queued(500)
    await come_free(queue, clock, 99, every=LASTING)
    assert await may_wait(queue, places=100)
    await come_free(queue, clock, 9, every=LASTING)
    assert not await may_wait(queue, places=100)


async def test_whom_a_pause_of_the_peer_makes_wait_may_wait(queued: StartQueue) -> None:
    queue, clock = await queued(500)
    clock.now += 10 * LASTING
    assert await may_wait(queue, places=10)
    await come_free(queue, clock, 30, every=LASTING / 40)  # more than there are places: the pause is no part of how long one is held
    assert await may_wait(queue, places=10)


async def test_in_a_lasting_queue_as_many_wait_as_there_are_places(queued: StartQueue) -> None:
    queue, clock = await queued(40)
    await come_free(queue, clock, 30, every=LASTING / 10)  # ten places, each held for as long as makes a queue last
    assert queue.waiting == 10
    assert not await may_wait(queue, places=10)
    queue.wake()
    assert await may_wait(queue, places=10)


async def test_nobody_waits_there_for_more_than_a_part_of_the_time(queued: StartQueue) -> None:
    queue, clock = await queued(40)
    await come_free(queue, clock, 31, every=1.0)
    assert queue.waiting == 9
    assert await may_wait(queue, timeout=9.5 / PART)
    assert not await may_wait(queue, timeout=8.5 / PART)


async def test_where_no_place_comes_free_for_as_long_as_one_may_wait_no_second_one_does(queued: StartQueue) -> None:
    queue, clock = await queued(1, timeout=LONG)
    clock.now += LONG - 1
    assert await may_wait(queue)
    clock.now += 1
    assert not await may_wait(queue)
    queue.wake()
    assert await may_wait(queue)


async def test_that_is_so_where_places_came_free_before(queued: StartQueue) -> None:
    queue, clock = await queued(40)
    await come_free(queue, clock, 30, every=0.001)
    clock.now += LONG
    assert not await may_wait(queue)


async def test_places_that_come_free_slowly_are_waited_for(queued: StartQueue) -> None:
    queue, clock = await queued(130)
    await come_free(queue, clock, 125, every=LONG / 50)
    assert await may_wait(queue, places=10)


@pytest.mark.parametrize("leaves", [True, False])
async def test_a_queue_goes_on_if_the_next_one_comes_soon(queued: StartQueue, *, leaves: bool) -> None:
    queue, clock = await queued(30)
    await come_free(queue, clock, 30, every=LASTING)
    clock.now += LASTING * 0.9
    if leaves:
        assert await may_wait(queue, places=1)
        clock.now += LASTING * 0.9
    await waiting(queue, FEW)
    assert not await may_wait(queue, places=1)
    queue.wake_all()


async def test_when_nobody_has_waited_for_a_while_the_next_queue_is_another(queued: StartQueue) -> None:
    queue, clock = await queued(30)
    await come_free(queue, clock, 30, every=LASTING)
    clock.now += LASTING * 1.5
    await waiting(queue, FEW)
    assert await may_wait(queue, places=1)
    queue.wake_all()


async def test_how_fast_places_came_free_long_ago_is_forgotten(queued: StartQueue) -> None:
    queue, clock = await queued(3000)
    await come_free(queue, clock, 1000, every=0.001)
    for _ in range(20):
        await come_free(queue, clock, 50, every=0.1)
        await may_wait(queue, places=10)
    assert queue.waiting == 1000
    left = 12
    await come_free(queue, clock, queue.waiting - left, every=0.1)
    # one in 0.1 s: the last of twelve would wait for 1.2 s; at the mean of all, one in 0.04 s, for half a second
    assert not await may_wait(queue, timeout=1.0 / PART)
    queue.wake_all()


@dataclass
class Peer:
    """Holds each of its places for so long, on the clock of the test. `waited` has the seconds for those who came at such times."""

    places: int
    held: float
    clock: Clock = field(default_factory=Clock)
    ends: deque[float] = field(default_factory=deque)
    waited: dict[float, float] = field(default_factory=dict)
    refused: int = 0

    async def work(self, gap: float, seconds: float, *, together: int = 1) -> None:
        """Let requests come so many seconds apart, so many `together`."""
        queue = Queue(clock=self.clock)
        waiting: deque[tuple[float, asyncio.Task[None]]] = deque()
        begun = self.clock.now
        for came in [begun + number * gap for number in range(int(seconds / gap)) for _ in range(together)]:
            while self.ends and self.ends[0] <= came:
                self.clock.now = self.ends.popleft()
                if queue.wake():
                    since, task = waiting.popleft()
                    await task
                    self.begin(since)
            self.clock.now = came
            if len(self.ends) < self.places:
                self.begin(came)
                continue
            task = asyncio.create_task(queue.wait(LONG, self.places))
            await asyncio.sleep(0)
            if queue.waiting > len(waiting):
                waiting.append((came, task))
            else:
                self.refused += 1
                assert isinstance(task.exception(), TimeoutError)
        queue.wake_all()
        await asyncio.gather(*[task for _, task in waiting])

    def begin(self, since: float) -> None:
        self.waited[since] = self.clock.now - since
        self.ends.append(self.clock.now + self.held)


@pytest.mark.parametrize("times", [1.2, 2, 10])
@pytest.mark.parametrize(("places", "held"), [(1, 0.3), (4, 0.03), (16, 0.1), (64, 1.0)])
async def test_beyond_what_a_peer_can_do_it_is_kept_busy_and_nobody_waits_for_much_longer_than_that_takes(
    places: int, held: float, times: float
) -> None:
    peer = Peer(places, held)
    begun, seconds = peer.clock.now, 100 * held
    await peer.work(held / places / times, seconds)
    assert len(peer.waited) >= 0.95 * places * seconds / held
    assert peer.refused
    longest = held * max(1, FEW / places)
    assert max(waited for since, waited in peer.waited.items() if since > begun + seconds / 2) <= max(1.1 * longest, LASTING)


@pytest.mark.parametrize(("places", "held"), [(1, 0.015), (2, 0.03), (4, 0.03)])
async def test_what_a_peer_of_few_places_can_do_is_not_refused_where_some_come_together(places: int, held: float) -> None:
    peer = Peer(places, held)
    together = places + FEW
    await peer.work(together * held / places / 0.8, 500 * held, together=together)
    assert peer.refused == 0
