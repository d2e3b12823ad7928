"""When a request is sent again: what is provably harmless, and no more of it than a share of all requests. Pure but for the clock given."""

import time
from collections.abc import Callable
from typing import Final

IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""RFC 9110 section 9.2.2."""

RESERVE: Final = 10.0
REFILL: Final = 1.0
CAPACITY: Final = 100.0


def may_repeat(method: str, *, has_body: bool, sent: bool, response_begun: bool) -> bool:
    """Tell whether a request that failed may be sent again: when no byte of it was sent, or when doing it twice changes nothing.

    `sent`: a byte of it was given to a connection; `response_begun`: something of an answer came (what the client may have seen is
    never taken back). Bodies are streamed, hence not there for a second time.
    """
    if response_begun:
        return False
    return not sent or (method in IDEMPOTENT and not has_body)


class RetryBudget:
    """A token bucket: each request brings `share` of a token, each repeat takes one.

    It holds at most 100 tokens, so after some traffic a restart that ends many connections at once is got over. It begins with 10, and
    below 10 it gains one a second, or few requests could never be repeated. So `t` seconds after its beginning there have been at most
    `10 + t + share * requests` repeats. A share of 0 allows none.
    """

    def __init__(self, share: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._share = share
        self._clock = clock
        self._tokens = RESERVE if share else 0.0
        self._filled_at = clock()

    def deposit(self) -> None:
        """Take that there is a new request."""
        self._tokens = min(CAPACITY, self._tokens + self._share)

    def withdraw(self) -> bool:
        """Take a token for one repeat; False where there is none."""
        self._refill()
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _refill(self) -> None:
        now = self._clock()
        if self._share and self._tokens < RESERVE:
            self._tokens = min(RESERVE, self._tokens + REFILL * (now - self._filled_at))
        self._filled_at = now
