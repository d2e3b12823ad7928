"""Overload: new work is refused before it makes all other work late.

What tells is a measured delay: by how much the event loop is late with what is due. A queue that is long but stands still, as that
of a fixed number of clients, is let alone; one that has grown for a while is kept short for a term. Then all is taken again, to see
whether it was enough: if not, the next term is twice as long. A loop that is late without many requests is kept from the CPU by others:
to refuse would not help. Work in hand is never given up.
"""

from collections.abc import Callable
from math import exp
from time import monotonic
from typing import Final, Literal, Protocol

from structlog.typing import FilteringBoundLogger

from gateway.errors import GatewayError

PERIOD: Final = 0.005
"""Seconds between two looks at the loop, while requests come."""
LONG: Final = 0.05
"""Seconds. A loop that is so late on average has more work than it can do: a request takes about ten turns of it."""
CROWD: Final = 128
"""So many requests must be in hand besides: fewer clients are let alone however slow it gets for them, since their number is the bound."""
MANY: Final = 8
"""So many requests must have come since the last look for a delay to be theirs."""
SHORT: Final = 0.004
"""Seconds that the loop may be late, while work is refused, for new work to begin."""
TERM: Final = 4.0
"""Seconds of the first term; the next are twice as long each, up to LAST_TERM."""
LAST_TERM: Final = 32.0
TRIAL: Final = 5.0
"""Seconds after a term in which an overload is its continuation: a single delay of a quarter of LONG is enough to tell."""
COPIES: Final = 5
"""How often a body is held at most while it is checked, signed and sent: once and a half in each form, and what the kernel takes."""
_SHARE: Final = 0.5
_PATIENCE: Final = 4.0  # times SHORT, for a kind of work that has not had its share
_AVERAGED: Final = 0.3  # seconds
_REMEMBERED: Final = 1.0  # seconds in which work done counts for the shares


Work = Literal["sdk", "api"]
"""The kinds of work that have a share each."""
_COSTS: Final[dict[Work, float]] = {"sdk": 5.0, "api": 1.0}  # beside each other: a signature is worth several requests


class Loop(Protocol):
    """What is needed of an event loop. `time` is when its present turn began, as uvloop tells it, on the monotonic clock."""

    def time(self) -> float:
        """Return the loop's time in seconds."""

    def call_later(self, delay: float, callback: Callable[[], object], /) -> object:
        """Call back after so many seconds."""


class Shedder:
    """Tells whether a request may be begun now. For one event loop; its timer runs only while requests come.

    `has_room` tells whether so many bytes more may be used; it is asked for each request, so it is quick.
    """

    def __init__(
        self,
        log: FilteringBoundLogger,
        loop: Loop,
        *,
        has_room: Callable[[int], bool] = lambda _: True,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self._log = log
        self._loop = loop
        self._has_room = has_room
        self._now = now
        self._due: float | None = None
        self._asked = 0  # since the last look
        self._late = 0.0
        self._late_on_average = 0.0
        self._promised = 0  # bytes
        self._in_hand = 0
        self._refused = 0
        self._term = TERM
        self._changed_at = -TRIAL
        self._lacked_memory_at = -TERM
        self._done = dict.fromkeys(_COSTS, 0.0)
        self.is_shedding = False

    def begin(self, work: Work, size: int = 0) -> None:
        """Return if a request of this kind may begin, with a body of so many bytes that is to be held. Raises GatewayError OVERLOADED.

        What was promised room for its body has it until `end`, beside what it uses already.
        """
        if self._due is None:
            self._wait()
        self._asked += 1
        if not self._has_room(self._promised + size * COPIES):
            self._note_memory()
            raise GatewayError("OVERLOADED", "memory is nearly used up")
        if self.is_shedding and not self._has_place(work):
            self._refused += 1
            raise GatewayError("OVERLOADED", "the event loop is late")
        self._promised += size * COPIES
        self._in_hand += 1
        self._done[work] += _COSTS[work]

    def end(self, size: int = 0) -> None:
        """Take that a request has ended for which `begin` returned."""
        self._promised -= size * COPIES
        self._in_hand -= 1

    def _has_place(self, work: Work) -> bool:
        late = max(self._late, self._now() - self._loop.time())  # the last turn of the loop, and how long this one has lasted
        if late <= SHORT or self._asked == 1:
            return True
        return late <= SHORT * _PATIENCE and self._done[work] < _SHARE * sum(self._done.values())

    def _note_memory(self) -> None:
        now = self._now()
        if now - self._lacked_memory_at >= TERM:
            self._lacked_memory_at = now
            self._log.warning("memory is nearly used up: refusing new requests")

    def _wait(self) -> None:
        self._due = self._now() + PERIOD
        self._loop.call_later(PERIOD, self._look)

    def _look(self) -> None:
        assert self._due is not None
        now = self._now()
        self._late = max(0.0, now - self._due)
        passed = PERIOD + self._late
        late = self._late if self._asked >= MANY and self._in_hand >= CROWD else 0.0
        self._late_on_average += (late - self._late_on_average) * (1 - exp(-passed / _AVERAGED))
        fades = exp(-passed / _REMEMBERED)
        for work in self._done:
            self._done[work] *= fades
        self._switch(now, late)
        if self._asked or self.is_shedding:
            self._asked = 0
            self._wait()
        else:
            self._due = None

    def _switch(self, now: float, late: float) -> None:
        if self.is_shedding:
            if now - self._changed_at >= self._term:
                self.is_shedding, self._changed_at = False, now
                self._log.warning("taking all requests again", refused=self._refused)
            return
        is_trial = now - self._changed_at < TRIAL
        if self._late_on_average >= LONG or (is_trial and late >= LONG / 4):
            self._term = min(self._term * 2, LAST_TERM) if is_trial else TERM
            self.is_shedding, self._changed_at, self._refused = True, now, 0
            self._log.warning("overloaded: refusing new requests", event_loop_late_seconds=round(self._late, 3), seconds=self._term)
