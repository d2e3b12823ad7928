"""Answers as values, for those who judge them."""

from collections.abc import Sequence

from gateway.upstream import Answer, Head


def an_answer(status: int = 200, headers: Sequence[tuple[str, str]] = (), body: bytes = b"") -> Answer:
    """Return an answer as a connection gives it, with these fields in this order."""
    block = b"".join(f"\r\n{name}: {value}".encode("latin-1") for name, value in headers)
    return Answer(Head(status, b"", block, block.lower(), len(body)), body)
