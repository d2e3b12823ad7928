"""A counter and a histogram for what every request is counted and measured with: they take no lock, so they belong to one thread.

prometheus-client's own take up to three locks, and its histogram walks through all buckets and checks the form of each exemplar: several
times the cost of the observation. Labels, registry and exposition are the library's.
"""

from bisect import bisect_left
from collections.abc import Iterable
from functools import cache

from prometheus_client import Counter, Histogram
from prometheus_client.samples import Exemplar, Sample
from prometheus_client.utils import floatToGoString

_written = cache(floatToGoString)


class Count(Counter):
    """As Counter, for one thread, and without exemplars."""

    def inc(self, amount: float = 1, exemplar: dict[str, str] | None = None) -> None:  # noqa: ARG002  the library's signature
        """Count so many, which is not below 0."""
        self._count += amount

    def _metric_init(self) -> None:
        self._count = 0.0

    def _child_samples(self) -> Iterable[Sample]:
        yield Sample("_total", {}, self._count, None, None)


class Timing(Histogram):
    """As Histogram, for one thread; each bucket keeps its newest trace."""

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:  # noqa: ARG002  the library's signature
        """Observe seconds."""
        self._counts[bisect_left(self._upper_bounds, amount)] += 1
        self._total += amount

    def mark(self, amount: float, trace_id: str, now: float) -> None:
        """Observe seconds, and that they are of this trace, at this UNIX time."""
        index = bisect_left(self._upper_bounds, amount)
        self._counts[index] += 1
        self._total += amount
        self._marks[index] = trace_id, amount, now

    def _metric_init(self) -> None:
        self._counts = [0] * len(self._upper_bounds)
        self._total = 0.0
        self._marks: list[tuple[str, float, float] | None] = [None] * len(self._upper_bounds)

    def _child_samples(self) -> Iterable[Sample]:
        count = 0
        for bound, more, mark in zip(self._upper_bounds, self._counts, self._marks, strict=True):
            count += more
            yield Sample("_bucket", {"le": _written(bound)}, float(count), None, _exemplar(*mark) if mark else None)
        yield Sample("_count", {}, float(count), None, None)
        yield Sample("_sum", {}, self._total, None, None)


def _exemplar(trace_id: str, amount: float, now: float) -> Exemplar:
    return Exemplar({"trace_id": trace_id}, amount, now)
