"""PROXY headers: the examples of the specification, every place at which one may be cut, and everything that is none."""

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.server.proxy_protocol import V1_MAX, V2, V2_MAX, Header, HeaderInvalid, parse

PORTS = st.integers(0, 65535)


def v2(command: int, family: int, addresses: bytes, *, length: int | None = None) -> bytes:
    return V2 + struct.pack(">BBH", command, family, len(addresses) if length is None else length) + addresses


def inet(client: str, port: int = 56324) -> bytes:
    return IPv4Address(client).packed + IPv4Address("203.0.113.1").packed + struct.pack(">HH", port, 443)


def inet6(client: str) -> bytes:
    return IPv6Address(client).packed + IPv6Address("2001:db8::1").packed + struct.pack(">HH", 56324, 443)


GOOD = [
    pytest.param(b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255", id="v1-longest-TCP4"),
    pytest.param(b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", "192.168.0.1", id="v1-TCP4"),
    pytest.param(b"PROXY TCP4 192.168.0.1 192.168.0.11 0 0\r\n", "192.168.0.1", id="v1-port-0"),
    pytest.param(
        b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        id="v1-longest-TCP6",
    ),
    pytest.param(b"PROXY TCP6 2001:DB8::7 ::1 1 2\r\n", "2001:db8::7", id="v1-TCP6"),
    pytest.param(b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:192.0.2.1 1 2\r\n", "192.0.2.7", id="v1-TCP6-of-IPv4"),
    pytest.param(b"PROXY TCP6 ::FFFF:c000:207 ::1 1 2\r\n", "192.0.2.7", id="v1-TCP6-of-IPv4-in-hex"),
    pytest.param(b"PROXY UNKNOWN\r\n", None, id="v1-UNKNOWN"),
    pytest.param(b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None, id="v1-UNKNOWN-with-more"),
    pytest.param(v2(0x21, 0x11, inet("192.0.2.7")), "192.0.2.7", id="v2-TCP4"),
    pytest.param(v2(0x21, 0x21, inet6("2001:db8::7")), "2001:db8::7", id="v2-TCP6"),
    pytest.param(v2(0x21, 0x21, inet6("::ffff:192.0.2.7")), "192.0.2.7", id="v2-TCP6-of-IPv4"),
    pytest.param(v2(0x21, 0x11, inet("192.0.2.7") + b"\x04\x00\x03abc"), "192.0.2.7", id="v2-TLV"),
    pytest.param(v2(0x21, 0x31, b"/run/a".ljust(108, b"\0") + b"/run/b".ljust(108, b"\0")), None, id="v2-unix"),
    pytest.param(v2(0x21, 0x00, b""), None, id="v2-UNSPEC"),
    pytest.param(v2(0x21, 0x00, b"anything"), None, id="v2-UNSPEC-with-more"),
    pytest.param(v2(0x20, 0x00, b""), None, id="v2-LOCAL"),
    pytest.param(v2(0x20, 0x11, inet("192.0.2.7")), None, id="v2-LOCAL-with-addresses"),
    pytest.param(v2(0x20, 0xFF, b"x"), None, id="v2-LOCAL-of-no-family"),
    pytest.param(v2(0x21, 0x11, inet("192.0.2.7").ljust(V2_MAX - 16, b"\0")), "192.0.2.7", id="v2-longest"),
]
BAD = [
    pytest.param(b"GET / HTTP/1.1\r\n", id="HTTP"),
    pytest.param(b"\x16\x03\x01", id="TLS"),
    pytest.param(b"proxy TCP4 1.1.1.1 1.1.1.1 1 1\r\n", id="v1-lower-case"),
    pytest.param(b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\n\r\n", id="v1-bare-LF"),
    pytest.param(b"PROXY TCP4  1.1.1.1 1.1.1.1 1 1\r\n", id="v1-two-spaces"),
    pytest.param(b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1 \r\n", id="v1-space-at-the-end"),
    pytest.param(b"PROXY TCP4 1.1.1.1 1.1.1.1 1\r\n", id="v1-no-port"),
    pytest.param(b"PROXY TCP4 1.1.1.1 1.1.1.1 01 1\r\n", id="v1-leading-zero"),
    pytest.param(b"PROXY TCP4 1.1.1.1 1.1.1.1 65536 1\r\n", id="v1-port-too-large"),
    pytest.param(b"PROXY TCP4 1.1.1.256 1.1.1.1 1 1\r\n", id="v1-no-address"),
    pytest.param(b"PROXY TCP4 1.1.1.01 1.1.1.1 1 1\r\n", id="v1-address-with-leading-zero"),
    pytest.param(b"PROXY TCP4 ::1 ::1 1 1\r\n", id="v1-other-family"),
    pytest.param(b"PROXY TCP6 1.1.1.1 1.1.1.1 1 1\r\n", id="v1-other-family-6"),
    pytest.param(b"PROXY UDP4 1.1.1.1 1.1.1.1 1 1\r\n", id="v1-UDP"),
    pytest.param(b"PROXY UNKNOWNX\r\n", id="v1-UNKNOWNX"),
    pytest.param(b"PROXY " + b"x" * V1_MAX, id="v1-endless"),
    pytest.param(b"PROXY UNKNOWN " + b"x" * (V1_MAX - 15) + b"\r\n", id="v1-one-byte-too-long"),
    pytest.param(v2(0x11, 0x11, inet("192.0.2.7")), id="v2-version-1"),
    pytest.param(v2(0x22, 0x11, inet("192.0.2.7")), id="v2-unknown-command"),
    pytest.param(v2(0x21, 0x41, inet("192.0.2.7")), id="v2-unknown-family"),
    pytest.param(v2(0x21, 0x12, inet("192.0.2.7")), id="v2-datagram"),
    pytest.param(v2(0x21, 0x10, inet("192.0.2.7")), id="v2-no-transport"),
    pytest.param(v2(0x21, 0x11, inet("192.0.2.7")[:-1]), id="v2-short-TCP4"),
    pytest.param(v2(0x21, 0x21, inet("192.0.2.7")), id="v2-short-TCP6"),
    pytest.param(v2(0x21, 0x31, b"/run/a"), id="v2-short-unix"),
    pytest.param(v2(0x21, 0x11, b"", length=V2_MAX), id="v2-too-long"),
    pytest.param(V2[:-1] + b"\x0b" + v2(0x21, 0x11, inet("192.0.2.7"))[12:], id="v2-other-signature"),
]


@pytest.mark.parametrize(("data", "client"), GOOD)
def test_a_header_is_read_wherever_it_is_cut_and_whatever_follows(data: bytes, client: str | None) -> None:
    assert [parse(data[:size]) for size in range(len(data))] == [None] * len(data)
    assert parse(data) == Header(len(data), client)
    assert parse(data + b"GET / HTTP/1.1\r\n\r\n") == Header(len(data), client)


@pytest.mark.parametrize("data", BAD)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(HeaderInvalid):
        parse(data)


def test_a_header_that_cannot_become_good_is_refused_before_it_is_whole() -> None:
    with pytest.raises(HeaderInvalid):
        parse(v2(0x21, 0x11, b"", length=11))
    with pytest.raises(HeaderInvalid):
        parse(b"PROXX")


@settings(deadline=None)
@given(st.ip_addresses(v=4), st.ip_addresses(v=4), PORTS, PORTS, st.binary(max_size=20))
def test_every_ipv4_header_is_read_as_it_was_written(client: IPv4Address, server: IPv4Address, a: int, b: int, rest: bytes) -> None:
    line = f"PROXY TCP4 {client} {server} {a} {b}\r\n".encode()
    assert parse(line + rest) == Header(len(line), str(client))
    binary = v2(0x21, 0x11, client.packed + server.packed + struct.pack(">HH", a, b) + rest)
    assert parse(binary) == Header(len(binary), str(client))


@settings(deadline=None)
@given(st.ip_addresses(v=6), st.ip_addresses(v=6), PORTS, PORTS)
def test_every_ipv6_header_is_read_as_it_was_written(client: IPv6Address, server: IPv6Address, a: int, b: int) -> None:
    line = f"PROXY TCP6 {client} {server.exploded} {a} {b}\r\n".encode()
    told = str(client.ipv4_mapped or client)
    assert len(line) <= V1_MAX
    assert parse(line) == Header(len(line), told)
    binary = v2(0x21, 0x21, client.packed + server.packed + struct.pack(">HH", a, b))
    assert parse(binary) == Header(len(binary), told)


@settings(deadline=None)
@given(st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", b"PROXY TCP6 ", V2, V2 + b"\x21", V2 + b"\x21\x11\x00"]), st.binary(max_size=300))
def test_any_bytes_are_a_header_are_not_whole_or_are_refused(begin: bytes, rest: bytes) -> None:
    data = begin + rest
    try:
        header = parse(data)
    except HeaderInvalid:
        return
    if header is not None:
        assert 0 < header.size <= min(len(data), V2_MAX)
        assert parse(data[: header.size]) == header
    else:
        assert len(data) < V2_MAX
