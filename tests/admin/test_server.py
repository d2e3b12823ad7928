"""The admin listener's answers: what they are, what a browser must not do with them, and that nothing can be changed there."""

from collections.abc import Awaitable, Callable

import pytest
from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request
from prometheus_client import CollectorRegistry

from gateway.admin.page import POLICY
from gateway.admin.server import Health, admin_app
from gateway.admin.status import ServiceStatus
from tests.admin.states import status

Start = Callable[[Application], Awaitable[TestClient[Request, Application]]]
PATHS = {
    "/": "text/html; charset=utf-8",
    "/status.css": "text/css; charset=utf-8",
    "/status.js": "text/javascript; charset=utf-8",
    "/status.json": "application/json",
    "/livez": "application/json",
    "/readyz": "application/json",
    "/startupz": "application/json",
    "/metrics": "text/plain; version=0.0.4; charset=utf-8",
}

PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.fixture
async def client(aiohttp_client: Start) -> TestClient[Request, Application]:
    async def collect() -> CollectorRegistry:
        return CollectorRegistry()

    async def tell() -> ServiceStatus:
        return status()

    return await aiohttp_client(admin_app(collect, Health(started=True), tell))


@pytest.mark.parametrize("path", [*PATHS, "/nothing", "/status.css/", "/assets/status.css", "/../status.py"])
async def test_every_answer_keeps_browsers_from_guessing_keeping_and_running_what_is_not_ours(
    client: TestClient[Request, Application], path: str
) -> None:
    answer = await client.get(path)
    assert answer.status == (200 if path in PATHS else 404)
    assert answer.headers["Content-Security-Policy"] == POLICY
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert answer.headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize(("path", "kind"), PATHS.items())
async def test_types_are_said_and_HEAD_has_no_body(client: TestClient[Request, Application], path: str, kind: str) -> None:
    answer = await client.get(path)
    assert answer.headers["Content-Type"] == kind
    head = await client.head(path)
    assert (head.status, await head.read()) == (200, b"")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
async def test_nothing_can_be_changed(client: TestClient[Request, Application], method: str, path: str) -> None:
    answer = await client.request(method, path)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET,HEAD")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", "application/openmetrics-text"),
        (PROMETHEUS_3, "application/openmetrics-text"),
        ("application/openmetrics-text; version=one", "text/plain"),
        ("text/plain;version=1.x", "text/plain"),
        ("*/*;;;=", "text/plain"),
    ],
)
async def test_metrics_come_in_the_format_that_is_asked_for_or_in_the_plain_one(
    client: TestClient[Request, Application], accept: str, kind: str
) -> None:
    answer = await client.get("/metrics", headers={"Accept": accept})
    assert (answer.status, answer.content_type) == (200, kind)
