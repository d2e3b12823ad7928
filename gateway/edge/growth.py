"""Memory that what has begun lately is going to take: it is reckoned with until it is taken, and can be seen."""

from typing import Final

SEEN: Final = 1.0
"""Seconds after which that has been taken."""


class Growth:
    """Of connections, or of requests. What has begun counts for one to two times SEEN.

    `turn` is called now and then with the time, and where something begins after a pause before that.
    """

    def __init__(self) -> None:
        self._began = 0.0  # when this term began, of SEEN seconds
        self._begun = self._begun_before = 0  # bytes, in this term and in the one before

    def turn(self, now: float) -> None:
        """Forget what began more than a term before this one."""
        terms = (now - self._began) // SEEN
        if terms:
            self._began += terms * SEEN
            self._begun, self._begun_before = 0, self._begun if terms == 1 else 0

    def add(self, size: int) -> None:
        """Take that something begins which takes so many bytes."""
        self._begun += size

    def expected(self, there: int) -> int:
        """Return how many bytes are to be reckoned with, where all that has not ended yet takes so many."""
        return min(self._begun + self._begun_before, there)
