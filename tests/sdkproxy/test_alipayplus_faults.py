"""What goes wrong at Alipay+, seen by the app, by Alipay+ itself, in the log and in the metrics (faults C)."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

import pytest

from gateway.simulator import Behaviour
from gateway.simulator.answers import sample
from gateway.simulator.configuration import Ports
from gateway.upstream import Connection, Lease
from tests.ports import free_port

CONFIGURATION_FAULTS = [
    "ACCESS_DENIED",
    "INVALID_API",
    "INVALID_CLIENT",
    "INVALID_SIGNATURE",
    "KEY_NOT_FOUND",
    "MEDIA_TYPE_NOT_ACCEPTABLE",
    "METHOD_NOT_SUPPORTED",
]


async def test_success_is_200_and_the_strings_are_those_that_were_signed(gateway: Any) -> None:
    gateway.sim.alipayplus.script(Behaviour(strings="echo"))
    body = b'{"scene":"PROXY_SCENE_PAY","proxyRequestHeader":"\\u00e9\\/\\"","proxyRequestData":"%5B+&\xf0\x9f\x98\x80\xe2\x80\xa8"}'
    reply = await gateway.post(body)
    assert reply.status == 200
    assert b'"proxyResponseHeader":"\\u00e9\\/\\""' in reply.body
    assert b'"proxyResponseData":"%5B+&\xf0\x9f\x98\x80\xe2\x80\xa8"' in reply.body
    received = gateway.sim.alipayplus.received[0]
    assert received.verified
    assert received.body.startswith(
        b'{"sdkRequestHeader":"\\u00e9\\/\\"","sdkRequestData":"%5B+&\xf0\x9f\x98\x80\xe2\x80\xa8","customerId":'
    )
    assert {name: reply.json[name] for name in ("isSuccess", "resultCode", "resultStatus", "source")} == {
        "isSuccess": True,
        "resultCode": "SUCCESS",
        "resultStatus": "S",
        "source": "alipayplus",
    }
    assert reply.json["requestId"] == reply.headers["X-Request-Id"]
    assert gateway.results("SUCCESS", "S", "alipayplus") == 1
    [line] = gateway.lines()
    assert (line["result_code"], line["sent"], line["key_version"], line["request_id"]) == (
        "SUCCESS",
        "answered",
        "1",
        reply.json["requestId"],
    )
    assert set(line["phases"]) == {"session", "queue", "sign", "alipayplus", "verify"}


async def test_the_customer_of_a_call_is_logged_as_a_keyed_hash(start: Any) -> None:
    gateway = await start({"telemetry": {"log": {"customer_hash_key": "hunter2"}}})
    assert (await gateway.post()).status == 200
    [line] = gateway.lines()
    key = blake2b(b"hunter2", digest_size=32).digest()
    assert line["customer"] == blake2b(b"customer-anna", key=key, digest_size=8).hexdigest()


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("code", CONFIGURATION_FAULTS)
async def test_C8_a_fault_of_the_configuration_is_502(gateway: Any, code: str, signed: bool) -> None:  # noqa: FBT001  a parameter of the test
    reply = await gateway.fail(code, 502, "F", code=code, signed=signed)
    assert reply.json["source"] == "alipayplus"
    assert gateway.results(code, "F", "alipayplus") == 1


@pytest.mark.parametrize(("code", "label"), [("PROCESS_FAIL", "PROCESS_FAIL"), ("PARAM_ILLEGAL", "PARAM_ILLEGAL"), ("NEW_CODE", "other")])
async def test_C8_a_business_failure_is_422(gateway: Any, code: str, label: str) -> None:
    await gateway.fail(code, 422, "F", code=code, status="F")
    assert gateway.results(label, "F", "alipayplus") == 1


@pytest.mark.parametrize("signed", [True, False])
async def test_C8_traffic_over_the_limit_is_429_without_retry_after(gateway: Any, signed: bool) -> None:  # noqa: FBT001  a parameter of the test
    reply = await gateway.fail("REQUEST_TRAFFIC_EXCEED_LIMIT", 429, "U", code="REQUEST_TRAFFIC_EXCEED_LIMIT", signed=signed)
    assert "Retry-After" not in reply.headers


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("code", ["UNKNOWN_EXCEPTION", "NEW_CODE", "PROCESS_FAIL"])
async def test_C8_an_unknown_outcome_is_502_under_its_own_code(gateway: Any, code: str, signed: bool) -> None:  # noqa: FBT001  as above
    reply = await gateway.fail(code, 502, "U", code=code, status="U", signed=signed)
    assert reply.json["source"] == "alipayplus"


async def test_C8_a_success_with_any_code_is_a_success(gateway: Any) -> None:
    gateway.sim.alipayplus.script(Behaviour(code="NEW_CODE", status="S"))
    reply = await gateway.post()
    assert (reply.status, reply.json["isSuccess"], reply.json["resultCode"]) == (200, True, "NEW_CODE")


@pytest.mark.parametrize(("code", "status"), [("SUCCESS", "F"), ("SUCCESS", "U"), ("X", "P"), ("X", "s"), ("X", "")])
async def test_C8_a_result_that_contradicts_itself_is_invalid(gateway: Any, code: str, status: str) -> None:
    await gateway.fail("ALIPAYPLUS_RESPONSE_INVALID", 502, "U", code=code, status=status)
    assert gateway.results("ALIPAYPLUS_RESPONSE_INVALID", "U", "gateway") == 1
    assert gateway.lines()[0]["sent"] == "unknown"


async def test_a_signed_failure_carries_its_strings(gateway: Any) -> None:
    gateway.sim.alipayplus.script(Behaviour(code="PROCESS_FAIL", strings="sample"))
    assert "proxyResponseData" in (await gateway.post()).json


async def test_an_unsigned_failure_never_does(gateway: Any) -> None:
    gateway.sim.alipayplus.script(Behaviour(code="INVALID_CLIENT", signed=False, strings="sample"))
    reply = await gateway.post()
    assert reply.json["resultCode"] == "INVALID_CLIENT"
    assert "proxyResponseData" not in reply.json


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param({"result_form": "object"}, id="C7-object"),
        pytest.param({"result_form": "text"}, id="C7-text"),
        pytest.param({"strings": "none"}, id="C7-no-strings"),
        pytest.param({"signature_form": "spaces"}, id="C10-spaces"),
        pytest.param({"signature_form": "reordered"}, id="C10-order"),
        pytest.param({"signature_form": "lower_case_escapes"}, id="C10-lower-case-escapes"),
        pytest.param({"signature_form": "raw"}, id="C10-raw-base64"),
        pytest.param({"headers": (("Content-Encoding", "identity"),)}, id="C6-identity"),
        pytest.param({"headers": (("Content-Encoding", "Identity"),)}, id="C6-identity-in-another-case"),
        pytest.param({"headers": (("Content-Encoding", ""),)}, id="C6-no-coding"),
        pytest.param({"omit": ("client-id",)}, id="no-client-id"),
        pytest.param({"omit": ("content-type",)}, id="no-content-type"),
        pytest.param({"framing": "chunked"}, id="chunked"),
        pytest.param({"framing": "close"}, id="closed-at-its-end"),
        pytest.param({"pieces": 5, "pause": 0.01}, id="in-pieces"),
        pytest.param({"response_time": "1559016732000"}, id="opaque-response-time"),
        pytest.param({"headers": (("Content-Type", "application/json;charset=iso-8859-1"),), "omit": ("content-type",)}, id="C12-charset"),
    ],
)
async def test_answers_that_are_right_are_200(gateway: Any, behaviour: dict[str, Any]) -> None:
    gateway.sim.alipayplus.script(Behaviour(**behaviour))
    assert (await gateway.post()).status == 200


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param({"signed": False}, id="C9-success-unsigned"),
        pytest.param({"signed": False, "code": "PROCESS_FAIL"}, id="C9-failure-that-proves-nothing"),
        pytest.param({"signed": False, "code": "NEW_CODE", "status": "F"}, id="C9-unknown-failure-unsigned"),
        pytest.param({"omit": ("signature",)}, id="C9-half-without-signature"),
        pytest.param({"omit": ("response-time",)}, id="C9-half-without-time"),
        pytest.param({"omit": ("signature",), "code": "INVALID_CLIENT"}, id="C9-half-failure"),
        pytest.param({"omit": ("signature",), "code": "UNKNOWN_EXCEPTION"}, id="C9-half-unknown"),
        pytest.param({"key": "stranger"}, id="C9-wrong-key"),
        pytest.param({"key": "stranger", "code": "PROCESS_FAIL"}, id="C9-wrong-key-failure"),
        pytest.param({"key": "stranger", "code": "UNKNOWN_EXCEPTION"}, id="C9-wrong-key-unknown"),
        pytest.param({"key_version": "9"}, id="C9-unknown-version"),
        pytest.param({"tampered": True}, id="C9-body"),
        pytest.param({"signed_path": "/aps/api/v1/other"}, id="C9-path"),
        pytest.param({"signed_time": "2019-05-28T12:12:12+08:00"}, id="C9-time"),
        pytest.param({"signed_client_id": "OTHER"}, id="C9-client-id-signed"),
        pytest.param({"client_id": "OTHER"}, id="C9-client-id-header"),
        pytest.param({"algorithm": "RSA512"}, id="C9-algorithm"),
        pytest.param({"digest": "sha1"}, id="C9-sha1"),
        pytest.param({"digest": "sha512"}, id="C9-sha512"),
        pytest.param({"signature_form": "junk"}, id="C9-junk"),
        pytest.param({"signature_form": "incomplete"}, id="C9-incomplete"),
        pytest.param({"key": "stranger", "content": "not_json"}, id="C9-wrong-key-not-json"),
        pytest.param({"omit": ("signature",), "content": "not_json"}, id="C9-half-not-json"),
        pytest.param({"headers": (("Signature", "algorithm=RSA256,keyVersion=1,signature=AAAA"),)}, id="C9-two-signatures"),
    ],
)
async def test_answers_that_do_not_verify_release_nothing(gateway: Any, behaviour: dict[str, Any]) -> None:
    await gateway.fail("ALIPAYPLUS_SIGNATURE_INVALID", 502, "U", **behaviour)
    assert gateway.results("ALIPAYPLUS_SIGNATURE_INVALID", "U", "gateway") == 1
    assert gateway.lines()[0]["sent"] == "unknown"


async def test_unsigned_failures_can_be_forbidden(start: Any) -> None:
    gateway = await start({"alipayplus": {"verification": {"allow_unsigned_failures": False}}})
    await gateway.fail("ALIPAYPLUS_SIGNATURE_INVALID", 502, "U", code="INVALID_CLIENT", signed=False)


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param({"http_status": 500}, id="C11-500"),
        pytest.param({"http_status": 502}, id="C11-502"),
        pytest.param({"http_status": 404}, id="C11-404"),
        pytest.param({"http_status": 302}, id="C11-redirect"),
        pytest.param({"http_status": 307}, id="C11-redirect-307"),
        pytest.param({"http_status": 101}, id="C11-101"),
        pytest.param({"http_status": 0}, id="C11-000"),
        pytest.param({"http_status": 204}, id="C11-204"),
        pytest.param({"http_status": 201, "body": sample("alipayplus-response"), "signed": True}, id="C11-a-signed-success-at-201"),
        pytest.param({"text": "<html>blocked</html>", "signed": False}, id="C11-html"),
        pytest.param({"extra": "HTTP/1.1 200 OK\r\n\r\n"}, id="C11-bytes-after-the-body"),
        pytest.param({"content": "not_json"}, id="C12-not-json-signed"),
        pytest.param({"content": "not_json", "signed": False}, id="C12-not-json-unsigned"),
        pytest.param({"content": "bom"}, id="C12-bom"),
        pytest.param({"content": "invalid_utf8"}, id="C12-invalid-utf8"),
        pytest.param({"coding": "gzip"}, id="C6-gzip"),
        pytest.param({"result_form": "absent"}, id="C8-no-result"),
        pytest.param({"result_form": "null"}, id="C8-null-result"),
        pytest.param({"result_form": "junk"}, id="C8-junk-result"),
        pytest.param({"text": "[]"}, id="C8-array"),
        pytest.param({"text": "{}"}, id="C8-empty-object"),
    ],
)
async def test_answers_that_cannot_be_read_are_invalid(gateway: Any, behaviour: dict[str, Any]) -> None:
    reply = await gateway.fail("ALIPAYPLUS_RESPONSE_INVALID", 502, "U", **behaviour)
    assert b"blocked" not in reply.body
    assert gateway.sim.alipayplus.count == 1


async def test_C11_a_connection_with_extra_bytes_is_not_used_again(gateway: Any) -> None:
    await gateway.fail("ALIPAYPLUS_RESPONSE_INVALID", 502, "U", extra="x")
    await gateway.post()
    assert gateway.sim.alipayplus.connections == 2


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param({"drop": "after_reading"}, id="C3-reset-after-sending"),
        pytest.param({"drop": "before_reading"}, id="C3-reset-before-reading"),
        pytest.param({"drop": "in_headers"}, id="C3-reset-in-headers"),
        pytest.param({"drop": "in_body"}, id="C3-reset-in-body"),
        pytest.param({"framing": "truncated"}, id="C3-truncated"),
    ],
)
async def test_a_connection_lost_after_sending_is_unknown_and_never_repeated(gateway: Any, behaviour: dict[str, Any]) -> None:
    await gateway.post()
    await gateway.fail("ALIPAYPLUS_CONNECTION_LOST", 502, "U", **behaviour)
    assert gateway.sim.alipayplus.count == 2
    assert gateway.lines()[1]["sent"] == "unknown"


async def test_C3_a_bad_chunk_is_unknown_and_never_repeated(gateway: Any) -> None:
    gateway.sim.alipayplus.script(Behaviour(framing="bad_chunk"))
    reply = await gateway.post()
    assert (reply.status, reply.json["resultStatus"]) == (502, "U")
    assert reply.json["resultCode"] in {"ALIPAYPLUS_CONNECTION_LOST", "ALIPAYPLUS_RESPONSE_INVALID"}
    assert gateway.sim.alipayplus.count == 1


async def test_C4_a_kept_connection_that_was_closed_is_not_noticed_by_the_app(gateway: Any) -> None:
    for _ in range(5):
        gateway.sim.alipayplus.script(Behaviour(close="silent"))
        assert (await gateway.post()).status == 200
        await gateway.sim.alipayplus.until(lambda: not gateway.sim.alipayplus.open_connections)
    assert gateway.sim.alipayplus.count == 5


def end_before_the_signature(gateway: Any, monkeypatch: pytest.MonkeyPatch, *, kept: bool) -> list[Connection]:
    """Have the connections that are kept, or those that are new, end between their choice and the signature; give those that have."""
    hosts, ended = gateway.parts.clusters[0], list[Connection]()
    acquire = hosts.acquire

    async def acquire_what_ends(**options: Any) -> Lease:
        lease: Lease = await acquire(**options)
        if lease.connection.reused == kept:
            lease.connection.abort()
            ended.append(lease.connection)
        return lease

    monkeypatch.setattr(hosts, "acquire", acquire_what_ends)
    return ended


async def test_C4_a_kept_connection_that_ends_before_the_signature_is_made_is_not_noticed_by_the_app(
    gateway: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await gateway.post()
    end_before_the_signature(gateway, monkeypatch, kept=True)
    assert (await gateway.post()).status == 200
    assert (gateway.sim.alipayplus.count, gateway.sim.alipayplus.connections) == (2, 2)
    assert gateway.lines()[1]["sent"] == "answered"


async def test_C1_a_new_connection_that_ends_before_the_signature_is_made_is_not_made_again(
    gateway: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = end_before_the_signature(gateway, monkeypatch, kept=False)
    await unreachable(gateway, "connection closed before the request: closed by this side")
    assert len(ended) == 1


@pytest.mark.parametrize("framing", ["length", "chunked", "endless"])
async def test_C5_an_answer_over_max_response_is_invalid_and_aborted(start: Any, framing: str) -> None:
    gateway = await start({"alipayplus": {"max_response": "64KiB"}})
    await gateway.fail("ALIPAYPLUS_RESPONSE_INVALID", 502, "U", size=1_000_000, framing=framing)
    await gateway.sim.alipayplus.until(lambda: not gateway.sim.alipayplus.open_connections)


async def test_C5_an_answer_of_max_response_is_taken(start: Any) -> None:
    gateway = await start({"alipayplus": {"max_response": "1MiB"}})
    gateway.sim.alipayplus.script(Behaviour(size=1_000_000))
    assert len((await gateway.post()).json["proxyResponseData"]) >= 999_998


@pytest.mark.parametrize(
    "behaviour", [pytest.param({"hold": True}, id="C2-silence"), pytest.param({"pieces": 100, "pause": 0.2}, id="C2-drip")]
)
async def test_C2_no_whole_answer_in_time_is_504(gateway: Any, behaviour: dict[str, Any]) -> None:
    """The deadline is the configured one, 12 s by default, not 10: Alipay+'s own late answers must still arrive."""
    gateway.sim.alipayplus.script(Behaviour(**behaviour))
    begun = asyncio.get_running_loop().time()
    reply = await gateway.post()
    took = asyncio.get_running_loop().time() - begun
    assert (reply.status, reply.json["resultCode"], reply.json["resultStatus"]) == (504, "ALIPAYPLUS_TIMEOUT", "U")
    assert "Retry-After" not in reply.headers
    assert took >= 12
    assert gateway.sim.alipayplus.count == 1
    [line] = gateway.lines()
    assert line["sent"] == "unknown"


async def test_C2_an_answer_after_10_s_still_counts(gateway: Any) -> None:
    gateway.sim.alipayplus.script(Behaviour(delay=10.3))
    assert (await gateway.post()).status == 200


async def unreachable(gateway: Any, reason: str) -> None:
    reply = await gateway.post()
    assert (reply.status, reply.json["resultCode"], reply.json["resultStatus"]) == (502, "ALIPAYPLUS_UNREACHABLE", "F")
    assert "Retry-After" not in reply.headers
    assert gateway.sim.alipayplus.count == 0
    [line] = gateway.lines()
    assert (line["sent"], line["reason"]) == ("not_sent", reason)


async def test_C1_refused(start: Any) -> None:
    await unreachable(await start({"alipayplus": {"host": f"https://127.0.0.1:{free_port()}"}}), "connection refused")


async def test_C1_no_such_name(start: Any) -> None:
    gateway = await start({"alipayplus": {"host": "https://no-such-host.invalid"}})
    await unreachable(gateway, "name not found")
    assert gateway.lines()[0]["endpoint"] == "no-such-host.invalid:443"


async def test_C1_a_server_that_does_not_shake_hands(start: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"https://127.0.0.1:{silent.getsockname()[1]}"
        await unreachable(await start({"alipayplus": {"host": host, "connect_timeout": "300ms"}}), "connect timeout")


async def test_C1_a_certificate_that_nobody_vouches_for(start: Any) -> None:
    await unreachable(await start({"alipayplus": {"tls": None}}), "certificate not accepted: no trusted authority has issued it")


async def test_C1_an_expired_certificate(start: Any) -> None:
    await unreachable(await start(lifetime=timedelta(days=-1)), "certificate not accepted: expired")


async def test_C1_a_certificate_for_another_name(start: Any) -> None:
    await unreachable(await start(names=("elsewhere.example",)), "certificate not accepted: for another name")


async def test_C1_the_next_host_is_tried_while_none_was_reached(start: Any) -> None:
    there = free_port()
    gateway = await start(
        {"alipayplus": {"host": [f"https://127.0.0.1:{free_port()}", f"https://127.0.0.1:{there}"]}}, ports=Ports(0, 0, there, 0, 0)
    )
    assert (await gateway.post()).status == 200
    [line] = gateway.lines()
    assert line["endpoint"] == f"127.0.0.1:{there}"
    assert gateway.count("gateway_upstream_requests_total", upstream="alipayplus", endpoint=line["endpoint"], outcome="ok") == 1


async def test_a_scene_may_have_a_host_of_its_own(start: Any) -> None:
    gateway = await start({"alipayplus": {"scenes": {"PROXY_SCENE_PAY": {"host": f"https://127.0.0.1:{free_port()}"}}}})
    assert (await gateway.post()).json["resultCode"] == "ALIPAYPLUS_UNREACHABLE"
    assert (await gateway.post(b'{"proxyRequestHeader":"","proxyRequestData":"","scene":"OTHER"}')).status == 200
    assert (await gateway.post(b'{"proxyRequestHeader":"","proxyRequestData":""}')).status == 200
    assert gateway.results("SUCCESS", "S", "alipayplus", scene="other") == 1
    assert gateway.results("SUCCESS", "S", "alipayplus", scene="none") == 1


async def test_C13_over_max_in_flight_calls_wait_and_then_give_up(start: Any) -> None:
    gateway = await start({"alipayplus": {"max_in_flight": 2, "queue_timeout": "200ms"}})
    gateway.sim.alipayplus.script(Behaviour(hold=True), times=2)
    held = [asyncio.create_task(gateway.post()) for _ in range(2)]
    await gateway.sim.alipayplus.until_received(2)
    reply = await gateway.post()
    assert (reply.status, reply.json["resultCode"], reply.json["resultStatus"]) == (503, "OVERLOADED", "F")
    assert reply.headers["Retry-After"] == "1"
    waiting = asyncio.create_task(gateway.post())
    gateway.sim.alipayplus.release()
    assert [(await task).status for task in (*held, waiting)] == [200, 200, 200]
    assert gateway.sim.alipayplus.count == 3
    assert gateway.count("gateway_alipayplus_max_in_flight") == 2
    assert gateway.count("gateway_alipayplus_queue_length") == 0


async def test_C14_the_offset_of_the_clocks_is_measured_and_nothing_rejected(gateway: Any) -> None:
    ahead = (datetime.now(UTC) + timedelta(hours=1)).isoformat(timespec="seconds")
    gateway.sim.alipayplus.script(Behaviour(response_time=ahead))
    assert (await gateway.post()).status == 200
    assert gateway.count("gateway_alipayplus_clock_offset_seconds") == pytest.approx(3600, abs=30)
    gateway.logs.close()
    warnings = [json.loads(line) for line in gateway.log_file.read_text().splitlines() if "clock" in line]
    assert [line["level"] for line in warnings] == ["warning"]


async def test_C14_a_time_that_is_not_rightly_signed_is_not_measured(gateway: Any) -> None:
    ahead = (datetime.now(UTC) + timedelta(hours=1)).isoformat(timespec="seconds")
    await gateway.fail("ALIPAYPLUS_SIGNATURE_INVALID", 502, "U", response_time=ahead, key="stranger")
    assert gateway.count("gateway_alipayplus_clock_offset_seconds") == 0
    assert "response_time" not in gateway.lines()[0]


async def test_G8_the_login_of_the_app_goes_to_the_auth_service_only(gateway: Any) -> None:
    await gateway.post(
        headers={"Content-Type": "application/json", "Authorization": "Bearer demo-token-canary", "Cookie": "sid=canary", "X-A": "canary"}
    )
    [received] = gateway.sim.alipayplus.received
    names = [name.lower() for name, _ in received.headers]
    assert names == ["host", "content-type", "client-id", "request-time", "signature", "content-length"]
    assert b"canary" not in b"".join(f"{name}{value}".encode() for name, value in received.headers)


async def test_the_headers_to_alipayplus_are_those_of_the_protocol(gateway: Any) -> None:
    await gateway.post()
    [received] = gateway.sim.alipayplus.received
    assert (received.method, received.target) == ("POST", "/aps/api/v1/mobile/sdkProxy")
    assert received.get("content-type") == "application/json; charset=UTF-8"
    assert received.get("signature").startswith("algorithm=RSA256,keyVersion=1,signature=")
    assert datetime.fromisoformat(received.get("request-time")).tzinfo is not None


@asynccontextmanager
async def connect_proxy() -> AsyncIterator[tuple[int, list[bytes]]]:
    """An HTTP proxy that opens tunnels by CONNECT and keeps what it was asked."""
    asked: list[bytes] = []

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head)
        host, _, port = head.split(b" ")[1].decode().rpartition(":")
        there_reader, there_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(pipe(reader, there_writer), pipe(there_reader, writer), return_exceptions=True)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], asked
    finally:
        server.close()


async def test_a_proxy_is_asked_for_a_tunnel_and_sees_no_request(start: Any) -> None:
    async with connect_proxy() as (port, asked):
        gateway = await start({"alipayplus": {"proxy": f"http://127.0.0.1:{port}"}})
        assert (await gateway.post()).status == 200
        await gateway.http.close()
        assert len(asked) == 1
        assert asked[0].startswith(f"CONNECT 127.0.0.1:{gateway.sim.ports.alipayplus} HTTP/1.1\r\n".encode())
