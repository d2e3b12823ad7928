from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from gateway.telemetry.measures import Count, Timing
from gateway.telemetry.metrics import CALL_BUCKETS

generate_openmetrics, _ = choose_encoder("application/openmetrics-text")


def exposed(kind: type[Histogram], observations: list[float]) -> bytes:
    registry = CollectorRegistry()
    histogram = kind("h_seconds", "h", ["scene"], buckets=CALL_BUCKETS, registry=registry)
    for amount in observations:
        histogram.labels("none").observe(amount)
    return generate_openmetrics(registry)


@given(st.lists(st.floats(0, 100) | st.sampled_from(CALL_BUCKETS), max_size=10))
def test_it_counts_as_the_librarys_own(observations: list[float]) -> None:
    assert exposed(Timing, observations) == exposed(Histogram, observations)


def test_each_bucket_keeps_the_newest_trace() -> None:
    registry = CollectorRegistry()
    histogram = Timing("h_seconds", "h", buckets=(1, 10), registry=registry)
    for amount, trace in ((0.5, "a"), (0.6, "b"), (10, "c")):
        histogram.mark(amount, trace * 32, 1_700_000_000.5)
    histogram.observe(0.7)
    [family] = text_string_to_metric_families(generate_openmetrics(registry).decode())  # type: ignore[no-untyped-call]
    marked = {sample.labels["le"]: sample.exemplar for sample in family.samples if sample.exemplar}
    assert {le: (mark.labels, mark.value, float(mark.timestamp or 0)) for le, mark in marked.items()} == {
        "1.0": ({"trace_id": "b" * 32}, 0.6, 1_700_000_000.5),
        "10.0": ({"trace_id": "c" * 32}, 10, 1_700_000_000.5),
    }
    assert [sample.value for sample in family.samples if sample.name == "h_seconds_bucket"] == [3, 4, 4]


def counted(kind: type[Counter], amounts: list[float]) -> bytes:
    registry = CollectorRegistry()
    counter = kind("c", "c", ["scene"], registry=registry)
    counter.labels("other").inc()
    for amount in amounts:
        counter.labels("none").inc(amount)
    return generate_openmetrics(registry)


@given(st.lists(st.floats(0, 100), max_size=10))
def test_a_count_is_as_the_librarys_own(amounts: list[float]) -> None:
    assert counted(Count, amounts) == counted(Counter, amounts)
