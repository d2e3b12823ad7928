"""Signatures, made several in a go when the event loop has little else to do.

A signature takes longer than all else that is done for a call. So it waits for a few turns of the loop: the calls that come meanwhile are
signed in the same go, so that what is done before and after a signature is done for many calls with warm caches. Where others are to be
served besides, a go takes no longer than they had since the last one, but makes one at least, behind what that one has held up: others
need not wait for all of them, and calls keep their half. (A thread of its own was measured, too: it takes a tenth more CPU for a call, and
others wait no less.)
"""

import asyncio
from collections import deque
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Any, Final

from gateway.alipayplus.keys import SigningKey

TURNS: Final = 3
"""Turns of the event loop between two goes at most: with nothing to be done, 0.02 ms in all."""
BATCH: Final = 32
"""Signatures in one go at most: all else waits 20 ms for so many. Smaller batches cost what batches save."""
GIVEN: Final = 0.002
"""Seconds for others, after which the turns left are not waited for: with much to do, one takes several milliseconds."""


class Signer:
    """Signs with one key, in the order in which it is asked. For the running event loop.

    `has_others` tells whether there are others to be served.
    """

    def __init__(self, key: SigningKey, *, has_others: Callable[[], bool] = lambda: False, now: Callable[[], float] = monotonic) -> None:
        self._key = key
        self._has_others = has_others
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._wanted: deque[tuple[Callable[[], bytes], Callable[[bytes], None], asyncio.Future[Any], float]] = deque()

    def sign(self, data: Callable[[], bytes], then: Callable[[bytes], None], waiter: "asyncio.Future[Any]") -> None:
        """Sign what `data` returns, and call `then` with the signature: what is done next needs no turn of its own.

        `data` is called when it is to be signed: those that wait need no memory for it. `waiter` is that of whoever waits for what comes
        of it. Where it is done, nothing is signed; a failure is raised in it.
        """
        now = self._now()
        if not self._wanted:
            self._loop.call_soon(self._wait, TURNS, 0, now)
        self._wanted.append((data, then, waiter, now))

    def delay(self) -> float:
        """Return for how many seconds the next signature has been wanted; 0 when none is."""
        return self._now() - self._wanted[0][-1] if self._wanted else 0.0

    def _wait(self, turns: int, before: int, since: float) -> None:
        """Let so many turns pass at most: for others since then, or while more signatures are wanted than before."""
        wanted, has_others = len(self._wanted), self._has_others()
        given = self._now() - since
        if turns and (given < GIVEN if has_others else before < wanted < BATCH):
            self._loop.call_soon(self._wait, turns - 1, wanted, since)
        else:
            self._sign_some(given if has_others else inf)

    def _sign_some(self, seconds: float) -> None:
        """Sign for so many seconds at most, but one at least."""
        wanted, until = self._wanted, self._now() + seconds
        for _ in range(min(len(wanted), BATCH)):
            data, then, waiter, _ = wanted.popleft()
            if waiter.done():
                continue
            try:
                then(self._key.sign(data()))
            except Exception as error:  # noqa: BLE001  raised in whoever waits
                if not waiter.done():
                    waiter.set_exception(error)
            if self._now() >= until:
                break
        if wanted:
            self._loop.call_soon(self._wait, TURNS, 0, self._now())
