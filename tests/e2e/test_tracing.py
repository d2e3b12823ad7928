"""Traces of a gateway started as a user starts it, as a real OTLP receiver gets them."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from gateway.simulator import Behaviour, Login
from tests.e2e.conftest import Process
from tests.e2e.watching import until_said_times, workers
from tests.ports import free_port
from tests.telemetry.collector import Collector, Tree

SDK = "/alipayplus/v1/sdkProxy"
LOGIN = {"Authorization": "Bearer demo-token-anna"}
BODY = {"scene": "PROXY_SCENE_PAY", "proxyRequestHeader": "canary7f3a", "proxyRequestData": "canary7f3a"}
OFTEN = {"OTEL_BSP_SCHEDULE_DELAY": "50"}
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    async with Collector() as collector:
        yield collector


def traced(collector: Collector, sample: float = 1.0, **changes: Any) -> dict[str, Any]:
    return {"telemetry": {"tracing": {"otlp_endpoint": collector.endpoint, "sample": sample}}, **changes}


def client(gateway: Process) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.port}", timeout=20)


async def post(http: httpx.AsyncClient, **headers: str) -> httpx.Response:
    return await http.post(SDK, json=BODY, headers={**LOGIN, **headers})


def line_of(gateway: Process, tree: Tree) -> dict[str, Any]:
    [line] = [line for line in gateway.lines() if line["request_id"] == tree.server.attributes["gateway.request_id"]]
    return line


def has_protobuf(gateway: Process) -> list[bool]:
    """Whether the supervisor and its workers have loaded protobuf, whose library shows among their memory."""
    pids = (gateway.process.pid, *workers(gateway.process.pid))
    return ["/google/_upb/" in Path(f"/proc/{pid}/maps").read_text() for pid in pids]


async def test_an_SDK_request_is_a_span_with_its_phases_below_it_flushed_at_SIGTERM(start: Any, collector: Collector) -> None:
    sim = await start.simulator()
    gateway = await start(sim, traced(collector), environ={"OTEL_BSP_SCHEDULE_DELAY": "3600000"})
    async with client(gateway) as http:
        assert (await post(http)).status_code == 200
    assert collector.bodies == []
    assert await gateway.stop() == 0
    [tree] = collector.traces().values()
    line = line_of(gateway, tree)
    assert (tree.server.trace_id, tree.server.parent_id, tree.server.status) == (line["trace_id"], "", "UNSET")
    assert tree.server.attributes == {
        "http.request.method": "POST",
        "url.scheme": "http",
        "url.path": SDK,
        "http.route": SDK,
        "http.response.status_code": 200,
        "network.protocol.version": "1.1",
        "client.address": "127.0.0.1",
        "gateway.request_id": line["request_id"],
        "alipayplus.scene": "PROXY_SCENE_PAY",
        "alipayplus.result_status": "S",
        "alipayplus.result_code": "SUCCESS",
        "alipayplus.result_source": "alipayplus",
        "alipayplus.sent": "answered",
    }
    assert tree.server.name == f"POST {SDK}"
    assert {name: span.kind for name, span in tree.phases.items()} == {
        "session": "CLIENT",
        "queue": "INTERNAL",
        "sign": "INTERNAL",
        "alipayplus": "CLIENT",
        "verify": "INTERNAL",
    }
    assert {name: span.seconds for name, span in tree.phases.items()} == pytest.approx(line["phases"], abs=2e-6)
    assert tree.server.seconds == pytest.approx(line["duration"], abs=2e-6)
    assert tree.phases["session"].attributes == {
        "http.request.method": "GET",
        "network.protocol.version": "1.1",
        "server.address": "127.0.0.1",
        "server.port": sim.ports.auth,
        "url.full": f"http://127.0.0.1:{sim.ports.auth}/session",
        "http.response.status_code": 200,
        "gateway.session.outcome": "valid",
        "gateway.session.source": "call",
    }
    assert tree.phases["alipayplus"].attributes == {
        "http.request.method": "POST",
        "network.protocol.version": "1.1",
        "server.address": "127.0.0.1",
        "server.port": sim.ports.alipayplus,
        "url.full": f"https://127.0.0.1:{sim.ports.alipayplus}/aps/api/v1/mobile/sdkProxy",
        "http.response.status_code": 200,
    }
    assert {key: tree.server.resource[key] for key in ("service.name", "telemetry.sdk.language")} == {
        "service.name": "alipayplus-gateway",
        "telemetry.sdk.language": "python",
    }
    [asked] = sim.auth.received
    assert asked.get("traceparent") == f"00-{line['trace_id']}-{tree.phases['session'].span_id}-01"
    [called] = sim.alipayplus.received
    assert not [name for name, _ in called.headers if name.lower().startswith("trace")], "Alipay+ is told nothing of it"


async def test_a_request_of_the_api_its_events_and_its_websocket_are_spans(start: Any, collector: Collector) -> None:
    sim = await start.simulator()
    gateway = await start(sim, traced(collector), environ=OFTEN)
    async with client(gateway) as http:
        seen = (await http.put("/api/echo/a%2Fb?token=canary7f3a", headers=LOGIN, content=b"canary7f3a")).json()
        await http.get("/api/events?count=3&pause=0.05", headers=LOGIN)
    async with connect(f"ws://127.0.0.1:{gateway.port}/api/socket", additional_headers=LOGIN) as websocket:
        await websocket.send("canary7f3a")
        assert await websocket.recv() == "canary7f3a"
    await collector.until(3)
    assert await gateway.stop() == 0
    trees = {tree.server.attributes["url.path"]: tree for tree in collector.traces().values()}
    sent = {name.lower(): value for name, value in seen["headers"]}
    echo = trees["/api/echo/a%2Fb"]
    assert sent["traceparent"] == f"00-{line_of(gateway, echo)['trace_id']}-{echo.phases['upstream'].span_id}-01"
    assert echo.server.name == "PUT /api"
    assert echo.phases["upstream"].kind == "CLIENT"
    assert echo.phases["upstream"].attributes == {
        "http.request.method": "PUT",
        "network.protocol.version": "1.1",
        "server.address": "127.0.0.1",
        "server.port": sim.ports.mpp,
        "url.full": f"http://127.0.0.1:{sim.ports.mpp}/api/echo/a%2Fb",
        "http.response.status_code": 200,
    }
    events, socket = trees["/api/events"], trees["/api/socket"]
    assert events.server.seconds > 0.1 > events.phases["upstream"].seconds, "up to the head of the answer"
    assert socket.server.attributes["http.response.status_code"] == 101
    assert socket.server.attributes["gateway.reason"] in {"client closed", "upstream closed"}
    assert socket.phases["upstream"].attributes["http.response.status_code"] == 101
    assert all(b"canary7f3a" not in body for body in collector.bodies)


async def test_an_upstream_that_fails_shows_in_its_span(start: Any, collector: Collector) -> None:
    sim = await start.simulator()
    hangs_up = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    bad, good, gone = hangs_up.sockets[0].getsockname()[1], sim.ports.mpp, free_port()
    upstreams = {
        "wallet": {
            "servers": [f"http://127.0.0.1:{bad}", f"http://127.0.0.1:{good}"],
            "balance": "round_robin",
            "retries": {"budget": 1.0},
        },
        "gone": {"servers": [f"http://127.0.0.1:{gone}"]},
    }
    routes = [{"prefix": "/api", "upstream": "wallet", "session": "none"}, {"prefix": "/gone", "upstream": "gone", "session": "none"}]
    gateway = await start(sim, traced(collector, api={"upstreams": upstreams, "routes": routes}), environ=OFTEN)
    async with hangs_up, client(gateway) as http:
        answers = [await http.get(path) for path in ("/api/echo", "/api/echo", "/gone/a")]
    assert [answer.status_code for answer in answers] == [200, 200, 502]
    assert await gateway.stop() == 0
    spans = {line_of(gateway, tree)["request_id"]: tree.phases["upstream"] for tree in collector.traces().values()}
    *sent, refused = [spans[line["request_id"]] for line in gateway.lines()]
    assert sorted(span.attributes.get("http.request.resend_count", 0) for span in sent) == [0, 1]
    assert {span.attributes["server.port"] for span in sent} == {good}
    told = [name_value[1] for answer in answers[:2] for name_value in answer.json()["headers"] if name_value[0].lower() == "traceparent"]
    assert {value.split("-")[2] for value in told} == {span.span_id for span in sent}
    assert (refused.kind, refused.status, refused.attributes["server.port"]) == ("CLIENT", "ERROR", gone)
    assert refused.attributes["error.type"] == "UPSTREAM_UNREACHABLE"


FAILURES: list[tuple[dict[str, Any], str, str, str]] = [
    # What Alipay+ does; the code; what the server span's error is, and the phase that failed.
    ({"code": "PROCESS_FAIL"}, "PROCESS_FAIL", "", ""),
    ({"code": "ACCESS_DENIED"}, "ACCESS_DENIED", "ACCESS_DENIED", ""),
    ({"code": "UNKNOWN_EXCEPTION"}, "UNKNOWN_EXCEPTION", "UNKNOWN_EXCEPTION", ""),
    ({"tampered": True}, "ALIPAYPLUS_SIGNATURE_INVALID", "ALIPAYPLUS_SIGNATURE_INVALID", "verify"),
    ({"http_status": 503}, "ALIPAYPLUS_RESPONSE_INVALID", "ALIPAYPLUS_RESPONSE_INVALID", "alipayplus"),
    ({"content": "not_json"}, "ALIPAYPLUS_RESPONSE_INVALID", "ALIPAYPLUS_RESPONSE_INVALID", "verify"),
    ({"drop": "in_body"}, "ALIPAYPLUS_CONNECTION_LOST", "ALIPAYPLUS_CONNECTION_LOST", "alipayplus"),
]


async def test_what_fails_is_an_error_in_the_span_where_it_failed(start: Any, collector: Collector) -> None:
    sim = await start.simulator()
    gateway = await start(sim, traced(collector), environ=OFTEN)
    async with client(gateway) as http:
        for behaviour, *_ in FAILURES:
            sim.alipayplus.script(Behaviour(**behaviour))
            await post(http)
        sim.auth.script(Login(status=500))
        await post(http)
        sim.auth.script(Login(status=401))
        await post(http)
        await http.post(SDK, content=b"canary7f3a", headers={**LOGIN, "Content-Type": "application/json"})
        await http.get("/canary7f3a?canary7f3a=1", headers={"Host": "other.example"})
        await http.get("/alipayplus/canary7f3a")
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nX canary7f3a: 1\r\n\r\n")
    await reader.read()
    writer.close()
    await collector.until(len(FAILURES) + 6)
    assert await gateway.stop() == 0
    trees = {line["request_id"]: tree for tree in collector.traces().values() for line in [line_of(gateway, tree)]}
    ordered = [trees[line["request_id"]] for line in gateway.lines()]
    expected = [
        *((code, error, phase) for _, code, error, phase in FAILURES),
        ("SESSION_UNAVAILABLE", "SESSION_UNAVAILABLE", "session"),
        ("SESSION_REQUIRED", "", ""),
        ("REQUEST_MALFORMED", "", ""),
    ]
    for tree, (code, error, phase) in zip(ordered, expected, strict=False):
        assert tree.server.attributes["alipayplus.result_code"] == code
        assert (tree.server.attributes.get("error.type", ""), tree.server.status) == (error, "ERROR" if error else "UNSET"), code
        assert [name for name, span in tree.phases.items() if span.status == "ERROR"] == ([phase] if phase else []), code
        if phase:
            assert tree.phases[phase].attributes["error.type"] == error
            assert tree.phases[phase].message == line_of(gateway, tree)["reason"]
    missing, below, broken = ordered[len(expected) :]
    assert (missing.server.name, missing.server.attributes["url.path"]) == ("GET", "/canary7f3a")
    assert (below.server.name, below.server.attributes.get("url.path"), below.server.attributes["http.response.status_code"]) == (
        "GET",
        None,
        404,
    )
    assert (broken.server.name, broken.server.attributes["http.response.status_code"]) == ("HTTP", 400)
    assert all(b"canary7f3a" not in body.replace(b"/canary7f3a", b"", 1) for body in collector.bodies), "but in the path of the API"


async def test_a_trusted_callers_trace_goes_on_as_it_decided_and_nobody_elses(start: Any, collector: Collector) -> None:
    sim = await start.simulator()
    server = {"trusted_proxies": ["127.0.0.1/32"]}
    gateway = await start(sim, traced(collector, 0.0, server=server), environ=OFTEN)
    async with client(gateway) as http:
        await post(http, traceparent=PARENT, tracestate="vendor=1")
        echoed = await http.get("/api/echo", headers={**LOGIN, "traceparent": PARENT, "tracestate": "vendor=1"})
        await post(http, traceparent=f"{PARENT[:-1]}0")
        await post(http)
    assert await gateway.stop() == 0
    assert {span.trace_id for span in collector.spans} == {PARENT[3:35]}
    sdk, api = [span for span in collector.spans if span.kind == "SERVER"]
    assert (sdk.parent_id, api.parent_id, sdk.is_parent_remote) == (PARENT[36:52], PARENT[36:52], True)
    assert {span.tracestate for span in collector.spans} == {"vendor=1"}
    assert {span.parent_id for span in collector.spans if span.kind != "SERVER"} == {sdk.span_id, api.span_id}
    sent = {name.lower(): value for name, value in echoed.json()["headers"]}
    [upstream] = [span for span in collector.spans if span.name == "upstream"]
    assert sent["traceparent"] == f"00-{PARENT[3:35]}-{upstream.span_id}-01"
    assert sent["tracestate"] == "vendor=1"
    flags = [received.get("traceparent")[-2:] for received in sim.auth.received]
    assert flags == ["01", "01", "00", "00"]
    assert [line["trace_id"] == PARENT[3:35] for line in gateway.lines()] == [True, True, True, False]


async def test_the_caller_of_nobody_trusted_decides_nothing(start: Any, collector: Collector) -> None:
    gateway = await start(await start.simulator(), traced(collector, 0.0), environ=OFTEN)
    async with client(gateway) as http:
        await post(http, traceparent=PARENT)
        await http.get("/api/echo", headers={**LOGIN, "traceparent": PARENT})
    assert await gateway.stop() == 0
    assert collector.bodies == []


async def test_a_login_that_is_kept_is_no_call(start: Any, collector: Collector) -> None:
    gateway = await start(await start.simulator(), traced(collector, session={"cache": {"ttl": "60s"}}), environ=OFTEN)
    async with client(gateway) as http:
        await post(http)
        await post(http)
        await http.post(SDK, json=BODY)
    assert await gateway.stop() == 0
    trees = {line_of(gateway, tree)["request_id"]: tree for tree in collector.traces().values()}
    sessions = [trees[line["request_id"]].phases["session"] for line in gateway.lines()]
    assert [(span.kind, span.attributes["gateway.session.source"]) for span in sessions] == [
        ("CLIENT", "call"),
        ("INTERNAL", "cache"),
        ("INTERNAL", "none"),
    ]


@pytest.mark.parametrize("kind", ["refuses", "silent"])
async def test_a_dead_collector_disturbs_nothing_but_a_short_while_at_the_end(start: Any, collector: Collector, kind: str) -> None:
    sim = await start.simulator()
    if kind == "silent":
        collector.gate.clear()
    endpoint = collector.endpoint if kind == "silent" else f"http://127.0.0.1:{free_port()}"
    tracing = {"otlp_endpoint": endpoint, "sample": 1.0}
    gateway = await start(sim, {"telemetry": {"tracing": tracing}, "server": {"accept_grace": "0s"}}, environ=OFTEN)
    loop = asyncio.get_running_loop()
    async with client(gateway) as http:
        times = []
        for _ in range(50):
            begun = loop.time()
            assert (await post(http)).status_code == 200
            times.append(loop.time() - begun)
    assert sorted(times)[25] < 0.2
    begun = loop.time()
    assert await gateway.stop() == 0
    assert loop.time() - begun < 6, "1 s for idle connections, 2 s for the spans"
    assert b'"spans are lost' in gateway.err
    assert b"Traceback" not in gateway.err
    assert collector.endpoint.encode() not in gateway.err
    assert len(gateway.lines()) == 50


async def test_a_second_signal_does_not_wait_for_a_silent_collector(start: Any, collector: Collector) -> None:
    sim = await start.simulator()
    collector.gate.clear()
    gateway = await start(sim, traced(collector), environ=OFTEN)
    sim.alipayplus.script(Behaviour(hold=True))
    async with client(gateway) as http:
        assert (await http.get("/api/balance", headers=LOGIN)).status_code == 200
        waiting = asyncio.create_task(post(http))
        await sim.alipayplus.until_received(1)
        gateway.process.send_signal(signal.SIGTERM)
        await gateway.until_said(b'"draining"')
        begun = asyncio.get_running_loop().time()
        gateway.process.send_signal(signal.SIGTERM)
        assert await gateway.ended() == 1
        assert asyncio.get_running_loop().time() - begun < 2
        with pytest.raises(httpx.HTTPError):
            await waiting
    assert [line["status"] for line in gateway.lines()] == [200, 0]


async def test_spans_of_a_generation_are_sent_when_a_reload_ends_it(start: Any, collector: Collector) -> None:
    gateway = await start(await start.simulator(), traced(collector), environ={"OTEL_BSP_SCHEDULE_DELAY": "3600000"})
    async with client(gateway) as http:
        await post(http)
        gateway.process.send_signal(signal.SIGHUP)
        await until_said_times(gateway, "a former generation has ended", 1)
        await collector.until(1)
        await post(http)
    assert await gateway.stop() == 0
    assert len(collector.traces()) == 2


async def test_off_nothing_of_it_is_loaded(start: Any) -> None:
    gateway = await start(await start.simulator())
    async with client(gateway) as http:
        await post(http)
        await http.get("/api/balance", headers=LOGIN)
    assert has_protobuf(gateway) == [False, False]
    assert await gateway.stop() == 0


async def test_on_only_workers_load_it(start: Any, collector: Collector) -> None:
    gateway = await start(await start.simulator(), traced(collector))
    assert has_protobuf(gateway) == [False, True]
    assert await gateway.stop() == 0


async def test_without_the_extra_it_is_a_fault_of_the_configuration(start: Any, collector: Collector, tmp_path: Path) -> None:
    sim = await start.simulator()
    hidden = tmp_path / "sitecustomize.py"
    hidden.write_text(
        "import sys\n"
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'opentelemetry' or name.startswith('opentelemetry.'):\n"
        "            raise ModuleNotFoundError(name=name)\n"
        "sys.meta_path.insert(0, Hide())\n"
    )
    config = sim.write_configuration(traced(collector))
    for command in (("check",), ("run",)):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", *command, "-c", str(config)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
        )
        out, err = await process.communicate()
        assert process.returncode == 3
        assert b"telemetry.tracing: needs the extra tracing, which is not installed: pip install --require-hashes" in out + err
