"""PROXY headers on real connections, with both loops: from those who must send one and from those who may not, before TLS too."""

import asyncio
import os
import socket
import ssl

import pytest

from gateway.config import ServerTls
from gateway.edge.tls import server_context
from gateway.server.proxy_protocol import V2
from tests.server.rig import PATH, REQUEST, Rig, StartRig
from tests.upstream.certificates import Authority, Pair
from tests.upstream.peer import hold_up

V1_HEADER = b"PROXY TCP4 192.0.2.7 203.0.113.1 56324 443\r\n"
V2_HEADER = V2 + b"\x21\x11\x00\x0c" + bytes([192, 0, 2, 7, 203, 0, 113, 1, 0xDC, 0x04, 0x01, 0xBB])
V2_LOCAL = V2 + b"\x20\x00\x00\x00"
HERE = ["127.0.0.0/8"]


async def refused(rig: Rig, why: str) -> None:
    await rig.until(lambda: rig.rejected("proxy_protocol") == 1)
    await rig.until(lambda: rig.acceptor.open == 0)
    [call] = rig.logged.calls
    assert call.kwargs == {"reason": "proxy_protocol", "why": why, "client": "127.0.0.1"}
    assert rig.lines.lines == []


@pytest.mark.parametrize("header", [pytest.param(V1_HEADER, id="v1"), pytest.param(V2_HEADER, id="v2")])
async def test_the_client_is_the_one_that_a_trusted_proxy_names(start_rig: StartRig, header: bytes) -> None:
    rig = await start_rig(proxies=HERE)
    client = await rig.connect()
    assert (await client.ask(header + REQUEST))["client"] == "192.0.2.7"
    assert (await client.ask())["client"] == "192.0.2.7"
    assert [line["client"] for line in rig.lines.lines] == ["192.0.2.7", "192.0.2.7"]
    client.close()


async def test_requests_that_cannot_be_read_are_logged_under_the_same_client(start_rig: StartRig) -> None:
    rig = await start_rig(proxies=HERE)
    client = await rig.connect()
    client.writer.write(V1_HEADER + b"nonsense\r\n\r\n")
    assert (await client.rest()).startswith(b"HTTP/1.1 400 ")
    assert [line["client"] for line in rig.lines.lines] == ["192.0.2.7"]
    client.close()


@pytest.mark.parametrize("header", [pytest.param(V2_LOCAL, id="v2-LOCAL"), pytest.param(b"PROXY UNKNOWN\r\n", id="v1-UNKNOWN")])
async def test_a_header_that_names_nobody_leaves_the_peer(start_rig: StartRig, header: bytes) -> None:
    rig = await start_rig(proxies=HERE)
    client = await rig.connect()
    assert (await client.ask(header + REQUEST))["client"] == "127.0.0.1"
    client.close()


@pytest.mark.parametrize("header", [pytest.param(V1_HEADER, id="v1"), pytest.param(V2_HEADER, id="v2")])
async def test_a_header_in_single_bytes_is_taken(start_rig: StartRig, header: bytes) -> None:
    rig = await start_rig(proxies=HERE)
    client = await rig.connect()
    client.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in header:
        client.writer.write(bytes([byte]))
        await client.writer.drain()
        await asyncio.sleep(0)
    assert (await client.ask())["client"] == "192.0.2.7"
    client.close()


@pytest.mark.parametrize("header", [pytest.param(V1_HEADER, id="v1"), pytest.param(V2_HEADER, id="v2")])
async def test_tls_follows_the_header(start_rig: StartRig, server_pair: Pair, authority: Authority, header: bytes) -> None:
    context = server_context(ServerTls(certificate=server_pair.certificate, private_key=server_pair.private_key))
    rig = await start_rig(proxies=HERE, tls=context)
    client = await rig.connect()
    client.writer.write(header)
    await client.writer.start_tls(ssl.create_default_context(cafile=authority.ca), server_hostname="localhost")
    assert await client.ask() == {"client": "192.0.2.7", "secure": True, "subject": None, "length": 0}
    client.close()


async def test_a_failed_handshake_is_logged_under_the_client(start_rig: StartRig, server_pair: Pair) -> None:
    context = server_context(ServerTls(certificate=server_pair.certificate, private_key=server_pair.private_key))
    rig = await start_rig(proxies=HERE, tls=context)
    client = await rig.connect()
    client.writer.write(V2_HEADER + REQUEST)
    await client.rest()
    await rig.until(lambda: rig.rejected("tls") == 1)
    assert rig.logged.calls[0].kwargs["client"] == "192.0.2.7"
    client.close()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        pytest.param(REQUEST, "no PROXY header", id="no-header"),
        pytest.param(b"PROXY TCP4 192.0.2.7\r\n" + REQUEST, "a broken PROXY header", id="broken-v1"),
        pytest.param(V2[:-1] + REQUEST, "no PROXY header", id="no-v2"),
        pytest.param(V2 + b"\x31" + V2_HEADER[13:] + REQUEST, "a broken PROXY header", id="broken-v2"),
    ],
)
async def test_a_trusted_proxy_without_a_valid_header_is_refused(start_rig: StartRig, data: bytes, why: str) -> None:
    rig = await start_rig(proxies=HERE)
    client = await rig.connect()
    client.writer.write(data)
    assert await client.rest() == b""
    await refused(rig, why)
    client.close()


@pytest.mark.parametrize("data", [pytest.param(b"", id="nothing"), pytest.param(V2_HEADER[:20], id="half")])
async def test_a_trusted_proxy_that_sends_no_whole_header_is_closed_at_the_deadline(start_rig: StartRig, data: bytes) -> None:
    rig = await start_rig(proxies=HERE, timeout=0.2)
    client = await rig.connect()
    client.writer.write(data)
    assert await client.rest() == b""
    await refused(rig, "no PROXY header in time")
    client.close()


async def test_a_header_that_has_come_in_time_counts_though_the_loop_is_late(start_rig: StartRig) -> None:
    rig = await start_rig(proxies=HERE, timeout=0.2)
    client = await rig.connect()
    await rig.until(lambda: rig.acceptor.open == 1)
    descriptor = client.writer.get_extra_info("socket").fileno()
    await hold_up(0.2, lambda: os.write(descriptor, V1_HEADER + REQUEST))
    assert (await client.answer())["client"] == "192.0.2.7"
    client.close()


async def test_a_connection_that_ends_in_its_header_is_refused(start_rig: StartRig) -> None:
    rig = await start_rig(proxies=HERE)
    client = await rig.connect()
    client.writer.write(V1_HEADER[:10])
    client.writer.write_eof()
    assert await client.rest() == b""
    await refused(rig, "a broken PROXY header")
    client.close()


async def test_health_checks_that_only_connect_are_not_counted(start_rig: StartRig) -> None:
    rig = await start_rig(proxies=HERE)
    client = await rig.connect()
    await rig.until(lambda: rig.acceptor.open == 1)
    client.close()
    await rig.until(lambda: rig.acceptor.open == 0)
    assert rig.rejected("proxy_protocol") == 0
    assert rig.logged.calls == []


@pytest.mark.parametrize("header", [pytest.param(V1_HEADER, id="v1"), pytest.param(V2_HEADER, id="v2")])
@pytest.mark.parametrize("proxies", [pytest.param(["192.0.2.0/24"], id="others-are-trusted"), pytest.param(None, id="not-in-use")])
async def test_G1_a_header_of_somebody_who_is_not_trusted_is_refused(start_rig: StartRig, header: bytes, proxies: list[str] | None) -> None:
    rig = await start_rig(proxies=proxies)
    client = await rig.connect()
    client.writer.write(header + REQUEST)
    assert (await client.rest()).startswith(b"HTTP/1.1 400 ")
    assert rig.rejected("proxy_protocol") == 1
    assert [line["client"] for line in rig.lines.lines] == ["127.0.0.1"]
    client.close()


async def test_those_who_are_not_trusted_are_served_as_who_they_are(start_rig: StartRig) -> None:
    rig = await start_rig(proxies=["192.0.2.0/24"])
    client = await rig.connect()
    assert (await client.ask())["client"] == "127.0.0.1"
    client.close()


async def test_a_header_inside_a_connection_is_no_header(start_rig: StartRig) -> None:
    rig = await start_rig(proxies=HERE)
    client = await rig.connect()
    await client.ask(V1_HEADER + REQUEST)
    client.writer.write(V1_HEADER + REQUEST)
    assert (await client.rest()).startswith(b"HTTP/1.1 400 ")
    client.close()


async def test_the_body_behind_a_header_is_whole(start_rig: StartRig) -> None:
    rig = await start_rig(proxies=HERE)
    client = await rig.connect()
    body = b"y" * 1_000_000
    told = await client.ask(V1_HEADER + f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    assert (told["client"], told["length"]) == ("192.0.2.7", len(body))
    client.close()


async def test_the_end_gives_up_headers_under_way(start_rig: StartRig) -> None:
    rig = await start_rig(proxies=HERE)
    client = await rig.connect()
    await rig.until(lambda: rig.acceptor.open == 1)
    rig.acceptor.close()
    assert await client.rest() == b""
    client.close()
