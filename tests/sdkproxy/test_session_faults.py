"""What goes wrong at the auth service, seen by the app: never a call to Alipay+, never a 401 for a broken service (faults B)."""

import asyncio
import sys
import time
from typing import Any

import pytest

from gateway.simulator.configuration import Ports
from tests.ports import free_port

JSON = {"Content-Type": "application/json"}


async def refused(gateway: Any, code: str, expected: int, /, **login: Any) -> None:
    if login:
        gateway.script_auth(**login)
    reply = await gateway.post()
    assert (reply.status, reply.json["resultCode"], reply.json["resultStatus"]) == (expected, code, "F")
    assert gateway.sim.alipayplus.count == 0
    assert (reply.headers.get("Retry-After") is not None) == (expected == 503)


def checks(gateway: Any, outcome: str, source: str) -> float:
    value: float = gateway.count("gateway_session_checks_total", outcome=outcome, source=source)
    return value


async def test_B1_no_credentials_is_401_without_a_call_out(gateway: Any) -> None:
    reply = await gateway.post(headers=JSON)
    assert (reply.status, reply.json["resultCode"]) == (401, "SESSION_REQUIRED")
    assert gateway.sim.auth.count == 0
    assert checks(gateway, "missing", "none") == 1


async def test_B1_credentials_over_8_kib_are_431_without_a_call_out(gateway: Any) -> None:
    reply = await gateway.post(headers={**JSON, "Authorization": "Bearer demo-token-" + "a" * 8000, "Cookie": "sid=" + "b" * 500})
    assert (reply.status, reply.json["resultCode"]) == (431, "HEADERS_TOO_LARGE")
    assert gateway.sim.auth.count == 0


async def test_B2_a_refused_login_is_401_with_the_challenge_of_the_auth_service(gateway: Any) -> None:
    reply = await gateway.post(headers={**JSON, "Authorization": "Bearer wrong"})
    assert (reply.status, reply.json["resultCode"]) == (401, "SESSION_REQUIRED")
    assert reply.headers["WWW-Authenticate"].startswith("Bearer")
    assert checks(gateway, "denied", "call") == 1


async def test_B2_a_forbidden_login_is_403(gateway: Any) -> None:
    await refused(gateway, "SESSION_FORBIDDEN", 403, status=403)
    assert checks(gateway, "forbidden", "call") == 1


@pytest.mark.parametrize("drop", ["before_reading", "after_reading", "in_headers", "in_body"])
async def test_B3_a_connection_that_breaks_is_unavailable(gateway: Any, drop: str) -> None:
    await refused(gateway, "SESSION_UNAVAILABLE", 503, drop=drop)
    assert checks(gateway, "unavailable", "call") == 1


async def test_B3_a_service_that_is_not_there_is_unavailable(start: Any) -> None:
    port = free_port()
    gateway = await start({"session": {"forward": {"url": f"http://127.0.0.1:{port}/session"}}})
    await refused(gateway, "SESSION_UNAVAILABLE", 503)


async def test_B4_a_slow_service_is_unavailable_at_the_deadline(start: Any) -> None:
    gateway = await start({"session": {"forward": {"timeout": "300ms"}}})
    await refused(gateway, "SESSION_UNAVAILABLE", 503, hold=True)


@pytest.mark.parametrize("seconds", [-3600, 3600], ids=["F6-back", "F6-ahead"])
async def test_a_jump_of_the_wall_clock_moves_no_deadline(start: Any, monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    gateway = await start({"session": {"forward": {"timeout": "500ms"}}})
    assert (await gateway.post()).status == 200
    gateway.script_auth(hold=True)
    asked = asyncio.create_task(gateway.post())
    await gateway.sim.auth.until_received(2)
    wall_clock = time.time
    for module in [time, *(module for name, module in sys.modules.items() if name.startswith("gateway."))]:
        if getattr(module, "time", None) is wall_clock:
            monkeypatch.setattr(module, "time", lambda: wall_clock() + seconds)
    assert (await asked).json["resultCode"] == "SESSION_UNAVAILABLE"
    assert 0.49 <= gateway.lines()[-1]["duration"] < 3600


@pytest.mark.parametrize("status", [204, 301, 302, 404, 418, 429, 500, 503])
async def test_B5_other_statuses_are_unavailable(gateway: Any, status: int) -> None:
    await refused(gateway, "SESSION_UNAVAILABLE", 503, status=status)


@pytest.mark.parametrize("customer_id", ["x" * 65, "caf\u00e9", "a\tb"], ids=["B6-over-64", "B6-not-ascii", "B6-control-character"])
async def test_B6_an_id_that_is_none_is_unavailable(gateway: Any, customer_id: str) -> None:
    await refused(gateway, "SESSION_UNAVAILABLE", 503, customer_id=customer_id)


async def test_B7_500_at_once_with_one_credential_share_one_call_out(start: Any) -> None:
    gateway = await start({"session": {"forward": {"timeout": "30s"}}})
    gateway.script_auth(hold=True)
    posts = [asyncio.create_task(gateway.post()) for _ in range(100)]
    await gateway.sim.auth.until_received(1)
    while gateway.parts.front.in_flight < 100:  # noqa: ASYNC110  the gateway tells nobody that a caller has joined
        await asyncio.sleep(0.01)
    gateway.sim.auth.release()
    assert {(await post).status for post in posts} == {200}
    assert gateway.sim.auth.count == 1
    assert (checks(gateway, "valid", "call"), checks(gateway, "valid", "shared")) == (1, 99)


async def test_B8_with_a_ttl_the_check_is_kept(start: Any) -> None:
    gateway = await start({"session": {"cache": {"ttl": "60s"}}})
    for _ in range(3):
        assert (await gateway.post()).status == 200
    assert gateway.sim.auth.count == 1
    assert checks(gateway, "valid", "cache") == 2


async def test_B10_each_request_gets_the_id_of_its_own_credential(gateway: Any) -> None:
    async def one(number: int) -> bool:
        body = b'{"proxyRequestHeader":"%d","proxyRequestData":""}' % number
        reply = await gateway.post(body, headers={**JSON, "Authorization": f"Bearer demo-token-{number}"})
        return bool(reply.status == 200)

    assert all(await asyncio.gather(*(one(number) for number in range(50))))
    for received in gateway.sim.alipayplus.received:
        number = received.body.split(b'"')[3]
        assert b'"customerId":"customer-%b"' % number in received.body


async def test_the_auth_service_gets_the_credential_and_nothing_else(gateway: Any) -> None:
    await gateway.post(
        headers={**JSON, "Authorization": "Bearer demo-token-anna", "Cookie": "other=1; sid=demo", "X-Forwarded-For": "1.2.3.4"}
    )
    [received] = gateway.sim.auth.received
    assert {name.lower() for name, _ in received.headers} == {"host", "authorization", "cookie", "accept", "x-request-id", "traceparent"}
    assert received.get("cookie") == "sid=demo"
    [line] = gateway.lines()
    assert received.get("x-request-id") == line["request_id"]
    assert received.get("traceparent").split("-")[1] == line["trace_id"]


async def test_introspection_does_the_same(start: Any) -> None:
    port = free_port()
    service = {"url": f"http://127.0.0.1:{port}/introspect", "client_id": "gateway", "client_secret": "demo-secret"}
    gateway = await start({"session": {"forward": None, "introspection": service}}, ports=Ports(0, 0, 0, port, 0))
    assert (await gateway.post()).status == 200
    assert b'"customerId":"customer-anna"' in gateway.sim.alipayplus.received[0].body
    refusal = await gateway.post(headers={**JSON, "Authorization": "Bearer wrong"})
    assert (refusal.status, refusal.json["resultCode"]) == (401, "SESSION_REQUIRED")
    gateway.script_auth(status=401)
    assert (await gateway.post()).json["resultCode"] == "SESSION_UNAVAILABLE"
