"""What the metrics of a process are at one moment, as a value: taken from its registry, sent to another process, added to others.

The supervisor adds up the snapshots of its workers (architecture, decision 6). Counters and histograms are sums; of a gauge that is no
sum, `GAUGES` says what it is. Who keeps which snapshots is left to `gateway.server`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from math import floor
from operator import attrgetter
from statistics import fmean
from typing import Final

import msgspec
from msgspec import Struct, structs
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar, Sample

Add = Callable[[Sequence[float]], float]
Labels = dict[str, str]

GAUGES: Final[dict[str, Add]] = {
    "gateway_alipayplus_clock_offset_seconds": partial(max, key=abs),  # of offsets, the one to worry about
    "gateway_build_info": max,
    "gateway_key_info": max,
    "gateway_upstream_healthy": fmean,
}
"""How the gauges of several workers become one, where that is not their sum."""


GRAIN: Final = 2.0**-20
"""Sums of seconds are cut to multiples of this, about a microsecond. Then they add up exactly, in whatever order: a sum that was less by
one rounding after a worker has ended would be a counter that went back, and Prometheus would take all of it for growth."""


class Mark(Struct, frozen=True, array_like=True):
    """An exemplar: one observation, by its labels (a trace id), when it was made (UNIX seconds)."""

    labels: Labels
    value: float
    time: float


class Column(Struct, frozen=True, array_like=True):
    """A series that each child of a metric has: what follows the metric's name in its own, and the bound, where it is a bucket."""

    suffix: str
    le: str = ""


class Row(Struct, frozen=True, array_like=True):
    """A child of a metric: the values of its labels, a number for each column, and exemplars by the index of their column."""

    labels: tuple[str, ...]
    values: list[float]
    marks: dict[int, Mark] = {}


class Family(Struct, frozen=True, array_like=True):
    """All series of one metric, as a table. `kind` is Prometheus' type; `name` is without `_total`, `labels` are those of all its rows.

    Of one metric there may be several, one after the other, since its children need not have the same labels and columns.
    """

    name: str
    kind: str
    text: str
    labels: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: list[Row]


Snapshot = list[Family]

_Shape = tuple[tuple[str, ...], tuple[Column, ...]]  # labels and columns

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Snapshot)


def encode(snapshot: Snapshot) -> bytes:
    """Return the snapshot as bytes."""
    return _encoder.encode(snapshot)


def decode(data: bytes) -> Snapshot:
    """Read what `encode` returned."""
    return _decoder.decode(data)


def take(registry: CollectorRegistry) -> Snapshot:
    """Return what the registry holds now. What it gives as `Compact` is taken as it is; of other metrics, sample by sample."""
    return [family for metric in registry.collect() for family in (metric.families if isinstance(metric, Compact) else _families(metric))]


def lasting(snapshot: Snapshot) -> Snapshot:
    """Return what still counts of a process that has ended: all but its gauges."""
    return [family for family in snapshot if family.kind != "gauge"]


def add(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Add up. Children stand in the order in which they first come; of exemplars of one series the newest counts.

    What holds gauges is to be added in one go: a mean of means is none.
    """
    families: dict[str, dict[_Shape, tuple[Family, dict[tuple[str, ...], list[Row]]]]] = {}
    for snapshot in snapshots:
        for family in snapshot:
            _, children = families.setdefault(family.name, {}).setdefault((family.labels, family.columns), (family, {}))
            for row in family.rows:
                children.setdefault(row.labels, []).append(row)
    return [_added(family, children.values()) for same in families.values() for family, children in same.values()]


def series(snapshot: Snapshot, name: str) -> Iterator[tuple[Labels, float]]:
    """Give the labels and the value of each series of this name."""
    for family in snapshot:
        indexes = [index for index, column in enumerate(family.columns) if family.name + column.suffix == name]
        for row in family.rows if indexes else ():
            labels = _labels(family, row)
            for index in indexes:
                yield _with_bound(labels, family.columns[index]), row.values[index]


def value(snapshot: Snapshot, name: str) -> float:
    """Return the sum over all series of this name, labels aside."""
    return sum(value for _, value in series(snapshot, name))


def cut(seconds: float) -> float:
    """Return a sum of seconds as a multiple of GRAIN."""
    return floor(seconds / GRAIN) * GRAIN


class Compact(Metric):
    """Families of one metric, as prometheus-client takes them: samples are made of them only when they are asked for."""

    def __init__(self, *families: Family) -> None:
        super().__init__(families[0].name, families[0].text, families[0].kind)
        self.families = families

    @property
    def samples(self) -> list[Sample]:
        """The series, a child after the other."""
        return [sample for family in self.families for row in family.rows for sample in _samples(family, row)]

    @samples.setter
    def samples(self, _: list[Sample]) -> None:
        """Metric sets it to none at the beginning."""


class Exposition(Collector):
    """A snapshot in the form that prometheus-client's formats take instead of a registry."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """Give each metric."""
        for _, families in groupby(self._snapshot, attrgetter("name")):
            yield Compact(*families)


def _samples(family: Family, row: Row) -> Iterator[Sample]:
    labels = _labels(family, row)
    for index, (column, value) in enumerate(zip(family.columns, row.values, strict=True)):
        mark = row.marks.get(index)
        exemplar = Exemplar(mark.labels, mark.value, mark.time) if mark is not None else None
        yield Sample(family.name + column.suffix, _with_bound(labels, column), value, None, exemplar)


def _labels(family: Family, row: Row) -> Labels:
    return dict(zip(family.labels, row.labels, strict=True))


def _with_bound(labels: Labels, column: Column) -> Labels:
    return {**labels, "le": column.le} if column.le else labels


def _families(metric: Metric) -> Iterator[Family]:
    """Give a metric that is known by its samples alone: a family for each child, or one that is empty."""
    children: dict[tuple[tuple[str, str], ...], list[Sample]] = {}
    for sample in metric.samples:
        children.setdefault(tuple((name, value) for name, value in sample.labels.items() if name != "le"), []).append(sample)
    for labels, samples in children.items() or [((), [])]:
        columns = tuple(Column(sample.name.removeprefix(metric.name), sample.labels.get("le", "")) for sample in samples)
        values = [cut(sample.value) if sample.name.endswith("_sum") else sample.value for sample in samples]
        marks = {index: _mark(sample.exemplar) for index, sample in enumerate(samples) if sample.exemplar}
        row = Row(tuple(value for _, value in labels), values, marks)
        yield Family(metric.name, metric.type, metric.documentation, tuple(name for name, _ in labels), columns, [row])


def _mark(exemplar: Exemplar) -> Mark:
    return Mark(dict(exemplar.labels), exemplar.value, float(exemplar.timestamp or 0))


def _added(family: Family, children: Iterable[Sequence[Row]]) -> Family:
    combine = GAUGES.get(family.name, sum) if family.kind == "gauge" else sum
    return structs.replace(family, rows=[_sum(same, combine) for same in children])


def _sum(same: Sequence[Row], combine: Add) -> Row:
    marks: dict[int, Mark] = {}
    for row in same:
        for index, mark in row.marks.items():
            if index not in marks or mark.time > marks[index].time:
                marks[index] = mark
    return Row(same[0].labels, [combine(values) for values in zip(*(row.values for row in same), strict=True)], marks)
