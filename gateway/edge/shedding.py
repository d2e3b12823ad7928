"""Overload: new work is refused before it makes all other work late.

What tells is a measured delay: by how much the event loop is late with what is due. A loop that has been late for a while, with a crowd
in hand, has more to do than it can; until little is refused any more, it takes as much in each of its turns as keeps it in time. A loop
that is late without many requests is kept from the CPU by others: to refuse would not help. Work in hand is never given up.
"""

from collections.abc import Callable
from math import exp
from time import monotonic
from typing import Final, Literal, Protocol

from structlog.typing import FilteringBoundLogger

from gateway.errors import GatewayError

PERIOD: Final = 0.005
"""Seconds between two looks at the loop, while requests come."""
LONG: Final = 0.015
"""Seconds. A loop that is so late on average has more work than it can do: a request takes about ten turns of it."""
COUNTED: Final = 2 * LONG
"""Seconds. A single delay counts for so long at most: that the process was stopped for a moment is no overload."""
CROWD: Final = 128
"""So many requests must be in hand besides: fewer clients are let alone however slow it gets for them, since their number is the bound."""
MANY: Final = 8
"""So many requests must have come since the last look for a delay to be theirs."""
SHORT: Final = 0.002
"""Seconds that the loop may be late, what was begun in this turn included, for new work to begin while work is refused."""
CALLS: Final = 2
"""So many SDK calls may be begun in one turn, however long they take."""
TERM: Final = 1.0
"""Seconds after which it is looked whether the overload is over."""
OVER: Final = 0.1
"""It is, when no greater share was refused, or when fewer clients than a crowd have asked: a few that ask again at once are no overload."""
COPIES: Final = 5
"""How often a body is held at most while it is checked, signed and sent: once and a half in each form, and what the kernel takes."""
_SHARE: Final = 0.5
_PATIENCE: Final = 4.0  # times as late, for a kind of work that has not had its share
_AVERAGED: Final = 0.3  # seconds
_REMEMBERED: Final = 1.0  # seconds in which work done counts for the shares
_LATELY: Final = exp(-1)  # what is left of work after that time


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

    `has_room` tells whether so many bytes more may be used; it is asked for each request, so it is quick. `clients` tells how many clients
    have sent something in so many seconds.
    """

    def __init__(
        self,
        log: FilteringBoundLogger,
        loop: Loop,
        *,
        has_room: Callable[[int], bool] = lambda _: True,
        clients: Callable[[float], int] = lambda _: CROWD,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self._log = log
        self._loop = loop
        self._has_room = has_room
        self._clients = clients
        self._now = now
        self._due: float | None = None
        self._asked = 0  # since the last look
        self._late = 0.0
        self._late_on_average = 0.0
        self._promised = 0  # bytes
        self._in_hand = 0
        self._refused = 0  # in this overload
        self._term_began = 0.0
        self._asked_in_term = self._refused_before = 0
        self._busy = 0.0  # seconds in which `_done` was done
        self._unit = 0.0  # seconds that a unit of the costs takes
        self._turn = self._begun = 0.0  # when the loop's present turn began; seconds of work begun in it
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

    def has_lately(self, work: Work) -> bool:
        """Tell whether such requests have begun in the last second or so."""
        return self._done[work] > _COSTS[work] * _LATELY

    def _has_place(self, work: Work) -> bool:
        turn = self._loop.time()
        if turn != self._turn:
            self._turn, self._begun = turn, 0.0
        late = max(self._late, self._now() - turn) + self._begun  # the last look, or how long this turn has lasted and is going to
        limit = max(SHORT, CALLS * _COSTS["sdk"] * self._unit)
        is_short = late <= limit * _PATIENCE and self._done[work] < _SHARE * sum(self._done.values())
        if late > limit and not is_short and self._asked > 1:
            return False
        self._begun += _COSTS[work] * self._unit
        return True

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
        counted = min(self._late, COUNTED)
        late = counted if self._asked >= MANY and self._in_hand >= CROWD else 0.0
        self._late_on_average += (late - self._late_on_average) * (1 - exp(-(PERIOD + counted) / _AVERAGED))
        self._measure(PERIOD + self._late, is_busy=self.is_shedding or late > 0)
        self._switch(now)
        if self._asked or self.is_shedding:
            self._asked_in_term += self._asked
            self._asked = 0
            self._wait()
        else:
            self._due = None

    def _measure(self, passed: float, *, is_busy: bool) -> None:
        """Keep what was done lately, and how long it took."""
        fades = exp(-passed / _REMEMBERED)
        for work in self._done:
            self._done[work] *= fades
        self._busy = self._busy * fades + (passed if is_busy else 0.0)
        self._unit = self._busy / max(1.0, sum(self._done.values()))

    def _switch(self, now: float) -> None:
        if not self.is_shedding:
            if self._late_on_average < LONG:
                return
            self.is_shedding, self._refused = True, 0
            self._log.warning("overloaded: refusing new requests", event_loop_late_seconds=round(self._late, 3))
        elif now - self._term_began < TERM:
            return
        elif self._refused - self._refused_before <= OVER * self._asked_in_term or self._clients(TERM) < CROWD:
            self.is_shedding, self._late_on_average = False, 0.0
            self._log.warning("taking all requests again", refused=self._refused)
        self._term_began, self._asked_in_term, self._refused_before = now, 0, self._refused
