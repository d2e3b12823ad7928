"""The request to the auth service as it goes on the wire."""

import re

from msgspec import Struct


class Message(Struct, frozen=True, gc=False):
    """One request: its head with the empty line, and its body. Holds credentials, and so is never printed."""

    head: bytes
    body: bytes = b""

    def __repr__(self) -> str:
        return "Message(***)"


def request_line(method: str, url: str) -> str:
    """Return the request line for a configured URL, its path and query as they are written there (RFC 9112 section 3.2.1)."""
    target = re.sub(r"^[a-z]+://[^/?]*", "", url)
    return f"{method} {target if target.startswith('/') else '/' + target} HTTP/1.1\r\n"
