"""The app's contract on the running gateway: what is taken, what is refused, and in which order (architecture, The app's contract)."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.simulator import Behaviour
from tests.sdkproxy.conftest import BODY
from tests.upstream.peer import until

PATH = "/alipayplus/v1/sdkProxy"
JSON = {"Content-Type": "application/json"}
HEAD = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nAuthorization: Bearer demo-token-anna\r\n"
LOGIN = {"Authorization": "Bearer demo-token-anna"}
CORPORA = Path(__file__).parents[3] / "shared" / "corpora"

corpora = pytest.mark.skipif(not CORPORA.is_dir(), reason="the shared corpora are not beside the project (JSONTestSuite, blns)")


def refused(reply: Any, code: str, status: int) -> None:
    assert (reply.status, reply.json["resultCode"], reply.json["resultStatus"]) == (status, code, "F")
    assert (reply.json["isSuccess"], reply.json["source"]) == (False, "gateway")
    assert reply.json["requestId"] == reply.headers["X-Request-Id"]
    assert reply.json["resultMessage"]


async def untouched(gateway: Any) -> None:
    assert gateway.sim.auth.count == 0
    assert gateway.sim.alipayplus.count == 0


@pytest.mark.parametrize("path", ["/alipayplus", "/alipayplus/", "/alipayplus/v1", "/alipayplus/v1/sdkProxy/", "/alipayplus/v2/sdkProxy"])
async def test_other_paths_below_the_prefix_are_not_found(gateway: Any, path: str) -> None:
    refused(await gateway.post(path=path), "NOT_FOUND", 404)
    await untouched(gateway)
    assert gateway.count("gateway_requests_total", route="sdk", method="POST", status="404") == 1
    [line] = gateway.lines()
    assert "path" not in line


@pytest.mark.parametrize("target", [f"{PATH}?a=1", f"http://a{PATH}", f"HTTP://A:80{PATH}?a=1"])
async def test_A4_the_resource_is_known_with_a_query_and_in_our_own_absolute_form(gateway: Any, target: str) -> None:
    head = HEAD.replace(PATH, target)
    raw = await gateway.raw(f"{head}Content-Length: {len(BODY)}\r\nConnection: close\r\n\r\n".encode() + BODY)
    assert raw.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("path", ["/", "/alipayplusx", "/Alipayplus/v1/sdkProxy", "/metrics", "/readyz"])
async def test_paths_outside_are_no_route(gateway: Any, path: str) -> None:
    refused(await gateway.post(path=path), "NOT_FOUND", 404)
    assert gateway.count("gateway_requests_total", route="none", method="POST", status="404") == 1


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
async def test_A18_other_methods_are_not_allowed(gateway: Any, method: str) -> None:
    async with gateway.http.request(method, f"http://127.0.0.1:{gateway.port}{PATH}") as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")
        assert (await answer.json())["resultCode"] == "METHOD_NOT_ALLOWED"
    await untouched(gateway)


@pytest.mark.parametrize("method", [b"FOO", b"CONNECT", b"TRACE", b"PLAY", b"FLUSH"])
async def test_A18_methods_outside_the_field_share_one_label(gateway: Any, method: bytes) -> None:
    raw = await gateway.raw(b"%b %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % (method, PATH.encode()))
    assert raw.startswith(b"HTTP/1.1 405 ")
    assert b"Allow: POST\r\n" in raw
    assert gateway.count("gateway_requests_total", route="sdk", method="other", status="405") == 1
    assert gateway.results("METHOD_NOT_ALLOWED", "F", "gateway", scene="none") == 1


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Content-Type": "text/plain"}, id="text"),
        pytest.param({"Content-Type": "application/json; charset=iso-8859-1"}, id="charset"),
        pytest.param({"Content-Type": "application/octet-stream"}, id="binary"),
        pytest.param({**JSON, "Content-Encoding": "gzip"}, id="A13-gzip"),
        pytest.param({**JSON, "Content-Encoding": "br"}, id="A13-br"),
        pytest.param({**JSON, "Content-Encoding": "identity, gzip"}, id="A13-list"),
    ],
)
async def test_other_media_types_and_codings_are_unsupported(gateway: Any, headers: dict[str, str]) -> None:
    refused(await gateway.post(headers={**headers, **LOGIN}), "UNSUPPORTED_MEDIA_TYPE", 415)
    await untouched(gateway)


async def test_no_media_type_is_unsupported(gateway: Any) -> None:
    raw = await gateway.raw(f"POST {PATH} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    assert raw.startswith(b"HTTP/1.1 415 ")


@pytest.mark.parametrize("coding", ["identity", "Identity", ""])
async def test_A13_a_body_that_is_said_not_to_be_coded_is_taken(gateway: Any, coding: str) -> None:
    assert (await gateway.post(headers={**JSON, **LOGIN, "Content-Encoding": coding})).status == 200


async def test_A6_a_declared_length_over_max_body_is_refused_before_the_session(start: Any) -> None:
    gateway = await start({"sdk_proxy": {"max_body": "1KiB"}})
    reply = await gateway.post(b"x" * 1025)
    refused(reply, "REQUEST_TOO_LARGE", 413)
    assert reply.headers["Connection"] == "close"
    await untouched(gateway)


async def test_A6_a_chunked_body_over_max_body_is_refused(start: Any) -> None:
    gateway = await start({"sdk_proxy": {"max_body": "1KiB"}})
    raw = await gateway.raw(HEAD.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + b"800\r\n" + b"x" * 2048 + b"\r\n0\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 413 ")
    assert b"Connection: close" in raw
    assert gateway.sim.alipayplus.count == 0


@asynccontextmanager
async def sending(gateway: Any) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Begin a call whose body is chunked; the gateway waits for the first of it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(f"{HEAD}Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n".encode())
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    try:
        yield reader, writer
    finally:
        writer.close()


async def refused_and_closed(gateway: Any, reader: asyncio.StreamReader, code: str, status: int) -> None:
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert (int(head.split(b" ")[1]), json.loads(body)["resultCode"]) == (status, code)
    assert b"\r\nConnection: close" in head
    assert gateway.sim.alipayplus.count == 0


async def test_A6_a_chunked_body_over_max_body_is_refused_while_it_is_read(start: Any) -> None:
    gateway = await start({"sdk_proxy": {"max_body": "1KiB"}})
    async with sending(gateway) as (reader, writer):
        writer.writelines([b"200\r\n%b\r\n" % (b"x" * 512)] * 3)
        await refused_and_closed(gateway, reader, "REQUEST_TOO_LARGE", 413)


async def test_A6_a_chunked_body_of_max_body_is_taken_whole_though_it_comes_in_pieces(start: Any) -> None:
    gateway = await start({"sdk_proxy": {"max_body": "1KiB"}})
    body = b'{"proxyRequestHeader":"","proxyRequestData":"%b"}'
    data = bytes(ord("a") + number % 26 for number in range(1024 - len(body) + 2))
    async with sending(gateway) as (reader, writer):
        for byte in body % data:
            writer.write(b"1\r\n%c\r\n" % byte)
            await asyncio.sleep(0)  # the gateway reads
        writer.write(b"0\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    [received] = gateway.sim.alipayplus.received
    assert received.body == b'{"sdkRequestHeader":"","sdkRequestData":"%b","customerId":"customer-anna"}' % data


@pytest.mark.parametrize(
    ("limit", "reason"),
    [pytest.param("body_idle_timeout", "body stopped", id="A8-stops"), pytest.param("body_timeout", "body took too long", id="A8-drips")],
)
async def test_A8_a_chunked_body_that_stops_or_drips_is_408(start: Any, limit: str, reason: str) -> None:
    gateway = await start({"server": {"limits": {limit: "300ms"}}})
    async with sending(gateway) as (reader, writer):
        writer.write(b"1\r\n{\r\n")
        refusal = asyncio.create_task(refused_and_closed(gateway, reader, "REQUEST_TIMEOUT", 408))
        while limit == "body_timeout" and not refusal.done():
            writer.write(b"1\r\n \r\n")
            await asyncio.wait([refusal], timeout=0.05)
        await refusal
    await until(lambda: not gateway.parts.front.in_flight)
    [line] = gateway.lines()
    assert line["reason"] == reason


async def test_a_chunk_that_is_broken_while_the_body_is_read_is_malformed(gateway: Any) -> None:
    async with sending(gateway) as (reader, writer):
        writer.write(b"1\r\n{\r\nno size\r\n")
        await refused_and_closed(gateway, reader, "REQUEST_MALFORMED", 400)


async def test_A6_a_body_of_max_body_is_taken(start: Any) -> None:
    gateway = await start({"sdk_proxy": {"max_body": "1KiB"}})
    body = b'{"proxyRequestHeader":"","proxyRequestData":"%b"}'
    assert (await gateway.post(body % (b"x" * (1024 - len(body) + 2)))).status == 200


async def test_chunked_bodies_are_taken_and_sent_on_with_a_length(gateway: Any) -> None:
    head = f"{HEAD}Connection: close\r\n"
    body = b'{"proxyRequestHeader":"","proxyRequestData":"abc"}'
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    assert (await gateway.raw(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)).startswith(b"HTTP/1.1 200 ")
    [received] = gateway.sim.alipayplus.received
    assert received.get("content-length") == str(len(received.body))
    assert received.get("transfer-encoding") is None


@pytest.mark.parametrize(
    ("request_line", "headers", "body", "status"),
    [
        pytest.param("GET /alipayplus/x", {}, b"", 404, id="path-before-method"),
        pytest.param(f"GET {PATH}", {"Content-Type": "text/plain"}, b"", 405, id="method-before-media-type"),
        pytest.param(f"POST {PATH}", {"Content-Type": "text/plain", "Content-Length": "99999999"}, b"", 415, id="media-type-before-length"),
        pytest.param(f"POST {PATH}", {**JSON, "Content-Length": "99999999"}, b"", 413, id="length-before-credentials"),
        pytest.param(f"POST {PATH}", {**JSON, "Content-Length": "3"}, b"{{{", 401, id="credentials-before-json"),
        pytest.param(
            f"POST {PATH}", {**JSON, "Authorization": "Bearer wrong", "Content-Length": "3"}, b"{{{", 401, id="session-before-json"
        ),
        pytest.param(f"POST {PATH}", {**JSON, **LOGIN, "Content-Length": "3"}, b"{{{", 400, id="json-last"),
    ],
)
async def test_the_order_of_refusals(gateway: Any, request_line: str, headers: dict[str, str], body: bytes, status: int) -> None:
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    raw = await gateway.raw(f"{request_line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n".encode() + body)
    assert raw.startswith(f"HTTP/1.1 {status} ".encode())
    assert gateway.sim.alipayplus.count == 0


async def test_A16_every_refusal_before_the_body_comes_without_100(gateway: Any) -> None:
    head = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 50\r\nExpect: 100-continue\r\n"
    raw = await gateway.raw(head.encode() + b"Authorization: Bearer wrong\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 401 ")
    assert b"Connection: close" in raw


async def test_A16_the_body_is_asked_for_after_the_session(gateway: Any) -> None:
    body = b'{"proxyRequestHeader":"","proxyRequestData":""}'
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    head = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n"
    writer.write(head.encode() + b"Authorization: Bearer demo-token-anna\r\nConnection: close\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert gateway.sim.auth.count == 1
    writer.write(body)
    assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
    writer.close()


@pytest.mark.parametrize(
    "field",
    [
        "Upgrade: websocket\r\nConnection: Upgrade",
        "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
    ],
)
async def test_A15_an_upgrade_on_the_sdk_path_runs_no_second_request(gateway: Any, field: str) -> None:
    body = b'{"proxyRequestHeader":"","proxyRequestData":""}'
    head = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{field}\r\n"
    raw = await gateway.raw(head.encode() + b"Authorization: Bearer demo-token-anna\r\n\r\n" + body + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert raw.split(b" ")[1] in {b"200", b"400", b"426"}
    assert gateway.sim.alipayplus.count <= 1
    assert len(gateway.lines()) == 1


async def test_G7_a_customer_id_from_the_app_is_refused(gateway: Any) -> None:
    reply = await gateway.post(b'{"proxyRequestHeader":"","proxyRequestData":"","customerId":"someone"}')
    refused(reply, "REQUEST_MALFORMED", 400)
    assert gateway.sim.alipayplus.count == 0
    await gateway.post()
    assert json.loads(gateway.sim.alipayplus.received[0].body)["customerId"] == "customer-anna"


@corpora
async def test_A14_no_n_file_of_the_json_test_suite_is_taken(gateway: Any) -> None:
    files = sorted((CORPORA / "JSONTestSuite" / "test_parsing").glob("n_*.json"))
    assert len(files) > 150
    for file in files:
        reply = await gateway.post(file.read_bytes())
        assert (file.name, reply.status, reply.json["resultCode"]) == (file.name, 400, "REQUEST_MALFORMED")
        nested = b'{"proxyRequestHeader":"","proxyRequestData":"","x":%b}' % file.read_bytes()
        assert (file.name, (await gateway.post(nested)).status) in {(file.name, 400), (file.name, 200)}
    assert gateway.count("gateway_requests_total", route="sdk", method="POST", status="500") == 0


@corpora
async def test_naughty_strings_go_through_both_ways_unchanged(gateway: Any) -> None:
    strings = json.loads((CORPORA / "blns" / "blns.json").read_text())
    gateway.sim.alipayplus.script(Behaviour(strings="echo"), times=None)
    for ascii_only in (True, False):
        for start in range(0, len(strings), 50):
            text = json.dumps("\n".join(strings[start : start + 50]), ensure_ascii=ascii_only).encode()
            reply = await gateway.post(b'{"proxyRequestHeader":%b,"proxyRequestData":%b}' % (text, text))
            assert reply.status == 200
            assert reply.body.endswith(b'"proxyResponseHeader":%b,"proxyResponseData":%b}' % (text, text))


async def test_any_string_goes_through_both_ways_unchanged(gateway: Any) -> None:
    """The raw JSON text of the strings, escapes and all, is the same at the app, at Alipay+ and back at the app."""
    gateway.sim.alipayplus.script(Behaviour(strings="echo"), times=None)
    loop = asyncio.get_running_loop()

    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
    escape = st.sampled_from(
        ["\\u0041", "\\/", "\\n", "\\u2028", "\\ud83d\\ude00", "\u2028", "%5B", "+", '\\"', "\\\\", "\\u0000", "&=", "😀"]
    )
    raw = st.lists(st.one_of(escape, text.map(lambda part: json.dumps(part, ensure_ascii=False)[1:-1])), max_size=8).map(
        lambda parts: f'"{"".join(parts)}"'.encode()
    )

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(raw, raw)
    def go_through(header: bytes, data: bytes) -> None:
        body = b'{"proxyRequestData": %b,"proxyRequestHeader":%b }' % (data, header)
        reply = asyncio.run_coroutine_threadsafe(gateway.post(body), loop).result(30)
        received = gateway.sim.alipayplus.received[-1].body
        assert received == b'{"sdkRequestHeader":%b,"sdkRequestData":%b,"customerId":"customer-anna"}' % (header, data)
        assert reply.body.endswith(b'"proxyResponseHeader":%b,"proxyResponseData":%b}' % (header, data))

    await loop.run_in_executor(None, go_through)


async def test_a_string_of_almost_1_mib_goes_through_unchanged(gateway: Any) -> None:
    gateway.sim.alipayplus.script(Behaviour(strings="echo"))
    data = b'"' + (b"\\u2028%5B+" * 100_000)[: (1 << 20) - 100] + b'"'
    reply = await gateway.post(b'{"proxyRequestHeader":"","proxyRequestData":%b}' % data)
    assert reply.body.endswith(b'"proxyResponseData":%b}' % data)


async def test_a_bug_is_an_unknown_outcome_and_says_nothing_of_itself(gateway: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_body: bytes) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr("gateway.sdkproxy.handler.decode_request", broken)
    reply = await gateway.post()
    assert (reply.status, reply.json["resultCode"], reply.json["resultStatus"]) == (500, "INTERNAL_ERROR", "U")
    assert b"secret" not in reply.body
    assert gateway.results("INTERNAL_ERROR", "U", "gateway", scene="none") == 1


async def test_A11_an_app_that_leaves_in_its_body_has_sent_nothing(gateway: Any) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(f"{HEAD}Content-Length: 100\r\nExpect: 100-continue\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.abort()
    await until(lambda: not gateway.parts.front.in_flight)
    [line] = gateway.lines()
    assert (line["result_code"], line["sent"], line["reason"]) == ("REQUEST_MALFORMED", "not_sent", "client_abort")
    assert gateway.results("REQUEST_MALFORMED", "F", "gateway", scene="none") == 1


async def test_A12_an_app_that_leaves_does_not_undo_its_call(gateway: Any) -> None:
    gateway.sim.alipayplus.script(Behaviour(hold=True))
    body = b'{"proxyRequestHeader":"","proxyRequestData":""}'
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(f"{HEAD}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    await gateway.sim.alipayplus.until_received(1)
    writer.transport.abort()
    gateway.sim.alipayplus.release()
    await until(lambda: not gateway.parts.front.in_flight)
    assert gateway.results("SUCCESS", "S", "alipayplus", scene="none") == 1
    [line] = gateway.lines()
    assert (line["result_code"], line["sent"], line["reason"]) == ("SUCCESS", "answered", "client_abort")


async def test_polling_is_never_deduplicated(gateway: Any) -> None:
    replies = await asyncio.gather(*(gateway.post() for _ in range(40)))
    assert {reply.status for reply in replies} == {200}
    assert gateway.sim.alipayplus.count == 40
    assert len({reply.json["requestId"] for reply in replies}) == 40


@pytest.mark.parametrize("scene", ["PROXY_SCENE_MINI_PROGRAM", "", "x" * 64, "\u2028"])
async def test_a_scene_of_any_spelling_is_no_reason_to_refuse(gateway: Any, scene: str) -> None:
    reply = await gateway.post(json.dumps({"scene": scene, "proxyRequestHeader": "", "proxyRequestData": ""}).encode())
    assert reply.status == 200
    assert gateway.results("SUCCESS", "S", "alipayplus", scene="other") == 1


@pytest.mark.parametrize(
    "scene", ["PROXY_SCENE_MINIPROGRAM", "PROXY_SCENE_PAY", "PROXY_SCENE_AC", "IAPProxySceneMiniProgram", "IAPProxyScenePay"]
)
async def test_a_scene_of_the_specification_is_counted_by_its_name(gateway: Any, scene: str) -> None:
    await gateway.post(json.dumps({"scene": scene, "proxyRequestHeader": "", "proxyRequestData": ""}).encode())
    assert gateway.results("SUCCESS", "S", "alipayplus", scene=scene) == 1
