"""The last minutes of the service, in steps of ten seconds: what its counters were at each step.

The supervisor looks at them anyway; no request pays for it. What the differences mean is `gateway.admin.traffic`'s matter.
"""

from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

from msgspec import Struct

from gateway.admin.counts import Counts, since

STEP: Final = 10.0
"""Seconds of one step."""

STEPS: Final = 60
"""How many are kept: ten minutes."""


class Step(Struct, frozen=True):
    """What came in a while: `begin` in UNIX seconds, how many `seconds`, and the counts."""

    begin: float
    seconds: float
    counts: Counts


class _Mark(Struct, frozen=True):
    time: float  # monotonic seconds
    wall: float  # UNIX seconds
    counts: Counts


class History:
    """Keeps the steps. Times are given: `time` in monotonic seconds, `wall` in UNIX seconds, both of the same moment."""

    def __init__(self, time: float, wall: float, *, step: float = STEP, steps: int = STEPS) -> None:
        self._step = step
        self._marks: deque[_Mark] = deque([_Mark(time, wall, {})], maxlen=steps)

    def look(self, time: float, wall: float, tell: Callable[[], Counts]) -> None:
        """End the step under way if it is over; only then it is asked what the counters are."""
        if time - self._marks[-1].time >= self._step:
            self._marks.append(_Mark(time, wall, tell()))

    def steps(self, time: float, wall: float, now: Counts) -> Sequence[Step]:
        """Return the steps, the oldest first; the last one is under way. `now` is what the counters are at this moment."""
        marks = (*self._marks, _Mark(time, wall, now))
        return [Step(one.wall, other.time - one.time, since(one.counts, other.counts)) for one, other in pairwise(marks)]
