import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram, Info, Summary, disable_created_metrics
from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from gateway.telemetry import snapshot
from gateway.telemetry.measures import Count, Family, Level, Timing
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.snapshot import Exposition, Snapshot

generate_openmetrics, _ = choose_encoder("application/openmetrics-text")


def worker(route: str, *, connections: int = 0, clock_offset: float = 0, healthy: int = 1) -> Snapshot:
    metrics = Metrics()
    metrics.requests(route, "POST", "200").inc()
    metrics.request_duration(route).observe(0.1)
    metrics.connections.set(connections)
    metrics.clock_offset.set(clock_offset)
    metrics.upstream_healthy("wallet", "a:1").set(healthy)
    return snapshot.take(metrics.registry)


def text(given: Snapshot) -> list[str]:
    return generate_latest(Exposition(given)).decode().splitlines()


def test_what_is_sent_to_another_process_arrives_as_it_was() -> None:
    taken = worker("sdk")
    assert snapshot.decode(snapshot.encode(taken)) == taken


def exposed(given: Collector) -> tuple[bytes, bytes]:
    return generate_latest(given), generate_openmetrics(given)


def test_one_snapshot_is_exposed_just_as_its_registry() -> None:
    metrics = Metrics()
    metrics.requests("sdk", "POST", "200").inc()
    metrics.request_duration("sdk").mark(0.125, "a" * 32, 1_700_000_000.5)
    taken = snapshot.add([snapshot.take(metrics.registry)])
    assert exposed(Exposition(taken)) == exposed(metrics.registry)


class Observed:
    """A registry with counters, gauges and histograms, with and without labels: the gateway's own, or prometheus-client's."""

    def __init__(self, *, own: bool) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        make = self._own if own else self._librarys
        self._jobs: Callable[..., Counter] = make(Count if own else Counter, "jobs", "What is done,\nby \\ route", "route", "status")
        self._took: Callable[..., Histogram] = make(Timing if own else Histogram, "took_seconds", "What it takes", "route")
        self._waiting: Callable[..., Gauge] = make(Level if own else Gauge, "waiting", "What waits", "route")
        make(Timing if own else Histogram, "never_seconds", "What never came", "route")
        self._level = Gauge("level", "The level", registry=self.registry)
        self._lag = Histogram("lag_seconds", "The lag", registry=self.registry)
        self._lost = Counter("lost", "What is lost", registry=self.registry)

    def work(self, worker: int, *routes: str) -> None:
        """Observe what differs by worker and route."""
        for number, route in enumerate(routes, start=worker):
            self._jobs(route, "200").inc(number)
            self._jobs(route, f"50{worker}").inc(0.5)
            self._waiting(route).inc(number)
            self._mark(self._took(route), number / 8, f"{worker}" * 32)
            for amount in (0.25, 3, 100):
                self._took(route).observe(amount)
        self._level.inc(worker)
        self._lag.observe(worker / 8)
        self._lost.inc()

    def watch(self, route: str, waiting: Callable[[], float]) -> None:
        """Have a gauge tell what the function says."""
        self._waiting(route).set_function(waiting)

    def _librarys(self, kind: Any, name: str, text: str, *labels: str) -> Any:
        return kind(name, text, labels, registry=self.registry).labels

    def _own(self, kind: Any, name: str, text: str, *labels: str) -> Any:
        return Family(kind(name, text, labels, registry=None), labels, self.registry)

    def _mark(self, child: Histogram, amount: float, trace_id: str) -> None:
        if isinstance(child, Timing):
            child.mark(amount, trace_id, time.time())
        else:
            child.observe(amount, {"trace_id": trace_id})


class Clock:
    def __init__(self) -> None:
        self.time = 1_700_000_000.5


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """What the exemplars' time is taken from: they are to be the same on both sides."""
    clock = Clock()
    monkeypatch.setattr(time, "time", lambda: clock.time)
    return clock


@pytest.mark.parametrize("own", [True, False])
def test_every_kind_of_metric_is_exposed_as_prometheus_client_does(clock: Clock, *, own: bool) -> None:
    shown, expected = Observed(own=own), Observed(own=False)
    for observed in (shown, expected):
        observed.work(1, "sdk", '/a"\\')
        observed.watch("/watched", lambda: 7)
        summary = Summary("size_bytes", "The size", ["route"], registry=observed.registry)
        for route in ("sdk", "/"):
            summary.labels(route).observe(512)
        marked = Counter("marked", "With an exemplar", registry=observed.registry)
        marked.inc(2, {"trace_id": "a" * 32, "span_id": "b" * 16})
        Info("build", "The build", ["of"], registry=observed.registry).labels("gateway").info({"version": "1", "python": "3"})
        Info("plain", "The other", registry=observed.registry).info({"version": "1"})
        Enum("state", "The state", ["of"], states=["up", "down"], registry=observed.registry).labels("it").state("down")
    taken = snapshot.take(shown.registry)
    assert exposed(Exposition(taken)) == exposed(Exposition(snapshot.decode(snapshot.encode(taken)))) == exposed(expected.registry)
    assert exposed(Exposition(snapshot.add([taken]))) == exposed(expected.registry)


@pytest.mark.parametrize("own", [True, False])
def test_workers_with_different_children_are_exposed_as_one_that_did_all_of_it(clock: Clock, *, own: bool) -> None:
    taken, expected = [], Observed(own=False)
    for worker, routes in ((1, ("sdk", '/a"\\')), (2, ("/b", "sdk")), (3, ('/a"\\', "/c", "sdk"))):
        clock.time += 1
        observed = Observed(own=own)
        for each in (observed, expected):
            each.work(worker, *routes)
        taken.append(snapshot.take(observed.registry))
    assert exposed(Exposition(snapshot.add(taken))) == exposed(expected.registry)
    ended = snapshot.add([snapshot.add(map(snapshot.lasting, taken[:2])), taken[2]])
    assert [line for line in text(ended) if "jobs" in line] == [line for line in text(snapshot.add(taken)) if "jobs" in line]


def test_children_with_other_labels_stay_with_their_metric() -> None:
    def worker(**labels: str) -> Snapshot:
        registry = CollectorRegistry()
        Info("build", "The build", registry=registry).info(labels)
        Gauge("after", "After it", registry=registry).set(1)
        return snapshot.take(registry)

    lines = text(snapshot.add([worker(version="1"), worker(version="1", patch="2")]))
    assert lines[:4] == [
        "# HELP build_info The build",
        "# TYPE build_info gauge",
        'build_info{version="1"} 1.0',
        'build_info{patch="2",version="1"} 1.0',
    ]
    assert lines[-1] == "after 2.0"


def test_what_is_done_before_collecting_is_in_the_snapshot() -> None:
    metrics, waiting = Metrics(), [1, 2, 3]
    metrics.before_collecting(metrics.requests("sdk", "POST", "200").inc)
    metrics.in_flight("sdk").set_function(lambda: len(waiting))
    metrics.queue_length.set_function(lambda: len(waiting))
    for requests in (1, 2):
        taken = snapshot.take(metrics.registry)
        assert snapshot.value(taken, "gateway_requests_total") == requests
        assert snapshot.value(taken, "gateway_in_flight_requests") == snapshot.value(taken, "gateway_alipayplus_queue_length") == 3


def test_a_child_of_a_histogram_takes_little_more_room_than_its_labels() -> None:
    def size(routes: int) -> int:
        metrics = Metrics()
        for number in range(routes):
            metrics.request_duration(f"/{number:04}").observe(0.01)
        return len(snapshot.encode(snapshot.take(metrics.registry)))

    assert size(1000) - size(0) < 1000 * 64


def test_counters_and_histograms_are_sums_and_series_of_one_worker_stay() -> None:
    lines = text(snapshot.add([worker("sdk"), worker("sdk"), worker("/")]))
    assert 'gateway_requests_total{method="POST",route="sdk",status="200"} 2.0' in lines
    assert 'gateway_requests_total{method="POST",route="/",status="200"} 1.0' in lines
    assert 'gateway_request_duration_seconds_bucket{le="0.1",route="sdk"} 2.0' in lines
    assert 'gateway_request_duration_seconds_count{route="/"} 1.0' in lines


def test_gauges_are_sums_or_what_fits_them() -> None:
    added = snapshot.add(
        [worker("sdk", connections=3, clock_offset=2, healthy=1), worker("sdk", connections=4, clock_offset=-5, healthy=0)]
    )
    lines = text(added)
    assert "gateway_connections 7.0" in lines
    assert "gateway_alipayplus_clock_offset_seconds -5.0" in lines
    assert 'gateway_upstream_healthy{endpoint="a:1",upstream="wallet"} 0.5' in lines
    assert snapshot.value(added, "gateway_build_info") == 1


def test_of_a_worker_that_has_ended_all_but_the_gauges_counts() -> None:
    ended = snapshot.lasting(worker("sdk", connections=3))
    assert snapshot.value(ended, "gateway_requests_total") == 1
    assert not any(family.kind == "gauge" for family in ended)


def test_the_newest_exemplar_of_a_series_counts() -> None:
    def observed(trace: str) -> Snapshot:
        registry = CollectorRegistry()
        Histogram("h_seconds", "h", registry=registry).observe(0.1, {"trace_id": trace})
        return snapshot.take(registry)

    first, second = observed("a" * 32), observed("b" * 32)
    exposed = generate_openmetrics(Exposition(snapshot.add([second, first]))).decode()
    [family] = text_string_to_metric_families(exposed)  # type: ignore[no-untyped-call]
    [marked] = [sample for sample in family.samples if sample.exemplar]
    assert marked.exemplar is not None
    assert (marked.value, marked.exemplar.labels) == (2, {"trace_id": "b" * 32})


def test_metrics_without_labels_are_added_too() -> None:
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    Counter("c", "c", registry=registry).inc(2)
    Gauge("g", "g", registry=registry).set(2)
    taken = snapshot.take(registry)
    assert text(snapshot.add([taken, taken]))[-1] == "g 4.0"
    assert snapshot.value(snapshot.add([taken, taken]), "c_total") == 4


@pytest.mark.parametrize("own", [True, False])
@given(workers=st.lists(st.lists(st.floats(0, 10), min_size=1, max_size=5), min_size=3, max_size=3))
def test_a_sum_does_not_go_back_when_a_worker_ends_and_the_order_of_adding_changes(workers: list[list[float]], *, own: bool) -> None:
    def observed(amounts: list[float]) -> Snapshot:
        registry = CollectorRegistry()
        timing = Family(Timing("h_seconds", "h", ["route"], registry=None), ("route",), registry) if own else None
        histogram = timing("sdk") if timing else Histogram("h_seconds", "h", registry=registry)
        for amount in amounts:
            histogram.observe(amount)
        return snapshot.take(registry)

    first, second, third = map(observed, workers)
    before = snapshot.add([first, second, third])
    after = snapshot.add([snapshot.add([third, first]), second])
    assert snapshot.value(after, "h_seconds_sum") == snapshot.value(before, "h_seconds_sum")
    assert abs(snapshot.value(after, "h_seconds_sum") - sum(map(sum, workers))) < 1e-5
