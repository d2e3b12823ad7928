from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admin.counts import buckets, counts, gauge, quantile, since, total
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.snapshot import take


def test_the_page_counts_what_the_metrics_count() -> None:
    metrics = Metrics()
    metrics.results("PROXY_SCENE_PAY", "S", "SUCCESS", "alipayplus").inc(3)
    metrics.results("none", "S", "SUCCESS", "alipayplus").inc()
    metrics.requests("sdk", "POST", "200").inc(4)
    metrics.requests("/api", "GET", "200").inc(2)
    metrics.requests("/cards", "GET", "200").inc(3)
    metrics.requests("none", "GET", "404").inc()
    metrics.upstream_requests("wallet", "a:1", "timeout").inc()
    metrics.session_checks("valid", "call").inc()
    metrics.session_checks("valid", "cache").inc()
    metrics.rejected("connections").inc(5)
    metrics.rejected("bad_request").inc()
    metrics.log_lines_dropped.inc(7)
    for route in ("/api", "/cards", "none"):
        metrics.request_duration(route).observe(0.003)
    metrics.clock_offset.set(-2.5)
    snapshot = take(metrics.registry)
    found = counts(snapshot)
    assert {key: value for key, value in found.items() if key[0] != "took" and value} == {
        ("result", "S", "SUCCESS", "alipayplus"): 4,
        ("answer", "200"): 5,
        ("answer", "404"): 1,
        ("peer", "wallet", "a:1", "timeout"): 1,
        ("login", "valid"): 2,
        ("full",): 5,
        ("dropped",): 7,
    }
    assert total(found, "answer") == 6
    of_api = buckets(found, sdk=False)
    assert of_api[0.005] == of_api[inf] == 2, "what is routed nowhere is answered at once and says nothing"
    assert buckets(found, sdk=True) == {}
    assert gauge(snapshot, "gateway_alipayplus_clock_offset_seconds") == -2.5
    assert gauge(snapshot, "gateway_workers") is None


def test_what_goes_back_counts_as_nothing() -> None:
    assert since({("a",): 5, ("b",): 5}, {("a",): 3, ("b",): 8, ("c",): 1}) == {("b",): 3, ("c",): 1}


def test_between_two_moments_a_quantile_lies_in_the_bucket_of_its_observation() -> None:
    metrics = Metrics()
    took = metrics.request_duration("sdk")
    took.observe(0.003)
    before = counts(take(metrics.registry))
    for _ in range(4):
        took.observe(11.5)
    found = since(before, counts(take(metrics.registry)))
    assert quantile(0.5, buckets(found, sdk=True)) == pytest.approx(11.5)
    assert quantile(0.01, buckets(found, sdk=True)) == pytest.approx(11.01)


def test_quantiles_are_those_of_prometheus() -> None:
    found = {0.1: 50.0, 1.0: 90.0, inf: 100.0}
    assert quantile(0.5, found) == pytest.approx(0.1)
    assert quantile(0.7, found) == pytest.approx(0.55)
    assert quantile(0.99, found) == 1.0
    assert quantile(0.5, {}) is quantile(0.5, {0.1: 0.0, inf: 0.0}) is None


@given(st.lists(st.sampled_from([0.05, 0.5, 5.0]), min_size=1), st.sampled_from([0.01, 0.5, 0.99]))
def test_a_quantile_lies_in_the_bucket_of_its_observation(values: list[float], share: float) -> None:
    bounds = (0.0, 0.1, 1.0, inf)
    found = {bound: float(sum(value <= bound for value in values)) for bound in bounds[1:]}
    right = sorted(values)[max(0, -int(-share * len(values) // 1) - 1)]
    answer = quantile(share, found)
    assert answer is not None
    index = next(index for index, bound in enumerate(bounds) if right <= bound)
    assert bounds[index - 1] - 1e-9 <= answer <= bounds[index] + 1e-9
