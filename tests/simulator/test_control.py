"""The script and the record over HTTP."""

import asyncio
import json
from base64 import b64encode
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from gateway.simulator import Behaviour, Simulator

Sign = Callable[..., bytes]
Send = Callable[[bytes], Awaitable[bytes]]
Control = Callable[..., Awaitable[tuple[int, Any]]]


@pytest.fixture
def control(simulator: Simulator, http: aiohttp.ClientSession) -> Control:
    async def ask(method: str, path: str, document: Any = None) -> tuple[int, Any]:
        url = f"https://localhost:{simulator.alipayplus.port}/_simulator/{path}"
        async with http.request(method, url, data=None if document is None else json.dumps(document)) as response:
            return response.status, await response.json()

    return ask


def code_of(answer: bytes) -> str:
    code: str = json.loads(json.loads(answer.partition(b"\r\n\r\n")[2])["result"])["resultCode"]
    return code


async def test_one_behaviour_is_scripted_for_the_next_call(control: Control, sign: Sign, send: Send) -> None:
    assert await control("POST", "script", {"code": "PROCESS_FAIL"}) == (200, {"scripted": 1})
    assert [code_of(await send(sign())) for _ in range(2)] == ["PROCESS_FAIL", "SUCCESS"]


async def test_several_are_scripted_in_order(control: Control, sign: Sign, send: Send) -> None:
    assert await control("POST", "script?times=2", [{"code": "A"}, {"code": "B"}]) == (200, {"scripted": 2})
    assert [code_of(await send(sign())) for _ in range(5)] == ["A", "B", "A", "B", "SUCCESS"]


async def test_one_behaviour_can_stay(control: Control, sign: Sign, send: Send) -> None:
    await control("POST", "script?times=always", {"code": "PROCESS_FAIL"})
    assert [code_of(await send(sign())) for _ in range(2)] == ["PROCESS_FAIL"] * 2


async def test_the_script_can_be_read_and_forgotten(control: Control, simulator: Simulator) -> None:
    simulator.alipayplus.script(Behaviour(status="U", delay=0.5), Behaviour(omit=("signature",), headers=(("a", "b"),)))
    shown = {"default": {}, "queue": [{"delay": 0.5, "status": "U"}, {"omit": ["signature"], "headers": [["a", "b"]]}]}
    assert await control("GET", "script") == (200, shown)
    assert await control("DELETE", "script") == (200, {})
    assert await control("GET", "script") == (200, {"default": {}, "queue": []})


async def test_what_is_read_can_be_scripted_again(control: Control, simulator: Simulator) -> None:
    every = Behaviour(code="X", body=b"\xff", drop="in_body", framing="chunked", hold=True, signature_form="raw", signed=False)
    simulator.alipayplus.script(every)
    _, shown = await control("GET", "script")
    await control("POST", "script", shown["queue"])
    assert list(simulator.alipayplus.scripted.queue) == [every, every]


@pytest.mark.parametrize(
    ("path", "document", "says"),
    [
        ("script", {"cod": "X"}, "unknown field `cod`"),
        ("script", {"framing": "odd"}, "Invalid enum value 'odd'"),
        ("script", [{"delay": "x"}], "Expected `float`"),
        ("script", {"headers": [["x", "\u2028"]]}, "`$.headers[0][1]`"),
        ("script", {"key_version": "\u2028"}, "`$.key_version`"),
        ("script", {"http_status": 1000}, "`int` <= 999"),
        ("script", {"delay": -1}, "`float` >= 0"),
        ("script", {"delay": 1e300}, "`float` <= 86400"),
        ("script", {"pieces": 0}, "`int` >= 1"),
        ("script", {"size": 1 << 40}, "`int` <= 67108864"),
        ("script?times=x", {}, "times is a number"),
        ("script?times=0", {}, "times is a number"),
        ("script?times=1&times=2", {}, "times is a number"),
        ("script?time=2", {}, "nothing else can be asked"),
        ("script?times=always", [{}, {}], "times=always takes one behaviour"),
        ("script?times=999999", [{}, {}], "at most 999999 behaviours"),
        ("nonsense", {}, "/_simulator/script"),
    ],
)
async def test_what_is_not_understood_is_400_and_says_why(
    control: Control, simulator: Simulator, path: str, document: Any, says: str
) -> None:
    status, answer = await control("POST", path, document)
    assert status == 400
    assert says in answer["error"]
    assert not simulator.alipayplus.scripted.queue


async def test_what_is_no_text_is_400(simulator: Simulator, http: aiohttp.ClientSession) -> None:
    async with http.post(f"http://localhost:{simulator.auth.port}/_simulator/script", data=b'{"text":"\xff"}') as response:
        assert (response.status, await response.json()) == (400, {"error": "not UTF-8"})


@pytest.mark.parametrize("wrong", [{"status": -1}, {"customer_id": "\u5ba2"}, {"headers": [["a", "\u5ba2"]]}])
async def test_what_the_auth_service_cannot_answer_is_400(simulator: Simulator, http: aiohttp.ClientSession, wrong: dict[str, Any]) -> None:
    async with http.post(f"http://localhost:{simulator.auth.port}/_simulator/script", json=wrong) as response:
        assert response.status == 400
        assert f"`$.{next(iter(wrong))}" in (await response.json())["error"]


async def test_the_record_is_read_and_forgotten(control: Control, sign: Sign, send: Send) -> None:
    right, wrong = sign(), sign(signed=b"")
    await send(right)
    await send(wrong)
    status, record = await control("GET", "received")
    assert (status, record["count"]) == (200, 2)
    first, second = record["received"]
    body = right.partition(b"\r\n\r\n")[2]
    assert (first["number"], first["method"], first["verified"], first["reason"]) == (1, "POST", True, None)
    assert (first["body"], first["body_base64"]) == (body.decode(), b64encode(body).decode())
    assert ["Client-Id", "T_000000000000000001"] in first["headers"]
    assert (second["verified"], second["reason"]) == (False, "INVALID_SIGNATURE: the signature is wrong")
    assert await control("DELETE", "received") == (200, {})
    assert await control("GET", "received") == (200, {"count": 0, "received": []})


async def test_a_body_that_is_no_text_is_shown_in_base64(control: Control, sign: Sign, send: Send) -> None:
    await send(sign(body=b"\xff"))
    _, record = await control("GET", "received")
    assert (record["received"][0]["body"], record["received"][0]["body_base64"]) == (None, "/w==")


async def test_control_requests_are_not_recorded_and_take_nothing(control: Control, simulator: Simulator) -> None:
    simulator.alipayplus.script(Behaviour(drop="before_reading"))
    await control("GET", "received")
    assert simulator.alipayplus.count == 0
    assert len(simulator.alipayplus.scripted.queue) == 1


async def test_held_answers_are_released(control: Control, simulator: Simulator, sign: Sign, send: Send) -> None:
    simulator.alipayplus.script(Behaviour(hold=True))
    held = asyncio.ensure_future(send(sign()))
    await simulator.alipayplus.until_received(1)
    assert await control("POST", "release") == (200, {})
    assert code_of(await held) == "SUCCESS"


async def test_the_auth_service_is_scripted_in_the_same_way(simulator: Simulator, http: aiohttp.ClientSession) -> None:
    base = f"http://localhost:{simulator.auth.port}"
    async with http.post(f"{base}/_simulator/script", json={"status": 503, "text": "down"}) as response:
        assert response.status == 200
    async with http.get(f"{base}/session") as response:
        assert (response.status, await response.text()) == (503, "down")
    async with http.get(f"{base}/_simulator/received") as response:
        assert (await response.json())["count"] == 1
