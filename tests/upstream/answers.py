"""Answers as values, for those who judge them."""

from collections.abc import Sequence

from gateway.upstream import Answer, Head
from gateway.upstream.message import field_names


def an_answer(status: int = 200, headers: Sequence[tuple[str, str]] = (), body: bytes = b"") -> Answer:
    """Return an answer as a connection gives it, with these fields in this order."""
    lines = [f"{name}: {value}".encode("latin-1") for name, value in headers]
    return Answer(Head(status, b"", lines, field_names(lines), len(body)), body)
