from prometheus_client.exposition import generate_latest

from gateway.telemetry.metrics import CALL_BUCKETS, Metrics, method_label


def test_methods_outside_the_field_share_one_label() -> None:
    assert [method_label(method) for method in ("GET", "POST", "TRACE", "x" * 1000)] == ["GET", "POST", "other", "other"]


def test_children_are_kept() -> None:
    metrics = Metrics()
    assert metrics.requests("sdk", "POST", "200") is metrics.requests("sdk", "POST", "200")


def test_the_buckets_show_the_10_s_rule() -> None:
    assert {9.5, 10, 10.5, 12, 13} <= set(CALL_BUCKETS)


def test_the_build_is_named() -> None:
    assert b"gateway_build_info{" in generate_latest(Metrics().registry)


def test_no_series_are_spent_on_creation_times() -> None:
    metrics = Metrics()
    metrics.requests("sdk", "POST", "200").inc()
    assert b"_created" not in generate_latest(metrics.registry)
