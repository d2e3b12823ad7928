"""What `/status.json` and the page say: the state of the service as values, for the person at night and for scripts.

It names what the configuration names, and counts; nothing of a client and nothing secret is in it.
"""

from typing import Final, Literal

import msgspec
from msgspec import Struct

from gateway.admin.in_force import InForce
from gateway.admin.pools import PoolShown
from gateway.admin.traffic import Traffic
from gateway.runtime import Runtime
from gateway.telemetry.failures import Failed
from gateway.upstream.cluster import ClusterStatus

State = Literal["ok", "attention", "failing", "not ready"]
Section = Literal["workers", "pools", "traffic", "failures", "reload", "keys", "certificates", "limits"]


class Load(Struct, frozen=True):
    """How much a worker has to do. `tasks`: how many asyncio tasks there were when it was last asked."""

    in_flight: int
    connections: int
    tunnels: int
    tasks: int


class WorkerStatus(Struct, frozen=True):
    """What a worker tells of itself. `pools` are Alipay+'s hosts first, then the API's upstreams, each with its endpoints."""

    load: Load
    pools: tuple[ClusterStatus, ...]
    failures: tuple[Failed, ...]


class WorkerShown(Struct, frozen=True):
    """A worker as the supervisor sees it; `since` in UNIX seconds, `told` what it told last, None before it has told anything."""

    slot: int
    pid: int
    generation: int
    serves: bool
    since: float
    told: Load | None


class ReloadShown(Struct, frozen=True):
    """The last time that the configuration was read: by a reload, or at the start. `faults` say why it failed; times in UNIX seconds."""

    at: float
    ok: bool
    in_use_since: float
    faults: tuple[str, ...] = ()


class Concern(Struct, frozen=True):
    """Something that a person should look at; `bad` where requests suffer from it. `section` is where the page shows more."""

    level: Literal["bad", "warn"]
    section: Section
    text: str


class Calls(Struct, frozen=True):
    """Calls to Alipay+ at this moment, in all workers: in flight, how many may be, waiting; and its clock less ours (seconds)."""

    in_flight: int
    max_in_flight: int
    waiting: int
    clock_offset: float | None


class ServiceStatus(Struct, frozen=True, kw_only=True):
    """The whole. Times are UNIX seconds; `reasons` say why the service is not ready; `slots` is how many workers there should be."""

    version: str
    host: str
    state: State
    concerns: tuple[Concern, ...]
    at: float
    since: float
    ready: bool
    reasons: tuple[str, ...]
    config: str
    listen: tuple[str, ...]
    generation: int
    slots: int
    workers: tuple[WorkerShown, ...]
    reload: ReloadShown
    warnings: tuple[str, ...]
    sdk_prefix: str
    calls: Calls
    traffic: Traffic
    pools: tuple[PoolShown, ...]
    failures: tuple[Failed, ...]
    in_force: InForce


_decoder: Final = msgspec.json.Decoder(WorkerStatus)


def worker_status(parts: Runtime, tasks: int) -> bytes:
    """Return how a worker is now, as it travels to the supervisor."""
    load = Load(parts.front.in_flight, parts.edge.open, len(parts.tunnels), tasks)
    return msgspec.json.encode(WorkerStatus(load, tuple(cluster.status() for cluster in parts.clusters), parts.failures.all()))


def read_worker_status(data: bytes) -> WorkerStatus | None:
    """Read what `worker_status` returned; None where a worker has told nothing yet, or is of another version than we are."""
    try:
        return _decoder.decode(data) if data else None
    except msgspec.MsgspecError:
        return None
