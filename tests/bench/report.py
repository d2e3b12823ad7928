"""The table: medians over the rounds, and the target beside the figures. Nothing is judged here: machines differ and drift."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import median
from typing import Final

TARGET_CPU: Final = 550
"""Microseconds of CPU a request above the RSA floor."""
TARGET_RESIDENT: Final = 90
"""MiB."""

_COLUMNS: Final = ("req/s", "CPU us", "RSA us", "above us", "p50 ms", "p99 ms", "PSS MiB", "call-outs", "errors")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One measurement. CPU times are microseconds a request, latencies milliseconds, memory MiB; `call_outs` is a share of requests."""

    per_second: float
    cpu: float
    sign: float
    verify: float
    p50: float
    p99: float
    resident: float
    call_outs: float
    errors: int

    @property
    def above(self) -> float:
        """CPU time above the floor of the same moment."""
        return self.cpu - self.sign - self.verify


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory (MiB) after the warm-up and after each quarter of so many requests."""

    requests: int
    resident: Sequence[float]
    errors: int


def table(rounds: Mapping[str, Sequence[Measured]], memory: Memory | None) -> str:
    """Return the table: a line for each path."""
    lines = [_line("path", _COLUMNS)]
    lines += [_line(path, _figures(measured)) for path, measured in rounds.items()]
    lines.append(_line("first target", ("", "", "", f"<= {TARGET_CPU}", "", "", f"< {TARGET_RESIDENT}", "", "0")))
    floor = [measured for several in rounds.values() for measured in several]
    sign, verify = median(m.sign for m in floor), median(m.verify for m in floor)
    lines.append(f"RSA: one signature ({sign:.0f} us) and one verification ({verify:.0f} us), 2048 bits, measured around each load")
    if memory is not None:
        resident = ", ".join(f"{value:.1f}" for value in memory.resident)
        lines.append(f"PSS after the warm-up and each quarter of {memory.requests} requests: {resident} MiB; errors: {memory.errors}")
    return "\n".join(lines)


def _figures(measured: Sequence[Measured]) -> list[str]:
    middle = {field.name: median(getattr(one, field.name) for one in measured) for field in fields(Measured)}
    return [
        f"{middle['per_second']:.0f}",
        f"{middle['cpu']:.0f}",
        f"{middle['sign'] + middle['verify']:.0f}",
        f"{median(one.above for one in measured):.0f}",
        f"{middle['p50']:.1f}",
        f"{middle['p99']:.1f}",
        f"{middle['resident']:.1f}",
        f"{middle['call_outs']:.2f}",
        f"{sum(one.errors for one in measured)}",
    ]


def _line(name: str, figures: Iterable[str]) -> str:
    return f"{name:<20}" + "".join(f"{figure:>10}" for figure in figures)
