"""Signatures, made several in a go when the event loop has little else to do.

A signature takes longer than all else that is done for a call. So it waits for a few turns of the loop: the calls that come meanwhile are
signed in the same go, so that what is done before and after a signature is done for many calls with warm caches. Where others are to be
served besides, one is made in a go, behind what the one before it has held up: calls lose little, and others need not wait for all of
them. (A thread of its own was measured, too: it takes a tenth more CPU for a call, and others wait no less.)
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from gateway.alipayplus.keys import SigningKey

TURNS: Final = 3
"""Turns of the event loop between two goes at most: with nothing to be done, 0.02 ms in all."""
BATCH: Final = 32
"""Signatures in one go at most: all else waits 20 ms for so many. Smaller batches cost what batches save."""


class Signer:
    """Signs with one key, in the order in which it is asked. For the running event loop.

    `has_others` tells whether there are others to be served.
    """

    def __init__(self, key: SigningKey, *, has_others: Callable[[], bool] = lambda: False) -> None:
        self._key = key
        self._has_others = has_others
        self._loop = asyncio.get_running_loop()
        self._wanted: deque[tuple[Callable[[], bytes], Callable[[bytes], None], asyncio.Future[Any], float]] = deque()

    def sign(self, data: Callable[[], bytes], then: Callable[[bytes], None], waiter: "asyncio.Future[Any]") -> None:
        """Sign what `data` returns, and call `then` with the signature: what is done next needs no turn of its own.

        `data` is called when it is to be signed: those that wait need no memory for it. `waiter` is that of whoever waits for what comes
        of it. Where it is done, nothing is signed; a failure is raised in it.
        """
        if not self._wanted:
            self._loop.call_soon(self._wait, TURNS, 0)
        self._wanted.append((data, then, waiter, self._loop.time()))

    def delay(self) -> float:
        """Return for how many seconds the next signature has been wanted; 0 when none is."""
        return self._loop.time() - self._wanted[0][-1] if self._wanted else 0.0

    def _wait(self, turns: int, before: int) -> None:
        """Let so many turns pass; where nobody else is to be served, only while more signatures are wanted than before."""
        wanted = len(self._wanted)
        if turns and (before < wanted < BATCH or self._has_others()):
            self._loop.call_soon(self._wait, turns - 1, wanted)
        else:
            self._sign_some()

    def _sign_some(self) -> None:
        wanted = self._wanted
        for _ in range(1 if self._has_others() else min(len(wanted), BATCH)):
            data, then, waiter, _ = wanted.popleft()
            if waiter.done():
                continue
            try:
                then(self._key.sign(data()))
            except Exception as error:  # noqa: BLE001  raised in whoever waits
                if not waiter.done():
                    waiter.set_exception(error)
        if wanted:
            self._loop.call_soon(self._wait, TURNS, 0)
