"""The credential of a request: what of the client's headers is sent to the auth service, and nothing else.

Pure. A credential is bytes: header lines for the forward call-out, the token for introspection. It is all that is sent of the client's,
so cache and single flight are keyed by a hash of just these bytes.
"""

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import compress
from typing import Final

from gateway.errors import GatewayError
from gateway.upstream.names import NameTable

RawHeaders = Sequence[tuple[bytes, bytes]]

CREDENTIAL_LIMIT: Final = 8 * 1024
"""Bytes of all values of a credential together (faults B1)."""

_CONTROLS: Final = bytes([*range(0x09), *range(0x0A, 0x20), 0x7F])
# RFC 6750 section 2.1, with any visible character in the token (RFC 6749 appendix A.12): issuers use more than b64token has.
_BEARER: Final = re.compile(rb"bearer +([\x21-\x7e]+)", re.IGNORECASE)


class HeaderSelector:
    """Takes the configured headers of a request as the header lines to be sent, in their order, repetitions and raw values kept.

    Names are found in any case and sent as configured. Of Cookie only the pairs named in `cookies` are sent (None: all); a Cookie
    header of which nothing is left is left out.
    """

    def __init__(self, names: Iterable[str], cookies: Collection[str] | None = None) -> None:
        openings = {name.lower().encode("ascii"): f"{name}: ".encode("ascii") for name in names}
        self._openings = NameTable(lambda name: openings.get(name.lower(), b""))
        self._cookie = openings.get(b"cookie") if cookies is not None else None
        self._cookies = frozenset(name.encode("ascii") for name in cookies or ())

    def select(self, headers: RawHeaders) -> bytes | None:
        """Return the lines, each with its CRLF, or None where there is no value to send.

        Raises GatewayError: HEADERS_TOO_LARGE above `CREDENTIAL_LIMIT`, REQUEST_MALFORMED for a control character.
        """
        lines, size = [], 0
        openings = self._openings.of(headers)
        for opening, (_, value) in compress(zip(openings, headers, strict=True), openings):
            sent = value
            if opening == self._cookie:
                sent = keep_cookies(value, self._cookies)
                if not sent:
                    continue
            _refuse_control(sent)
            size += len(sent)
            lines.append(b"%b%b\r\n" % (opening, sent))
        _refuse_large(size)
        return b"".join(lines) if size else None


def keep_cookies(value: bytes, names: Collection[bytes]) -> bytes:
    """Return the pairs of a Cookie value whose names (case-sensitive) are among these, byte for byte, joined with `; `.

    Read as RFC 6265bis section 5.8.3 writes: pairs end at each semicolon, quotes mean nothing. What has no `=` is no pair.
    """
    pairs = [pair.strip(b" \t") for pair in value.split(b";")]
    return b"; ".join([pair for pair in pairs if b"=" in pair and pair.partition(b"=")[0] in names])


def bearer_token(headers: RawHeaders) -> bytes | None:
    """Return the Bearer token (RFC 6750 section 2.1) of a request, the scheme in any case.

    None where there is no Authorization, more than one, another scheme or no well-formed token: what is ambiguous is no credential.
    Raises GatewayError HEADERS_TOO_LARGE above `CREDENTIAL_LIMIT`.
    """
    values = [value for name, value in headers if name.lower() == b"authorization"]
    _refuse_large(sum(map(len, values)))
    match = _BEARER.fullmatch(values[0]) if len(values) == 1 else None
    return match[1] if match else None


def keyed_hash(key: bytes) -> Callable[[bytes], bytes]:
    """Return the function that makes a credential's cache key: BLAKE2b under a key of 16 to 64 random bytes, 16 bytes long.

    Different credentials have different bytes, since no value holds the CR or LF that ends its line: white space, case and prefixes
    make a difference (faults G13).
    """
    keyed = hashlib.blake2b(key=key, digest_size=16)

    def hash_credential(credential: bytes) -> bytes:
        state = keyed.copy()
        state.update(credential)
        return state.digest()

    return hash_credential


def _refuse_control(value: bytes) -> None:
    if value.translate(None, _CONTROLS) != value:
        raise GatewayError("REQUEST_MALFORMED", "control character in a credential")


def _refuse_large(size: int) -> None:
    if size > CREDENTIAL_LIMIT:
        raise GatewayError("HEADERS_TOO_LARGE", "credentials too large")
