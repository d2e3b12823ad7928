"""How an answer goes over the wire: at once and whole, or late, in pieces, cut off, never, or broken.

Pure: an answer becomes a sequence of steps (bytes to write, a pause, a reset ...), which `gateway.simulator.wire` carries out. What
an answer says is decided by the simulated peers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

Line = Annotated[str, Meta(pattern="^[\\x00-\\xff]*$")]
"""Text in a head: each character is sent as one byte (ISO-8859-1)."""

Headers = tuple[tuple[Line, Line], ...]
Status = Annotated[int, Meta(ge=0, le=999)]
Seconds = Annotated[float, Meta(ge=0, le=86400)]

MISSING_BYTES: Final = 16
"""How many bytes fewer than its Content-Length a truncated answer has."""

_CHUNKS_END: Final = {"chunked": b"0\r\n\r\n", "bad_chunk": b"not a size\r\n", "endless": b""}
_ENDLESS_CHUNK: Final = b"10000\r\n" + b" " * 0x10000 + b"\r\n"


class Delivery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What happens to an answer on its way. Seconds are floats.

    `hold` waits until the peer's `release()` is called (or for ever), then `delay` passes. `pieces` and `pause` send the body in so
    many parts with a pause before each but the first. `drop` resets the connection: before the body of the request is read (at
    once, and whatever the request is), after it was read, or in the middle of the answer. `framing` says how the body's end is
    told, or not told: `truncated` closes before all of Content-Length was sent, `bad_chunk` sends a chunk without a size, `endless`
    never ends. `extra` is sent with the end of the answer, behind it. `close` ends the connection afterwards, announced by a header
    or not.
    """

    delay: Seconds = 0
    hold: bool = False
    drop: Literal["before_reading", "after_reading", "in_headers", "in_body"] | None = None
    framing: Literal["length", "chunked", "close", "truncated", "bad_chunk", "endless"] = "length"
    pieces: Annotated[int, Meta(ge=1)] = 1
    pause: Seconds = 0
    extra: str = ""
    close: Literal["keep", "announced", "silent"] = "keep"


AT_ONCE: Final = Delivery()


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer and how it is delivered. Framing headers are added by `steps`; `status` may be any number from 0 to 999."""

    status: int
    headers: Headers = ()
    body: bytes = b""
    delivery: Delivery = AT_ONCE


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait for so many seconds."""

    seconds: float


class Mark(Enum):
    """A step that is no writing: HOLD waits for a release, RESET breaks the connection, CLOSE ends it in order."""

    HOLD = 1
    RESET = 2
    CLOSE = 3


Step = bytes | Pause | Mark

_RESET: Final = (Pause(0.05), Mark.RESET)  # a reset takes away what was sent and not yet read


def steps(answer: Answer, *, only_head: bool = False) -> Iterator[Step]:
    """Give, one after the other, what is to be done to deliver this answer. Without a last RESET or CLOSE the connection is kept.

    With `only_head` (for a HEAD) nothing of the body is sent, and its length is told all the same.
    """
    delivery = answer.delivery
    if delivery.hold:
        yield Mark.HOLD
    if delivery.delay:
        yield Pause(delivery.delay)
    if delivery.drop == "after_reading":
        yield Mark.RESET
        return
    head = _head(answer)
    if delivery.drop == "in_headers":
        yield head[: len(head) // 2]
        yield from _RESET
        return
    if only_head:
        yield head
    else:
        yield from _body(head, answer)
    if delivery.framing in {"close", "truncated", "bad_chunk"} or delivery.close != "keep":
        yield Mark.CLOSE


def _head(answer: Answer) -> bytes:
    lines = [f"HTTP/1.1 {answer.status:03d} {_phrase(answer.status)}", *(f"{name}: {value}" for name, value in answer.headers)]
    match answer.delivery.framing:
        case "length":
            lines.append(f"content-length: {len(answer.body)}")
        case "truncated":
            lines.append(f"content-length: {len(answer.body) + len(answer.delivery.extra.encode()) + MISSING_BYTES}")
        case "chunked" | "bad_chunk" | "endless":
            lines.append("transfer-encoding: chunked")
    if answer.delivery.framing == "close" or answer.delivery.close == "announced":
        lines.append("connection: close")
    return "\r\n".join((*lines, "", "")).encode("latin-1")


def _body(head: bytes, answer: Answer) -> Iterator[Step]:
    delivery = answer.delivery
    pieces = _pieces(answer.body, delivery.pieces)
    if delivery.framing in _CHUNKS_END:
        pieces = [_chunk(piece) for piece in pieces]
    if delivery.drop == "in_body":
        body = b"".join(pieces)
        yield (head + body[: len(body) // 2]) if body else head[:-1]
        yield from _RESET
        return
    pieces[0] = head + pieces[0]
    pieces[-1] += _CHUNKS_END.get(delivery.framing, b"") + delivery.extra.encode()
    for number, piece in enumerate(pieces):
        if number:
            yield Pause(delivery.pause)
        yield piece
    while delivery.framing == "endless":
        yield _ENDLESS_CHUNK


def _pieces(body: bytes, count: int) -> list[bytes]:
    size = max(1, -(-len(body) // max(1, count)))
    return [body[start : start + size] for start in range(0, len(body), size)] or [b""]


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
