"""Upgrades on the SDK path are ignored, and nothing behind them runs (faults A15)."""

from typing import Any

import pytest

PATH = b"/alipayplus/v1/sdkProxy"
SMUGGLED = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx" % PATH
UPGRADES = {
    "A15-websocket": b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
    "A15-websocket-with-a-bad-key": b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n",
    "A15-h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    "A15-another-protocol": b"Connection: upgrade\r\nUpgrade: x/1\r\n",
}


@pytest.mark.parametrize("fields", UPGRADES.values(), ids=UPGRADES)
@pytest.mark.parametrize("framing", [b"Content-Length: 3\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"])
async def test_A15_an_upgrade_is_ignored_and_nothing_behind_it_runs(start_edge: Any, fields: bytes, framing: bytes) -> None:
    edge = await start_edge()
    raw = await edge.raw(b"POST %b HTTP/1.1\r\nHost: a\r\n" % PATH + fields + framing + SMUGGLED)
    assert raw.startswith(b"HTTP/1.1 200 ")
    assert raw.endswith(b'{"length":3}')
    assert raw.count(b"HTTP/1.1 ") == 1
    assert b"\r\nConnection: close\r\n" in raw
    assert len(edge.lines.lines) == 1
