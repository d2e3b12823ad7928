from typing import Any

from msgspec import structs

from gateway.admin.counts import Counts
from gateway.admin.pools import EndpointShown, pools
from gateway.upstream.cluster import ClusterStatus
from gateway.upstream.member import EndpointStatus

GOOD = EndpointStatus("a:1", True, 0.0, 2, 3, 1, False, None)


def cluster(*endpoints: EndpointStatus, name: str = "wallet", waiting: int = 0) -> ClusterStatus:
    return ClusterStatus(name, endpoints or (GOOD,), waiting)


def changed(**changes: Any) -> EndpointStatus:
    return structs.replace(GOOD, **changes)


def only(*told: tuple[ClusterStatus, ...], **counts: float) -> EndpointShown:
    minute: Counts = {("peer", "wallet", "a:1", outcome): value for outcome, value in counts.items()}
    [[endpoint]] = [pool.endpoints for pool in pools(told, minute, minute)]
    return endpoint


def test_workers_that_agree_make_one_row() -> None:
    [pool] = pools([(cluster(waiting=1),), (cluster(waiting=2),)], {}, {})
    assert (pool.name, pool.waiting, pool.is_down) == ("wallet", 3, False)
    [endpoint] = pool.endpoints
    assert (endpoint.state, endpoint.out, endpoint.workers, endpoint.in_flight, endpoint.idle) == ("in use", 0, 2, 4, 6)


def test_the_worker_that_sees_it_worst_counts() -> None:
    ejected, unhealthy = changed(ejected_for=12.0, last_failure="timeout"), changed(healthy=False)
    one = only((cluster(),), (cluster(ejected),))
    assert (one.state, one.out, one.workers, one.ejected_for, one.last_failure) == ("ejected", 1, 2, 12.0, "timeout")
    assert only((cluster(ejected),), (cluster(unhealthy),)).state == "unhealthy"


def test_a_pool_is_down_when_no_worker_has_an_endpoint_left() -> None:
    out = changed(healthy=False)
    other = changed(name="b:1")
    assert [pool.is_down for pool in pools([(cluster(out),), (cluster(out),)], {}, {})] == [True]
    assert [pool.is_down for pool in pools([(cluster(out),), (cluster(),)], {}, {})] == [False]
    assert [pool.is_down for pool in pools([(cluster(out, other),)], {}, {})] == [False]


def test_an_endpoint_half_of_whose_requests_fail_is_failing() -> None:
    assert only((cluster(),), ok=3, timeout=1, error=2).state == "failing"
    assert only((cluster(),), ok=4, timeout=1, error=2).state == "in use"
    endpoint = only((cluster(),), ok=4, timeout=1, error=2)
    assert (endpoint.ok, endpoint.failed) == (4, 3)


def test_clusters_of_one_name_and_endpoint_in_a_worker_are_one_row() -> None:
    one = only((cluster(), cluster(changed(ejected_for=1.0))))
    assert (one.out, one.workers, one.in_flight) == (1, 1, 4)


def test_the_auth_service_is_known_by_its_requests() -> None:
    ever: Counts = {("peer", "session", "auth:80", "ok"): 9.0}
    [pool] = pools([], {("peer", "session", "auth:80", "timeout"): 2.0}, ever)
    assert (pool.name, pool.is_down, pool.endpoints[0].state, pool.endpoints[0].failed) == ("session", False, "failing", 2)
    assert pools([], {}, {}) == ()
