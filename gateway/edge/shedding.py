"""Overload: new work is refused before it makes all other work late.

What tells is a measured delay: by how much the event loop is late with what is due, or calls are with their signatures. A loop that has
been late for a while, for more clients than a few and with requests in hand, has more to do than it can; until hardly any is refused any
more, it takes as much as it can do. Few clients are let alone however slow it gets for them, since their number is the bound. Work in hand
is never given up. Clients that are refused and ask again at once are not heard for a moment, or all the time would go into refusals.

How much it can do, neither what is in hand tells nor how late the loop is just now: most of what is in hand waits for others, for a
moment or for long, and what comes back from them comes when it will. What tells is the processor's time that work takes, measured all
along: as much work may begin as there is time for. Besides, a few requests may be in hand, and more while the loop is in time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import exp, inf
from time import monotonic, process_time
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
"""More clients than these, or as many more as their requests cost less than SDK calls, must have asked within a term for an overload."""
MANY: Final = 24
"""So many SDK calls must be in hand, their bodies too, for a delay to be theirs: else the loop is kept from the CPU by others."""
SHORT: Final = 0.002
"""Seconds that the loop may be late, what was begun in this turn included, for new work to begin while work is refused."""
CALLS: Final = 1
"""So many SDK calls may be begun in one turn, however long they take."""
REQUESTS: Final = 4
"""The loop may be as late as so many API requests take for another one to begin: with more, all wait longer, and no more are done."""
FEW: Final = 6
"""So many SDK calls may be in hand in any case: with more, all wait longer for the same."""
FEW_REQUESTS: Final = 36
"""So many API requests, or what costs as much, in the same way."""
ALLOWANCE: Final = 0.01
"""Seconds of work at most for which there was time before, while less was begun, that may begin at once: requests do not come evenly."""
TERM: Final = 1.0
"""Seconds after which it is looked whether the overload is over."""
OVER: Final = 0.02
"""It is, when no greater share was refused, or when no crowd has asked: a few that ask again at once are no overload."""
DOUBTS: Final = 32
"""Terms that must have passed without a crowd at most, when the overload came back each time: those behind a proxy that uses few of its
connections while work is refused are a crowd all the same, and are found out each time by keeping them all waiting."""
RELAPSE: Final = 2 * TERM
"""Seconds within which an overload that begins is the last one come back."""
WARY: Final = 0.8
"""Such a share of LONG counts as how late the loop has been on average, where it is only tried whether the overload is over."""
HELD: Final = 0.8
"""Seconds for which a client is not heard after a refusal at most: less than it was told to wait, and than a term."""
BRIEF: Final = 0.05
"""Seconds that are too short for that."""
COPIES: Final = 5
"""How often a body is held at most while it is checked, signed and sent, or verified and passed on: once and a half in each form, and what
the kernel takes."""
LATE: Final = "the event loop is late"
"""Why work is refused, in the log."""
_SHARE: Final = 0.5
_PATIENCE: Final = 4.0  # times as late, for a kind of work that has not had its share
_AVERAGED: Final = 0.15  # seconds
_COUNT_AGAIN: Final = 0.05  # seconds; to count clients takes a while if there are many
_REMEMBERED: Final = 1.0  # seconds in which work done counts for the shares
_LATELY: Final = exp(-1)  # what is left of work after that time


Work = Literal["sdk", "api"]
"""The kinds of work that have a share each."""
_COSTS: Final[dict[Work, float]] = {"sdk": 5.0, "api": 1.0}  # beside each other: a signature is worth several requests
AT_ONCE: Final = 0.25
"""What a refusal costs beside these that is made without the parser (`gateway.edge.plain`)."""
LATER: Final = 0.6
"""The same of one that is made on the usual way."""
LATEST: Final[dict[Work, float]] = {"sdk": 0.004, "api": 0.003}
"""Seconds that the loop may be late for what there is an ALLOWANCE for: with more all wait longer, and no more is done where others answer
at once; with less, where they take their time, a fifth of what can be done is not."""
REFUSING: Final[dict[Work, float]] = {"sdk": 0.15, "api": 0.65}
"""So much of the time goes into refusals, as long as that is possible without one of those refused waiting longer than HELD.

It is more than twice the load needs, in which nobody is to wait for a refusal: one of the API takes a fifth of what it spares or more,
and after a stall those that fell behind are to be answered, too. With less, clients of the API stayed behind for seconds.
"""


class Loop(Protocol):
    """What is needed of an event loop. `time` is when its present turn began, as uvloop tells it, on the monotonic clock."""

    def time(self) -> float:
        """Return the loop's time in seconds."""

    def call_later(self, delay: float, callback: Callable[[], object], /) -> object:
        """Call back after so many seconds."""


@dataclass(frozen=True, slots=True)
class Share:
    """One kind of work, as whoever does it sees the shedder: its methods for that kind, and for the room that each takes."""

    begin: Callable[[int], None]
    end: Callable[[int], None]
    pause: Callable[[], None]
    resume: Callable[[], None]
    grow: Callable[[int], bool]
    shrink: Callable[[int], None]


class Shedder:
    """Tells whether a request may be begun now. For one event loop; its timer runs only while requests come.

    `has_room` tells whether so many bytes more may be used; it is asked for each request, so it is quick. `clients` tells how many clients
    have sent something in so many seconds, `queued` for how many seconds work in hand has been put off for other work, `waiting` how many
    requests have not begun yet, and for how many seconds the first of them has waited. `few` SDK calls may be in hand in any case. `spent`
    tells how many seconds of the processor's time have been spent so far.
    """

    def __init__(
        self,
        log: FilteringBoundLogger,
        loop: Loop,
        *,
        has_room: Callable[[int], bool],
        clients: Callable[[float], int],
        queued: Callable[[], float],
        waiting: Callable[[], tuple[int, float]],
        few: int,
        now: Callable[[], float] = monotonic,
        spent: Callable[[], float] = process_time,
    ) -> None:
        self._log = log
        self._loop = loop
        self._has_room = has_room
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
        self._promised = 0  # bytes
        self._grown = 0  # of these, for what has come for requests in hand
        self._in_hand = 0.0  # units of the costs
        self._refused = 0  # in this overload
        self._refusing = 0.0  # units that it took to refuse, and what else is no work, ever
        self._term_began = self._counted_at = 0.0
        self._asked_in_term = self._refused_before = 0
        self._without_crowd = 0  # terms
        self._doubts = 1  # such terms that are to pass before it is tried whether it goes on without refusals
        self._tried_at = -inf  # when that was tried last
        self._refusals = 0.0  # units that they took lately, as the work done
        self._busy = 0.0  # seconds of the processor's time which that took
        self._unit = 0.0  # seconds that a unit of the costs takes
        self._spent_before_look = spent()
        self._allowance = 0.0  # seconds of work that may be begun beyond what is always taken
        self._turn = self._begun = 0.0  # when the loop's present turn began; seconds of work begun in it
        self._refusing_before_turn = self._refusing_before_look = 0.0
        self._full: dict[Work, tuple[float, float]] = {"sdk": (0.0, -1.0), "api": (0.0, -1.0)}  # when none had a place: turn, in hand
        self._passed: dict[Work, float] = dict.fromkeys(_COSTS, 0.0)  # units that were told that they may begin, and have not yet
        self._kept_since_look: dict[Work, float] = dict.fromkeys(_COSTS, 0.0)  # of these
        self._heard_again = 0.0  # when the last one that was refused is heard
        self._lacked_memory_at = -TERM
        self._done = dict.fromkeys(_COSTS, 0.0)
        self.is_shedding = False

    def share(self, work: Work) -> Share:
        """Return what one kind of work is told of."""
        begin, end, pause, resume = (partial(method, work) for method in (self.begin, self.end, self.pause, self.resume))
        return Share(begin, end, pause, resume, self.grow, self.shrink)

    def passes(self, work: Work, *, is_new: bool = False) -> bool:
        """Tell whether a request of this kind may begin now; if so, `begin` does not ask again. Else whoever refuses it calls `refuse`.

        A call keeps its place until the look after the next, since to refuse it later costs much, and so does what comes on a connection
        that `is_new` and has to be opened first; another API request until the next look.
        """
        if self._full[work] == (self._loop.time(), self._in_hand):
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
        """Take that something of this cost was done that is no work: nobody was refused it."""
        self._refusing += cost
        self._allowance -= cost * self._unit

    def hold(self, work: Work, cost: float = AT_ONCE) -> float:
        """Return for how many seconds a client that was just refused such work is not to be heard, 0 for not at all: it may ask at once.

        Each waits its turn, so that no more of the time goes into refusals, of which this one has cost so much, than is meant to.
        """
        now = self._now()
        each = cost * self._unit / REFUSING[work]
        self._heard_again = min(max(self._heard_again, now) + each, now + HELD)
        wait = self._heard_again - now
        return wait if wait >= BRIEF else 0.0

    def begin(self, work: Work, size: int = 0) -> None:
        """Return if a request of this kind may begin, with a body of so many bytes that is to be held. Raises GatewayError OVERLOADED.

        What was promised room for its body has it until `end`, beside what it uses already.
        """
        if self._due is None:
            self._spent_before_look = self._spent()  # what was spent while no requests came is not theirs
            self._wait()
        cost, held = _COSTS[work], size * COPIES
        if not self._has_room(self._promised + held):
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
        self._promised += held
        self._in_hand += cost
        self._done[work] += cost

    def end(self, work: Work, size: int = 0) -> None:
        """Take that a request has ended for which `begin` returned."""
        self._promised -= size * COPIES
        self._in_hand -= _COSTS[work]

    def pause(self, work: Work) -> None:
        """Take that a request which has begun waits for its client: until `resume`, it is nothing that the loop has to do."""
        self._in_hand -= _COSTS[work]

    def resume(self, work: Work) -> None:
        """Take that its client waits for such a request again."""
        self._in_hand += _COSTS[work]

    def grow(self, size: int) -> bool:
        """Promise room, if there is that, for so many bytes more that come for a request in hand, until `shrink`; say whether.

        While no other has grown, one may in any case: there may never be as much.
        """
        held = size * COPIES
        if self._grown and not self._has_room(self._promised + held):
            return False
        self._promised += held
        self._grown += held
        return True

    def shrink(self, size: int) -> None:
        """Take that what came for one request, so many bytes, is not held any more."""
        self._promised -= size * COPIES
        self._grown -= size * COPIES

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

        The first since the last look may, and all while few are in hand; others if the loop is in time, or if it is not later than LATEST
        and there was time before that was not used. For a kind of work that has not had its share it may be four times as late.
        """
        turn = self._loop.time()
        if turn != self._turn:
            self._allowance = max(-ALLOWANCE, min(self._allowance + turn - self._turn, ALLOWANCE))
            self._turn, self._begun, self._refusing_before_turn = turn, 0.0, self._refusing
        waiting, waited = self._waiting()
        if self._in_hand + sum(self._passed.values()) + waiting < self._few[work] or not self._asked:
            return True
        lasted = self._now() - turn - self._spent_refusing(self._refusing_before_turn)
        late = max(self._late, lasted, waited) + self._begun  # the last look, or how long this turn has lasted and is going to
        limit = max(SHORT, CALLS * _COSTS["sdk"] * self._unit)
        if self._done[work] < _SHARE * sum(self._done.values()):
            return late <= limit * _PATIENCE or (late <= LATEST[work] * _PATIENCE and self._allowance > -ALLOWANCE)
        if work == "api":
            limit = REQUESTS * self._unit
        return late <= limit or (late <= LATEST[work] and self._allowance > 0)

    def _spent_refusing(self, before: float) -> float:
        """Return how many seconds have gone into refusals since then: to refuse more would not get these back."""
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
        self._measure(passed)
        self._switch(now)
        if self._asked or self.is_shedding:
            self._asked_in_term += self._asked
            self._asked = 0
            self._wait()
        else:
            self._due = None

    def _measure(self, passed: float) -> None:
        """Keep what was done and refused lately, and how long it took."""
        fades, spent = exp(-passed / _REMEMBERED), self._spent()
        for work in self._done:
            self._done[work] *= fades
        self._refusals = self._refusals * fades + self._refusing - self._refusing_before_look
        self._refusing_before_look = self._refusing
        self._busy = self._busy * fades + spent - self._spent_before_look
        self._spent_before_look = spent
        self._unit = self._busy / max(1.0, sum(self._done.values()) + self._refusals)

    def _switch(self, now: float) -> None:
        """Begin an overload if the loop has been late for a crowd; end it after a term in which hardly any was refused, or terms of few."""
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
        """Tell at the end of a term whether enough terms have passed without a crowd."""
        self._without_crowd = 0 if self._has_crowd() else self._without_crowd + 1
        return self._without_crowd >= self._doubts

    def _has_crowd(self) -> bool:
        """Tell whether what the clients of a term want at once takes longer than as many SDK calls as make a crowd."""
        cost = sum(self._done.values()) / max(1.0, sum(map(self.lately, self._done)))
        return self._clients(TERM) * cost > CROWD * _COSTS["sdk"]
