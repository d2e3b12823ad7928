from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from gateway.telemetry.metrics import CALL_BUCKETS
from gateway.telemetry.timing import Timing

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
    for amount, trace in ((0.5, "a"), (0.6, "b"), (10, "c"), (0.7, None)):
        histogram.observe(amount, {"trace_id": trace * 32} if trace else None)
    [family] = text_string_to_metric_families(generate_openmetrics(registry).decode())  # type: ignore[no-untyped-call]
    marked = {sample.labels["le"]: sample.exemplar for sample in family.samples if sample.exemplar}
    assert {le: (mark.labels, mark.value) for le, mark in marked.items()} == {
        "1.0": ({"trace_id": "b" * 32}, 0.6),
        "10.0": ({"trace_id": "c" * 32}, 10),
    }
