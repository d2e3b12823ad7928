"""While work is refused, requests are put off to be looked at together, and who asks again at once is not heard for a while."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.edge.exchange import CLIENT_ABORT
from gateway.edge.shedding import AT_ONCE, LATER, Shedder
from tests.sdkproxy.client import Client
from tests.sdkproxy.conftest import StartGateway
from tests.sdkproxy.overload import api_request, call
from tests.upstream.peer import until


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> float:
    """Let each client that is refused not be heard for so many seconds."""
    monkeypatch.setattr(Shedder, "hold", lambda *_: 1.0)
    return 1.0


@pytest.fixture
def put_off(monkeypatch: pytest.MonkeyPatch) -> float:
    """Let what begins a request be put off for so many seconds while work is refused."""
    monkeypatch.setattr("gateway.edge.server.TOGETHER", 0.3)
    return 0.3


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Let nobody who is refused be heard again; what is given holds for what each was."""
    told: list[tuple[Any, ...]] = []

    def hold(_self: Shedder, *arguments: Any) -> float:
        told.append(arguments)
        return 3600.0

    monkeypatch.setattr(Shedder, "hold", hold)
    return told


async def test_what_comes_within_a_moment_is_refused_together(
    late: list[bool], monkeypatch: pytest.MonkeyPatch, gateway: Any, client: Client, other: Client
) -> None:
    edge = gateway.parts.edge
    await until(lambda: len(edge.connections) == 2)
    for connection, seconds in zip(edge.connections, (0.1, 3600), strict=True):  # so the second one goes on with the first
        monkeypatch.setattr("gateway.edge.server.TOGETHER", seconds)
        connection.data_received(call())
    assert late == []
    answers = [await client.answer(), await other.answer()]
    assert [answer[:13] for answer in answers] == [b"HTTP/1.1 503 "] * 2
    assert late == [True, True]
    assert all(line["duration"] > 0.09 for line in gateway.lines())


async def test_what_was_put_off_and_then_has_its_turn_says_how_long_that_took(
    late: list[bool], put_off: float, monkeypatch: pytest.MonkeyPatch, gateway: Any, client: Client
) -> None:
    monkeypatch.setattr(Shedder, "_has_place", lambda *_: True)
    for _ in range(2):
        assert (await client.ask(call())).startswith(b"HTTP/1.1 200 ")
    assert late == [False, False]
    assert all(line["duration"] > put_off * 0.9 for line in gateway.lines())


@pytest.mark.parametrize("cut", [10, 60, -9])
async def test_a_request_of_which_more_comes_is_put_off_no_longer(
    late: list[bool], monkeypatch: pytest.MonkeyPatch, client: Client, cut: int
) -> None:
    monkeypatch.setattr("gateway.edge.server.TOGETHER", 3600)
    for _ in range(3):
        assert (await client.ask(call()[:cut], call()[cut:])).startswith(b"HTTP/1.1 503 ")
    assert late == [True] * 3


@pytest.mark.usefixtures("late", "put_off")
async def test_who_leaves_while_its_request_is_put_off_is_counted(gateway: Any, client: Client, other: Client) -> None:
    client.send(call())
    other.send(call("X: y", "Connection: x")[:-9])
    await until(lambda: all(connection._come for connection in gateway.parts.edge.connections))
    client.leave()
    other.leave()
    await until(lambda: gateway.count("gateway_connections") == 0)
    ended = partial(gateway.count, "gateway_requests_total", route="sdk", method="POST")
    await until(lambda: (ended(status="499"), ended(status="503")) == (1, 1))
    assert [(line["reason"], line["bytes_out"]) for line in gateway.lines()] == [(CLIENT_ABORT, 0)] * 2


@pytest.mark.usefixtures("late", "put_off")
async def test_A1_garbage_is_counted_though_who_sent_it_leaves_while_it_is_put_off(gateway: Any, client: Client) -> None:
    client.send(b"GARBAGE\r\n\r\n")
    await until(lambda: any(connection._come for connection in gateway.parts.edge.connections))
    client.leave()
    await until(lambda: gateway.count("gateway_rejected_total", reason="bad_request") == 1)
    assert [(line["status"], line["reason"], line["bytes_out"]) for line in gateway.lines()] == [(400, "bad_request", 0)]


@pytest.mark.usefixtures("late")
async def test_what_was_put_off_is_answered_before_the_end(monkeypatch: pytest.MonkeyPatch, gateway: Any, client: Client) -> None:
    monkeypatch.setattr("gateway.edge.server.TOGETHER", 3600)
    client.send(call())
    await until(lambda: any(connection._come for connection in gateway.parts.edge.connections))
    gateway.parts.front.draining = True
    gateway.parts.edge.close_idle()
    assert b"\r\nConnection: close" in await client.answer()
    assert await client.end() == b""


@pytest.mark.usefixtures("late", "put_off")
async def test_a_failure_of_our_own_with_one_that_was_put_off_is_nothing_to_the_others(
    monkeypatch: pytest.MonkeyPatch, gateway: Any, client: Client, other: Client
) -> None:
    refuse, failures = gateway.parts.edge.refuse, []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))

    def failing(*arguments: Any) -> Any:
        if not failures:
            failures.append(None)
            raise KeyError("ours")
        return refuse(*arguments)

    monkeypatch.setattr(gateway.parts.edge, "refuse", failing)
    client.send(call())
    await until(lambda: any(connection._come for connection in gateway.parts.edge.connections))
    assert (await other.ask(call())).startswith(b"HTTP/1.1 503 ")
    assert await client.end() == b""
    assert [type(failure) for failure in failures[1:]] == [KeyError]


async def test_who_asks_again_at_once_waits_and_others_do_not(
    late: list[bool], monkeypatch: pytest.MonkeyPatch, gateway: Any, client: Client, other: Client
) -> None:
    monkeypatch.setattr(Shedder, "hold", lambda *_: 3600.0)
    assert (await client.ask(call())).startswith(b"HTTP/1.1 503 ")
    client.send(call())
    [(_, refused)] = gateway.parts.edge._held
    monkeypatch.setattr(Shedder, "_has_place", lambda *_: True)
    assert (await other.ask(call())).startswith(b"HTTP/1.1 200 ")
    assert late == [True, False]
    refused.hear()
    assert (await client.answer()).startswith(b"HTTP/1.1 200 ")
    assert late == [True, False, False]


@pytest.mark.parametrize(
    ("trusted", "is_unix", "is_heard"), [("127.0.0.0/8", False, True), ("192.0.2.1", False, False), ("192.0.2.1", True, True)]
)
@pytest.mark.parametrize("fields", [(), ("Connection: x",)], ids=["at-once", "usual"])
async def test_what_a_proxy_sends_for_others_is_always_heard(
    late: list[bool],
    monkeypatch: pytest.MonkeyPatch,
    start: StartGateway,
    tmp_path: Path,
    trusted: str,
    *,
    is_unix: bool,
    is_heard: bool,
    fields: tuple[str, ...],
) -> None:
    monkeypatch.setattr(Shedder, "hold", lambda *_: 3600.0)
    gateway = await start({"server": {"trusted_proxies": [trusted]}})
    async with await asyncio.get_running_loop().create_unix_server(gateway.parts.edge.receiver, tmp_path / "socket"):
        opening = asyncio.open_unix_connection(tmp_path / "socket") if is_unix else asyncio.open_connection("127.0.0.1", gateway.port)
        client = Client(*await opening)
        assert (await client.ask(call(*fields))).startswith(b"HTTP/1.1 503 ")
        client.send(call(*fields))
        await until(lambda: len(late) == 2 or bool(gateway.parts.edge._held))
        assert (late, bool(gateway.parts.edge._held)) == ([not fields] * 2, False) if is_heard else ([not fields], True)
        client.leave()


@pytest.mark.parametrize("fields", [("Connection: keep-alive",), ("Connection: keep-alive",) * 2, ("Connection: x",)])
async def test_who_is_refused_on_the_usual_way_is_not_heard_for_a_while_either(
    late: list[bool], told: list[tuple[Any, ...]], gateway: Any, client: Client, fields: tuple[str, ...]
) -> None:
    assert (await client.ask(call(*fields))).startswith(b"HTTP/1.1 503 ")
    await until(lambda: bool(gateway.parts.edge._held))
    assert told == [("sdk",) if late == [True] else ("sdk", LATER)]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param(call().replace(b"sdkProxy", b"other", 1), 404, id="path"),
        pytest.param(call().replace(b"POST", b"PUT", 1), 405, id="method"),
        pytest.param(call(kind="Content-Type: text/plain"), 415, id="media type"),
        pytest.param(api_request().replace(b"/api", b"/nowhere"), 404, id="no route"),
    ],
)
@pytest.mark.parametrize("is_shedding", [True, False])
async def test_who_asks_for_what_there_is_not_is_not_heard_for_a_while_while_work_is_refused(
    late: list[bool],
    told: list[tuple[Any, ...]],
    monkeypatch: pytest.MonkeyPatch,
    gateway: Any,
    client: Client,
    *,
    request_: bytes,
    status: int,
    is_shedding: bool,
) -> None:
    monkeypatch.setattr(Shedder, "spend", lambda _, cost: told.append((cost,)))
    monkeypatch.setattr(Shedder, "is_shedding", property(lambda _: is_shedding, lambda *_: None), raising=False)
    assert (await client.ask(request_)).startswith(f"HTTP/1.1 {status} ".encode())
    await until(lambda: bool(gateway.parts.edge._held) is is_shedding)
    assert told == ([(AT_ONCE,), ("sdk", AT_ONCE)] if is_shedding else [(AT_ONCE,)])
    assert not any(late)


async def test_who_sends_several_at_once_is_heard_until_all_are_refused(
    late: list[bool], monkeypatch: pytest.MonkeyPatch, gateway: Any, client: Client
) -> None:
    monkeypatch.setattr(Shedder, "hold", lambda *_: 3600.0)
    client.send(call() * 40)
    for _ in range(40):
        assert (await client.answer()).startswith(b"HTTP/1.1 503 ")
    await until(lambda: len(gateway.parts.edge._held) == 1)
    assert late == [False]


async def test_clients_are_heard_again_in_turn(late: list[bool], held: float, client: Client, other: Client) -> None:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    for _ in range(3):
        both = [await each.ask(call()) for each in (client, other)]
        assert [answer[:13] for answer in both] == [b"HTTP/1.1 503 "] * 2
    assert loop.time() - begun >= 2 * held * 0.9
    assert late == [True] * 6


@pytest.mark.usefixtures("late")
async def test_a_client_that_has_sent_something_does_not_idle_while_it_is_not_heard(
    monkeypatch: pytest.MonkeyPatch, gateway: Any, client: Client
) -> None:
    monkeypatch.setattr(Shedder, "hold", lambda *_: 3600.0)
    assert (await client.ask(call())).startswith(b"HTTP/1.1 503 ")
    client.send(call())
    [connection] = gateway.parts.edge.connections
    await until(connection._has_come)
    connection.heard_at -= 3600
    connection._idle_too_long()
    connection.hear()
    assert (await client.answer()).startswith(b"HTTP/1.1 503 ")
    connection.heard_at -= 3600
    connection._idle_too_long()
    assert await client.end() == b"", "now there was nothing that it waited for"


async def test_a_client_may_leave_while_it_is_not_heard(late: list[bool], held: float, gateway: Any, client: Client, other: Client) -> None:
    assert (await client.ask(call())).startswith(b"HTTP/1.1 503 ")
    client.leave()
    assert (await other.ask(call())).startswith(b"HTTP/1.1 503 ")
    await asyncio.sleep(held)
    assert (await other.ask(call())).startswith(b"HTTP/1.1 503 ")
    await until(lambda: gateway.count("gateway_connections") == 1)
    assert all(late)


@pytest.mark.usefixtures("late", "held")
async def test_what_a_client_sent_while_it_was_not_heard_is_answered_before_the_end(gateway: Any, client: Client) -> None:
    assert (await client.ask(call())).startswith(b"HTTP/1.1 503 ")
    client.send(call())
    await asyncio.sleep(0.02)
    gateway.parts.front.draining = True
    gateway.parts.edge.close_idle()
    answer = await client.answer()
    assert (answer.startswith(b"HTTP/1.1 503 "), b"\r\nConnection: close" in answer) == (True, True)
    assert await client.end() == b""
