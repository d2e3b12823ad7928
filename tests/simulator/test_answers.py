"""What each `Behaviour` puts on the wire, read with a raw socket; whether a signature holds is what `gateway.alipayplus` says."""

import asyncio
import gzip
import json
import re
from asyncio.subprocess import PIPE
from base64 import b64decode
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote_to_bytes

import pytest

from gateway.alipayplus.keys import KeyRing, SigningKey, VerificationKey, public_pem
from gateway.alipayplus.results import DOCUMENTED
from gateway.alipayplus.signature import SignatureError
from gateway.simulator import Behaviour, Keys, Simulator
from gateway.simulator.answers import NOT_JSON, sample

Sign = Callable[..., bytes]
Send = Callable[[bytes], Awaitable[bytes]]
Ask = Callable[[Behaviour], Awaitable[tuple[str, dict[str, str], bytes]]]

URI = "/aps/api/v1/mobile/sdkProxy"
HEADER = rb'"a\u2028\"\/"'
DATA = rb'"b%5B+&\ud83d\ude00"'


@pytest.fixture
def ask(simulator: Simulator, send: Send, sign: Sign) -> Ask:
    """Script one answer, send a right request, give status, headers and body."""

    async def asked(behaviour: Behaviour) -> tuple[str, dict[str, str], bytes]:
        simulator.alipayplus.script(behaviour)
        head, _, body = (await send(sign())).partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        return first.split(" ")[1], dict(line.split(": ", 1) for line in lines), body

    return asked


def is_right(ring: KeyRing, headers: dict[str, str], body: bytes) -> bool:
    try:
        ring.verify(URI, headers["response-time"], body, headers["signature"])
    except SignatureError:
        return False
    return True


def result_of(body: bytes) -> dict[str, str]:
    result: dict[str, str] = json.loads(json.loads(body)["result"])
    return result


async def test_the_answer_is_the_specifications_sample_with_lower_case_headers(ask: Ask, ring: KeyRing) -> None:
    status, headers, body = await ask(Behaviour())
    assert status == "200"
    assert list(headers) == ["content-type", "client-id", "response-time", "signature", "content-length"]
    assert headers["content-type"] == "application/json;charset=UTF-8"
    assert headers["client-id"] == ring.client_id
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", headers["response-time"])
    assert json.loads(body) == json.loads(sample("alipayplus-response"))
    assert is_right(ring, headers, body)


async def test_openssl_verifies_the_signature(ask: Ask, keys: Keys, tmp_path: Path) -> None:
    _, headers, body = await ask(Behaviour(strings="echo"))
    algorithm, version, signature = headers["signature"].split(",")
    assert (algorithm, version) == ("algorithm=RSA256", "keyVersion=1")
    files = {
        "text": f"POST {URI}\n{headers['client-id']}.{headers['response-time']}.".encode() + body,
        "signature": b64decode(unquote_to_bytes(signature.removeprefix("signature="))),
        "key.pem": public_pem(keys.alipayplus),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    command = ("openssl", "dgst", "-sha256", "-verify", "key.pem", "-signature", "signature", "text")
    process = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, stdout=PIPE)
    assert (await process.communicate())[0] == b"Verified OK\n"


@pytest.mark.parametrize(("code", "status"), [*DOCUMENTED.items(), ("SOMETHING_NEW", "F")])
async def test_each_code_comes_with_its_status_signed(ask: Ask, ring: KeyRing, code: str, status: str) -> None:
    _, headers, body = await ask(Behaviour(code=code))
    result = result_of(body)
    assert (result["resultCode"], result["resultStatus"]) == (code, status)
    assert ("sdkResponseData" in json.loads(body)) is (status == "S")
    assert is_right(ring, headers, body)


async def test_any_code_status_and_message_can_be_answered(ask: Ask) -> None:
    _, _, body = await ask(Behaviour(code="", status="X", message="m"))
    assert result_of(body) == {"resultCode": "", "resultMessage": "m", "resultStatus": "X"}


@pytest.mark.parametrize(
    ("form", "expected"),
    [("object", {"resultCode": "SUCCESS", "resultMessage": "Success", "resultStatus": "S"}), ("null", None), ("junk", "no result")],
)
async def test_the_result_in_other_forms(ask: Ask, form: Literal["object", "null", "junk"], expected: object) -> None:
    _, _, body = await ask(Behaviour(result_form=form))
    assert json.loads(body)["result"] == expected


async def test_the_result_absent(ask: Ask) -> None:
    _, _, body = await ask(Behaviour(result_form="absent"))
    assert "result" not in json.loads(body)


async def test_an_echo_holds_the_two_strings_byte_for_byte(ask: Ask) -> None:
    _, _, body = await ask(Behaviour(strings="echo"))
    assert body.endswith(b',"sdkResponseHeader":%b,"sdkResponseData":%b}' % (HEADER, DATA))


async def test_no_strings(ask: Ask) -> None:
    _, _, body = await ask(Behaviour(strings="none"))
    assert list(json.loads(body)) == ["result"]


async def test_strings_of_ones_own(ask: Ask) -> None:
    _, _, body = await ask(Behaviour(strings="none", data="\u2028d"))
    assert json.loads(body)["sdkResponseData"] == "\u2028d"
    assert "sdkResponseHeader" not in json.loads(body)


async def test_an_answer_of_a_given_size(ask: Ask, ring: KeyRing) -> None:
    _, headers, body = await ask(Behaviour(size=3_000_000))
    assert 3_000_000 <= len(body) < 3_001_000
    assert is_right(ring, headers, body)


@pytest.mark.parametrize("signed", [True, False])
async def test_no_json_signed_or_not(ask: Ask, ring: KeyRing, *, signed: bool) -> None:
    _, headers, body = await ask(Behaviour(content="not_json", signed=signed))
    assert body == NOT_JSON
    assert ("signature" in headers) is signed
    assert not signed or is_right(ring, headers, body)


async def test_a_byte_order_mark(ask: Ask, ring: KeyRing) -> None:
    _, headers, body = await ask(Behaviour(content="bom"))
    assert body.startswith(b'\xef\xbb\xbf{"result"')
    assert is_right(ring, headers, body)


async def test_invalid_utf8(ask: Ask, ring: KeyRing) -> None:
    _, headers, body = await ask(Behaviour(content="invalid_utf8"))
    with pytest.raises(UnicodeDecodeError):
        body.decode()
    assert is_right(ring, headers, body)


@pytest.mark.parametrize(("field", "value"), [("body", b"[1]"), ("text", "[1]")])
async def test_a_body_of_ones_own(ask: Ask, ring: KeyRing, field: str, value: Any) -> None:
    _, headers, body = await ask(Behaviour(**{field: value}))
    assert body == b"[1]"
    assert is_right(ring, headers, body)


async def test_gzip_after_signing(ask: Ask, ring: KeyRing) -> None:
    _, headers, body = await ask(Behaviour(coding="gzip"))
    assert headers["content-encoding"] == "gzip"
    assert is_right(ring, headers, gzip.decompress(body))


@pytest.mark.parametrize(("http_status", "said"), [(500, "500"), (404, "404"), (101, "101"), (0, "000")])
async def test_another_status_has_an_unsigned_text(ask: Ask, http_status: int, said: str) -> None:
    status, headers, body = await ask(Behaviour(http_status=http_status))
    assert status == said
    assert list(headers) == ["content-type", "content-length"]
    assert body == f"<html><body>{said}</body></html>".encode()


async def test_a_redirect_points_back(ask: Ask) -> None:
    status, headers, _ = await ask(Behaviour(http_status=302))
    assert (status, headers["location"]) == ("302", URI)


async def test_a_redirect_to_elsewhere(ask: Ask) -> None:
    _, headers, _ = await ask(Behaviour(http_status=307, headers=(("Location", "https://example.com/"),)))
    assert "location" not in headers
    assert headers["Location"] == "https://example.com/"


async def test_another_status_can_be_signed(ask: Ask, ring: KeyRing) -> None:
    _, headers, body = await ask(Behaviour(http_status=500, signed=True, text='{"result":""}'))
    assert is_right(ring, headers, body)


async def test_unsigned(ask: Ask) -> None:
    _, headers, _ = await ask(Behaviour(signed=False))
    assert list(headers) == ["content-type", "client-id", "content-length"]


@pytest.mark.parametrize("name", ["client-id", "response-time", "signature", "content-type"])
async def test_headers_can_be_left_out(ask: Ask, name: Literal["client-id", "response-time", "signature", "content-type"]) -> None:
    _, headers, _ = await ask(Behaviour(omit=(name,)))
    assert set(headers) == {"content-type", "client-id", "response-time", "signature", "content-length"} - {name}


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(Behaviour(key="stranger"), id="wrong key"),
        pytest.param(Behaviour(tampered=True), id="tampered"),
        pytest.param(Behaviour(algorithm="RSA512"), id="other algorithm"),
        pytest.param(Behaviour(digest="sha1"), id="sha1"),
        pytest.param(Behaviour(digest="sha512"), id="sha512"),
        pytest.param(Behaviour(signed_path="/other"), id="other path signed"),
        pytest.param(Behaviour(signed_time="2020-01-01T00:00:00Z"), id="other time signed"),
        pytest.param(Behaviour(signed_client_id="T_2"), id="other client id signed"),
        pytest.param(Behaviour(key_version="7"), id="unknown version"),
        pytest.param(Behaviour(signature_form="junk"), id="junk"),
        pytest.param(Behaviour(signature_form="incomplete"), id="incomplete"),
    ],
)
async def test_a_wrong_signature_does_not_hold(ask: Ask, ring: KeyRing, behaviour: Behaviour) -> None:
    _, headers, body = await ask(behaviour)
    assert not is_right(ring, headers, body)
    assert json.loads(body)["sdkResponseData"]


async def test_a_wrong_signature_is_wrong_in_what_it_says_only(ask: Ask, simulator: Simulator, keys: Keys) -> None:
    """The strangers' key, the other path, time and client id make a signature that holds for those."""
    stranger = KeyRing("T_2", SigningKey.of(keys.mpp, "1"), {"7": VerificationKey.of(keys.stranger.public_key())})
    wrong = Behaviour(key="stranger", key_version="7", signed_path="/other", signed_time="then", signed_client_id="T_2")
    _, headers, body = await ask(wrong)
    stranger.verify("/other", "then", body, headers["signature"])


@pytest.mark.parametrize(
    ("form", "pattern"),
    [
        ("spaces", r"algorithm=RSA256 , keyVersion=1,  signature=[\w%]+ *"),
        ("reordered", r"signature=[\w%]+,keyVersion=1,algorithm=RSA256"),
        ("lower_case_escapes", r"algorithm=RSA256,keyVersion=1,signature=(?:[A-Za-z0-9]|%2b|%2f|%3d)+"),
        ("raw", r"algorithm=RSA256,keyVersion=1,signature=[A-Za-z0-9+/]+=="),
    ],
)
async def test_other_forms_of_the_header_hold(ask: Ask, ring: KeyRing, form: Any, pattern: str) -> None:
    _, headers, body = await ask(Behaviour(signature_form=form))
    assert re.fullmatch(pattern, headers["signature"].strip())
    assert is_right(ring, headers, body)


async def test_another_client_id_in_the_header(ask: Ask, ring: KeyRing) -> None:
    _, headers, body = await ask(Behaviour(client_id="T_2"))
    assert headers["client-id"] == "T_2"
    assert is_right(ring, headers, body)


async def test_a_response_time_of_ones_own_is_signed(ask: Ask, ring: KeyRing) -> None:
    _, headers, body = await ask(Behaviour(response_time="1559016732000"))
    assert headers["response-time"] == "1559016732000"
    assert is_right(ring, headers, body)
