"""The last failures of a process by code, for the status page: what to look for in the logs, without a search.

Counting is left to `gateway.telemetry.metrics`. Nothing here comes from a client but the id of its request, which the edge has checked.
"""

from collections import deque
from typing import Final

from msgspec import Struct

KEPT: Final = 5
"""Of each code. Codes come from closed sets, so the whole is bounded, and no flood of one code hides another."""

OWN_ANSWER: Final = ""
"""The code of an upstream's own answer of 5xx: the gateway has none for it."""


class Failed(Struct, frozen=True, gc=False):
    """One request that failed. `time` is in UNIX seconds, `route` a label of the metrics, `reason` a fixed text.

    `result_status` is F where surely nothing was executed, U where something may have been, empty where that is not known.
    """

    time: float
    code: str
    result_status: str
    source: str
    status: int
    route: str
    request_id: str
    endpoint: str | None = None
    reason: str | None = None


class LastFailures:
    """Keeps them."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._by_code: dict[str, deque[Failed]] = {}

    def note(self, failed: Failed) -> None:
        """Take one; the oldest of its code goes where there are too many."""
        last = self._by_code.get(failed.code)
        if last is None:
            last = self._by_code[failed.code] = deque(maxlen=self._kept)
        last.append(failed)

    def all(self) -> tuple[Failed, ...]:
        """Return those that are kept, code by code, the oldest of a code first."""
        return tuple(failed for last in self._by_code.values() for failed in last)
