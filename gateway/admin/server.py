"""What the admin listener serves: the status page, `/status.json`, `/metrics`, `/livez`, `/readyz`, `/startupz`. Read-only, all of it.

Probes answer 200 or 503 with their reasons as JSON. The health of peers is never counted: one outage would take every instance out.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import msgspec
from aiohttp import web
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from gateway.admin.page import POLICY, asset, page
from gateway.admin.status import ServiceStatus

Collect = Callable[[], Awaitable[Collector]]
Encode = Callable[[Collector], bytes]
Tell = Callable[[], Awaitable[ServiceStatus]]

HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Of every answer to what is a request: what a browser must not do with it."""

_ASSETS: Final = {"status.css": "text/css", "status.js": "text/javascript"}


@dataclass(slots=True)
class Health:
    """The state that the probes tell: started once, then ready until the drain begins, but for `reasons` that come and go."""

    started: bool = False
    draining: bool = False
    reasons: list[str] = field(default_factory=list)

    def not_ready(self) -> list[str]:
        """Return why the process is not ready; nothing when it is."""
        reasons = [] if self.started else ["starting"]
        return [*reasons, *(["draining"] if self.draining else []), *self.reasons]


def admin_app(collect: Collect, health: Health, status: Tell) -> web.Application:
    """Return the admin listener's application. `collect` gives the metrics of this moment, `status` the state as a value."""

    async def expose(request: web.Request) -> web.Response:
        encode, content_type = _format(request.headers.get("Accept", ""))
        return web.Response(body=encode(await collect()), headers={"Content-Type": content_type})

    async def livez(_: web.Request) -> web.Response:
        return _probe([])

    async def readyz(_: web.Request) -> web.Response:
        return _probe(health.not_ready())

    async def startupz(_: web.Request) -> web.Response:
        return _probe([] if health.started else ["starting"])

    async def tell(_: web.Request) -> web.Response:
        return _json(200, msgspec.json.encode(await status()))

    async def show(_: web.Request) -> web.Response:
        return web.Response(text=page(await status()), content_type="text/html", charset="utf-8")

    app = web.Application()
    app.on_response_prepare.append(_add_headers)
    app.add_routes(
        [
            web.get("/", show),
            *(web.get(f"/{name}", partial(_give, name, kind)) for name, kind in _ASSETS.items()),
            web.get("/metrics", expose),
            web.get("/livez", livez),
            web.get("/readyz", readyz),
            web.get("/startupz", startupz),
            web.get("/status.json", tell),
        ]
    )
    return app


def _format(accept: str) -> tuple[Encode, str]:
    """Return the format of metrics that is asked for; the plain one where that cannot be read, at which the library fails."""
    try:
        return choose_encoder(accept)
    except (TypeError, ValueError):
        return choose_encoder("")


def _probe(reasons: list[str]) -> web.Response:
    body = msgspec.json.encode({"status": "unavailable" if reasons else "ok", "reasons": reasons})
    return _json(503 if reasons else 200, body)


def _json(status: int, body: bytes) -> web.Response:
    return web.Response(status=status, body=body, content_type="application/json")


async def _give(name: str, kind: str, _: web.Request) -> web.Response:
    return web.Response(body=asset(name), content_type=kind, charset="utf-8")


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)
