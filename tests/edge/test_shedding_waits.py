"""How much is done while work is refused, where most of what is in hand waits for others: simulated, on a clock of the test's."""

import heapq
from collections.abc import Callable
from functools import partial
from random import Random

import pytest

from gateway.edge.server import TOGETHER
from gateway.edge.shedding import Work
from tests.edge.shedder import COSTS, Rig

BEFORE = 0.6
"""The part of a request's work that is done before others are asked; the rest when they have answered."""
REFUSAL = 0.25
"""What a refusal takes beside a request of the API."""


class Simulation:
    """A loop that does in each of its turns what has come by then, with peers that take so many seconds on average.

    A request of the API takes it `unit` seconds, a call five times that. While work is refused, what comes is looked at together.
    """

    def __init__(self, unit: float, wait: float, *, is_even: bool) -> None:
        self.rig = Rig(has_allowance=True)
        self.unit = unit
        self.wait = wait
        self.is_even = is_even
        self.random = Random(1)
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.put_off: list[Work] = []
        self.number = 0
        self.done: dict[Work, int] = {"sdk": 0, "api": 0}
        self.refused = 0
        self.latest = 0.0

    def run(self, seconds: float, rates: dict[Work, float]) -> None:
        """Let so many come each second, and count anew what is done and refused meanwhile."""
        loop = self.rig.loop
        ends = loop.now + seconds
        for work, rate in rates.items():
            for number in range(round(seconds * rate)):
                self._add(loop.now + number / rate, partial(self._come, work))
        self.done, self.refused, self.latest = {"sdk": 0, "api": 0}, 0, 0.0
        while loop.now < ends:
            due = min(self.events[0][0] if self.events else ends, loop.timer[0] if loop.timer is not None else ends)
            if due > loop.now:
                self.rig.idle += due - loop.now
                loop.now = due
            self._turn()

    def _add(self, due: float, what: Callable[[], None]) -> None:
        self.number += 1
        heapq.heappush(self.events, (due, self.number, what))

    def _turn(self) -> None:
        loop = self.rig.loop
        began = loop.now
        loop.turn()
        if loop.timer is not None and loop.timer[0] <= loop.now:
            late = loop.now - loop.timer[0]
            self.latest = max(self.latest, late)
            loop.look(late)
        while self.events and self.events[0][0] <= began:
            heapq.heappop(self.events)[2]()

    def _come(self, work: Work) -> None:
        if not self.rig.shedder.is_shedding:
            self._begin(work)
            return
        if not self.put_off:
            self._add(self.rig.loop.now + TOGETHER, self._go_on)
        self.put_off.append(work)

    def _go_on(self) -> None:
        for work in self.put_off:
            self._begin(work)
        self.put_off.clear()

    def _begin(self, work: Work) -> None:
        if self.rig.refusal(work) is None:
            self._add(self.rig.loop.now, partial(self._ask, work))
        else:
            self.refused += 1
            self.rig.loop.now += REFUSAL * self.unit

    def _ask(self, work: Work) -> None:
        self.rig.loop.now += BEFORE * COSTS[work] * self.unit
        self._add(self.rig.loop.now + self.wait * (1 if self.is_even else self.random.expovariate(1)), partial(self._end, work))

    def _end(self, work: Work) -> None:
        self.rig.shedder.end(work)
        self.done[work] += 1
        self.rig.loop.now += (1 - BEFORE) * COSTS[work] * self.unit


@pytest.fixture(params=[(0.0001, "api"), (0.00004, "sdk"), (0.0002, "sdk")], ids=["api", "calls-of-0.2-ms", "calls-of-1-ms"])
def kind(request: pytest.FixtureRequest) -> tuple[float, Work]:
    """How long a unit takes, and what is done."""
    found: tuple[float, Work] = request.param
    return found


@pytest.mark.parametrize("waits", ["evenly", "unevenly"])
@pytest.mark.parametrize("wait", [0.0005, 0.02, 0.3])
def test_however_long_others_take_as_much_is_done_as_can_be(kind: tuple[float, Work], wait: float, waits: str) -> None:
    unit, work = kind
    simulation = Simulation(unit, wait, is_even=waits == "evenly")
    peak = 1 / (COSTS[work] * unit)
    simulation.run(4 + 4 * wait, {work: 2 * peak})
    assert simulation.rig.shedder.is_shedding
    simulation.run(2, {work: 2 * peak})
    takes = REFUSAL / COSTS[work]
    possible = (1 - 2 * takes) / (1 - takes)
    assert simulation.done[work] / (2 * peak) > 0.8 * possible
    assert simulation.latest < 0.05


@pytest.mark.parametrize("wait", [0.0005, 0.02, 0.3])
def test_an_overload_is_over_when_less_comes_than_can_be_done(kind: tuple[float, Work], wait: float) -> None:
    unit, work = kind
    simulation = Simulation(unit, wait, is_even=False)
    peak = 1 / (COSTS[work] * unit)
    simulation.run(4 + 4 * wait, {work: 2 * peak})
    assert simulation.rig.shedder.is_shedding
    simulation.run(3 + 4 * wait, {work: 0.7 * peak})
    assert not simulation.rig.shedder.is_shedding
    simulation.run(1, {work: 0.7 * peak})
    assert simulation.refused == 0


@pytest.mark.parametrize("wait", [0.0005, 0.02, 0.3])
def test_calls_and_requests_have_their_shares_however_long_others_take(wait: float) -> None:
    unit = 0.00008
    simulation = Simulation(unit, wait, is_even=False)
    both: dict[Work, float] = {"sdk": 1 / (5 * unit), "api": 1 / unit}
    simulation.run(4 + 4 * wait, both)
    simulation.run(2, both)
    done = {work: simulation.done[work] * COSTS[work] * unit / 2 for work in simulation.done}
    assert min(done.values()) > 0.3
    few: dict[Work, float] = {"sdk": 0.3 / (5 * unit), "api": 1.5 / unit}
    simulation.run(2 + 4 * wait, few)
    simulation.run(2, few)
    assert simulation.done["sdk"] > 0.95 * 2 * few["sdk"], "calls take less than their share"
