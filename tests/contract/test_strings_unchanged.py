"""The SDK's two strings go both ways unchanged, byte for byte (protocol section 5, architecture decision 1)."""

import json
from pathlib import Path
from typing import Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.alipayplus.messages import ABSENT, decode_response, decode_strict, encode_request, is_json_string

RESULT: Final = rb'"{\"resultCode\":\"SUCCESS\",\"resultStatus\":\"S\"}"'


class App(msgspec.Struct):
    proxyRequestHeader: msgspec.Raw = ABSENT  # noqa: N815 - the contract's name
    proxyRequestData: msgspec.Raw = ABSENT  # noqa: N815 - the contract's name


DECODER: Final = msgspec.json.Decoder(App)
SHORT: Final = {"\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\", "/": "\\/"}


def escaped(character: str, upper: bool) -> str:  # noqa: FBT001 - drawn
    units = character.encode("utf-16-be")
    return "".join(
        "\\u" + (f"{units[at] << 8 | units[at + 1]:04X}" if upper else units[at : at + 2].hex()) for at in range(0, len(units), 2)
    )


@st.composite
def written_strings(draw: st.DrawFn) -> tuple[str, bytes]:
    """A string, and one of the ways in which JSON can write it: each character plain, by its short escape, or as \\uXXXX in either case."""
    text = draw(
        st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('"\\/\u2028\u2029\u0000\u001f\u007f😀\U0010ffff'), max_size=40)
    )
    forms = draw(st.lists(st.integers(0, 3), min_size=len(text), max_size=len(text)))
    return text, ('"' + "".join(map(written, text, forms)) + '"').encode()


def written(character: str, form: int) -> str:
    if form == 1 and character in SHORT:
        return SHORT[character]
    if form > 1 or character < " " or character in '"\\':
        return escaped(character, form == 2)
    return character


SPACE: Final = st.text(" \t\r\n", max_size=3).map(str.encode)
Written = tuple[str, bytes]


def way_out(header: bytes, data: bytes, space: bytes = b"") -> bytes:
    body = b"".join((b'{"proxyRequestHeader"', space, b":", space, header, space, b',"proxyRequestData":', data, space, b"}"))
    app = decode_strict(body, DECODER)
    assert is_json_string(app.proxyRequestHeader)
    assert is_json_string(app.proxyRequestData)
    return encode_request(app.proxyRequestHeader, app.proxyRequestData, "id")


@given(header=written_strings(), data=written_strings(), space=SPACE)
def test_any_two_strings_reach_alipayplus_unchanged(header: Written, data: Written, space: bytes) -> None:
    sent = way_out(header[1], data[1], space)
    assert sent == b'{"sdkRequestHeader":%b,"sdkRequestData":%b,"customerId":"id"}' % (header[1], data[1])
    assert json.loads(sent) == {"sdkRequestHeader": header[0], "sdkRequestData": data[0], "customerId": "id"}


@given(header=written_strings(), data=written_strings(), space=SPACE)
def test_any_two_strings_come_back_unchanged(header: Written, data: Written, space: bytes) -> None:
    body = b"".join(
        (b'{"sdkResponseHeader":', space, header[1], space, b',"result":', RESULT, b',"sdkResponseData":', data[1], space, b"}")
    )
    response = decode_response(body)
    assert (response.header, response.data) == (header[1], data[1])
    assert json.loads(response.data or b"") == data[0]


@pytest.mark.parametrize("unit", ["x", "%5B+&", '\\"', "\\u2028", "\u2028", "\\ud83d\\udcb3", "\U0001f4b3", "\\\\"])
def test_a_string_of_1_MiB_goes_both_ways_unchanged(unit: str) -> None:
    text = f'"{unit * ((1 << 20) // len(unit.encode()))}"'.encode()
    assert text in way_out(text, b'""')
    assert decode_response(b'{"result":%b,"sdkResponseData":%b}' % (RESULT, text)).data == text


def test_naughty_strings_go_both_ways_unchanged(corpora: Path) -> None:
    naughty = json.loads((corpora / "blns" / "blns.json").read_bytes())
    assert len(naughty) > 500
    for string in naughty:
        for text in (json.dumps(string).encode(), json.dumps(string, ensure_ascii=False).encode()):
            sent = way_out(text, text)
            assert sent == b'{"sdkRequestHeader":%b,"sdkRequestData":%b,"customerId":"id"}' % (text, text)
            assert json.loads(sent)["sdkRequestData"] == string
            response = decode_response(b'{"result":%b,"sdkResponseHeader":%b,"sdkResponseData":%b}' % (RESULT, text, text))
            assert (response.header, response.data) == (text, text)


def test_naughty_strings_are_customer_ids_as_they_are(corpora: Path) -> None:
    for string in json.loads((corpora / "blns" / "blns.json").read_bytes()):
        assert json.loads(encode_request(b'""', b'""', string))["customerId"] == string


def test_the_samples_of_the_specification_go_both_ways(samples: Path) -> None:
    app, request, answer = (
        (samples / f"{name}.json").read_bytes() for name in ("app-request", "alipayplus-request", "alipayplus-response")
    )
    decoded = decode_strict(app, DECODER)
    customer_id = json.loads(request)["customerId"]
    assert json.loads(encode_request(decoded.proxyRequestHeader, decoded.proxyRequestData, customer_id)) == json.loads(request)
    response = decode_response(answer)
    assert (response.result.code, response.result.status, response.result.message) == ("SUCCESS", "S", "Success")
    assert response.data is not None
    assert response.data in answer
    assert json.loads(response.data) == json.loads(answer)["sdkResponseData"]
    assert json.loads(response.header or b"") == json.loads(answer)["sdkResponseHeader"]
