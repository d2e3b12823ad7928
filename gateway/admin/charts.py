"""Small charts as SVG: what came of the requests of each step, and what they took. Geometry in attributes only, colours in the style sheet.

The newest step stands at the right edge. Each chart has its words too, for those who cannot see it.
"""

from collections.abc import Callable, Iterable, Sequence
from math import log
from typing import Final

from gateway.admin.history import STEPS
from gateway.admin.markup import Markup, el
from gateway.admin.traffic import Sums

WIDTH: Final = 10.0  # of one step
HEIGHT: Final = 100.0
GAP: Final = 1.5
LEAST: Final = 3.0
"""What is not nothing is seen."""

_OUTCOMES: Final = ("failed", "refused", "ok")
FASTEST, SLOWEST = 0.001, 30.0
LINES: Final = (0.01, 0.1, 1.0, 10.0)
"""Seconds at which there is a line; the style sheet knows where their names stand."""


def outcomes(steps: Sequence[Sums], words: str) -> Markup:
    """Draw how many there were of each step: failed below, so that they stand out, then refused, then what went well.

    The last step is under way, and marked as such: it is lower than it is going to be.
    """
    most = max((step.all for step in steps), default=0) or 1
    done = dict.fromkeys(_OUTCOMES, "")
    under_way = dict(done)
    for index, step in enumerate(steps):
        floor, drawn = 0.0, under_way if index == len(steps) - 1 else done
        for name in _OUTCOMES:
            if count := getattr(step, name):
                height = max(LEAST, HEIGHT * count / most)
                drawn[name] += _bar(index, len(steps), floor, height)
                floor += height
    paths = (*done.items(), *((f"{name} now", path) for name, path in under_way.items()))
    return _chart(words, (el("path", class_=name, d=path) for name, path in paths))


def latencies(steps: Sequence[Sums], words: str) -> Markup:
    """Draw what the requests of each step took, on a logarithmic scale: all but the slowest hundredth, before it the faster half."""
    lines = el("path", class_="grid", d="".join(f"M0 {HEIGHT - scaled(line):.1f}H{WIDTH * STEPS:g}" for line in LINES))
    return _chart(words, (_levels(steps, "p99", lambda step: step.p99), _levels(steps, "p50", lambda step: step.p50), lines))


def scaled(seconds: float) -> float:
    """Return the height at which a time stands."""
    return HEIGHT * log(min(max(seconds, FASTEST), SLOWEST) / FASTEST) / log(SLOWEST / FASTEST)


def _levels(steps: Sequence[Sums], name: str, level: Callable[[Sums], float | None]) -> Markup:
    levels = [(index, value) for index, step in enumerate(steps) if (value := level(step)) is not None]
    return el("path", class_=name, d="".join(_bar(index, len(steps), 0.0, max(LEAST, scaled(value))) for index, value in levels))


def _bar(index: int, steps: int, floor: float, height: float) -> str:
    top = max(0.0, HEIGHT - floor - height)
    left = (STEPS - steps + index) * WIDTH + GAP / 2
    return f"M{left:g} {HEIGHT - floor:.1f}V{top:.1f}h{WIDTH - GAP:g}V{HEIGHT - floor:.1f}z"


def _chart(words: str, paths: Iterable[Markup]) -> Markup:
    box = f"0 0 {WIDTH * STEPS:g} {HEIGHT:g}"
    return el("svg", *paths, viewBox=box, preserveAspectRatio="none", role="img", aria_label=words, focusable="false")
