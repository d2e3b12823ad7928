"""The soak: half the load that the gateway can carry for minutes, and what it holds after each of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tests.bench.load import Load
from tests.bench.program import Gateway

PEAK_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Held:
    """What the gateway holds: MiB of resident memory, open descriptors of all its processes, and its workers' asyncio tasks.

    The supervisor keeps ten minutes of counts for the status page, and grows until it has them.
    """

    supervisor_mib: float
    workers_mib: float
    descriptors: int
    tasks: int


@dataclass(frozen=True, slots=True)
class Soak:
    """The load in requests a second, at its peak and then half of it, what was held at each minute's end, and errors."""

    peak: float
    rate: float
    held: Sequence[Held]
    errors: int


def soak(gateway: Gateway, load: Callable[[float | None], Load], minutes: float) -> Soak:
    """Soak the gateway for so many minutes. `load` makes a load of so many requests a second, or of as many as it carries."""
    peak = load(None)(gateway.port, PEAK_SECONDS)
    half = load(peak.per_second / 2)
    seconds = min(60.0, minutes * 60)
    held, errors, requests = [], peak.errors, 0
    for _ in range(round(minutes * 60 / seconds)):
        outcome = half(gateway.port, seconds)
        requests, errors = requests + outcome.requests, errors + outcome.errors
        supervisor = gateway.supervisor_mib()
        held.append(Held(supervisor, gateway.resident_mib() - supervisor, gateway.descriptors(), gateway.tasks()))
    return Soak(peak.per_second, requests / (seconds * len(held)), held, errors)


def report(soak: Soak) -> str:
    """Return a line a minute, and one about the load."""
    lines = [f"peak {soak.peak:.0f} requests/s; soaked with {soak.rate:.0f} requests/s, errors: {soak.errors}"]
    lines += [
        f"minute {minute:>2}: supervisor {held.supervisor_mib:.1f} MiB, workers {held.workers_mib:.1f} MiB, "
        f"{held.descriptors} descriptors, {held.tasks} tasks"
        for minute, held in enumerate(soak.held, 1)
    ]
    return "\n".join(lines)
