"""A histogram for what every request is measured with: it bisects to its bucket, takes no lock, and keeps each bucket's newest trace.

prometheus-client's own walks through all buckets, takes three locks and checks the form of each exemplar: several times the cost of the
observation. Labels, registry and exposition are the library's.
"""

from bisect import bisect_left
from collections.abc import Iterable
from functools import cache
from time import time

from prometheus_client import Histogram
from prometheus_client.samples import Exemplar, Sample
from prometheus_client.utils import floatToGoString

_written = cache(floatToGoString)


class Timing(Histogram):
    """As Histogram, for one thread. An exemplar's labels are taken as they are: names and values of our own, 128 characters at most."""

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        """Observe seconds, and which trace they are of."""
        index = bisect_left(self._upper_bounds, amount)
        self._counts[index] += 1
        self._total += amount
        if exemplar is not None:
            self._marks[index] = (exemplar, amount, time())

    def _metric_init(self) -> None:
        self._counts = [0] * len(self._upper_bounds)
        self._total = 0.0
        self._marks: list[tuple[dict[str, str], float, float] | None] = [None] * len(self._upper_bounds)

    def _child_samples(self) -> Iterable[Sample]:
        count = 0
        for bound, more, mark in zip(self._upper_bounds, self._counts, self._marks, strict=True):
            count += more
            yield Sample("_bucket", {"le": _written(bound)}, float(count), None, Exemplar(*mark) if mark else None)
        yield Sample("_count", {}, float(count), None, None)
        yield Sample("_sum", {}, self._total, None, None)
