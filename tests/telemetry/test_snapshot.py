from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from gateway.telemetry import snapshot
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


def test_one_snapshot_is_exposed_just_as_its_registry() -> None:
    metrics = Metrics()
    metrics.requests("sdk", "POST", "200").inc()
    metrics.request_duration("sdk").mark(0.125, "a" * 32, 1_700_000_000.5)
    taken = Exposition(snapshot.add([snapshot.take(metrics.registry)]))
    assert generate_latest(taken) == generate_latest(metrics.registry)
    assert generate_openmetrics(taken) == generate_openmetrics(metrics.registry)


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


@given(st.lists(st.lists(st.floats(0, 10), min_size=1, max_size=5), min_size=3, max_size=3))
def test_a_sum_does_not_go_back_when_a_worker_ends_and_the_order_of_adding_changes(workers: list[list[float]]) -> None:
    def observed(amounts: list[float]) -> Snapshot:
        registry = CollectorRegistry()
        histogram = Histogram("h_seconds", "h", registry=registry)
        for amount in amounts:
            histogram.observe(amount)
        return snapshot.take(registry)

    first, second, third = map(observed, workers)
    before = snapshot.add([first, second, third])
    after = snapshot.add([snapshot.add([third, first]), second])
    assert snapshot.value(after, "h_seconds_sum") == snapshot.value(before, "h_seconds_sum")
    assert abs(snapshot.value(after, "h_seconds_sum") - sum(map(sum, workers))) < 1e-5
