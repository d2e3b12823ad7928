"""What concerns the Java adapter only."""

import pytest

from tests.clients.conftest import OpenApp, StartServer
from tests.clients.driver import STATUSES, Driver
from tests.clients.server import KEPT, failure, http, success

MIB = 1 << 20


async def test_connections_are_used_again_after_successes_and_failures(
    android: Driver, open_in: OpenApp, start_server: StartServer
) -> None:
    answers = [http(200, success()), http(422, failure("PROCESS_FAIL")), http(502, failure("UNKNOWN_EXCEPTION")), http(200, success())]
    server, base = await start_server(*(KEPT + answer for answer in answers))
    app = await open_in(android, base)
    for _ in answers:
        await app.call()
    assert [request.connection for request in server.requests] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    "body",
    [
        b'{"isSuccess":true,"resultStatus":"S","resultCode":"\xff"}',
        b"[" * MIB,
        b'{"isSuccess":true,"resultStatus":"S","resultCode":"\\uZZZZ"}',
        b'{"isSuccess":true,"resultStatus":"S","resultCode":"SUCCESS"} more',
    ],
    ids=["not-utf-8", "too-deep", "no-escape", "more-than-an-object"],
)
async def test_an_answer_that_cannot_be_read_is_null(android: Driver, open_in: OpenApp, start_server: StartServer, body: bytes) -> None:
    _, base = await start_server(http(200, body))
    await (await open_in(android, base)).fail("NO_ANSWER")


async def test_a_login_that_throws_is_not_sent(android: Driver, open_in: OpenApp, start_server: StartServer) -> None:
    server, base = await start_server(http(200, success()))
    app = await open_in(android, base, logins=[None])
    assert (await app.call()).told == [("NOT_SENT", "F", "IllegalStateException", None)]
    assert server.requests == []


async def test_a_login_header_that_cannot_be_sent_is_told_without_its_value(
    android: Driver, open_in: OpenApp, start_server: StartServer
) -> None:
    server, base = await start_server(http(200, success()))
    app = await open_in(android, base, logins=["Bearer secret\r\nX-Injected: 1"])
    assert (await app.call()).told == [("NOT_SENT", "F", "IllegalArgumentException", None)]
    assert server.requests == []


@pytest.mark.parametrize(("step", "code"), [("connect", "NOT_SENT"), ("write", "NOT_SENT"), ("read", "NO_ANSWER")])
async def test_an_interrupted_thread_stays_interrupted(android: Driver, open_in: OpenApp, step: str, code: str) -> None:
    """By a stand-in of a platform that ends calls for an interrupt, as Android does and a JDK does not."""
    outcome = await (await open_in(android, f"interrupting://{step}")).call(interrupted=True)
    assert (outcome.told, outcome.interrupted) == ([(code, STATUSES[code], "InterruptedIOException", None)], True)


async def test_a_missing_scene_is_left_out_and_a_new_one_sent_as_it_is(
    android: Driver, open_in: OpenApp, start_server: StartServer
) -> None:
    server, base = await start_server(http(200, success()))
    app = await open_in(android, base)
    await app.call(scene=None)
    await app.call(scene="PROXY_SCENE_NEW")
    assert [request.json.get("scene") for request in server.requests] == [None, "PROXY_SCENE_NEW"]
