"""Requests that two readers may read in two ways (faults A1 to A3): the upstream sees no request that the client did not send as one."""

import re

import pytest

from tests.passthrough.rig import StartRig
from tests.upstream.peer import Call, StartPeer, until

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"

REFUSED = {
    # The request line.
    "A1-no-method": b"/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "A1-no-version": b"GET /\r\nHost: a\r\n\r\n",
    "A1-HTTP-0.9": b"GET /\r\n\r\n",
    "A1-HTTP-0.9-said": b"GET / HTTP/0.9\r\nHost: a\r\n\r\n",
    "A1-HTTP-1.2": b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
    "A1-HTTP-2.0": b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    "A1-HTTP-2-preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "A1-HTTP-11.1": b"GET / HTTP/11.1\r\nHost: a\r\n\r\n",
    "A1-version-in-lower-case": b"GET / http/1.1\r\nHost: a\r\n\r\n",
    "A1-another-protocol": b"GET / RTSP/1.1\r\nHost: a\r\n\r\n",
    "A1-two-spaces": b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    "A1-two-spaces-behind": b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
    "A1-tab": b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "A1-space-in-the-target": b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    "A1-space-at-the-end": b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
    "A1-space-before": b" GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "A1-NUL-in-the-target": b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
    "A1-control-character-in-the-target": b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
    "A1-many-blank-lines-before": b"\r\n" * 9 + GET + b"\r\n",
    "A1-LF-before": b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "A1-fragment": b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    # Line ends.
    "A1-bare-LF-behind-the-request-line": b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    "A1-bare-LF-behind-a-field": b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
    "A1-bare-LF-at-the-end": b"GET / HTTP/1.1\r\nHost: a\r\n\n",
    "A1-bare-CR-behind-the-request-line": b"GET / HTTP/1.1\rHost: a\r\n\r\n",
    "A1-bare-CR-in-a-value": GET + b"X: a\rTransfer-Encoding: chunked\r\n\r\n",
    "A1-bare-LF-in-a-value": GET + b"X: a\nTransfer-Encoding: chunked\r\n\r\n",
    # Fields.
    "A1-folded": GET + b"X: a\r\n b\r\n\r\n",
    "A1-folded-with-tab": GET + b"X: a\r\n\tb\r\n\r\n",
    "A1-folded-first": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "A1-folded-framing": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "A1-space-before-the-colon": GET + b"X : a\r\n\r\n",
    "A1-tab-before-the-colon": POST + b"Content-Length\t: 3\r\n\r\nabc",
    "A1-space-in-a-name": GET + b"X Y: a\r\n\r\n",
    "A1-empty-name": GET + b": a\r\n\r\n",
    "A1-no-colon": GET + b"Xa\r\n\r\n",
    "A1-NUL-in-a-name": GET + b"X\x00: a\r\n\r\n",
    "A1-NUL-in-a-value": GET + b"X: a\x00b\r\n\r\n",
    "A1-control-character-in-a-value": GET + b"X: a\x01b\r\n\r\n",
    "A1-vertical-tab-in-a-value": GET + b"X: a\x0bb\r\n\r\n",
    "A1-DEL-in-a-value": GET + b"X: a\x7fb\r\n\r\n",
    "A1-name-beyond-ASCII": GET + b"Transfer\xe2\x80\x90Encoding: chunked\r\n\r\n",
    # Host.
    "A1-no-Host": b"GET / HTTP/1.1\r\n\r\n",
    "A1-two-Hosts": GET + b"Host: b\r\n\r\n",
    "A1-the-same-Host-twice": GET + b"Host: a\r\n\r\n",
    "A1-two-Hosts-in-HTTP-1.0": b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
    "A1-Host-list": b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
    "A1-Host-with-a-path": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "A1-Host-with-userinfo": b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
    "A1-Host-with-a-space": b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    # Content-Length.
    "A2-twice": POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "A2-twice-the-same": POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "A2-list": POST + b"Content-Length: 3, 3\r\n\r\nabc",
    "A2-plus": POST + b"Content-Length: +3\r\n\r\nabc",
    "A2-minus": POST + b"Content-Length: -1\r\n\r\n",
    "A2-hex": POST + b"Content-Length: 0x3\r\n\r\nabc",
    "A2-empty": POST + b"Content-Length:\r\n\r\n",
    "A2-space-within": POST + b"Content-Length: 1 0\r\n\r\nabc",
    "A2-fraction": POST + b"Content-Length: 3.0\r\n\r\nabc",
    "A2-exponent": POST + b"Content-Length: 1e1\r\n\r\nabc",
    "A2-quoted": POST + b'Content-Length: "3"\r\n\r\nabc',
    "A2-underscore": POST + b"Content-Length: 1_0\r\n\r\nabc",
    "A2-other-digits": POST + b"Content-Length: \xd9\xa3\r\n\r\nabc",
    "A2-vertical-tab": POST + b"Content-Length: \x0b3\r\n\r\nabc",
    "A2-over-64-bits": POST + b"Content-Length: 18446744073709551619\r\n\r\nabc",
    "A2-more-digits-than-any-length-has": POST + b"Content-Length: " + b"0" * 20 + b"3\r\n\r\nabc",
    "A2-as-many-zeros": POST + b"Content-Length: " + b"0" * 21 + b"\r\n\r\n",
    "A2-length-then-chunked": POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "A2-chunked-then-length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "A2-length-and-an-empty-coding": POST + b"Transfer-Encoding:\r\nContent-Length: 3\r\n\r\nabc",
    "A2-length-and-another-coding": POST + b"Transfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc",
    # Transfer-Encoding.
    "A3-twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "A3-twice-with-identity": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "A3-chunked-chunked": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "A3-gzip-chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "A3-chunked-gzip": POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "A3-comma-before": POST + b"Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n",
    "A3-comma-behind": POST + b"Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n",
    "A3-identity": POST + b"Transfer-Encoding: identity\r\n\r\n",
    "A3-empty": POST + b"Transfer-Encoding:\r\n\r\n",
    "A3-xchunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "A3-chunkedx": POST + b"Transfer-Encoding: chunkedx\r\n\r\n0\r\n\r\n",
    "A3-quoted": POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "A3-parameter": POST + b"Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    "A3-kelvin-sign": POST + b"Transfer-Encoding: chun\xe2\x84\xaaed\r\n\r\n0\r\n\r\n",
    "A3-vertical-tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "A3-space-behind": POST + b"Transfer-Encoding: chunked \t\r\n\r\n0\r\n\r\n",
    "A3-in-HTTP-1.0": b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "A3-in-HTTP-1.0-kept": b"POST / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    # An upgrade that is none.
    "A15-with-a-body": GET
    + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    + b"Content-Length: 3\r\n\r\nabc",
    "A15-with-chunks": GET
    + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "A15-by-POST": POST
    + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
    "A15-without-a-key": GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n",
    "A15-with-a-bad-key": GET
    + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n\r\n",
    "A15-with-two-keys": GET
    + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    + b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n" * 2
    + b"\r\n",
    "A15-without-a-version": GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
}

BROKEN_CHUNKS = {
    "A3-extension-with-LF": b"1;a\nb\r\nx\r\n0\r\n\r\n",
    "A3-extension-with-CR": b"1;a\rb\r\nx\r\n0\r\n\r\n",
    "A3-extension-with-NUL": b"1;a\x00b\r\nx\r\n0\r\n\r\n",
    "A3-extension-with-a-line-end-in-quotes": b'1;a="b\r\n"\r\nx\r\n0\r\n\r\n',
    "A3-space-behind-the-size": b"1 \r\nx\r\n0\r\n\r\n",
    "A3-space-before-the-size": b" 1\r\nx\r\n0\r\n\r\n",
    "A3-size-0x": b"0x1\r\nx\r\n0\r\n\r\n",
    "A3-size-plus": b"+1\r\nx\r\n0\r\n\r\n",
    "A3-size-minus": b"-1\r\nx\r\n0\r\n\r\n",
    "A3-size-empty": b"\r\nx\r\n0\r\n\r\n",
    "A3-size-with-underscore": b"1_0\r\nxxxxxxxxxxxxxxxx\r\n0\r\n\r\n",
    "A3-size-with-NUL": b"1\x00\r\nx\r\n0\r\n\r\n",
    "A3-size-over-64-bits": b"10000000000000001\r\nx\r\n0\r\n\r\n",
    "A3-bare-LF-behind-the-size": b"1\nx\r\n0\r\n\r\n",
    "A3-bare-CR-behind-the-size": b"1\rx\r\n0\r\n\r\n",
    "A3-bare-LF-behind-the-data": b"1\r\nx\n0\r\n\r\n",
    "A3-nothing-behind-the-data": b"1\r\nx0\r\n\r\n",
    "A3-more-data-than-said": b"1\r\nxyz\r\n0\r\n\r\n",
    "A3-bare-LF-behind-the-last-chunk": b"0\n\n",
    "A3-bare-LF-at-the-end": b"0\r\n\n",
    "A3-trailer-without-colon": b"0\r\nX a\r\n\r\n",
    "A3-trailer-with-LF": b"0\r\nX: a\nY: b\r\n\r\n",
    "A3-trailer-Content-Length": b"0\r\nContent-Length: 5\r\n\r\n",
    "A3-trailer-Transfer-Encoding": b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
}


def test_there_are_enough_cases() -> None:
    assert len(REFUSED) + len(BROKEN_CHUNKS) >= 60


async def record(call: Call) -> None:
    """Keep every byte and answer as often as a plain reader sees a request."""
    answered = 0
    while data := await call.reader.read(65536):
        call.received += data
        seen = len(re.findall(rb"(?:^|\r\n\r\n|0\r\n\r\n)[A-Z]+ /[^ ]* HTTP/1\.1\r\n", call.received))
        ended = seen if b"chunked" not in call.received or b"0\r\n\r\n" in call.received else seen - 1
        for _ in range(ended - answered):
            call.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        answered = max(answered, ended)


@pytest.mark.parametrize("request_bytes", REFUSED.values(), ids=REFUSED)
async def test_the_request_is_refused_and_nothing_behind_it_runs(start_rig: StartRig, start_peer: StartPeer, request_bytes: bytes) -> None:
    peer = await start_peer(record)
    rig = await start_rig(peer.url)
    raw = await rig.raw(request_bytes + SMUGGLED)
    assert raw.startswith(b"HTTP/1.1 400 ")
    assert raw.count(b"HTTP/1.1 ") == 1
    assert b"\r\nConnection: close\r\n" in raw
    assert b'"resultCode":"REQUEST_MALFORMED"' in raw
    assert not peer.calls
    (line,) = await rig.ended()
    assert line["status"] == 400
    assert "smuggled" not in str(line)


async def test_behind_another_request_it_is_refused_as_well(start_rig: StartRig, start_peer: StartPeer) -> None:
    """The one before is answered, however they come: in one write, or one after the other; and so it is behind a body."""
    peer = await start_peer(record)
    rig = await start_rig(peer.url)
    for first in (GET + b"\r\n", POST + b"Content-Length: 4\r\n\r\n\r\n\r\n"):
        for name, request_bytes in REFUSED.items():
            assert re.findall(rb"HTTP/1\.1 ([0-9]+) ", await rig.raw(first + request_bytes + SMUGGLED)) == [b"200", b"400"], name
            client = await rig.connect(first)
            await client.head()
            client.send(request_bytes + SMUGGLED)
            assert re.findall(rb"HTTP/1\.1 ([0-9]+) ", await client.rest()) == [b"400"], name
            client.close()
    assert not any(b"smuggled" in call.received for call in peer.calls)


@pytest.mark.parametrize("chunks", BROKEN_CHUNKS.values(), ids=BROKEN_CHUNKS)
@pytest.mark.parametrize("pieces", [1, 2])
async def test_a_body_with_broken_chunks_never_becomes_a_request(
    start_rig: StartRig, start_peer: StartPeer, chunks: bytes, pieces: int
) -> None:
    peer = await start_peer(record)
    rig = await start_rig(peer.url)
    client = await rig.connect(CHUNKED if pieces == 2 else CHUNKED + chunks + SMUGGLED)
    if pieces == 2:
        await until(lambda: bool(peer.calls and peer.calls[0].received))
        client.send(chunks + SMUGGLED)
    raw = await client.rest()
    assert raw.startswith(b"HTTP/1.1 400 ")
    assert raw.count(b"HTTP/1.1 ") == 1
    for call in peer.calls:
        assert b"smuggled" not in call.received
        assert not call.received.endswith(b"0\r\n\r\n")
    await rig.ended()
    assert len(rig.lines.lines) == 1


PASSED = {
    "blank-line-before": (b"\r\n" + GET + b"\r\n", 1),
    "some-blank-lines-before": (b"\r\n" * 8 + GET + b"\r\n", 1),
    "a-request-as-the-body": (POST + b"Content-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED, 1),
    "A3-chunk-extensions-are-dropped": (CHUNKED + b'1;a=b;c="d;e"\r\nx\r\n0;f\r\n\r\n', 1),
    "A3-chunk-size-with-zeros": (CHUNKED + b"0001\r\nx\r\n00\r\n\r\n", 1),
    "A3-chunk-size-in-either-case": (CHUNKED + b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", 1),
    "A2-length-with-zeros": (POST + b"Content-Length: 00003\r\n\r\nabc", 1),
    "names-that-only-look-like-framing": (POST + b"Content_Length: 100\r\nTransfer_Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc", 1),
    "pipelined": ((GET + b"\r\n") * 3, 3),
    "A15-h2c-is-ignored": (GET + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + SMUGGLED, 1),
    "A15-websocket-in-HTTP-1.0-is-ignored": (b"GET / HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 1),
    "A15-upgrade-that-Connection-does-not-name-is-ignored": (GET + b"Upgrade: websocket\r\n\r\n", 1),
}


@pytest.mark.parametrize(("request_bytes", "count"), PASSED.values(), ids=PASSED)
async def test_what_is_passed_on_is_as_many_requests_as_were_sent(
    start_rig: StartRig, start_peer: StartPeer, request_bytes: bytes, count: int
) -> None:
    peer = await start_peer(record)
    rig = await start_rig(peer.url)
    client = await rig.connect(request_bytes)
    for _ in range(count):
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")
    lines = await rig.ended(count)
    assert len(lines) == count
    received = b"".join(call.received for call in peer.calls)
    assert len(re.findall(rb"X-Request-Id: ", received)) == count
    for call in peer.calls:
        body_lengths = re.findall(rb"\r\nContent-Length: ([0-9]+)\r\n", call.received)
        assert all(str(int(length)).encode() == length for length in body_lengths)


async def test_a_trailer_never_becomes_a_header_of_the_next_request(start_rig: StartRig, start_peer: StartPeer) -> None:
    """aiohttp 3.14 gives the last trailer of a chunked body to the next request of the connection."""
    peer = await start_peer(record)
    rig = await start_rig(peer.url)
    raw = await rig.raw(CHUNKED + b"1\r\nx\r\n0\r\nAuthorization: good\r\n\r\n" + SMUGGLED)
    assert raw.count(b"HTTP/1.1 200 ") == 1
    assert b"Connection: close" in raw
    assert b"smuggled" not in peer.calls[0].received
    assert b"Authorization" not in peer.calls[0].received


@pytest.mark.parametrize("split", range(1, 34))
async def test_a_trailer_never_becomes_a_header_however_it_comes(start_rig: StartRig, start_peer: StartPeer, split: int) -> None:
    peer = await start_peer(record)
    rig = await start_rig(peer.url)
    body = b"1\r\nx\r\n0\r\nAuthorization: good\r\n\r\n"
    client = await rig.connect(CHUNKED + body[:split])
    await until(lambda: bool(peer.calls and peer.calls[0].received))
    client.send(body[split:])
    assert b"Connection: close\r\n" in await client.head()
    assert await client.rest() == b""


@pytest.mark.parametrize(
    ("body", "split"), [(body, split) for body in (b"1\r\nx\r\n0\r\n\r\n", b"0\r\n\r\n") for split in range(len(body))]
)
async def test_a_chunked_body_without_trailers_keeps_the_connection(
    start_rig: StartRig, start_peer: StartPeer, body: bytes, split: int
) -> None:
    peer = await start_peer(record)
    rig = await start_rig(peer.url)
    client = await rig.connect(CHUNKED + body[:split])
    await until(lambda: bool(peer.calls and peer.calls[0].received))
    client.send(body[split:])
    assert b"Connection: close\r\n" not in await client.head()
    client.send(GET + b"\r\n")
    assert (await client.head()).startswith(b"HTTP/1.1 200 ")
