"""The composition root: a checked `Config` in, running parts out, all owned by one AsyncExitStack.

The only module that knows all parts. It opens no listener and handles no signal: `gateway.server` does.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from structlog.typing import FilteringBoundLogger

from gateway.alipayplus.background import Background
from gateway.alipayplus.client import Client, Timeouts
from gateway.alipayplus.keyring import check_keys, load_key_ring
from gateway.alipayplus.keys import KeyRing, SigningKey
from gateway.alipayplus.multibuffer import LANES, MultiBuffer, MultiBufferError, multibuffer
from gateway.alipayplus.signature import URI
from gateway.alipayplus.signer import Signer
from gateway.config import Alipayplus, Config, Fault
from gateway.config.draft import readable
from gateway.edge.body import BodyLimits
from gateway.edge.exchange import BATCH, Recorder
from gateway.edge.forwarded import TrustedProxies
from gateway.edge.front import Front
from gateway.edge.memory import MemoryWatch, give_back
from gateway.edge.room import TAKES, TAKES_TLS, Room
from gateway.edge.routing import RouteTable
from gateway.edge.server import EdgeServer, ServerLimits
from gateway.edge.shedding import FEW, Shedder, Work
from gateway.edge.tls import check_server_tls
from gateway.edge.tracing import Surroundings, Tracing, call_attributes
from gateway.edge.turns import Turns
from gateway.passthrough.handler import Passthrough
from gateway.passthrough.tunnel import Tunnel
from gateway.passthrough.ways import api_routes, api_ways, check_api
from gateway.sdkproxy.contract import ENDPOINT
from gateway.sdkproxy.handler import SdkProxy
from gateway.session import Sessions
from gateway.telemetry.clock import ClockWatch
from gateway.telemetry.failures import LastFailures
from gateway.telemetry.lag import LoopLag
from gateway.telemetry.log import Logs
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.spans import Export
from gateway.telemetry.tracing import check_tracing
from gateway.upstream import Cluster, Limiter, tls
from gateway.upstream.configured import alipayplus_cluster, api_cluster
from gateway.upstream.connection import HasRoom
from gateway.upstream.pieces import PIECES
from gateway.upstream.watch import Watch, show_health

CUT_SECONDS: Final = 0.05  # what is still in flight at the end is given so long to see that it is; zero would mean for ever


def check_tls(config: Config) -> Iterator[Fault]:
    """Yield the faults of the certificates and keys that the configuration names for its peers."""
    session = config.session
    named = (
        (("alipayplus", "tls"), config.alipayplus.tls),
        (("session", "forward", "tls"), session.forward.tls if session.forward else None),
        (("session", "introspection", "tls"), session.introspection.tls if session.introspection else None),
        *((("api", "upstreams", name, "tls"), upstream.tls) for name, upstream in (config.api.upstreams if config.api else {}).items()),
    )
    for path, settings in named:
        if settings is not None:
            yield from readable(tls.check(settings, path))


MANY_CALLS: Final = 25
"""So many a second spend a fortieth of the time on signatures; fewer are no burden to API requests."""
MANY_REQUESTS: Final = 10
"""So many API requests a second are worth more work for calls."""
CHECKS: Final = (check_keys, check_tls, check_server_tls, check_api, check_tracing)


@dataclass(frozen=True, slots=True)
class Runtime:
    """The running parts of one worker."""

    config: Config
    metrics: Metrics
    front: Front
    edge: EdgeServer
    memory: MemoryWatch
    tunnels: set[Tunnel]
    clusters: tuple[Cluster, ...]
    failures: LastFailures


@asynccontextmanager
async def running(
    config: Config, metrics: Metrics, logs: Logs, export: Export | None = None, *, workers: int = 1
) -> AsyncIterator[Runtime]:
    """Build every part and run it until the context ends. Reads the key files; opens no listener. `export` takes spans, if any are made.

    There are so many `workers`, this one included.
    """
    async with AsyncExitStack() as stack:

        def clients(seconds: float) -> int:
            return edge.active(seconds)  # which is built last

        def queued() -> float:
            return signer.delay()  # which is built later

        def release() -> None:
            sessions.forget_half()  # which are built later
            give_back()

        loop = asyncio.get_running_loop()
        stack.enter_context(LoopLag(metrics))
        turns = Turns(loop)
        ring = load_key_ring(config.alipayplus)
        _show_keys(metrics, ring)
        several = _several(ring.signing, logs.log)
        few = FEW if several is None else 5 * LANES // 2  # while some are signed, others are on their way there, and back
        memory = MemoryWatch(workers=workers, release=release)
        PIECES.is_short = memory.is_short
        shedder = Shedder(
            logs.log, loop, room=Room(memory.fits), clients=clients, queued=queued, waiting=turns.waiting, few=few, takes=_takes(config)
        )
        signer = _signer(ring.signing, several, shedder, logs.log, stack)
        hosts = _hosts(config.alipayplus, Watch("alipayplus", metrics, logs.log))
        upstreams = _upstreams(config, metrics, logs.log)
        clusters = (*hosts.values(), *upstreams.values())
        for cluster in clusters:
            await stack.enter_async_context(cluster)
        show_health(metrics, clusters)
        client = _client(config.alipayplus, ring, signer, hosts, metrics, grow=shedder.room.grow)
        sessions = _sessions(config, metrics, stack)
        tracer = _tracer(config, sessions, export)
        recorder = Recorder(metrics, logs, sample=config.telemetry.log.sample, tracer=tracer, batch=BATCH)
        stack.callback(recorder.flush)
        sdk = SdkProxy(
            config.sdk_proxy.path_prefix,
            BodyLimits(config.sdk_proxy.max_body, config.server.limits.body_idle_timeout, config.server.limits.body_timeout),
            sessions,
            client,
            metrics,
            scenes=config.alipayplus.scenes,
            customer_hash=logs.customer,
            on_clock_offset=ClockWatch(metrics, logs.log).observe,
            share=shedder.share("sdk"),
        )
        routes, tunnels = api_routes(config), set[Tunnel]()
        ways = api_ways(config, routes, upstreams, tunnels)
        front = Front(
            config.sdk_proxy.path_prefix,
            sdk.handle,
            recorder,
            metrics,
            logs.log,
            sdk_target=sdk.target,
            takes_sdk=sdk.takes,
            header_size=config.server.limits.header_size,
            shedder=shedder,
            api=Passthrough(
                ways,
                sessions,
                metrics,
                identity_header=config.session.identity_header,
                subject_header=config.server.tls.subject_header if config.server.tls is not None else None,
                share=shedder.share("api"),
            ).handle,
            routes=RouteTable(routes, config.sdk_proxy.path_prefix),
            trusted=TrustedProxies(config.server.trusted_proxies),
        )
        limits = config.server.limits
        edge = EdgeServer(
            front.handle,
            ServerLimits(limits.header_size, limits.header_timeout, limits.idle_timeout, limits.write_idle_timeout),
            recorder,
            metrics,
            front.unknown_method(sdk.unknown_method),
            turns=turns,
            shedder=shedder,
            refuse=front.refuse,
            note_unbegun=front.note_unbegun,
        )
        stack.push_async_callback(edge.shutdown, CUT_SECONDS)
        yield Runtime(config, metrics, front, edge, memory, tunnels, clusters, recorder.failures)


def _takes(config: Config) -> dict[Work, int]:
    """Return how many bytes requests may take beside their bodies."""
    upstreams = config.api.upstreams.values() if config.api else ()
    has_tls = any(server.url.startswith("https:") for upstream in upstreams for server in upstream.servers)
    return {"sdk": TAKES_TLS, "api": TAKES_TLS if has_tls else TAKES}


def _tracer(config: Config, sessions: Sessions, export: Export | None) -> Tracing | None:
    settings = config.telemetry.tracing
    if settings is None or export is None:
        return None
    scheme = "https" if config.server.tls is not None else "http"
    call = call_attributes(sessions.method, sessions.endpoint, sessions.url.partition("?")[0])
    return Tracing(settings.sample, Surroundings(scheme, config.sdk_proxy.path_prefix + ENDPOINT, call, URI), export)


def _sessions(config: Config, metrics: Metrics, stack: AsyncExitStack) -> Sessions:
    sessions = Sessions(config.session, observe=partial(_count_upstream, metrics, "session"))
    stack.push_async_callback(sessions.close)
    return sessions


def _hosts(config: Alipayplus, watch: Watch) -> dict[tuple[str, ...], Cluster]:
    """Build a cluster for each list of hosts that the configuration has; scenes with the same list share it."""
    context = tls.client_context(config.tls)
    lists = dict.fromkeys([config.host, *(scene.host for scene in config.scenes.values())])
    return {hosts: alipayplus_cluster(hosts, config, context, watch) for hosts in lists}


def _signer(key: SigningKey, several: MultiBuffer | None, shedder: Shedder, log: FilteringBoundLogger, stack: AsyncExitStack) -> Signer:
    """Sign several at a time where that can be done, and beside a process that signs where it cannot."""

    def has_both() -> bool:
        return shedder.lately("api") >= MANY_REQUESTS and shedder.lately("sdk") >= MANY_CALLS

    background = None
    if several is None:
        background = Background(key, is_wanted=has_both, warn=log.warning)
        stack.push_async_callback(background.close)
    return Signer(
        key,
        has_others=partial(shedder.has_lately, "api"),
        is_pressed=lambda: shedder.is_shedding,
        background=background,
        several=several,
        warn=log.warning,
    )


def _several(key: SigningKey, log: FilteringBoundLogger) -> MultiBuffer | None:
    try:
        several = multibuffer(key)
    except MultiBufferError as error:
        log.warning("signatures are made one by one", why=str(error))
        return None
    if several is not None:
        log.info("signatures are made several at a time", library=several.library)
    return several


def _client(
    config: Alipayplus,
    ring: KeyRing,
    signer: Signer,
    hosts: Mapping[tuple[str, ...], Cluster],
    metrics: Metrics,
    *,
    grow: HasRoom,
) -> Client:
    limiter = Limiter(config.max_in_flight)
    metrics.max_in_flight.set(config.max_in_flight)
    metrics.queue_length.set_function(lambda: limiter.waiting)
    return Client(
        ring,
        signer,
        hosts[config.host],
        scenes={name: hosts[scene.host] for name, scene in config.scenes.items()},
        limiter=limiter,
        timeouts=Timeouts(config.timeout, config.connect_timeout, config.queue_timeout),
        max_response=config.max_response,
        allow_unsigned_failures=config.verification.allow_unsigned_failures,
        grow=grow,
    )


def _upstreams(config: Config, metrics: Metrics, log: FilteringBoundLogger) -> dict[str, Cluster]:
    configured = config.api.upstreams if config.api else {}
    return {name: api_cluster(name, upstream, Watch(name, metrics, log)) for name, upstream in configured.items()}


def _count_upstream(metrics: Metrics, upstream: str, endpoint: str, outcome: str) -> None:
    metrics.upstream_requests(upstream, endpoint, outcome).inc()


def _show_keys(metrics: Metrics, ring: KeyRing) -> None:
    metrics.key_info("signing", ring.signing.version, ring.signing.public.fingerprint).set(1)
    for version, key in ring.verification.items():
        metrics.key_info("verification", version, key.fingerprint).set(1)
