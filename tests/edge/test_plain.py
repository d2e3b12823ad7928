"""What is read without the parser is what the parser reads, and nothing that may be read in two ways (faults A1 to A4)."""

import asyncio
from collections.abc import Iterator
from typing import Any, cast

import msgspec
import pytest
from aiohttp import HttpVersion11
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.edge.incoming import Incoming
from gateway.edge.plain import LINE_KEPT, PlainRequest, _known_line, plain_request
from gateway.edge.request import Request
from gateway.edge.strictness import check_framing
from tests.passthrough.test_smuggling import REFUSED

MOST = 2048
GET = b"GET /api/balance?of=anna HTTP/1.1\r\nHost: a\r\n"
POST = b"POST /alipayplus/v1/sdkProxy HTTP/1.1\r\nHost: Wallet.example:8080\r\nContent-Type: application/json; charset=UTF-8\r\n"
CALL = POST + b"Content-Length: 3\r\n\r\nabc"


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def parsed(data: bytes, loop: asyncio.AbstractEventLoop) -> tuple[Request, Incoming]:
    """Return the one request that the parser finds in `data`."""
    protocol = BaseProtocol(loop)
    parser = HttpRequestParser(protocol, loop, 2**16, max_line_size=MOST, max_field_size=MOST, max_headers=200)
    protocol._parser = parser
    incoming = Incoming(parser, MOST)
    [begun] = incoming.read(data, 8)
    assert not isinstance(begun, Exception)
    return Request.of(*begun, cast("Any", None)), incoming  # nobody asks for its connection


def taken(data: bytes, loop: asyncio.AbstractEventLoop) -> PlainRequest | None:
    """Return what is read of `data` without the parser; what that is, the parser has read, too."""
    plain = plain_request(data, MOST)
    if plain is None:
        return None
    line, fields = plain.line, plain.fields
    request, incoming = parsed(data + b"x" * plain.missing, loop)
    check_framing(request)
    assert (line.method, line.raw_path, fields.raw_headers) == (request.method, request.raw_path, request.raw_headers)
    assert (request.version, request.keep_alive, request.upgrade, request.chunked) == (line.version, not plain.is_last, False, False)
    assert (request.content.is_eof(), request.content.total_bytes) == (True, fields.size)
    assert request.headers.getall("Host") == [request.headers["Host"]]
    assert fields.host == request.headers["Host"].lower()
    assert [fields.content_type] == [value.lower() for value in request.headers.getall("Content-Type", [""])]
    assert "Content-Encoding" not in request.headers
    assert "Expect" not in request.headers
    incoming.forget(request.content)
    assert incoming.is_between, "nothing is left over"
    return plain


def test_a_call_is_read_whole(loop: asyncio.AbstractEventLoop) -> None:
    plain = taken(CALL, loop)
    assert plain is not None
    assert (plain.line.version, plain.is_last) == (HttpVersion11, False)
    assert (plain.line.method, plain.line.raw_path, plain.fields.size) == ("POST", "/alipayplus/v1/sdkProxy", 3)
    assert (plain.fields.host, plain.fields.content_type) == ("wallet.example:8080", "application/json; charset=utf-8")


@pytest.mark.parametrize(
    "data",
    [
        GET + b"\r\n",
        GET + b"Connection: Keep-Alive\r\nAccept: */*\r\nX-Empty:\r\n\r\n",
        GET + b'Cookie: a=b; c="d"\r\nX:\t tabs \t\r\nX: twice\r\n\r\n',
        GET.replace(b"GET", b"DELETE") + b"Content-Length: 0\r\n\r\n",
        GET + b"Connection: Close\r\n\r\n",
        GET.replace(b"/1.1", b"/1.0") + b"connection: close\r\n\r\n",
        CALL.replace(b"/1.1", b"/1.0"),
        POST + b"\r\n",
        POST + b"Content-Length: 21\r\n\r\n" + b"\r\nX-Request-Id: abc\r\n",
        POST + b"X-Forwarded-For: 203.0.113.9\r\nContent-Length: 10\r\n\r\n\r\n\r\n\r\n0\r\n\r\n"[:-1],
    ],
)
def test_what_is_usual_is_taken(data: bytes, loop: asyncio.AbstractEventLoop) -> None:
    assert taken(data, loop) is not None


def test_a_line_of_any_length_is_read(loop: asyncio.AbstractEventLoop) -> None:
    for length in (1, LINE_KEPT, MOST - 50):
        plain = taken(b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"x" * length), loop)
        assert plain is not None
        assert plain.line.raw_path == "/" + "x" * length


def test_of_a_query_nothing_is_remembered() -> None:
    before = _known_line.cache_info()
    assert plain_request(GET + b"\r\n", MOST) is not None
    assert b"?" in GET
    assert _known_line.cache_info() == before


def test_fields_that_are_known_are_not_read_again() -> None:
    first = plain_request(CALL, MOST)
    assert first is not None
    again = plain_request(CALL.replace(b"/v1/", b"/v2/"), MOST, first.fields)
    assert again is not None
    assert again.fields is first.fields
    assert (again.line.raw_path, again.missing, again.is_last) == ("/alipayplus/v2/sdkProxy", 0, False)


@pytest.mark.parametrize(
    "data",
    [
        CALL.replace(b": 3", b": 2")[:-1],
        CALL[:-1],
        CALL + b"d",
        CALL.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
        CALL.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"),
        CALL.replace(b"Host", b"HOST"),
        CALL.replace(b"/1.1", b"/1.0"),
        CALL.replace(b"POST", b"PURGE"),
        GET + b"\r\n",
    ],
)
def test_what_is_known_changes_nothing_of_what_is_read(data: bytes) -> None:
    first = plain_request(CALL, MOST)
    assert first is not None
    anew, known = plain_request(data, MOST), plain_request(data, MOST, first.fields)
    assert msgspec.to_builtins(anew) == msgspec.to_builtins(known)


@pytest.mark.parametrize("come", [0, 1, 2, 3])
def test_what_is_missing_of_a_body_is_told(loop: asyncio.AbstractEventLoop, come: int) -> None:
    plain = taken(CALL[: len(CALL) - 3 + come], loop)
    assert plain is not None
    assert (plain.fields.size, plain.missing) == (3, 3 - come)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n\r\n",
        CALL[:40],
        CALL[: len(POST)],
        CALL.replace(b": 3", b": 9999999999999999999"),
        CALL + b"x",
        CALL + CALL,
        GET + b"\r\n" + GET + b"\r\n",
        b"\r\n" + CALL,
        CALL.replace(b"POST", b"HEAD"),
        CALL.replace(b"POST", b"PURGE"),
        CALL.replace(b"/1.1", b"/1.2"),
        CALL.replace(b"/1.1", b"/2.0"),
        CALL.replace(b"/alipayplus", b"http://a/alipayplus"),
        CALL.replace(b": 3", b": 03"),
        CALL.replace(b": 3", b": 3 "),
        CALL.replace(b"Wallet.example:8080", b"[::1]"),
        CALL.replace(b"Wallet.example:8080", b""),
        CALL.replace(b"charset", b"\xe9"),
        CALL.replace(b"UTF-8", b"UTF-8 "),
        *(
            GET + field + b"\r\n\r\n"
            for field in (b"Expect: 100-continue", b"Connection: close, x", b"Connection: x", b"Upgrade: websocket")
        ),
        *(GET + b"Connection: %b\r\nConnection: %b\r\n\r\n" % both for both in ((b"close", b"close"), (b"keep-alive", b"close"))),
        GET.replace(b"/1.1", b"/1.0") + b"Connection: keep-alive\r\n\r\n",
        *(
            GET + field + b"\r\n\r\n"
            for field in (b"Proxy-Connection: close", b"Content-Encoding: br", b"Content-Type: a\r\nContent-Type: a")
        ),
        *(
            GET + b"%b: a\r\n%b: a\r\n\r\n" % (name, name)
            for name in (b"User-Agent", b"Content-Location", b"Content-Range", b"ETag", b"Max-Forwards", b"Server")
        ),
        GET + b"Sec-WebSocket-Key1: a\r\n\r\n",
        GET + b"X: %s\r\n\r\n" % (b"x" * MOST),
        GET + b"X: y\r\n" * 100 + b"\r\n",
    ],
)
def test_all_else_is_left_to_the_parser(data: bytes) -> None:
    assert plain_request(data, MOST) is None


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_nothing_that_may_be_read_in_two_ways_is_taken(data: bytes) -> None:
    assert plain_request(data, MOST) is None


_NAMES = (
    "Host",
    "Content-Length",
    "Transfer-Encoding",
    "Connection",
    "Content-Type",
    "Expect",
    "Upgrade",
    "X-Any",
    "content-length",
    "User-Agent",
)
_VALUES = ("0", "3", "4", "a", "keep-alive", "close", "chunked", "application/json", "3\nX: a", "a\rb", "é", "a\r\n b", "")
_SEPARATORS = (": ", ":", ":\t", " : ", "\r\n: ")
_FIELD = st.tuples(st.sampled_from(_NAMES), st.sampled_from(_SEPARATORS), st.sampled_from(_VALUES)).map("".join).map(str.encode)
_CHANGE = st.tuples(
    st.integers(0, 200), st.integers(0, 2), st.sampled_from([b"\r", b"\n", b"\r\n", b"\0", b" ", b"\t", b":", b",", b"0", b"\xff"])
)


def _changed(data: bytes, change: tuple[int, int, bytes]) -> bytes:
    place, removed, put = change
    place %= len(data) + 1
    return data[:place] + put + data[place + removed :]


@given(
    start=st.sampled_from([GET, POST, CALL[:-7], GET.replace(b"Host: a\r\n", b""), POST.replace(b"/1.1", b"/1.0")]),
    fields=st.lists(_FIELD, max_size=3),
    body=st.sampled_from([b"", b"abc", b"0\r\n\r\n", b"abcd", GET + b"\r\n"]),
    changes=st.lists(_CHANGE, max_size=2),
)
@example(start=GET, fields=[], body=b"", changes=[])
def test_what_is_taken_is_what_the_parser_reads(
    start: bytes, fields: list[bytes], body: bytes, changes: list[tuple[int, int, bytes]], loop: asyncio.AbstractEventLoop
) -> None:
    data = b"".join([start, *(field + b"\r\n" for field in fields), b"\r\n", body])
    former = plain_request(data, MOST)
    for change in changes:
        data = _changed(data, change)
    plain = taken(data, loop)
    known = plain_request(data, MOST, former.fields if former is not None else None)
    assert msgspec.to_builtins(known) == msgspec.to_builtins(plain)
