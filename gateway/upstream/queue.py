"""Waiting for a place among some that are all taken: in order, for a bounded time, and not where there is no hope.

Where requests come faster than places come free, a queue never ends by itself: each would wait as long as is allowed, and may have no
time left for what it waited for. So what tells is time in the queue: once one has lasted for a while, only as many begin to wait as wait
no longer than a place is held, or a few; the others are told at once. A burst is let alone, and so are those whom a pause of the peer
makes wait (CoDel, RFC 8289, looks at queues in this way).
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Final

LASTING: Final = 0.1
"""Seconds for which a queue may be one of a burst, while places come free; if nobody has waited for so long, the next is another one."""
PART: Final = 0.25
"""In a lasting queue nobody waits for a greater part of the time allowed: the rest may be needed for what they wait for."""
FEW: Final = 8
"""So many may wait there even for fewer places: calls do not come evenly, so that one place at 70 % of its load had refused 11 to 22 %."""
_REMEMBERED: Final = 8.0  # times as long as a place is held; how fast places came free before is forgotten by and by


class Queue:
    """Those who wait for a place, in the order in which they came. For one event loop.

    It holds no places: `wake` says that one has come free. A turn that comes to one who just leaves is given to `pass_on`, or to the next.
    """

    def __init__(self, pass_on: Callable[[], object] | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._pass_on = pass_on or self.wake
        self._clock = clock
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._ended = -inf  # when the last who waited was woken or left
        self._freed = 0.0  # so many places have come free
        self._since = self._last = 0.0  # the first of them, and the last; before, when the queue began

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return len(self._waiters)

    async def wait(self, timeout: float, places: float, *, again: bool = False) -> None:
        """Return when woken. Raises TimeoutError after `timeout` seconds, or at once if it is in vain to wait for one of so many `places`.

        Who was woken and found no place waits `again`, as the first.
        """
        if not again and not self._may_join(self._clock(), timeout, places):
            raise TimeoutError
        waiter = asyncio.get_running_loop().create_future()
        if again:
            self._waiters.appendleft(waiter)
        else:
            self._waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout):
                await waiter
        except BaseException:
            self._leave(waiter)
            raise

    def wake(self) -> bool:
        """Wake the first, for whom a place has come free; tell whether anybody waited."""
        if not self._wake():
            return False
        self._last = self._clock()
        if not self._freed:
            self._since = self._last
        self._freed += 1
        return True

    def wake_all(self) -> None:
        """Wake all who wait now: there may be other places."""
        while self._wake():
            pass

    def _may_join(self, now: float, timeout: float, places: float) -> bool:
        """Tell whether one more may wait.

        It may in a burst, and where the queue is short; but not where no place has come free for as long as it may wait. How long a place
        is held is reckoned from how fast places have come free.
        """
        if not self._waiters:
            if now - self._ended > LASTING:
                self._freed, self._since, self._last = 0.0, now, now
            return True
        if now - self._last >= timeout:
            return False
        if self._freed <= 1:
            return True
        lasted = now - self._since
        held = lasted / (self._freed - 1) * places  # seconds; Little's law
        if lasted > _REMEMBERED * max(LASTING, held):
            self._since, self._freed = now - lasted / 2, self._freed / 2
        part = timeout * PART
        is_burst = lasted < max(LASTING, min(held, part))
        return is_burst or (len(self._waiters) < max(places, FEW) and len(self._waiters) * held < part * places)

    def _wake(self) -> bool:
        while self._waiters:
            waiter = self._waiters.popleft()
            self._note_end()
            if not waiter.done():
                waiter.set_result(None)
                return True
        return False

    def _leave(self, waiter: "asyncio.Future[None]") -> None:
        """Forget one who waits no longer."""
        if waiter.done() and not waiter.cancelled():
            self._pass_on()
        elif waiter in self._waiters:
            self._waiters.remove(waiter)
            self._note_end()

    def _note_end(self) -> None:
        if not self._waiters:
            self._ended = self._clock()
