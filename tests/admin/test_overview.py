"""What the supervisor knows becomes one state."""

from typing import Any

from msgspec import structs

from gateway.admin.history import History
from gateway.admin.overview import Seen, overview
from gateway.admin.status import Load, ReloadShown, ServiceStatus, WorkerStatus
from gateway.telemetry.failures import KEPT, Failed
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.snapshot import take
from gateway.upstream.cluster import ClusterStatus
from gateway.upstream.member import EndpointStatus
from tests.admin.states import NOW, failed, in_force, worker

ENDPOINT = EndpointStatus("a:1", True, 0.0, 2, 3, 1, False, None)


def told(*failures: Failed, pool: str = "alipayplus") -> WorkerStatus:
    return WorkerStatus(Load(2, 3, 0, 9), (ClusterStatus(pool, (ENDPOINT,), 0),), failures)


def shown(metrics: Metrics | None = None, **changes: Any) -> ServiceStatus:
    seen = Seen(
        reasons=(),
        generation=3,
        slots=2,
        told=((worker(0), told()), (worker(1), told())),
        config="gateway.yaml",
        listen=("127.0.0.1:8080",),
        sdk_prefix="/alipayplus",
        reload=ReloadShown(NOW, True, NOW),
        warnings=(),
        in_force=in_force(certificates=()),
        snapshot=take((metrics or Metrics()).registry),
    )
    return overview(
        Seen(**{name: changes.get(name, getattr(seen, name)) for name in Seen.__slots__}), History(0.0, NOW), since=NOW, now=5.0
    )


def ids(status: ServiceStatus) -> list[str]:
    return [one.request_id for one in status.failures]


def test_all_workers_together_are_the_service() -> None:
    metrics = Metrics()
    metrics.max_in_flight.set(512)
    metrics.queue_length.set(3)
    metrics.clock_offset.set(-1.5)
    metrics.results("none", "S", "SUCCESS", "alipayplus").inc(7)
    status = shown(metrics)
    assert (status.calls.in_flight, status.calls.max_in_flight, status.calls.waiting, status.calls.clock_offset) == (4, 512, 3, -1.5)
    assert (status.traffic.sdk.window.ok, status.state, len(status.workers)) == (7, "attention", 2)
    assert [concern.text for concern in status.concerns] == ["Calls to Alipay+ wait for a place"]


def test_failures_of_all_workers_living_and_ended_are_put_together_the_newest_first() -> None:
    one, other, ended = (failed(request_id=name, time=NOW + at) for name, at in (("one", 1), ("other", 3), ("ended", 2)))
    assert ids(shown(told=((worker(0), told(one)), (worker(1), told(other)), (worker(2), None)), ended=(ended,))) == [
        "other",
        "ended",
        "one",
    ]


def test_of_each_code_so_many_are_shown_whatever_the_number_of_workers() -> None:
    many = [failed(request_id=f"{code}{number}", code=code, time=NOW + number) for code in "AB" for number in range(3 * KEPT)]
    status = shown(told=tuple((worker(slot), told(*many[slot::3])) for slot in range(3)))
    assert len(status.failures) == 2 * KEPT
    assert {one.time for one in status.failures} == {NOW + number for number in range(2 * KEPT, 3 * KEPT)}


def test_the_pools_are_those_of_the_generation_in_use() -> None:
    former = structs.replace(worker(1), generation=2)
    status = shown(told=((worker(0), told(pool="new")), (former, told(pool="old"))))
    assert [pool.name for pool in status.pools] == ["new"]
    assert len(status.workers) == 2


def test_before_any_worker_has_told_there_is_a_page_all_the_same() -> None:
    status = shown(told=(), generation=0, reasons=("starting",), snapshot=[])
    assert (status.state, status.pools, status.calls.clock_offset) == ("not ready", (), None)
