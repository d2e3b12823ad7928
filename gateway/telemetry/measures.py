"""A counter and a histogram for what every request is counted and measured with: they take no lock, so they belong to one thread.

prometheus-client's own take up to three locks, and its histogram walks through all buckets and checks the form of each exemplar: several
times the cost of the observation. Labels and the checks of names are the library's. Into a registry they come by a `Family`, as gauges with
labels do: it gives them in the form in which they are sent to the supervisor. Made by the library, the tens of thousands of samples that a
thousand routes have would keep all requests waiting at each report.
"""

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate
from typing import Final, Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from gateway.telemetry import snapshot
from gateway.telemetry.snapshot import Column, Compact, Mark, Row, cut


class Count(Counter):
    """As Counter, for one thread, and without exemplars."""

    columns: Final = (Column("_total"),)

    def inc(self, amount: float = 1, exemplar: dict[str, str] | None = None) -> None:  # noqa: ARG002  the library's signature
        """Count so many, which is not below 0."""
        self._count += amount

    def row(self, labels: tuple[str, ...]) -> Row:
        """Return how it is now."""
        return Row(labels, [self._count])

    def _metric_init(self) -> None:
        self._count: float = 0


class Level(Gauge):
    """As Gauge."""

    columns: Final = (Column(""),)

    def row(self, labels: tuple[str, ...]) -> Row:
        """Return how it is now."""
        return Row(labels, [sample.value for sample in self._child_samples()])


class Timing(Histogram):
    """As Histogram, for one thread; each bucket keeps its newest trace."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """The buckets, the number and the sum of the observations."""
        buckets = [Column("_bucket", floatToGoString(bound)) for bound in self._upper_bounds]  # type: ignore[no-untyped-call]
        return *buckets, Column("_count"), Column("_sum")

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

    def row(self, labels: tuple[str, ...]) -> Row:
        """Return how it is now."""
        values: list[float] = [*accumulate(self._counts)]
        values += values[-1], cut(self._total)
        marks = {index: Mark({"trace_id": trace_id}, amount, now) for index, (trace_id, amount, now) in self._marks.items()}
        return Row(labels, values, marks)

    def _metric_init(self) -> None:
        self._counts = [0] * len(self._upper_bounds)
        self._total = 0.0
        self._marks: dict[int, tuple[str, float, float]] = {}


Child = TypeVar("Child", Count, Level, Timing)


class Family(Collector, Generic[Child]):
    """A metric with labels whose children are kept: `family("sdk", "POST", "200").inc()`. It stands in a registry for the metric."""

    def __init__(self, metric: Child, labels: tuple[str, ...], registry: CollectorRegistry) -> None:
        self.labels = labels
        self._metric: Child = metric
        self._columns: tuple[Column, ...] = metric.columns
        self._children: dict[tuple[str, ...], Child] = {}
        registry.register(self)

    def __call__(self, *labels: str) -> Child:
        """Return the child of these label values, in the order in which the metric declares its labels."""
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = self._metric.labels(*labels)
        return child

    def describe(self) -> Iterable[Metric]:
        """Give what no other in the registry may be called."""
        return self._metric.describe()

    def collect(self) -> Iterable[Metric]:
        """Give all children."""
        rows = [child.row(labels) for labels, child in self._children.items()]
        for metric in self._metric.describe():
            yield Compact(snapshot.Family(metric.name, metric.type, metric.documentation, self.labels, self._columns, rows))
