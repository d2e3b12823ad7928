"""Passive ejection: an endpoint that fails requests one after the other is left alone for a while.

Pure: the time is an argument (monotonic seconds). What a failure is, and telling of it, is the cluster's matter.
"""

from collections import deque
from math import floor, inf
from typing import Final

from gateway.config import model

_ROUNDING: Final = 1e-9


class Ejection:
    """The failures of one endpoint, and until when it is out.

    So many failures in a row as the rules say, all within `interval`, are enough; `duration` is the same each time. An endpoint that
    comes back is on probation: its first failure is enough, its first success ends the probation.
    """

    __slots__ = ("_failures", "_on_probation", "_rules", "until")

    def __init__(self, rules: model.Ejection) -> None:
        self._rules = rules
        self._failures: deque[float] = deque(maxlen=rules.failures)
        self._on_probation = False
        self.until = -inf

    def succeed(self) -> None:
        """Take that a request went well; one that has been ejected meanwhile stays out."""
        self._failures.clear()
        self._on_probation = False

    def fail(self, now: float) -> bool:
        """Take that a request failed; tell whether the endpoint has earned ejection. One that is out has not: it cannot do better."""
        if now < self.until:
            return False
        self._failures.append(now)
        is_row_full = len(self._failures) == self._rules.failures and now - self._failures[0] <= self._rules.interval
        return is_row_full or self._on_probation

    def eject(self, now: float) -> None:
        """Put the endpoint out."""
        self._on_probation = True
        self.until = now + self._rules.duration

    def remaining(self, now: float) -> float:
        """Return for how many seconds more the endpoint is out."""
        return max(0.0, self.until - now)


def may_eject(out: int, members: int, max_share: float) -> bool:
    """Tell whether one more of so many members may be out, `out` being the number of those that are.

    A single member is never ejected unless `max_share` is 1, since half of one is none.
    """
    return out + 1 <= floor(max_share * members + _ROUNDING)
