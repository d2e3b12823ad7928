"""The state of the service, put together from what is known of it in several places: its metrics, its workers, its configuration.

The supervisor says what it knows; what the parts mean stands in the modules beside this one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from socket import gethostname
from time import time
from typing import Final

from msgspec import structs

from gateway import __version__
from gateway.admin.concerns import concerns, state
from gateway.admin.counts import counts, gauge
from gateway.admin.history import History
from gateway.admin.in_force import InForce
from gateway.admin.pools import PoolShown, pools
from gateway.admin.status import Calls, ReloadShown, ServiceStatus, WorkerShown, WorkerStatus
from gateway.admin.traffic import last_minute, together, traffic
from gateway.telemetry.failures import Failed, LastFailures
from gateway.telemetry.snapshot import Snapshot

ALIPAYPLUS: Final = "alipayplus"


@dataclass(frozen=True, slots=True)
class Seen:
    """What the supervisor knows. `told` pairs each worker with its own word, of any generation; `slots` is how many there should be.

    `ended` are failures that workers told which have ended since.
    """

    reasons: tuple[str, ...]
    generation: int
    slots: int
    told: tuple[tuple[WorkerShown, WorkerStatus | None], ...]
    config: str
    listen: tuple[str, ...]
    sdk_prefix: str
    reload: ReloadShown
    warnings: tuple[str, ...]
    in_force: InForce
    snapshot: Snapshot
    ended: tuple[Failed, ...] = ()


def overview(seen: Seen, history: History, *, since: float, now: float) -> ServiceStatus:
    """Return the state. `now` is the monotonic time of this moment, `since` when the service began (UNIX seconds)."""
    at = time()
    counted = counts(seen.snapshot)
    steps = history.steps(now, at, counted)
    current = [told for worker, told in seen.told if told is not None and worker.generation == seen.generation]
    shown = pools([told.pools for told in current], together(last_minute(steps)), counted)
    status = ServiceStatus(
        version=__version__,
        host=gethostname(),
        state="ok",
        concerns=(),
        at=at,
        since=since,
        ready=not seen.reasons,
        reasons=seen.reasons,
        config=seen.config,
        listen=seen.listen,
        generation=seen.generation,
        slots=seen.slots,
        workers=tuple(worker for worker, _ in seen.told),
        reload=seen.reload,
        warnings=seen.warnings,
        sdk_prefix=seen.sdk_prefix,
        calls=_calls(shown, seen.snapshot),
        traffic=traffic(steps),
        pools=shown,
        failures=_last([*seen.ended, *(failed for _, told in seen.told if told is not None for failed in told.failures)]),
        in_force=seen.in_force,
    )
    found = concerns(status)
    return structs.replace(status, concerns=found, state=state(found, ready=status.ready))


def _calls(shown: Iterable[PoolShown], snapshot: Snapshot) -> Calls:
    in_flight = sum(endpoint.in_flight for pool in shown if pool.name == ALIPAYPLUS for endpoint in pool.endpoints)
    most, waiting = (gauge(snapshot, f"gateway_alipayplus_{name}") or 0 for name in ("max_in_flight", "queue_length"))
    return Calls(in_flight, round(most), round(waiting), gauge(snapshot, "gateway_alipayplus_clock_offset_seconds"))


def _last(failures: Iterable[Failed]) -> tuple[Failed, ...]:
    """Return the last of each code, the newest first."""
    last = LastFailures()
    for failed in sorted(failures, key=_time):
        last.note(failed)
    return tuple(sorted(last.all(), key=_time, reverse=True))


def _time(failed: Failed) -> float:
    return failed.time
