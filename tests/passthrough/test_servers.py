"""Upstreams of several servers, as clients, operators and the servers themselves see them (faults D1, D10)."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Duration, Ejection, HealthCheck, Retries, Share, Upstream, UpstreamServer
from gateway.upstream import Lease
from tests.passthrough.rig import Rig, StartRig, answering
from tests.upstream.clusters import refusing
from tests.upstream.peer import Call, StartPeer, until

GET = b"GET /a HTTP/1.1\r\nHost: api.example\r\nConnection: close\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: api.example\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody"


def servers(*given: str | UpstreamServer, **more: Any) -> dict[str, Upstream]:
    """Describe an upstream of several servers that takes them in turn; nothing is ejected unless the test says so."""
    listed = tuple(UpstreamServer(url=each) if isinstance(each, str) else each for each in given)
    settings = {
        "balance": "round_robin",
        "connect_timeout": Duration(1),
        "response_timeout": Duration(1),
        "ejection": Ejection(failures=1000),
    }
    return {"wallet": Upstream(servers=listed, **{**settings, **more})}


def saying(word: bytes) -> Callable[[Call], Awaitable[None]]:
    async def script(call: Call) -> None:
        while True:
            await call.read_request()
            call.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(word), word))

    return script


async def losing(call: Call) -> None:
    await call.read_request()


async def body(rig: Rig, request: bytes = GET) -> bytes:
    raw = await rig.raw(request)
    assert raw.startswith(b"HTTP/1.1 200 OK\r\n"), raw
    return raw.partition(b"\r\n\r\n")[2]


async def failure(rig: Rig, request: bytes = GET) -> tuple[int, str, str, bool]:
    """Return status, code, letter, and whether there is a Retry-After."""
    raw = await rig.raw(request)
    code, letter = (raw.partition(key)[2].partition(b'"')[0].decode() for key in (b'"resultCode":"', b'"resultStatus":"'))
    return int(raw.split(b" ")[1]), code, letter, b"\r\nRetry-After: " in raw


async def test_requests_go_to_all_servers_whatever_they_speak(start_rig: StartRig, start_peer: StartPeer, tmp_path: Path) -> None:
    path = tmp_path / "wallet.sock"
    one, other = await start_peer(saying(b"one")), await start_peer(saying(b"unix"), path=path)
    weighted = UpstreamServer(url=one.url, weight=2)
    rig = await start_rig(upstreams=servers(weighted, f"unix:{path}", host_header="upstream"))
    assert sorted([await body(rig) for _ in range(6)]) == [b"one"] * 4 + [b"unix"] * 2
    assert f"\r\nHost: 127.0.0.1:{one.port}\r\n".encode() in one.calls[0].received
    assert b"\r\nHost: localhost\r\n" in other.calls[0].received
    assert rig.count("gateway_upstream_requests_total", upstream="wallet", endpoint=f"unix:{path}", outcome="ok") == 2
    assert rig.count("gateway_upstream_healthy", upstream="wallet", endpoint=f"unix:{path}") == 1


@pytest.mark.parametrize("request_", [GET, POST], ids=["GET", "POST"])
async def test_D1_where_nothing_was_sent_another_server_is_asked(start_rig: StartRig, start_peer: StartPeer, request_: bytes) -> None:
    peer = await start_peer(saying(b"ok"))
    with refusing() as dead:
        rig = await start_rig(upstreams=servers(dead, peer.url))
        assert [await body(rig, request_) for _ in range(4)] == [b"ok"] * 4
        lines = await rig.ended(4)
        assert {line["endpoint"] for line in lines} == {f"127.0.0.1:{peer.port}"}
        assert rig.count("gateway_upstream_requests_total", upstream="wallet", endpoint=rig.server, outcome="unreachable") == 2
        assert rig.count("gateway_upstream_retries_total", upstream="wallet") == 2


async def test_D1_when_no_server_can_be_reached_it_is_502_and_the_log_says_which_was_tried(start_rig: StartRig) -> None:
    with refusing() as dead, refusing() as dead_too:
        rig = await start_rig(upstreams=servers(dead, dead_too))
        assert await failure(rig) == (502, "UPSTREAM_UNREACHABLE", "F", False)
        (line,) = await rig.ended()
        assert line["endpoint"] == dead_too.removeprefix("http://")


async def test_a_get_that_was_lost_is_repeated_elsewhere(start_rig: StartRig, start_peer: StartPeer) -> None:
    lost, peer = await start_peer(losing), await start_peer(saying(b"ok"))
    rig = await start_rig(upstreams=servers(lost.url, peer.url))
    assert await body(rig) == b"ok"
    assert (len(lost.calls), len(peer.calls)) == (1, 1)
    assert rig.count("gateway_upstream_retries_total", upstream="wallet") == 1


async def test_a_get_whose_answer_is_no_http_is_not_repeated(start_rig: StartRig, start_peer: StartPeer) -> None:
    broken, peer = await start_peer(answering(b"220 mail.example ESMTP\r\n")), await start_peer(saying(b"ok"))
    rig = await start_rig(upstreams=servers(broken.url, peer.url))
    assert await failure(rig) == (502, "UPSTREAM_RESPONSE_INVALID", "U", False)
    assert (len(broken.calls), len(peer.calls)) == (1, 0)


async def test_a_post_that_was_lost_is_unknown_and_never_repeated(start_rig: StartRig, start_peer: StartPeer) -> None:
    lost, peer = await start_peer(losing), await start_peer(saying(b"ok"))
    rig = await start_rig(upstreams=servers(lost.url, peer.url))
    assert await failure(rig, POST) == (502, "UPSTREAM_CONNECTION_LOST", "U", False)
    assert (len(lost.calls), len(peer.calls)) == (1, 0)


async def test_a_get_that_was_lost_stays_unknown_when_no_other_server_is_reached(start_rig: StartRig, start_peer: StartPeer) -> None:
    lost = await start_peer(losing)
    with refusing() as dead:
        rig = await start_rig(upstreams=servers(lost.url, dead))
        assert await failure(rig) == (502, "UPSTREAM_CONNECTION_LOST", "U", False)
        (line,) = await rig.ended()
        assert line["endpoint"] == f"127.0.0.1:{lost.port}", "that has lost it"


async def test_a_get_that_was_lost_stays_unknown_when_the_next_connection_has_ended_before_it_is_used(
    start_rig: StartRig, start_peer: StartPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, other = await start_peer(losing), await start_peer(saying(b"ok"))
    rig = await start_rig(upstreams=servers(lost.url, other.url))
    acquire = rig.clusters["wallet"].acquire

    async def acquire_what_ends(*, after: Lease | None) -> Lease:
        lease = await acquire(after=after)
        if after is not None:
            lease.connection.abort()
        return lease

    monkeypatch.setattr(rig.clusters["wallet"], "acquire", acquire_what_ends)
    assert await failure(rig) == (502, "UPSTREAM_CONNECTION_LOST", "U", False)
    assert rig.count("gateway_upstream_retries_total", upstream="wallet") == 1
    (line,) = await rig.ended()
    assert line["endpoint"] == f"127.0.0.1:{lost.port}"


async def test_nothing_is_repeated_without_attempts_or_budget(start_rig: StartRig, start_peer: StartPeer) -> None:
    peer = await start_peer(saying(b"ok"))
    with refusing() as dead:
        for retries in (Retries(attempts=0), Retries(budget=Share(0))):
            rig = await start_rig(upstreams=servers(dead, peer.url, retries=retries))
            assert await failure(rig) == (502, "UPSTREAM_UNREACHABLE", "F", False)
            assert rig.count("gateway_upstream_retries_total", upstream="wallet") == 0


async def test_D10_a_server_that_fails_is_ejected_and_shown_so(start_rig: StartRig, start_peer: StartPeer) -> None:
    lost, peer = await start_peer(losing), await start_peer(saying(b"ok"))
    rig = await start_rig(upstreams=servers(lost.url, peer.url, ejection=Ejection(failures=3)))
    results = [(await rig.raw(POST)).split(b" ")[1] for _ in range(12)]
    assert (results.count(b"502"), results.count(b"200")) == (3, 9)
    assert rig.count("gateway_upstream_ejections_total", upstream="wallet") == 1
    healthy = [rig.count("gateway_upstream_healthy", upstream="wallet", endpoint=f"127.0.0.1:{each.port}") for each in (lost, peer)]
    assert healthy == [0, 1]
    (logged,) = rig.turns.calls
    assert (logged.method_name, logged.args[0], logged.kwargs["reason"]) == ("warning", "an endpoint is ejected", "error")


async def test_D10_who_waits_for_a_place_gets_that_of_a_server_that_is_in_again(start_rig: StartRig, start_peer: StartPeer) -> None:
    go, lost = asyncio.Event(), asyncio.Event()

    async def busy(call: Call) -> None:
        await call.read_request()
        await go.wait()
        call.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async def lose_once(call: Call) -> None:
        if not lost.is_set():
            lost.set()
            await losing(call)
        else:
            await saying(b"back")(call)

    one, other = await start_peer(lose_once), await start_peer(busy)
    settings = {"connections": 1, "connect_timeout": Duration(20), "response_timeout": Duration(20), "retries": Retries(attempts=0)}
    rig = await start_rig(upstreams=servers(one.url, other.url, ejection=Ejection(failures=1, duration=Duration(0.5)), **settings))
    assert await failure(rig) == (502, "UPSTREAM_CONNECTION_LOST", "U", False)
    holds = await rig.connect(GET)
    await until(lambda: bool(other.calls))
    assert await asyncio.wait_for(body(rig), 5) == b"back"
    go.set()
    await holds.head()


async def test_D10_all_servers_out_is_503_until_one_is_back(start_rig: StartRig, start_peer: StartPeer) -> None:
    answer = b"HTTP/1.1 500 Down\r\nContent-Length: 0\r\n\r\n"

    async def script(call: Call) -> None:
        while True:
            await call.read_request()
            call.write(answer)

    peers = [await start_peer(script) for _ in range(2)]
    check = HealthCheck(path="/healthz", interval=Duration(0.01), timeout=Duration(5), healthy=1, unhealthy=1)
    rig = await start_rig(upstreams=servers(*(peer.url for peer in peers), health_check=check))
    await until(lambda: len(rig.turns.calls) == 2)
    assert await failure(rig) == (503, "UPSTREAM_UNAVAILABLE", "F", True)
    assert await failure(rig, POST) == (503, "UPSTREAM_UNAVAILABLE", "F", True)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    await until(lambda: len(rig.turns.calls) >= 4)
    assert await body(rig) == b"ok"
    assert [call.method_name for call in rig.turns.calls] == ["warning"] * 2 + ["info"] * 2


async def test_when_all_servers_are_full_a_request_waits_and_is_then_refused(start_rig: StartRig, start_peer: StartPeer) -> None:
    gate = asyncio.Event()

    async def script(call: Call) -> None:
        await call.read_request()
        await gate.wait()
        call.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    peer = await start_peer(script)
    rig = await start_rig(upstreams=servers(peer.url, connections=1, connect_timeout=Duration(0.5), response_timeout=Duration(30)))
    held = asyncio.create_task(body(rig))
    await until(lambda: len(peer.calls) == 1)
    assert await failure(rig) == (503, "OVERLOADED", "F", True)
    waiting = asyncio.create_task(body(rig))
    await until(lambda: rig.clusters["wallet"].status().waiting == 1)
    gate.set()
    assert [await held, await waiting] == [b"ok", b"ok"]
