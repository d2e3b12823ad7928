"""`gateway check --connect`: can each peer of a configuration be reached, by TLS, and is its clock like ours.

One connection and one `HEAD /` for each peer; nothing is signed, and no credential is sent.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from gateway.config import Config, Tls
from gateway.upstream import Answer, Endpoint, Pool, UpstreamError, request_head
from gateway.upstream.tls import client_context

FAILED: Final = 1
TIMEOUT: Final = 5.0
ANSWER_LIMIT: Final = 64 * 1024
CLOSE_ENOUGH: Final = 2.0
"""Seconds; the Date of an answer is whole seconds."""


@dataclass(frozen=True, slots=True)
class Place:
    """A peer to try: where the configuration names it, and how it is reached."""

    key: str
    url: str
    tls: Tls | None
    proxy: str | None = None


def connect(config: Config) -> int:
    """Try each peer, print a line for each, and return 0 if all could be reached, else 1."""
    return asyncio.run(_connect_all(list(places(config))))


def places(config: Config) -> Iterator[Place]:
    """Yield every peer that the configuration names, the auth service first."""
    session, alipayplus = config.session, config.alipayplus
    if session.forward is not None:
        yield Place("session.forward.url", session.forward.url, session.forward.tls)
    if session.introspection is not None:
        yield Place("session.introspection.url", session.introspection.url, session.introspection.tls)
    for host in alipayplus.host:
        yield Place("alipayplus.host", host, alipayplus.tls, alipayplus.proxy)
    for name, scene in alipayplus.scenes.items():
        for host in scene.host:
            yield Place(f"alipayplus.scenes.{name}.host", host, alipayplus.tls, alipayplus.proxy)
    for name, upstream in (config.api.upstreams if config.api is not None else {}).items():
        for server in upstream.servers:
            yield Place(f"api.upstreams.{name}.servers", server.url, upstream.tls)


async def _connect_all(found: list[Place]) -> int:
    results = await asyncio.gather(*(_try(place) for place in found))
    for place, (_, text) in zip(found, results, strict=True):
        print(f"  {place.key:<30} {place.url}: {text}")
    return 0 if all(reached for reached, _ in results) else FAILED


async def _try(place: Place) -> tuple[bool, str]:
    context = client_context(place.tls) if place.url.startswith("https:") else None
    server_name = place.tls.server_name if place.tls is not None else None
    endpoint = Endpoint.parse(place.url, tls=context, server_name=server_name, proxy=place.proxy)
    pool = Pool(endpoint, idle=TIMEOUT, age=TIMEOUT, connect_timeout=TIMEOUT)
    try:
        async with asyncio.timeout(2 * TIMEOUT):
            connection = await pool.acquire()
            fields = ((b"Host", endpoint.authority.encode()), (b"Connection", b"close"))
            answer = await connection.exchange(request_head("HEAD", b"/", fields), limit=ANSWER_LIMIT, method="HEAD")
    except UpstreamError as error:
        return False, error.reason
    except TimeoutError:
        return False, "no answer in time"
    finally:
        await pool.close()
    return True, f"reached{' by TLS' if context else ''}, {_clock(answer, datetime.now(UTC))}"


def _clock(answer: Answer, now: datetime) -> str:
    try:
        offset = (parsedate_to_datetime(answer.get("date") or "") - now).total_seconds()
    except (ValueError, TypeError):  # no date, or one without a zone
        return "its answer has no Date"
    return (
        "its clock is like ours"
        if abs(offset) < CLOSE_ENOUGH
        else f"its clock is {abs(offset):.0f} s {'ahead' if offset > 0 else 'behind'}"
    )
