"""Clusters as the configuration describes them. Building one connects to nothing: enter it to start it."""

from collections.abc import Iterable
from ssl import SSLContext
from typing import Final

from gateway.config import model
from gateway.upstream.balance import BALANCES, Ordered
from gateway.upstream.cluster import Cluster, Observer, Outcome
from gateway.upstream.endpoint import Endpoint
from gateway.upstream.health import Health
from gateway.upstream.member import Member
from gateway.upstream.pool import Pool
from gateway.upstream.retry import RetryBudget
from gateway.upstream.tls import client_context

_TRANSPORT_FAILURES: Final = frozenset[Outcome]({"error", "unreachable"})


def api_cluster(name: str, config: model.Upstream, observer: Observer) -> Cluster:
    """Build one of `api.upstreams`. Raises OSError for TLS files that cannot be read.

    A request waits for at most `connect_timeout` when all endpoints have `connections` requests.
    """
    is_tls = any(server.url.startswith("https:") for server in config.servers)
    context = client_context(config.tls) if is_tls else None
    return Cluster(
        name,
        [_api_member(server, config, context) for server in config.servers],
        observer=observer,
        balance=BALANCES[config.balance](),
        ejection=config.ejection,
        health_check=config.health_check,
        attempts=config.retries.attempts,
        budget=RetryBudget(config.retries.budget),
        patience=config.connect_timeout,
    )


def _api_member(server: model.UpstreamServer, config: model.Upstream, context: SSLContext | None) -> Member:
    check, kept = config.health_check, config.keepalive
    endpoint = Endpoint.parse(server.url, tls=context, server_name=config.tls.server_name if config.tls else None)
    return Member(
        Pool(endpoint, idle=kept.idle, age=kept.age, connect_timeout=config.connect_timeout, limit=kept.connections),
        ejection=config.ejection,
        weight=server.weight,
        backup=server.backup,
        limit=config.connections,
        health=Health(healthy=check.healthy, unhealthy=check.unhealthy) if check is not None else None,
    )


def alipayplus_cluster(hosts: Iterable[str], config: model.Alipayplus, context: SSLContext, observer: Observer) -> Cluster:
    """Build the hosts of Alipay+, of which the first that can be reached is used.

    There is no active probe, since that would be a signed business call. A host is ejected by what happens to connections only, and no
    more than half of them: result F is healthy, and so is slowness, which the next host cannot mend.
    """
    ejection, kept = model.Ejection(), config.keepalive
    server_name = config.tls.server_name if config.tls else None
    endpoints = [Endpoint.parse(host, tls=context, server_name=server_name, proxy=config.proxy) for host in hosts]
    pools = [Pool(endpoint, idle=kept.idle, age=kept.age, connect_timeout=config.connect_timeout) for endpoint in endpoints]
    return Cluster(
        "alipayplus",
        [Member(pool, ejection=ejection) for pool in pools],
        observer=observer,
        balance=Ordered(),
        ejection=ejection,
        attempts=len(pools),
        failures=_TRANSPORT_FAILURES,
    )
