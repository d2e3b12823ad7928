import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from gateway.telemetry.measures import Count, Family, Level, Timing
from gateway.telemetry.metrics import CALL_BUCKETS
from gateway.telemetry.snapshot import Exposition, take

generate_openmetrics, _ = choose_encoder("application/openmetrics-text")


def timings(registry: CollectorRegistry, buckets: tuple[float, ...] = CALL_BUCKETS) -> Family[Timing]:
    return Family(Timing("h_seconds", "h", ["scene"], buckets=buckets, registry=None), ("scene",), registry)


@given(st.lists(st.floats(0, 100) | st.sampled_from(CALL_BUCKETS), max_size=10))
def test_it_counts_as_the_librarys_own(observations: list[float]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    timing, histogram = timings(ours)("none"), Histogram("h_seconds", "h", ["scene"], buckets=CALL_BUCKETS, registry=theirs).labels("none")
    for amount in observations:
        timing.observe(amount)
        histogram.observe(amount)
    assert generate_openmetrics(Exposition(take(ours))) == generate_openmetrics(Exposition(take(theirs))), "where both sums are cut"


def test_each_bucket_keeps_the_newest_trace() -> None:
    registry = CollectorRegistry()
    histogram = timings(registry, buckets=(1, 10))("none")
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


@given(st.lists(st.floats(0, 100), max_size=10))
def test_a_count_is_as_the_librarys_own(amounts: list[float]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    count = Family(Count("c", "c", ["scene"], registry=None), ("scene",), ours)
    counter = Counter("c", "c", ["scene"], registry=theirs)
    count("other").inc()
    counter.labels("other").inc()
    for amount in amounts:
        count("none").inc(amount)
        counter.labels("none").inc(amount)
    assert generate_openmetrics(ours) == generate_openmetrics(theirs)


def test_a_gauge_tells_what_its_function_says_now() -> None:
    registry, waiting = CollectorRegistry(), [1, 2]
    family = Family(Level("g", "g", ["scene"], registry=None), ("scene",), registry)
    family("none").set_function(lambda: len(waiting))
    family("other").inc()
    waiting.append(3)
    assert registry.get_sample_value("g", {"scene": "none"}) == 3
    assert registry.get_sample_value("g", {"scene": "other"}) == 1


def test_two_families_do_not_have_one_name() -> None:
    registry = CollectorRegistry()
    timings(registry)
    with pytest.raises(ValueError, match="h_seconds"):
        timings(registry)


def test_a_child_has_a_value_for_each_label() -> None:
    with pytest.raises(ValueError, match="label count"):
        timings(CollectorRegistry())("none", "sdk")
