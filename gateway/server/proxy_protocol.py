"""The PROXY protocol, versions 1 and 2: who the client behind a load balancer is (haproxy.org, proxy-protocol.txt).

Pure: bytes in, header out. Reading them from a connection is left to `gateway.server.admission`.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

V1: Final = b"PROXY "
V2: Final = b"\r\n\r\n\x00\r\nQUIT\n"
V1_MAX: Final = 107
"""Bytes of a version 1 header, its end included (section 2.1)."""
V2_MAX: Final = 4096
"""Bytes of a version 2 header that are taken, its optional fields included; senders keep far below."""
BROKEN: Final = "a broken PROXY header"
"""What begins as a header and does not go on as one, in the log."""

_PORT: Final = "(?:0|[1-9][0-9]{0,4})"
_LINE: Final = re.compile(rf"PROXY (TCP4|TCP6) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) ({_PORT}) ({_PORT})\r\n")
_UNKNOWN: Final = b"PROXY UNKNOWN"
_PORT_MAX: Final = 65535

_V2_FIXED: Final = 16
_LOCAL, _PROXY = 0x20, 0x21
_STREAM: Final = 1
_INET, _INET6, _UNIX, _UNSPECIFIED = 1, 2, 3, 0
_ADDRESSES: Final = {_UNSPECIFIED: 0, _INET: 12, _INET6: 36, _UNIX: 216}
"""Bytes of both addresses, and of the ports where there are any, by family (section 2.2)."""


class HeaderInvalid(ValueError):
    """What stands at the beginning of the connection is no PROXY header, as the text says: none at all, or a broken one."""


@dataclass(frozen=True, slots=True)
class Header:
    """A whole header: its size in bytes, and the client's address, None where the header names none (the peer then is the client).

    An IPv4 client of a balancer that listens for both families is told as the IPv6 address that maps it, and given here as what it is.
    """

    size: int
    client: str | None


def parse(data: bytes) -> Header | None:
    """Read the header that `data` begins with; None while all of `data` belongs to it and more is to come. Raises HeaderInvalid."""
    if V2.startswith(data[: len(V2)]):
        return _parse_v2(data)
    if V1.startswith(data[: len(V1)]):
        return _parse_v1(data)
    raise HeaderInvalid("no PROXY header")


def _parse_v1(data: bytes) -> Header | None:
    end = data.find(b"\r\n", 0, V1_MAX)
    if end < 0:
        if len(data) >= V1_MAX:
            raise HeaderInvalid(BROKEN)
        return None
    line = data[: end + 2]
    if line.startswith((_UNKNOWN + b"\r", _UNKNOWN + b" ")):
        return Header(len(line), None)
    match = _LINE.fullmatch(line.decode("latin-1"))
    if match is None or max(int(match[4]), int(match[5])) > _PORT_MAX:
        raise HeaderInvalid(BROKEN)
    kind = IPv4Address if match[1] == "TCP4" else IPv6Address
    try:
        client, _ = kind(match[2]), kind(match[3])
    except ValueError:
        raise HeaderInvalid(BROKEN) from None
    return Header(len(line), _written(client))


def _parse_v2(data: bytes) -> Header | None:
    if len(data) < _V2_FIXED:
        return None
    command, family, transport = data[12], data[13] >> 4, data[13] & 0x0F
    length = int.from_bytes(data[14:16])
    if command not in {_LOCAL, _PROXY} or _V2_FIXED + length > V2_MAX:
        raise HeaderInvalid(BROKEN)
    is_local = command == _LOCAL
    if not is_local and (family not in _ADDRESSES or length < _ADDRESSES[family] or (family != _UNSPECIFIED and transport != _STREAM)):
        raise HeaderInvalid(BROKEN)
    size = _V2_FIXED + length
    if len(data) < size:
        return None
    return Header(size, None if is_local else _client(family, data[_V2_FIXED:size]))


def _client(family: int, addresses: bytes) -> str | None:
    if family == _INET:
        return str(IPv4Address(addresses[:4]))
    if family == _INET6:
        return _written(IPv6Address(addresses[:16]))
    return None


def _written(client: IPv4Address | IPv6Address) -> str:
    mapped = client.ipv4_mapped if isinstance(client, IPv6Address) else None
    return str(mapped or client)
