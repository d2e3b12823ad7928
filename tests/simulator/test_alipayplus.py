"""The simulated Alipay+ over TLS: refusals, delivery faults, the script and the record."""

import asyncio
import gzip
import json
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.simulator import Behaviour, Simulator

Sign = Callable[..., bytes]
Send = Callable[[bytes], Awaitable[bytes]]


def parts(answer: bytes) -> tuple[bytes, bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return head, body


def code_of(answer: bytes) -> str:
    code: str = json.loads(json.loads(parts(answer)[1])["result"])["resultCode"]
    return code


@pytest.mark.parametrize(
    ("changed", "code", "signed"),
    [
        ({"headers": {"Client-Id": "T_2"}}, "INVALID_CLIENT", False),
        ({"headers": {"Signature": "algorithm=RSA256,keyVersion=2,signature=AA%3D%3D"}}, "KEY_NOT_FOUND", False),
        ({"signed": b"{}"}, "INVALID_SIGNATURE", True),
        ({"body": b"{}"}, "PARAM_ILLEGAL", True),
        ({"method": "PUT"}, "METHOD_NOT_SUPPORTED", False),
        ({"headers": {"Content-Type": "text/plain"}}, "MEDIA_TYPE_NOT_ACCEPTABLE", False),
        ({"target": "/"}, "INVALID_API", False),
    ],
)
async def test_a_wrong_request_is_refused_and_takes_nothing_from_the_script(
    simulator: Simulator, sign: Sign, send: Send, changed: dict[str, Any], code: str, *, signed: bool
) -> None:
    simulator.alipayplus.script(Behaviour(code="PROCESS_FAIL"))
    answer = await send(sign(**changed))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert code_of(answer) == code
    assert (b"\r\nsignature: " in answer) is (b"\r\nresponse-time: " in answer) is signed
    (entry,) = simulator.alipayplus.received
    assert not entry.verified
    assert (entry.reason or "").startswith(f"{code}: ")
    assert code_of(await send(sign())) == "PROCESS_FAIL"


@pytest.mark.parametrize("drop", ["before_reading", "after_reading", "in_headers", "in_body"])
async def test_a_dropped_connection_is_reset(simulator: Simulator, sign: Sign, send: Send, drop: Any) -> None:
    whole = await send(sign())
    simulator.alipayplus.script(Behaviour(drop=drop))
    with pytest.raises(ConnectionResetError) as raised:
        await send(sign())
    head, body = parts(raised.value.args[0])
    if drop.endswith("reading"):
        assert (head, body) == (b"", b"")
    else:
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert (b"\r\n\r\n" in raised.value.args[0]) is (drop == "in_body")
        assert len(body) < len(parts(whole)[1])
    assert simulator.alipayplus.count == 2
    assert code_of(await send(sign())) == "SUCCESS"


async def test_a_request_dropped_before_reading_has_no_body_in_the_record(simulator: Simulator, sign: Sign, send: Send) -> None:
    simulator.alipayplus.script(Behaviour(drop="before_reading"))
    with pytest.raises(ConnectionResetError):
        await send(sign())
    (entry,) = simulator.alipayplus.received
    assert (entry.body, entry.verified) == (b"", False)


async def test_a_truncated_answer_ends_in_order_before_its_length(simulator: Simulator, sign: Sign, send: Send) -> None:
    simulator.alipayplus.script(Behaviour(framing="truncated"))
    head, body = parts(await send(sign()))
    assert int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]) > len(body) > 0


async def test_a_bad_chunk(simulator: Simulator, sign: Sign, send: Send) -> None:
    simulator.alipayplus.script(Behaviour(framing="bad_chunk"))
    answer = await send(sign())
    assert b"transfer-encoding: chunked" in answer
    assert answer.endswith(b"\r\nnot a size\r\n")


async def test_a_chunked_answer_is_a_right_one(simulator: Simulator, sign: Sign, send: Send) -> None:
    simulator.alipayplus.script(Behaviour(framing="chunked", pieces=3, close="announced"))
    _, body = parts(await send(sign()))
    assert body.endswith(b"\r\n0\r\n\r\n")
    sizes_and_pieces = body.split(b"\r\n")
    assert json.loads(b"".join(sizes_and_pieces[1::2]))["result"]


async def test_extra_bytes_after_the_body(simulator: Simulator, sign: Sign, send: Send) -> None:
    simulator.alipayplus.script(Behaviour(extra="HTTP/1.1 200 OK\r\n\r\n", close="silent", framing="close"))
    assert (await send(sign())).endswith(b"}HTTP/1.1 200 OK\r\n\r\n")


async def test_a_silent_close_is_not_announced(simulator: Simulator, sign: Sign, tls: ssl.SSLContext) -> None:
    simulator.alipayplus.script(Behaviour(close="silent"))
    reader, writer = await asyncio.open_connection("localhost", simulator.alipayplus.port, ssl=tls)
    writer.write(sign())
    answer = await reader.read()
    assert b"connection" not in answer
    assert code_of(answer) == "SUCCESS"
    writer.transport.abort()


async def test_an_answer_in_pieces_pauses_in_the_middle_of_its_body(simulator: Simulator, sign: Sign, tls: ssl.SSLContext) -> None:
    simulator.alipayplus.script(Behaviour(pieces=2, pause=60, text="0123456789"))
    reader, writer = await asyncio.open_connection("localhost", simulator.alipayplus.port, ssl=tls)
    writer.write(sign())
    assert (await reader.read(1 << 16)).endswith(b"\r\n\r\n01234")
    writer.transport.abort()


async def test_an_endless_answer_goes_on_until_its_reader_leaves(simulator: Simulator, sign: Sign, tls: ssl.SSLContext) -> None:
    simulator.alipayplus.script(Behaviour(framing="endless"))
    reader, writer = await asyncio.open_connection("localhost", simulator.alipayplus.port, ssl=tls)
    writer.write(sign())
    await reader.readexactly(3_000_000)
    writer.transport.abort()
    await simulator.alipayplus.until(lambda: simulator.alipayplus.open_connections == 0)


async def test_a_held_answer_waits_for_its_release(simulator: Simulator, sign: Sign, send: Send) -> None:
    simulator.alipayplus.script(Behaviour(hold=True))
    held = asyncio.ensure_future(send(sign()))
    await simulator.alipayplus.until_received(1)
    assert code_of(await send(sign())) == "SUCCESS"
    assert not held.done()
    simulator.alipayplus.release()
    assert code_of(await held) == "SUCCESS"


async def test_a_delayed_answer_does_not_hold_up_others(simulator: Simulator, sign: Sign, send: Send) -> None:
    simulator.alipayplus.script(Behaviour(delay=30))
    late = asyncio.ensure_future(send(sign()))
    await simulator.alipayplus.until_received(1)
    assert code_of(await send(sign())) == "SUCCESS"
    assert not late.done()
    late.cancel()


async def test_a_compressed_giant_is_small_on_the_wire(simulator: Simulator, sign: Sign, send: Send) -> None:
    simulator.alipayplus.script(Behaviour(size=8_000_000, coding="gzip"))
    _, body = parts(await send(sign()))
    assert len(body) < 20_000
    assert len(gzip.decompress(body)) > 8_000_000


async def test_behaviours_come_in_order_and_then_the_default(simulator: Simulator, sign: Sign, send: Send) -> None:
    simulator.alipayplus.script(Behaviour(code="ACCESS_DENIED"), Behaviour(code="PROCESS_FAIL"), times=2)
    codes = [code_of(await send(sign())) for _ in range(5)]
    assert codes == ["ACCESS_DENIED", "PROCESS_FAIL", "ACCESS_DENIED", "PROCESS_FAIL", "SUCCESS"]


async def test_a_default_stays_until_changed(simulator: Simulator, sign: Sign, send: Send) -> None:
    simulator.alipayplus.script(Behaviour(code="PROCESS_FAIL"), times=None)
    assert [code_of(await send(sign())) for _ in range(2)] == ["PROCESS_FAIL"] * 2
    simulator.alipayplus.reset()
    assert code_of(await send(sign())) == "SUCCESS"
    assert simulator.alipayplus.count == 1


async def test_the_record_holds_what_came(simulator: Simulator, sign: Sign, send: Send) -> None:
    data = sign(headers={"X-Odd": "\xe9"})
    await send(data)
    (entry,) = simulator.alipayplus.received
    assert (entry.number, entry.method, entry.target) == (1, "POST", "/aps/api/v1/mobile/sdkProxy")
    assert entry.body == parts(data)[1]
    assert entry.get("x-odd") == "\xe9"
    assert entry.verified
    assert simulator.alipayplus.connections == 1
