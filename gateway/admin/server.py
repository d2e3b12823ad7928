"""What the admin listener serves: `/metrics`, `/livez`, `/readyz`, `/startupz`, `/status.json`.

Probes answer 200 or 503 with their reasons as JSON. The health of peers is never counted: one outage would take every instance out.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import msgspec
from aiohttp import web
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

Collect = Callable[[], Awaitable[Collector]]
Tell = Callable[[], Awaitable[msgspec.Struct]]


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
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(await collect()), headers={"Content-Type": content_type})

    async def livez(_: web.Request) -> web.Response:
        return _probe([])

    async def readyz(_: web.Request) -> web.Response:
        return _probe(health.not_ready())

    async def startupz(_: web.Request) -> web.Response:
        return _probe([] if health.started else ["starting"])

    async def tell(_: web.Request) -> web.Response:
        return _json(200, msgspec.json.encode(await status()))

    app = web.Application()
    app.add_routes(
        [
            web.get("/metrics", expose),
            web.get("/livez", livez),
            web.get("/readyz", readyz),
            web.get("/startupz", startupz),
            web.get("/status.json", tell),
        ]
    )
    return app


def _probe(reasons: list[str]) -> web.Response:
    body = msgspec.json.encode({"status": "unavailable" if reasons else "ok", "reasons": reasons})
    return _json(503 if reasons else 200, body)


def _json(status: int, body: bytes) -> web.Response:
    return web.Response(status=status, body=body, content_type="application/json", headers={"Cache-Control": "no-store"})
