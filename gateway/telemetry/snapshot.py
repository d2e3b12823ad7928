"""What the metrics of a process are at one moment, as a value: taken from its registry, sent to another process, added to others.

The supervisor adds up the snapshots of its workers (architecture, decision 6). Counters and histograms are sums; of a gauge that is no
sum, `GAUGES` says what it is. Who keeps which snapshots is left to `gateway.server`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from math import floor
from statistics import fmean
from typing import Final

import msgspec
from msgspec import Struct
from prometheus_client import CollectorRegistry, Metric, samples
from prometheus_client.registry import Collector

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


class Sample(Struct, frozen=True, array_like=True):
    """One series and its value."""

    name: str
    labels: Labels
    value: float
    exemplar: Mark | None = None


class Family(Struct, frozen=True, array_like=True):
    """All series of one metric. `kind` is Prometheus' type; `name` is without `_total`."""

    name: str
    kind: str
    text: str
    samples: list[Sample]


Snapshot = list[Family]

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Snapshot)


def encode(snapshot: Snapshot) -> bytes:
    """Return the snapshot as bytes."""
    return _encoder.encode(snapshot)


def decode(data: bytes) -> Snapshot:
    """Read what `encode` returned."""
    return _decoder.decode(data)


def take(registry: CollectorRegistry) -> Snapshot:
    """Return what the registry holds now."""
    return [Family(metric.name, metric.type, metric.documentation, [*map(_sample, metric.samples)]) for metric in registry.collect()]


def lasting(snapshot: Snapshot) -> Snapshot:
    """Return what still counts of a process that has ended: all but its gauges."""
    return [family for family in snapshot if family.kind != "gauge"]


def add(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Add up. Series stand in the order in which they first come; of exemplars of one series the newest counts.

    What holds gauges is to be added in one go: a mean of means is none.
    """
    families: dict[str, tuple[Family, dict[tuple[str, ...], list[Sample]]]] = {}
    for snapshot in snapshots:
        for family in snapshot:
            _, series = families.setdefault(family.name, (family, {}))
            for sample in family.samples:
                series.setdefault((sample.name, *sample.labels.values()), []).append(sample)
    return [_family(family, series.values()) for family, series in families.values()]


def value(snapshot: Snapshot, name: str) -> float:
    """Return the sum over all series of this name, labels aside."""
    return sum(sample.value for family in snapshot for sample in family.samples if sample.name == name)


class Exposition(Collector):
    """A snapshot in the form that prometheus-client's formats take instead of a registry."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """Give each metric."""
        for family in self._snapshot:
            metric = Metric(family.name, family.text, family.kind)
            for sample in family.samples:
                metric.add_sample(sample.name, sample.labels, sample.value, exemplar=_exemplar(sample.exemplar))
            yield metric


def _sample(sample: samples.Sample) -> Sample:
    value = floor(sample.value / GRAIN) * GRAIN if sample.name.endswith("_sum") else sample.value
    return Sample(sample.name, sample.labels, value, _mark(sample.exemplar) if sample.exemplar else None)


def _mark(exemplar: samples.Exemplar) -> Mark:
    return Mark(dict(exemplar.labels), exemplar.value, float(exemplar.timestamp or 0))


def _exemplar(mark: Mark | None) -> samples.Exemplar | None:
    return samples.Exemplar(mark.labels, mark.value, mark.time) if mark else None


def _family(first: Family, series: Iterable[Sequence[Sample]]) -> Family:
    combine = GAUGES.get(first.name, sum) if first.kind == "gauge" else sum
    return Family(first.name, first.kind, first.text, [_added(same, combine) for same in series])


def _added(same: Sequence[Sample], combine: Add) -> Sample:
    first = same[0]
    newest = max((sample.exemplar for sample in same if sample.exemplar), key=lambda mark: mark.time, default=None)
    return Sample(first.name, first.labels, combine([sample.value for sample in same]), newest)
