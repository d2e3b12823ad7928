"""Overload: new work is refused before it makes all other work late.

When it begins: the loop has been late for a while (LONG), with enough in hand (MANY), for more clients than a few (CROWD). Late means that
the loop comes late to what is due, or that signatures or new requests wait. Few clients are let alone however slow it gets for them, since
their number is the bound. When it ends: hardly any request is refused any more (OVER). Work in hand is never given up.

What begins meanwhile: as much as there is time for. How much is in hand does not tell that, since most of it waits for others; nor does how
late the loop is just now, since what comes back from others comes when it will. So the processor's time that work takes is measured all
along (`_unit`), and a time that was not used may be used a moment later (ALLOWANCE). Besides, a few requests may be in hand in any case
(FEW), and more begin while the loop is in time (SHORT, REQUESTS).

Who is refused and asks again at once is not heard for a moment (HELD), or all the time would go into refusals.

Work and refusals are counted in units: an API request is one, an SDK call five.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import exp, inf
from time import monotonic, process_time
from typing import Final, Literal, Protocol

from structlog.typing import FilteringBoundLogger

from gateway.edge.room import Room
from gateway.errors import GatewayError

PERIOD: Final = 0.005
"""Seconds between two looks at the loop, while requests come."""
LONG: Final = 0.015
"""Seconds. A loop that is so late on average has more work than it can do. A request takes about ten turns of it: 0.15 s longer."""
COUNTED: Final = 2 * LONG
"""Seconds. A single delay counts for so long at most: that the process was stopped for a moment is no overload."""
CROWD: Final = 128
"""An overload needs more clients than these that asked for SDK calls within a TERM, five times as many if their requests cost a fifth."""
MANY: Final = 24
"""A delay counts only while so many SDK calls, or as many units of API requests, are in hand or wait to begin. With fewer, it is others
that keep the loop from the CPU. Those that wait for their clients (`pause`) are not in hand."""
SHORT: Final = 0.002
"""Seconds. While work is refused, a call may begin if the loop is no later than this, or than CALLS take. What has begun in the same turn
counts as lateness, too."""
CALLS: Final = 1
"""So many SDK calls may begin in one turn, however long they take."""
REQUESTS: Final = 4
"""An API request may begin if the loop is no later than so many of them take. With more, all wait longer, and no more are done."""
FEW: Final = 6
"""So many SDK calls may be in hand in any case. With more, all wait longer for the same."""
FEW_REQUESTS: Final = 36
"""So many API requests, or what costs as much, in the same way."""
ALLOWANCE: Final = 0.01
"""Seconds. Each second that passes allows one second of work and refusals. What was not used is kept, but no more than this, since requests
do not come evenly; what was overdrawn is owed, no more than this either."""
TERM: Final = 1.0
"""Seconds after which it is looked whether the overload is over, again and again."""
OVER: Final = 0.02
"""It is, if no greater share of a term's requests was refused. It may be (DOUBTS), if no crowd has asked: few clients that ask again at
once are no overload."""
DOUBTS: Final = 32
"""After a term without a crowd it is tried whether it goes on without refusals. Where the overload comes back at once (RELAPSE), twice as
many such terms must pass before the next trial, so many at most. For a proxy may use few of its connections while work is refused: its
clients are a crowd all the same, and each trial keeps them all waiting."""
RELAPSE: Final = 2 * TERM
"""Seconds. An overload that begins so soon after a trial is the last one come back."""
WARY: Final = 0.8
"""A trial begins as if the loop had been late by such a share of LONG on average: an overload that is not over is soon found out."""
HELD: Final = 0.8
"""Seconds for which a client is not heard after a refusal at most: less than it was told to wait, and than a TERM, in which it is to be
counted."""
BRIEF: Final = 0.05
"""Seconds. For less than this no client is held."""
LATE: Final = "the event loop is late"
"""Why work is refused, in the log."""
_SHARE: Final = 0.5  # of the work done lately; a kind that has had less is let in sooner
_PATIENCE: Final = 4.0  # times as late the loop may be for that kind
_AVERAGED: Final = 0.15  # seconds over which the lateness is averaged
_COUNT_AGAIN: Final = 0.05  # seconds until clients are counted again; that takes a while if there are many
_REMEMBERED: Final = 1.0  # seconds; what was done so long ago counts for 1/e
_LATELY: Final = exp(-1)  # what is left of work after that time


Work = Literal["sdk", "api"]
"""The kinds of work that have a share each."""
_COSTS: Final[dict[Work, float]] = {"sdk": 5.0, "api": 1.0}  # units: a signature takes as long as several requests
AT_ONCE: Final = 0.25
"""Units that a refusal takes without the parser (`gateway.edge.plain`)."""
LATER: Final = 0.6
"""Units that it takes on the usual way."""
LATEST: Final[dict[Work, float]] = {"sdk": 0.004, "api": 0.003}
"""Seconds that the loop may be late for work that the ALLOWANCE is left for. With more, all wait longer, and no more is done where others
answer at once. With less, a fifth of what can be done is not, where others take their time."""
REFUSING: Final[dict[Work, float]] = {"sdk": 0.15, "api": 0.65}
"""The share of the time that goes into refusals. It is exceeded rather than that a client is held for longer than HELD.

At twice the load nobody is to be held, and so it is more than refusals take then: one of the API takes a fifth or more of what it spares.
After a stall those that fell behind are to be answered, too: with less, clients of the API stayed behind for seconds.
"""


class Loop(Protocol):
    """What is needed of an event loop."""

    def call_soon(self, callback: Callable[[], object], /) -> object:
        """Call back in the next turn."""

    def call_later(self, delay: float, callback: Callable[[], object], /) -> object:
        """Call back after so many seconds."""


@dataclass(frozen=True, slots=True)
class Share:
    """One kind of work, as whoever does it sees the shedder: its methods for that kind, and for the room that each takes."""

    begin: Callable[[int], None]
    end: Callable[[int], None]
    pause: Callable[[], None]
    resume: Callable[[], None]
    shrink: Callable[[int], None]


class Shedder:
    """Tells whether a request may begin now. For one event loop; its timer runs only while requests come.

    What it asks: `room`, whether there is memory for a request; `clients`, how many have sent something in so many
    seconds; `queued`, for how many seconds the first signature has been waited for; `waiting`, how many requests have not begun yet, and
    for how many seconds the first has waited; `spent`, how many seconds of the processor's time have gone so far. `few` SDK calls may be in
    hand in any case. A request of each kind `takes` so many bytes beside its body.
    """

    def __init__(
        self,
        log: FilteringBoundLogger,
        loop: Loop,
        *,
        room: Room,
        clients: Callable[[float], int],
        queued: Callable[[], float],
        waiting: Callable[[], tuple[int, float]],
        few: int,
        takes: Mapping[Work, int],
        now: Callable[[], float] = monotonic,
        spent: Callable[[], float] = process_time,
    ) -> None:
        self._log = log
        self._loop = loop
        self.room = room
        self._clients = clients
        self._queued = queued
        self._waiting = waiting
        self._few: dict[Work, float] = {"sdk": few * _COSTS["sdk"], "api": FEW_REQUESTS * _COSTS["api"]}
        self._now = now
        self._spent = spent
        self._due: float | None = None
        self._asked = 0  # since the last look
        self._late = 0.0
        self._late_on_average = 0.0
        self._in_hand = 0.0  # units
        self._takes = takes
        self._refused = 0  # in this overload
        self._refusing = 0.0  # units that refusals took, and what else is no work, since the beginning
        self._term_began = self._counted_at = 0.0
        self._asked_in_term = self._refused_before = 0
        self._without_crowd = 0  # terms
        self._doubts = 1  # such terms that are to pass before the next trial
        self._tried_at = -inf  # when the last trial began
        self._refusals = 0.0  # units that they took lately, as the work done
        self._busy = 0.0  # seconds of the processor's time which that took
        self._unit = 0.0  # seconds that a unit takes
        self._spent_before_look = spent()
        self._allowance = 0.0  # seconds of work that there is time for; below zero, owed
        self._turn = self._begun = 0.0  # when it was first asked in the loop's present turn; seconds of work begun in it
        self._is_new_turn = True  # nobody has asked in it
        self._refusing_before_turn = self._refusing_before_look = 0.0
        self._full: dict[Work, tuple[float, float]] = {"sdk": (0.0, -1.0), "api": (0.0, -1.0)}  # when none had a place: turn, in hand
        self._passed: dict[Work, float] = dict.fromkeys(_COSTS, 0.0)  # units that may begin (`passes`) and have not yet
        self._kept_since_look: dict[Work, float] = dict.fromkeys(_COSTS, 0.0)  # of these, those that keep their places at the next look
        self._heard_again = 0.0  # when the last one that was refused is heard
        self._lacked_memory_at = -TERM
        self._done = dict.fromkeys(_COSTS, 0.0)
        self.is_shedding = False

    def share(self, work: Work) -> Share:
        """Return what one kind of work is told of."""
        begin, end, pause, resume = (partial(method, work) for method in (self.begin, self.end, self.pause, self.resume))
        return Share(begin, end, pause, resume, self.room.shrink)

    def passes(self, work: Work, *, is_new: bool = False) -> bool:
        """Tell whether a request of this kind may begin now. If so, its place is kept for `begin`; else whoever refuses it calls `refuse`.

        The place is kept until the next look. That of a call is kept until the one after that, since to refuse it later costs much; and so
        is that of a request whose connection `is_new`, which has to be opened first.
        """
        if not self._is_new_turn and self._full[work] == (self._turn, self._in_hand):
            return False  # for the others of this turn, too
        if not self._has_place(work):
            self._full[work] = self._turn, self._in_hand
            return False
        self._take_place(work)
        self._passed[work] += _COSTS[work]
        if is_new or work == "sdk":
            self._kept_since_look[work] += _COSTS[work]
        return True

    def refuse(self, cost: float = AT_ONCE) -> None:
        """Take that a request was refused because the loop is late."""
        self._asked += 1
        self._refused += 1
        self.spend(cost)

    def spend(self, cost: float) -> None:
        """Take that so many units went into what is neither work nor a refusal of work."""
        self._refusing += cost
        self._allowance -= cost * self._unit

    def hold(self, work: Work, cost: float = AT_ONCE) -> float:
        """Return for how many seconds a client that was just refused such work is not to be heard; 0: it may ask at once.

        Those refused are heard one after the other, each as much later as its refusal (of this cost) took, divided by the share of the time
        that refusals may take (REFUSING).
        """
        now = self._now()
        each = cost * self._unit / REFUSING[work]
        self._heard_again = min(max(self._heard_again, now) + each, now + HELD)
        wait = self._heard_again - now
        return wait if wait >= BRIEF else 0.0

    def begin(self, work: Work, size: int = 0) -> None:
        """Return if a request of this kind may begin, with a body of so many bytes that is to be held. Raises GatewayError OVERLOADED.

        There is room for its body until `end`: others are promised only what is left.
        """
        if self._due is None:
            self._spent_before_look = self._spent()  # what was spent while no requests came is not theirs
            self.room.turn(self._now())
            self._wait()
        cost = _COSTS[work]
        if not self.room.has_place(size):
            self._asked += 1
            self._note_memory()
            raise GatewayError("OVERLOADED", "memory is nearly used up")
        if not self.is_shedding:
            self._asked += 1
        elif self._passed[work] >= cost:
            self._passed[work] -= cost
        elif self._has_place(work):
            self._take_place(work)
        else:
            self.refuse(LATER)
            raise GatewayError("OVERLOADED", LATE)
        self.room.take(size, self._takes[work])
        self._in_hand += cost
        self._done[work] += cost

    def has_memory(self) -> bool:
        """Tell whether there is memory for a request without a body, as far as it has come and cannot begin yet."""
        self.room.turn(self._now())
        if self.room.has_place(0):
            return True
        self._note_memory()
        return False

    def end(self, work: Work, size: int = 0) -> None:
        """Take that a request has ended for which `begin` returned."""
        self.room.give_back(size, self._takes[work])
        self._in_hand -= _COSTS[work]

    def pause(self, work: Work) -> None:
        """Take that a request which has begun waits for its client: until `resume`, it is nothing that the loop has to do."""
        self._in_hand -= _COSTS[work]

    def resume(self, work: Work) -> None:
        """Take that its client waits for such a request again."""
        self._in_hand += _COSTS[work]

    def has_lately(self, work: Work) -> bool:
        """Tell whether such requests have begun in the last second or so."""
        return self.lately(work) > _LATELY

    def lately(self, work: Work) -> float:
        """Return how many such requests have begun in the last second or so; older ones fade."""
        return self._done[work] / _COSTS[work]

    def _take_place(self, work: Work) -> None:
        self._asked += 1
        self._begun += (takes := _COSTS[work] * self._unit)
        self._allowance -= takes

    def _has_place(self, work: Work) -> bool:
        """Tell whether work of this kind may begin now.

        It may if it is the first since the last look, or few are in hand. It may if the loop is in time (SHORT, REQUESTS), or not later
        than LATEST while there is an ALLOWANCE. For a kind of work that has had less than its share, the loop may be four times as late.
        """
        if self._is_new_turn:
            self._begin_turn()
        waiting, waited = self._waiting()
        if self._in_hand + sum(self._passed.values()) + waiting < self._few[work] or not self._asked:
            return True
        lasted = self._now() - self._turn - self._spent_refusing(self._refusing_before_turn)
        late = max(self._late, lasted, waited) + self._begun  # the last look, or how long this turn has lasted and is going to
        limit = max(SHORT, CALLS * _COSTS["sdk"] * self._unit)
        if self._done[work] < _SHARE * sum(self._done.values()):
            return late <= limit * _PATIENCE or (late <= LATEST[work] * _PATIENCE and self._allowance > -ALLOWANCE)
        if work == "api":
            limit = REQUESTS * self._unit
        return late <= limit or (late <= LATEST[work] and self._allowance > 0)

    def _begin_turn(self) -> None:
        self._loop.call_soon(self._end_turn)
        turn, self._is_new_turn = self._now(), False
        self._allowance = max(-ALLOWANCE, min(self._allowance + turn - self._turn, ALLOWANCE))
        self._turn, self._begun, self._refusing_before_turn = turn, 0.0, self._refusing

    def _end_turn(self) -> None:
        self._is_new_turn = True

    def _spent_refusing(self, before: float) -> float:
        """Return how many seconds have gone into refusals since there were so many units of them. They are no reason to refuse more."""
        return (self._refusing - before) * self._unit

    def _note_memory(self) -> None:
        now = self._now()
        if now - self._lacked_memory_at >= TERM:
            self._lacked_memory_at = now
            self._log.warning("memory is nearly used up: refusing new requests")

    def _wait(self) -> None:
        self._due = self._now() + PERIOD
        self._loop.call_later(PERIOD, self._look)

    def _look(self) -> None:
        """See how late the loop is, what work takes, and whether an overload has begun or is over; look again while anybody asks."""
        assert self._due is not None
        now = self._now()
        passed = PERIOD + max(0.0, now - self._due)
        self._late = max(0.0, passed - PERIOD - self._spent_refusing(self._refusing_before_look))
        waiting, waited = self._waiting()
        late = min(max(self._late, self._queued(), waited), COUNTED) if self._in_hand + waiting >= MANY * _COSTS["sdk"] else 0.0
        self._late_on_average += (late - self._late_on_average) * (1 - exp(-(PERIOD + min(self._late, COUNTED)) / _AVERAGED))
        for kind, kept in self._kept_since_look.items():
            self._passed[kind] = min(self._passed[kind], kept)
            self._kept_since_look[kind] = 0.0
        self.room.turn(now)
        self._measure(passed)
        self._switch(now)
        if self._asked or self.is_shedding:
            self._asked_in_term += self._asked
            self._asked = 0
            self._wait()
        else:
            self._due = None

    def _measure(self, passed: float) -> None:
        """Keep what was done and refused lately, and what processor's time that took: so a unit's time is known."""
        fades, spent = exp(-passed / _REMEMBERED), self._spent()
        for work in self._done:
            self._done[work] *= fades
        self._refusals = self._refusals * fades + self._refusing - self._refusing_before_look
        self._refusing_before_look = self._refusing
        self._busy = self._busy * fades + spent - self._spent_before_look
        self._spent_before_look = spent
        self._unit = self._busy / max(1.0, sum(self._done.values()) + self._refusals)

    def _switch(self, now: float) -> None:
        """Begin an overload if the loop has been late for a crowd. End it after a term with hardly a refusal, or terms without a crowd."""
        if not self.is_shedding:
            if self._late_on_average < LONG or now - self._counted_at < _COUNT_AGAIN:
                return
            self._counted_at = now
            if not self._has_crowd():
                return
            self._doubts = min(2 * self._doubts, DOUBTS) if now - self._tried_at < RELAPSE else 1
            self.is_shedding, self._refused = True, 0
            self._log.warning("overloaded: refusing new requests", event_loop_late_seconds=round(self._late, 3))
        elif now - self._term_began < TERM:
            return
        elif self._refused - self._refused_before <= OVER * self._asked_in_term:
            self._end(late_on_average=0.0)
        elif self._lacks_crowd():
            self._end(late_on_average=WARY * LONG)
            self._tried_at = now
        self._term_began, self._asked_in_term, self._refused_before = now, 0, self._refused

    def _end(self, late_on_average: float) -> None:
        self.is_shedding, self._late_on_average, self._without_crowd = False, late_on_average, 0
        self._log.warning("taking all requests again", refused=self._refused)

    def _lacks_crowd(self) -> bool:
        """Tell at the end of a term whether enough terms without a crowd have followed each other."""
        self._without_crowd = 0 if self._has_crowd() else self._without_crowd + 1
        return self._without_crowd >= self._doubts

    def _has_crowd(self) -> bool:
        """Tell whether one request of each client of a term costs more than CROWD calls, at the average cost of what was done lately."""
        cost = sum(self._done.values()) / max(1.0, sum(map(self.lately, self._done)))
        return self._clients(TERM) * cost > CROWD * _COSTS["sdk"]
