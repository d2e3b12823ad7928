"""The calls themselves, seen through `Sessions`: connections kept, repeats, limits, what is counted."""

import asyncio
import socket
from pathlib import Path

import pytest

from tests.session.auth_server import ABORT, AuthServer, Received, always, answer, document, valid
from tests.session.conftest import StartSessions
from tests.upstream.certificates import Authority


async def test_connections_are_kept(start: StartSessions, auth: AuthServer) -> None:
    gateway = start()
    for _ in range(5):
        assert (await gateway.bearer()).outcome == "valid"
    assert auth.connections == 1
    assert gateway.observed == ["ok"] * 5


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_check_is_repeated_once_when_a_kept_connection_turns_out_to_have_ended(
    start: StartSessions, auth: AuthServer, method: str
) -> None:
    async def script(_received: Received) -> bytes:
        return ABORT if len(auth.received) == 2 else valid()

    auth.script = script
    gateway = start(method=method)
    assert [(await gateway.bearer()).outcome for _ in range(2)] == ["valid", "valid"]
    assert (len(auth.received), auth.connections) == (3, 2)
    assert auth.received[1].head == auth.received[2].head
    assert gateway.observed == ["ok", "error", "ok"]


async def test_a_check_that_had_to_wait_for_a_place_is_repeated_in_the_same_way(start: StartSessions, auth: AuthServer) -> None:
    async def script(_received: Received) -> bytes:
        return ABORT if len(auth.received) == 2 else valid()

    auth.script = script
    auth.hold.clear()
    gateway = start(max_in_flight=1)
    tasks = [asyncio.create_task(gateway.bearer(f"t-{number}")) for number in range(2)]
    await auth.arrived.get()
    auth.hold.set()
    assert [check.outcome for check in await asyncio.gather(*tasks)] == ["valid", "valid"]
    assert (len(auth.received), auth.connections) == (3, 2)
    assert gateway.observed == ["ok", "error", "ok"]


async def test_a_repeat_is_made_on_a_new_connection_even_where_others_are_kept(start: StartSessions, auth: AuthServer) -> None:
    auth.hold.clear()
    gateway = start()
    tasks = [asyncio.create_task(gateway.bearer(f"t-{number}")) for number in range(3)]
    for _ in tasks:
        await auth.arrived.get()
    auth.hold.set()
    await asyncio.gather(*tasks)

    async def script(_received: Received) -> bytes:
        return ABORT if len(auth.received) == 4 else valid()

    auth.script = script
    assert (await gateway.bearer()).outcome == "valid"
    assert auth.connections == 4


async def test_B3_reset_on_a_new_connection_is_unavailable_after_one_request(start: StartSessions, auth: AuthServer) -> None:
    auth.script = always(ABORT)
    gateway = start()
    check = await gateway.bearer()
    assert (check.outcome, check.source) == ("unavailable", "call")
    assert len(auth.received) == 1
    assert gateway.observed == ["error"]


async def test_B3_reset_each_time_ends_after_one_repeat(start: StartSessions, auth: AuthServer) -> None:
    gateway = start()
    await gateway.bearer()
    auth.script = always(ABORT)
    assert (await gateway.bearer()).outcome == "unavailable"
    assert len(auth.received) == 3


async def test_B3_refused_is_unavailable(start: StartSessions) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        gateway = start(url=f"http://127.0.0.1:{unused.getsockname()[1]}/")
        check = await gateway.bearer()
    assert (check.outcome, check.reason) == ("unavailable", "the auth service could not be asked: connection refused")
    assert gateway.observed == ["unreachable"]


async def test_B3_a_name_that_is_not_found_is_unavailable(start: StartSessions) -> None:
    gateway = start(url="http://auth.invalid/")
    assert (await gateway.bearer()).outcome == "unavailable"


@pytest.mark.parametrize(
    ("trusted", "name", "outcome"),
    [
        pytest.param(True, "auth.internal", "valid", id="right"),
        pytest.param(False, "auth.internal", "unavailable", id="B3-other-authority"),
        pytest.param(True, "other.internal", "unavailable", id="B3-other-name"),
        pytest.param(True, None, "unavailable", id="B3-host-not-in-the-certificate"),
    ],
)
async def test_the_certificate_of_the_auth_service_is_verified(
    start: StartSessions, tmp_path: Path, *, trusted: bool, name: str | None, outcome: str
) -> None:
    authority = Authority(tmp_path, "authority")
    auth = AuthServer()
    await auth.start(authority.issue("auth.internal").server_context())
    tls = {**({"ca": str(authority.ca)} if trusted else {}), **({"server_name": name} if name else {})}
    gateway = start(url=f"https://127.0.0.1:{auth.port}/", tls=tls)
    assert (await gateway.bearer()).outcome == outcome
    assert gateway.observed == ["ok" if outcome == "valid" else "unreachable"]
    await gateway.sessions.close()
    await auth.stop()


async def test_B3_a_server_that_does_not_speak_TLS_is_unavailable(start: StartSessions) -> None:
    async def plain(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(400))
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        gateway = start(url=f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        assert (await gateway.bearer()).outcome == "unavailable"
    assert gateway.observed == ["unreachable"]


ID = {"X-Customer-Id": "user-1"}
BLOCK = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"


def ok(*fields: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([b"HTTP/1.1 200 OK", b"X-Customer-Id: user-1", *fields, b"", body])


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        pytest.param(ok(b"Content-Length: 9", b"Connection: close", body=b"1234"), "error", id="B6-truncated"),
        pytest.param(ok(b"Transfer-Encoding: chunked", b"Connection: close", body=b"5\r\n12"), "error", id="B6-cut-chunk"),
        pytest.param(answer(200, ID, b"x" * (64 * 1024 + 1)), "invalid", id="B6-over-64-KiB"),
        pytest.param(ok(b"Transfer-Encoding: chunked", body=BLOCK * 5), "invalid", id="B6-endless"),
        pytest.param(ok(b"X-Tier: a\x01", b"Content-Length: 0"), "invalid", id="B6-control-character"),
        pytest.param(ok(b" X: 2", b"Content-Length: 0"), "invalid", id="B6-folded"),
        pytest.param(ok(b"Content-Length: 0", b"Content-Length: 1"), "invalid", id="B6-two-lengths"),
        pytest.param(b"HTTP/1.1 101 Switching\r\nX-Customer-Id: user-1\r\n\r\n", "invalid", id="B5-101"),
        pytest.param(b"220 mail.example ESMTP\r\n", "invalid", id="B6-not-HTTP"),
        pytest.param(b"<html>Please log in</html>\r\n\r\n", "invalid", id="B6-HTML"),
    ],
)
async def test_what_is_not_one_whole_answer_is_unavailable(start: StartSessions, auth: AuthServer, data: bytes, outcome: str) -> None:
    auth.script = always(data)
    gateway = start()
    check = await gateway.bearer()
    assert (check.outcome, check.identity) == ("unavailable", None)
    assert gateway.observed == [outcome]


async def test_64_KiB_are_taken(start: StartSessions, auth: AuthServer) -> None:
    auth.script = always(answer(200, ID, b"x" * 64 * 1024))
    assert (await start().bearer()).outcome == "valid"


async def test_interim_answers_are_no_verdict(start: StartSessions, auth: AuthServer) -> None:
    auth.script = always(b"HTTP/1.1 103 Early Hints\r\nX-Customer-Id: user-2\r\n\r\n" + valid("user-1"))
    check = await start().bearer()
    assert check.identity is not None
    assert check.identity.customer_id == "user-1"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_B5_a_redirect_is_not_followed(start: StartSessions, auth: AuthServer, status: int) -> None:
    auth.script = always(answer(status, {"Location": f"http://127.0.0.1:{auth.port}/login", **ID}))
    assert (await start().bearer()).outcome == "unavailable"
    assert len(auth.received) == 1


async def test_introspection_over_the_wire(start: StartSessions, auth: AuthServer) -> None:
    auth.script = always(document({"active": True, "sub": "user-1"}))
    gateway = start(kind="introspection")
    check = await gateway.bearer("a+b")
    assert check.identity is not None
    assert check.identity.customer_id == "user-1"
    assert auth.received[0].line == b"POST /session?from=gateway HTTP/1.1"
    assert auth.received[0].body == b"token=a%2Bb&token_type_hint=access_token"
