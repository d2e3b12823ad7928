"""A shedder on a clock of the test's, beside a loop that is as late as the test says."""

from collections.abc import Callable
from math import inf

from structlog.testing import CapturingLogger

from gateway.edge.room import Room
from gateway.edge.shedding import CALLS, CROWD, FEW, LONG, PERIOD, SHORT, TERM, Shedder, Work
from gateway.errors import GatewayError

COSTS: dict[Work, int] = {"sdk": 5, "api": 1}
REFUSAL = 0.05
"""What a refusal takes, in calls."""


class Loop:
    """A loop that is as late as the test says, on a clock that stands still otherwise."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.soon: list[Callable[[], object]] = []
        self.timer: tuple[float, Callable[[], object]] | None = None

    def call_soon(self, callback: Callable[[], object], /) -> None:
        self.soon.append(callback)

    def call_later(self, delay: float, callback: Callable[[], object], /) -> None:
        assert self.timer is None
        self.timer = self.now + delay, callback

    def look(self, late: float) -> None:
        assert self.timer is not None
        (due, callback), self.timer = self.timer, None
        self.now = due + late
        self.turn()
        callback()

    def turn(self) -> None:
        """Begin a turn."""
        callbacks, self.soon = self.soon, []
        for callback in callbacks:
            callback()


class Rig:
    def __init__(self, *, few: int = FEW, has_allowance: bool = False, takes: int = 0) -> None:
        self.has_allowance = has_allowance  # else as much was begun as the loop has time for, whenever it is asked
        self.loop = Loop()
        self.room = 1000
        self.clients = 5 * CROWD + 1  # a crowd whatever they ask for
        self.queued = 0.0
        self.idle = 0.0  # seconds in which the loop had nothing to do
        self.waiting = (0, 0.0)
        self.log = CapturingLogger()
        self.shedder = Shedder(
            self.log,
            self.loop,
            room=Room(lambda size: size < self.room),
            clients=self.active,
            queued=lambda: self.queued,
            waiting=lambda: self.waiting,
            few=few,
            takes={"sdk": takes, "api": 0},
            now=lambda: self.loop.now,
            spent=lambda: self.loop.now - self.idle,
        )

    def active(self, seconds: float) -> int:
        assert seconds == TERM
        return self.clients

    def refusal(self, work: Work = "sdk", size: int = 0) -> str | None:
        if not self.has_allowance:
            self.shedder._allowance = -inf
        try:
            self.shedder.begin(work, size)
        except GatewayError as error:
            return error.reason if error.failure.code == "OVERLOADED" else "wrong code"
        return None

    def turns(self, count: int, late: float, requests: int = 8, work: Work = "sdk") -> None:
        for _ in range(count):
            assert [self.refusal(work) for _ in range(requests)] == [None] * requests
            self.loop.look(late)

    def crowd(self, work: Work = "sdk") -> None:
        """Have so many requests in hand as an overload has."""
        assert [self.refusal(work) for _ in range(CROWD)] == [None] * CROWD
        self.loop.look(0)

    def overload(self, work: Work = "sdk") -> None:
        self.crowd(work)
        while not self.shedder.is_shedding:
            self.turns(1, LONG * 2, work=work)

    def term(self, asked: int, late: float = 0.0) -> None:
        """Let a term pass in which so many requests come with each look."""
        ends = self.loop.now + TERM + 2 * PERIOD
        while self.loop.now < ends and self.shedder.is_shedding:
            for _ in range(asked):
                self.refusal()
            self.loop.look(late)

    def limit(self) -> float:
        """Return how late the loop may be for a call now, while work is refused."""
        return max(SHORT, CALLS * 5 * self.shedder._unit)

    def look(self, late: float, work: Work = "sdk") -> None:
        """Let the loop be late, and the first request come since then: it is taken in any case."""
        self.loop.look(late)
        self.refusal(work)

    def done(self, requests: int | None = None, work: Work = "sdk") -> None:
        """Let so many requests end, or all."""
        for _ in range(round(self.shedder._in_hand / COSTS[work]) if requests is None else requests):
            self.shedder.end(work)

    def refuse_many(self) -> None:
        """Have more refused than done."""
        for _ in range(20 * CROWD):
            self.shedder.refuse()
        self.loop.look(0)

    def said(self) -> list[str]:
        return [call.args[0] for call in self.log.calls]
