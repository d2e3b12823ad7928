"""Overload: more than the gateway can carry, beside 70 % of what it can. Requests come when they are due, however late the answers."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Final

from tests.bench.load import Load, Outcome
from tests.bench.program import Gateway

USUAL: Final = 0.7
TIMES: Final = 2.0
ONSET_SECONDS: Final = 3.0
"""How long a load lasts before it is looked at: connections are made first, and an overload is noticed by its effect."""


@dataclass(frozen=True, slots=True)
class Path:
    """How to load a path, always from the same clients: how many there are tells on what a worker carries.

    `peak` is as many requests as it carries, a few of the clients at a time; `paced` so many a second, or as many as clients that ask again
    at once make, begun ONSET_SECONDS earlier. `alone` loads the stub of the API itself so.
    """

    peak: Load
    paced: Callable[[float | None], Load]
    alone: Callable[[float | None], Load]


@dataclass(frozen=True, slots=True)
class Round:
    """What a path carried at its peak (requests a second), how it was at 70 % of it and at twice, and a stub alone: the machine's part."""

    peak: float
    usual: Outcome
    alone: Outcome
    twice: Outcome

    @property
    def goodput(self) -> float:
        """The share of the peak that is done at twice the load."""
        return self.twice.per_second / max(self.peak, 1.0)

    @property
    def tail(self) -> float:
        """What p99 is of p50 at 70 %."""
        return self.usual.p99_of_seconds / max(self.usual.p50, 0.001)

    @property
    def growth(self) -> float:
        """What p99 at twice the load is of p99 at 70 %."""
        return self.twice.p99_of_seconds / max(self.usual.p99_of_seconds, 0.001)


@dataclass(frozen=True, slots=True)
class Overload:
    """What came of all rounds, and of clients that ask again as soon as they are refused."""

    rounds: list[Round]
    insistent: Outcome


def overload(gateway: Gateway, path: Path, seconds: float, rounds: int) -> Overload:
    """Load a path in each round, for so many seconds each, at its peak, with 70 % of that and with twice that.

    The peak is found again in each, since machines drift. At last load it with clients that do not pause.
    """
    port, found = gateway.port, []
    for _ in range(rounds):
        path.peak(port, seconds / 2)  # warms up, and an overload is noticed to be over
        peak = path.peak(port, seconds).per_second
        usual, alone = path.paced(peak * USUAL)(port, seconds), path.alone(peak * USUAL)(gateway.stub_port, seconds)
        found.append(Round(peak, usual, alone, path.paced(peak * TIMES)(port, seconds)))
    return Overload(found, path.paced(None)(port, seconds))


def report(name: str, overload: Overload) -> str:
    """Return the lines of what was measured of the path of this name."""
    lines: list[str] = []
    for number, one in enumerate(overload.rounds, 1):
        lines += [
            f"{name}, round {number}: peak {one.peak:.0f} requests/s; at {USUAL:.0%}: {_served(one.usual)}, errors: {one.usual.errors}",
            f"    the stub alone: {_served(one.alone)}, errors: {one.alone.errors}",
            f"    at {TIMES:.0%}: {_served(one.twice)}, {_refused(one.twice)}",
        ]
    goodput = _over([one.goodput * 100 for one in overload.rounds], "0f", "%")
    tail, growth = (_over(each, "1f") for each in ([one.tail for one in overload.rounds], [one.growth for one in overload.rounds]))
    lines += [
        f"    goodput: {goodput} of the peak; p99 of a second: at {USUAL:.0%} {tail} times p50, at {TIMES:.0%} {growth} times that",
        f"    as many clients asking again at once: {_served(overload.insistent)}, {_refused(overload.insistent)}",
    ]
    return "\n".join(lines)


def _over(figures: list[float], form: str, unit: str = "") -> str:
    middle, least, most = (f"{figure:.{form}}{unit}" for figure in (median(figures), min(figures), max(figures)))
    return f"{middle} ({least} to {most})"


def _served(outcome: Outcome) -> str:
    return f"{outcome.per_second:.0f} requests/s, {outcome.latency}"


def _refused(outcome: Outcome) -> str:
    return f"refused: {outcome.refused}, p99 {outcome.refused_p99:.1f} ms; other errors: {outcome.errors - outcome.refused}"
