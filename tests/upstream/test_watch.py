from typing import Any

import structlog

from gateway.config import model
from gateway.telemetry.metrics import Metrics
from gateway.upstream import Cluster, Endpoint, Pool
from gateway.upstream.balance import Ordered
from gateway.upstream.member import Member
from gateway.upstream.watch import Watch, show_health

RULES = model.Ejection()


def watch(metrics: Metrics) -> tuple[Watch, structlog.testing.CapturingLogger]:
    log: Any = structlog.testing.CapturingLogger()
    return Watch("wallet", metrics, log), log


def test_what_happens_is_counted() -> None:
    metrics = Metrics()
    observer, _ = watch(metrics)
    assert metrics.registry.get_sample_value("gateway_upstream_retries_total", {"upstream": "wallet"}) == 0
    assert metrics.registry.get_sample_value("gateway_upstream_ejections_total", {"upstream": "wallet"}) == 0
    observer.requested("one:80", "ok")
    observer.requested("one:80", "timeout")
    observer.requested("one:80", "ok")
    observer.repeated()
    labels = {"upstream": "wallet", "endpoint": "one:80", "outcome": "ok"}
    assert metrics.registry.get_sample_value("gateway_upstream_requests_total", labels) == 2
    assert metrics.registry.get_sample_value("gateway_upstream_retries_total", {"upstream": "wallet"}) == 1


def test_changes_are_logged_and_ejections_counted() -> None:
    metrics = Metrics()
    observer, log = watch(metrics)
    observer.turned("one:80", "ejected", "timeout")
    observer.turned("one:80", "unhealthy", "health check: status 500")
    observer.turned("one:80", "healthy", "health check passed")
    assert [(call.method_name, call.args[0]) for call in log.calls] == [
        ("warning", "an endpoint is ejected"),
        ("warning", "an endpoint is unhealthy"),
        ("info", "an endpoint is healthy"),
    ]
    assert log.calls[0].kwargs == {"upstream": "wallet", "endpoint": "one:80", "reason": "timeout"}
    assert metrics.registry.get_sample_value("gateway_upstream_ejections_total", {"upstream": "wallet"}) == 1


async def test_an_endpoint_is_shown_healthy_when_all_its_clusters_use_it() -> None:
    metrics = Metrics()
    observer, _ = watch(metrics)

    def cluster(*hosts: str) -> Cluster:
        pools = [Pool(Endpoint.parse(f"http://{host}"), idle=20, age=600, connect_timeout=5) for host in hosts]
        return Cluster("hosts", [Member(pool, ejection=RULES) for pool in pools], observer=observer, balance=Ordered(), ejection=RULES)

    both, one = cluster("a", "b"), cluster("a")
    show_health(metrics, [both, one])

    def shown() -> list[float | None]:
        names = ("a:80", "b:80")
        return [metrics.registry.get_sample_value("gateway_upstream_healthy", {"upstream": "hosts", "endpoint": name}) for name in names]

    assert shown() == [1, 1]
    both.members[0].health.observe(passed=False)
    assert shown() == [0, 1]
    both.members[0].health.observe(passed=True)
    one.members[0].health.observe(passed=False)
    assert shown() == [0, 1]
