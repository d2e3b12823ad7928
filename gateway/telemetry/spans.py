"""Spans as values, and which traces are taken. How they are sent stands in `gateway.telemetry.otlp`, which alone needs OpenTelemetry."""

from collections.abc import Callable
from typing import Final, Literal

from msgspec import Struct

Phases = dict[str, tuple[float, float]]
"""When each phase of one request began and ended, in seconds on the monotonic clock."""

Kind = Literal["server", "client", "internal"]
Attributes = dict[str, str | int]

_RANDOM_BITS: Final = 64


class Span(Struct, frozen=True, gc=False):
    """One span that has ended. Ids are hexadecimal digits, times UNIX nanoseconds.

    `error`, which may be empty, says why it failed; None if it did not.
    """

    name: str
    kind: Kind
    span_id: str
    parent_id: str
    began: int
    ended: int
    attributes: Attributes
    error: str | None = None


class Trace(Struct, frozen=True, gc=False):
    """What one request adds to a trace. `tracestate` is its caller's (W3C Trace Context, 3.3)."""

    trace_id: str
    tracestate: str
    spans: tuple[Span, ...]


Export = Callable[[Trace], None]


class Sampler:
    """Takes a share of the traces that begin here, by their ids: as OpenTelemetry's TraceIdRatioBased does, so that all who ask agree."""

    def __init__(self, share: float) -> None:
        self._bound = round(share * (1 << _RANDOM_BITS))

    def __call__(self, trace_id: str) -> bool:
        """Tell whether a trace is taken."""
        return int(trace_id[-_RANDOM_BITS // 4 :], 16) < self._bound
