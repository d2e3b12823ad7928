"""When calls are signed, and where: several in a go on the event loop, or in the background where others are to be served besides.

A signature takes longer than all else that is done for a call. So it waits for a few turns of the loop, and the calls that come meanwhile
are signed in the same go: what is done before and after a signature is then done for many calls with warm caches.

Others (API requests) would wait for each signature, several times in a request. So where there is much of both, a process signs that stands
back behind the event loop (`gateway.alipayplus.background`). That is not always so, since a call then takes more turns, which costs a tenth
of its time and more. What the process does not get to in time is signed on the loop after all. There, while there are others, a go takes no
longer than they have had since the last one, but makes one signature at least, so that calls keep their half.

Where the machine can make eight signatures at a time (`gateway.alipayplus.multibuffer`), eight take as long as three made one by one, and
two take as long as eight. Then all is signed on the loop: eight at once as long as there are so many. What is left of these waits for the
next go, with those that come meanwhile. While more calls come than can be served, and there are no others, eight are waited for without
turning the loop meanwhile.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from hashlib import sha256
from math import inf
from time import monotonic
from typing import Any, Final

from msgspec import Struct

from gateway.alipayplus.background import Background
from gateway.alipayplus.keys import SigningKey
from gateway.alipayplus.multibuffer import LANES, MultiBuffer, MultiBufferError

TURNS: Final = 3
"""Turns of the event loop that are waited for between two goes at most: with nothing else to do, 0.02 ms in all."""
BATCH: Final = 32
"""Signatures in one go at most: all else waits 20 ms for so many. Smaller batches cost what batches save."""
GIVEN: Final = 0.002
"""Seconds for others since the last go, after which no more turns are waited for: with much to do, one takes several milliseconds."""
FILLING: Final = 0.003
"""Seconds for which signatures wait at most, under pressure, until there are as many as are made at a time: so many come within two."""
AHEAD: Final = 2
"""Signatures that the background has at a time: the one that it makes, and the one that it goes on with."""
PATIENCE: Final = 0.01
"""Seconds that a signature waits until the background has room for it, and again until it comes from there."""


class _Job(Struct):
    """One signature that is wanted, since when, and whether it has been made."""

    data: Callable[[], bytes]
    then: Callable[[bytes], None]
    waiter: "asyncio.Future[Any]"
    since: float
    is_made: bool = False

    @property
    def is_over(self) -> bool:
        """Whether nothing is to be done for it any more."""
        return self.is_made or self.waiter.done()

    def end(self, signature: bytes) -> None:
        self.is_made = True
        try:
            self.then(signature)
        except Exception as error:  # noqa: BLE001  raised in whoever waits
            self.fail(error)

    def fail(self, error: Exception) -> None:
        if not self.waiter.done():
            self.waiter.set_exception(error)


class Signer:
    """Signs with one key, in the order in which it is asked. For the running event loop.

    `has_others` tells whether there are others to be served, `is_pressed` whether more calls come than can be. Without a background that
    has the same key, all is signed on the loop. `several` makes several at a time with that key, until it fails once, which `warn` is told
    of.
    """

    def __init__(
        self,
        key: SigningKey,
        *,
        has_others: Callable[[], bool] = lambda: False,
        is_pressed: Callable[[], bool] = lambda: False,
        background: Background | None = None,
        several: MultiBuffer | None = None,
        warn: Callable[[str], object] = lambda _: None,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self._key = key
        self._has_others = has_others
        self._is_pressed = is_pressed
        self._background = background
        self._several = several
        self._warn = warn
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._wanted: deque[_Job] = deque()
        self._given: deque[tuple[_Job, float]] = deque()  # to the background, and when
        self._is_going = self._is_watching = False
        self._filling: asyncio.TimerHandle | None = None
        if background is not None:
            background.on_signature, background.on_end = self._take, self._take_back

    def sign(self, data: Callable[[], bytes], then: Callable[[bytes], None], waiter: "asyncio.Future[Any]") -> None:
        """Sign what `data` returns, and call `then` with the signature: what is done next needs no turn of its own.

        `data` is called when it is to be signed: those that wait need no memory for it. `waiter` is that of whoever waits for what comes
        of it. Where it is done, nothing is signed; a failure is raised in it.
        """
        self._wanted.append(_Job(data, then, waiter, self._now()))
        if self._filling is not None and len(self._wanted) >= LANES:
            self._fill()
        else:
            self._go_on()

    def delay(self) -> float:
        """Return for how many seconds the next signature has been wanted; 0 when none is."""
        return self._now() - self._wanted[0].since if self._wanted else 0.0

    def _go_on(self) -> None:
        if self._is_aside():
            self._give()
        elif not self._is_going:
            self._go()

    def _go(self) -> None:
        self._is_going = True
        self._loop.call_soon(self._wait, TURNS, 0, self._now())

    def _wait(self, turns: int, before: int, since: float) -> None:
        """Let so many turns pass at most, then sign.

        While there are others, these turns are theirs, but no more than GIVEN since then. Else another turn passes only if more signatures
        are wanted than before the last one, and fewer than a BATCH. Under pressure, without others, it is waited for as many instead as can
        be made together (LANES), for FILLING at most.
        """
        wanted, has_others = len(self._wanted), self._has_others()
        given = self._now() - since
        if has_others:
            waits = turns > 0 and given < GIVEN
        elif self._several is not None and self._is_pressed():
            if wanted < LANES:
                self._filling = self._loop.call_later(FILLING, self._fill)
                return
            waits = False
        else:
            waits = turns > 0 and before < wanted < BATCH
        if waits:
            self._loop.call_soon(self._wait, turns - 1, wanted, since)
        else:
            self._sign_some(given if has_others else inf)

    def _fill(self) -> None:
        """Wait no longer for those that may be made together."""
        assert self._filling is not None
        self._filling.cancel()
        self._filling = None
        self._loop.call_soon(self._sign_some, inf)

    def _sign_some(self, seconds: float) -> None:
        """Sign for so many seconds at most, but make one at least. What the background may still get to in time is left to it."""
        until, is_aside = self._now() + seconds, self._is_aside()
        left = min(len(self._wanted), BATCH)
        if self._several is not None and left > LANES:
            left -= left % LANES  # the rest takes as long as all of a go
        while left and not (is_aside and not self._is_overdue()):
            count = min(left, LANES) if self._several is not None and left >= self._several.fewest else 1
            left -= count
            jobs = [job for job in (self._wanted.popleft() for _ in range(count)) if not job.is_over]
            self._sign(jobs)
            if jobs and self._now() >= until:
                break
        self._is_going = False
        if self._wanted:
            self._go() if self._is_overdue() else self._go_on()

    def _sign(self, jobs: list[_Job]) -> None:
        if self._sign_together(jobs):
            return
        for job in jobs:
            try:
                signature = self._key.sign(job.data())
            except Exception as error:  # noqa: BLE001  raised in whoever waits
                job.fail(error)
            else:
                job.end(signature)

    def _sign_together(self, jobs: list[_Job]) -> bool:
        """Make these signatures at once if that pays, and tell whether that was done: else none has been made."""
        if self._several is None or len(jobs) < self._several.fewest:
            return False
        try:
            signatures = self._several.sign([job.data() for job in jobs])
        except MultiBufferError as error:
            self._several = None
            self._warn(f"signatures are made one by one from now on: {error}")
            return False
        except Exception:  # noqa: BLE001  it is that of one job, which fails again by itself
            return False
        for job, signature in zip(jobs, signatures, strict=True):
            job.end(signature)
        return True

    def _is_aside(self) -> bool:
        return self._background is not None and self._background.serves()

    def _is_overdue(self) -> bool:
        return self.delay() >= PATIENCE

    def _give(self) -> None:
        """Give the background what it has room for."""
        assert self._background is not None
        while self._wanted and len(self._given) < AHEAD:
            job = self._wanted.popleft()
            if job.is_over:
                continue
            try:
                self._background.sign(sha256(job.data()).digest())
            except Exception as error:  # noqa: BLE001  raised in whoever waits
                job.fail(error)
                continue
            self._given.append((job, self._now()))
        if self._given and not self._is_watching:
            self._watch()

    def _take(self, signature: bytes) -> None:
        job, _ = self._given.popleft()
        if not job.is_over:
            job.end(signature)
        if self._wanted:
            self._go_on()

    def _take_back(self) -> None:
        """Sign on the loop what the background has not signed, and all that comes."""
        self._wanted.extendleft(job for job, _ in reversed(self._given))
        self._given.clear()
        if self._wanted:
            self._go_on()

    def _watch(self) -> None:
        self._is_watching = True
        self._loop.call_later(PATIENCE, self._look)

    def _look(self) -> None:
        """Sign on the loop what the background has not got to in time."""
        self._is_watching = False
        now = self._now()
        self._wanted.extendleft(job for job, since in reversed(self._given) if now - since >= PATIENCE and not job.is_over)
        if self._wanted and not self._is_going and (self._is_overdue() or not self._is_aside()):
            self._go()
        if self._wanted or self._given:
            self._watch()
