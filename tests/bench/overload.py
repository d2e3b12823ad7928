"""Overload: more than the gateway can carry, beside 70 % of what it can. Requests come when they are due, however late the answers."""

from collections.abc import Callable
from dataclasses import dataclass
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
class Usual:
    """What a path carried at its peak (requests a second), how it was at 70 % of it, and a stub alone at that rate: the machine's part."""

    peak: float
    usual: Outcome
    alone: Outcome


def usual(gateway: Gateway, path: Path, seconds: float) -> Usual:
    """Find the peak of a path, then load it with 70 % of that for so many seconds."""
    path.peak(gateway.port, seconds / 2)  # warms up
    rate = (carried := path.peak(gateway.port, seconds).per_second) * USUAL
    return Usual(carried, path.paced(rate)(gateway.port, seconds), path.alone(rate)(gateway.stub_port, seconds))


@dataclass(frozen=True, slots=True)
class Overload:
    """What came of twice the peak, of clients that ask again as soon as they are refused, and the peak found again: machines drift."""

    twice: Outcome
    insistent: Outcome
    peak: float


def overload(gateway: Gateway, path: Path, peak: float, seconds: float) -> Overload:
    """Load a path with twice of its peak for so many seconds, then with clients that do not pause."""
    twice = path.paced(peak * TIMES)(gateway.port, seconds)
    insistent = path.paced(None)(gateway.port, seconds)
    path.peak(gateway.port, seconds / 2)  # the overload is noticed to be over
    return Overload(twice, insistent, path.peak(gateway.port, seconds).per_second)


def report(name: str, path: Usual, beyond: Overload) -> str:
    """Return the lines of what was measured of the path of this name."""
    peak, twice, insistent = (path.peak + beyond.peak) / 2, beyond.twice, beyond.insistent
    found = f"{beyond.peak:.0f} requests/s when found again"
    times = twice.p99_of_seconds / max(path.usual.p99_of_seconds, 0.001)
    lines = [
        f"{name}: peak {path.peak:.0f} requests/s; at {USUAL:.0%}: {_served(path.usual)}, errors: {path.usual.errors}",
        f"    the stub alone: {_served(path.alone)}, errors: {path.alone.errors}",
        f"    at {TIMES:.0%}: {_served(twice)}, {_refused(twice)}",
        f"    goodput: {twice.per_second / peak:.0%} of the peak, {found}; p99 of a second: {times:.1f} times that at {USUAL:.0%}",
        f"    as many clients asking again at once: {_served(insistent)}, {_refused(insistent)}",
    ]
    return "\n".join(lines)


def _served(outcome: Outcome) -> str:
    return f"{outcome.per_second:.0f} requests/s, {outcome.latency}"


def _refused(outcome: Outcome) -> str:
    return f"refused: {outcome.refused}, p99 {outcome.refused_p99:.1f} ms; other errors: {outcome.errors - outcome.refused}"
