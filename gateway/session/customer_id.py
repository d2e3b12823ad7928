"""The customer id in an answer of the auth service: found in a header or by a JSON Pointer (RFC 6901), and never repaired.

Pure. Whatever is not exactly one well-formed id is `Unreadable`.
"""

import re
from dataclasses import dataclass
from typing import Final, Self

import msgspec

from gateway.config.model import CustomerId
from gateway.upstream import Answer

# 1 to 64 printable ASCII characters. A space may stand within but not at an end: the header that carries the id on to the MPP's API would
# lose it there (RFC 9110 section 5.5), and the API would see another id.
_ID: Final = re.compile(r"[!-~](?:[ -~]{0,62}[!-~])?")
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,5}")


class Unreadable(Exception):
    """An answer in which no customer id can be read. `reason` is a short fixed text for the log."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Place:
    """Where the customer id stands: a header (its name in lower case), or a path of reference tokens into the JSON body."""

    header: str | None = None
    path: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: CustomerId) -> Self:
        """Read the configured place."""
        if config.header is not None:
            return cls(header=config.header.lower())
        tokens = (config.json or "").split("/")[1:]
        return cls(path=tuple(token.replace("~1", "/").replace("~0", "~") for token in tokens))

    @property
    def in_body(self) -> bool:
        """Tell whether the body must be decoded to find it."""
        return self.header is None

    def read(self, answer: Answer, document: object = None) -> str:
        """Return the customer id of this answer, whose decoded body is `document`. Raises Unreadable."""
        found = self._in_header(answer, self.header) if self.header is not None else resolve(document, self.path)
        if not isinstance(found, str):
            raise Unreadable("an answer without a customer id")
        if not _ID.fullmatch(found):
            raise Unreadable("an answer with a malformed customer id")
        return found

    def _in_header(self, answer: Answer, name: str) -> str | None:
        values = answer.all(name)
        if len(values) > 1:
            raise Unreadable("an answer with several customer ids")
        return values[0] if values else None


def resolve(document: object, path: tuple[str, ...]) -> object:
    """Return the value at this path of reference tokens (RFC 6901 section 4), None where there is none."""
    value = document
    for token in path:
        if isinstance(value, dict):
            value = value.get(token)
        elif isinstance(value, list) and _INDEX.fullmatch(token) and int(token) < len(value):
            value = value[int(token)]
        else:
            return None
    return value


def decode_body(answer: Answer) -> object:
    """Return the JSON document in the body of an answer. Raises Unreadable: not JSON in UTF-8, or under a content coding."""
    if any(coding.strip().lower() not in {"", "identity"} for coding in answer.all("content-encoding")):
        raise Unreadable("an answer under a content coding")
    try:
        return msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Unreadable("an answer that is not JSON") from None
