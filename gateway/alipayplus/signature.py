"""The text that is signed, and the Signature header: protocol section 3, as pure functions on strings and bytes.

The RSA operations and the keys are in `gateway.alipayplus.keys`; which answers must be signed is decided in
`gateway.alipayplus.verification`.
"""

import re
from binascii import a2b_base64, b2a_base64
from typing import Final
from urllib.parse import unquote

from msgspec import Struct

URI: Final = "/aps/api/v1/mobile/sdkProxy"
"""The path of the one call (protocol section 2)."""
ALGORITHM: Final = "RSA256"
"""The only algorithm of the protocol: RSASSA-PKCS1-v1_5 with SHA-256."""


class SignatureError(ValueError):
    """A signature is malformed or does not verify. The text is fixed: nothing of the peer's or of a key is in it."""


class SignatureHeader(Struct, frozen=True, gc=False):
    """A Signature header, taken apart. `key_version` is an opaque label; `signature` the decoded bytes, not yet verified."""

    key_version: str
    signature: bytes


def string_to_sign(uri: str, client_id: str, time: str, body: bytes, *, method: str = "POST") -> bytes:
    """Build the bytes that are signed: `METHOD SP URI LF client-id.time.body`, with the body's exact bytes.

    `uri` is the path as sent, with `?query` where there is one. `time` is Request-Time when a request is signed and Response-Time
    when an answer is verified. The three texts are header texts: ISO-8859-1, as they stand on the wire (any other character
    raises UnicodeEncodeError).
    """
    return f"{method} {uri}\n{client_id}.{time}.".encode("latin-1") + body


def format_signature(signature: bytes, key_version: str) -> str:
    """Write the Signature header's value: base64 percent-encoded, no spaces, in the order that the SDKs read by position."""
    # Of the base64 alphabet only these three need an escape.
    encoded = b2a_base64(signature, newline=False).decode("ascii").replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
    return f"algorithm={ALGORITHM},keyVersion={key_version},signature={encoded}"


def parse_signature(value: str) -> SignatureHeader:
    """Read a Signature header's value strictly: by name in any order, each name once, unknown names ignored.

    Raises SignatureError for anything else than RSA256, a missing or empty part, and a signature that is not base64 in its raw
    or percent-encoded form.
    """
    usual = _USUAL.fullmatch(value)
    if usual is not None:
        return SignatureHeader(usual[1], decode_signature(usual[2]))
    parts = _parts(value)
    key_version, signature = parts.get("keyVersion"), parts.get("signature")
    if parts.get("algorithm") != ALGORITHM:
        raise SignatureError("the algorithm of the signature is not RSA256")
    if not key_version:
        raise SignatureError("the signature has no key version")
    if not signature:
        raise SignatureError("the signature header has no signature")
    return SignatureHeader(key_version, decode_signature(signature))


def decode_signature(text: str) -> bytes:
    """Decode a signature from base64, raw or percent-encoded. A `+` is never a space. Raises SignatureError."""
    try:
        # These three are all that a sender needs to escape; any other escape takes the slow way. A bad one is left as it is
        # there, and "%" is not in the alphabet.
        encoded = text.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=")
        return a2b_base64(unquote(encoded, "latin-1") if "%" in encoded else encoded, strict_mode=True)
    except ValueError:
        raise SignatureError("the signature is not base64") from None


# As senders write it; all else takes the slow way.
_USUAL: Final = re.compile(rf"algorithm={ALGORITHM},keyVersion=([^,\s]+),signature=([^,\s]+)")


def _parts(value: str) -> dict[str, str]:
    parts: dict[str, str] = {}
    for part in value.split(","):
        name, separator, text = part.strip(" \t").partition("=")
        if not separator:
            raise SignatureError("the signature header is malformed")
        if name in parts:
            raise SignatureError("the signature header names a part twice")
        parts[name] = text
    return parts
