"""What of the state of the service a person should look at, in the order of urgency. Pure: the state in, words out.

Alerts are Prometheus' matter (deploy/prometheus); these are for the person who has come to look, so they tell of this moment.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from gateway.admin.pools import EndpointShown, PoolShown
from gateway.admin.status import Concern, Section, ServiceStatus, State
from gateway.admin.traffic import Flow
from gateway.admin.words import share
from gateway.telemetry import clock

DAY: Final = 86400.0
CERTIFICATE_DAYS: Final = 21
FULL: Final = 0.9
FEW: Final = 0.01
MANY: Final = 0.5


def concerns(status: ServiceStatus) -> tuple[Concern, ...]:
    """Return what is worth looking at, the worst first."""
    found = (
        *_readiness(status),
        *_traffic(status),
        *_pools(status),
        *_workers(status),
        *_reload(status),
        *_dates(status),
        *_limits(status),
    )
    return tuple(sorted(found, key=lambda concern: concern.level != "bad"))


def state(found: tuple[Concern, ...], *, ready: bool) -> State:
    """Return the state in one word."""
    if not ready:
        return "not ready"
    if any(concern.level == "bad" for concern in found):
        return "failing"
    return "attention" if found else "ok"


def _bad(section: Section, text: str) -> Concern:
    return Concern("bad", section, text)


def _warn(section: Section, text: str) -> Concern:
    return Concern("warn", section, text)


def _readiness(status: ServiceStatus) -> Iterator[Concern]:
    for reason in status.reasons:
        yield _bad("workers", f"Not ready: {reason}")


def _traffic(status: ServiceStatus) -> Iterator[Concern]:
    worst = status.traffic.worst
    yield from _flow(status.traffic.sdk, "SDK calls", f", mostly {worst}" if worst else "")
    yield from _flow(status.traffic.api, "API requests", "")
    yield from _logins(status.traffic.logins)
    if status.traffic.log_lines_dropped:
        yield _warn("traffic", "Log lines were lost in the last 10 minutes: their reader is too slow")


def _flow(flow: Flow, name: str, why: str) -> Iterator[Concern]:
    minute = flow.minute
    text = f"{share(minute.failed, minute.all)} of the {name} of the last minute failed{why}"
    if minute.failed and minute.failed >= MANY * minute.all:
        yield _bad("traffic", text)
    elif minute.failed > FEW * minute.all:
        yield _warn("traffic", text)


def _logins(logins: Mapping[str, int]) -> Iterator[Concern]:
    unchecked, asked = logins["unavailable"], sum(logins.values()) - logins["missing"]
    if unchecked:
        text = f"{share(unchecked, asked)} of the logins of the last minute could not be checked: see the auth service"
        yield _bad("pools", text) if unchecked >= MANY * asked else _warn("pools", text)


def _pools(status: ServiceStatus) -> Iterator[Concern]:
    for pool in status.pools:
        if pool.is_down:
            yield _bad("pools", f"{pool.name}: no endpoint is left")
            continue
        for endpoint in pool.endpoints:
            if endpoint.state != "in use":
                yield _endpoint(pool, endpoint)
        if pool.waiting:
            yield _warn("pools", f"{pool.name}: requests wait for a place")


def _endpoint(pool: PoolShown, endpoint: EndpointShown) -> Concern:
    if endpoint.state == "failing":
        text = f"{pool.name}: half or more of the requests to {endpoint.name} fail"
        has_other = any(one.state == "in use" for one in pool.endpoints)  # what it does not mend, the traffic tells
        return _warn("pools", text) if has_other else _bad("pools", text)
    where = "" if endpoint.out == endpoint.workers else f" in {endpoint.out} of {endpoint.workers} workers"
    return _warn("pools", f"{pool.name}: {endpoint.name} is {endpoint.state}{where}")


def _workers(status: ServiceStatus) -> Iterator[Concern]:
    serving = sum(worker.serves for worker in status.workers if worker.generation == status.generation)
    if status.ready and serving < status.slots:
        yield _warn("workers", f"{serving} of {status.slots} workers serve")
    if status.traffic.restarts:
        yield _warn("workers", "Workers died or hung in the last 10 minutes")


def _reload(status: ServiceStatus) -> Iterator[Concern]:
    if not status.reload.ok:
        yield _warn("reload", "The last reload failed; the former configuration stays in use")
    if status.in_force.holds_back_key:
        yield _warn("keys", "The file of the signing key holds another key; it is used after gateway reload only")


def _dates(status: ServiceStatus) -> Iterator[Concern]:
    for certificate in status.in_force.certificates:
        days = (certificate.ends - status.at) / DAY
        if days <= 0:
            yield _bad("certificates", f"{certificate.key}: the certificate has expired")
        elif days < CERTIFICATE_DAYS:
            yield _warn("certificates", f"{certificate.key}: the certificate ends in {int(days)} days")


def _limits(status: ServiceStatus) -> Iterator[Concern]:
    if status.traffic.full:
        yield _warn("limits", "Clients had to wait in the last 10 minutes: there are as many connections as may be, or no descriptors left")
    calls = status.calls
    if calls.max_in_flight and calls.in_flight >= FULL * calls.max_in_flight:
        yield _warn("limits", "Nearly as many calls to Alipay+ are in flight as may be")
    if calls.waiting:
        yield _warn("limits", "Calls to Alipay+ wait for a place")
    if calls.clock_offset is not None and abs(calls.clock_offset) > clock.LARGE:
        yield _warn("limits", f"Our clock and that of Alipay+ differ by {calls.clock_offset:+.0f} s")
