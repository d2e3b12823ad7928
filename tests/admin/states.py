"""States of the service for tests of the page: one in which all is well, and what is changed in it."""

from typing import Any

from msgspec import structs

from gateway.admin.concerns import concerns, state
from gateway.admin.in_force import CertificateShown, InForce, KeyShown, LimitShown, RouteShown
from gateway.admin.pools import EndpointShown, PoolShown
from gateway.admin.status import Calls, Load, ReloadShown, ServiceStatus, WorkerShown
from gateway.admin.traffic import Flow, ResultCount, Sums, Traffic
from gateway.telemetry.failures import Failed

NOW = 1_800_000_000.0
DAY = 86_400.0


def sums(ok: int = 100, refused: int = 0, failed: int = 0, *, p50: float | None = 0.02, p99: float | None = 0.3) -> Sums:
    return Sums(NOW - 60, 60.0, ok, refused, failed, p50, p99)


def flow(minute: Sums | None = None) -> Flow:
    one = minute or sums()
    return Flow((one,) * 6, (one,), one, one)


def logins(**changes: int) -> dict[str, int]:
    return {"valid": 100, "denied": 0, "forbidden": 0, "missing": 0, "unavailable": 0} | changes


def traffic(**changes: Any) -> Traffic:
    results = (ResultCount("S", "SUCCESS", "alipayplus", "ok", 100),)
    return structs.replace(Traffic(10.0, flow(), flow(), results, None, logins(), 0, 0), **changes)


def endpoint(**changes: Any) -> EndpointShown:
    return structs.replace(EndpointShown("10.0.0.5:8082", "in use", 0, 2, 0.0, 1, 3, 1, False, 100, 0, None), **changes)


def pool(*endpoints: EndpointShown, **changes: Any) -> PoolShown:
    return structs.replace(PoolShown("wallet", 0, False, endpoints or (endpoint(),)), **changes)


def worker(slot: int = 0, **changes: Any) -> WorkerShown:
    return structs.replace(WorkerShown(slot, 100 + slot, 3, True, NOW - 600, Load(1, 20, 0, 30)), **changes)


def failed(**changes: Any) -> Failed:
    one = Failed(NOW - 5, "ALIPAYPLUS_TIMEOUT", "U", "gateway", 504, "sdk", "id-1", "alipayplus.example:443", "no answer in time")
    return structs.replace(one, **changes)


def in_force(**changes: Any) -> InForce:
    keys = (KeyShown("signing", "1", "ab" * 32, 2048, "keys/mpp-1.pem", NOW - 90 * DAY),)
    certificates = (CertificateShown("server.tls.certificate", "tls/server.crt", NOW + 200 * DAY),)
    limits = (LimitShown("server.limits.connections", "8000", "For each worker."),)
    routes = (RouteShown("/", "wallet", (), (), "required", False),)
    return structs.replace(InForce(keys, False, certificates, limits, routes), **changes)


def status(**changes: Any) -> ServiceStatus:
    """Return the state with these changes, and with what follows of them."""
    well = ServiceStatus(
        version="1.2.3",
        host="gateway-1",
        state="ok",
        concerns=(),
        at=NOW,
        since=NOW - 7200,
        ready=True,
        reasons=(),
        config="/etc/gateway.yaml",
        listen=("0.0.0.0:8080",),
        generation=3,
        slots=2,
        workers=(worker(0), worker(1)),
        reload=ReloadShown(NOW - 600, True, NOW - 600),
        warnings=(),
        sdk_prefix="/alipayplus",
        calls=Calls(1, 512, 0, 0.2),
        traffic=traffic(),
        pools=(pool(),),
        failures=(),
        in_force=in_force(),
    )
    changed = structs.replace(well, **changes)
    found = concerns(changed)
    return structs.replace(changed, concerns=found, state=state(found, ready=changed.ready))
