"""Logs: one access line a request on standard output, all else on standard error, both through one filter.

What is logged comes from our own fixed texts and closed sets of fields: never headers, bodies, query values, credentials or the
two SDK strings. Records of libraries keep their level, their logger's name and the type of their exception with the places it
passed, but not its text, which may quote a client or a peer.
"""

import logging
import os
import ssl
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from time import monotonic
from typing import Any, Final, Protocol

import msgspec
import structlog
from aiohttp.http_exceptions import HttpProcessingError
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from gateway.config.model import Log
from gateway.config.values import Secret
from gateway.telemetry.sink import Sink

_encode: Final = msgspec.json.Encoder().encode
_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


_OTHERS_FAULT: Final = (HttpProcessingError, ConnectionError, ssl.SSLError)
"""What libraries report as errors of ours, with a traceback each."""


def add_time(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add `time`: UTC, ISO 8601 with microseconds."""
    event["time"] = datetime.now(UTC).isoformat(timespec="microseconds")
    return event


def show_exception(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace `exc_info` by the exception's type and the places it passed; its text may quote a client and is left out."""
    given = event.pop("exc_info", None)
    error = sys.exc_info()[1] if given is True else given
    if isinstance(error, BaseException):
        frames = traceback.extract_tb(error.__traceback__)
        event["exception"] = type(error).__name__
        event["places"] = [f"{frame.filename.rpartition('gateway/')[2]}:{frame.lineno} {frame.name}" for frame in frames[-12:]]
    return event


class RepeatLimit:
    """A processor that lets each event through at most `burst` times in `period` seconds, and counts those that it holds back.

    Events of libraries are told apart by the library. The next of an event says how many before it were `held_back`, and `overdue`
    says it of those that have not come again.
    """

    def __init__(self, *, burst: int = 10, period: float = 10.0, now: Callable[[], float] = monotonic) -> None:
        self._burst = burst
        self._period = period
        self._now = now
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        """Raise `structlog.DropEvent` for an event that has been said often enough."""
        name, now = (str(event.get("event")), str(event.get("library", ""))), self._now()
        begun, count = self._seen.get(name, (now, 0))
        if now - begun >= self._period:
            if count > self._burst:
                event["held_back"] = count - self._burst
            begun, count = now, 0
        self._seen[name] = (begun, count + 1)
        if count >= self._burst:
            raise structlog.DropEvent
        return event

    def overdue(self, *, is_end: bool = False) -> Iterator[tuple[str, int]]:
        """Give the events whose period is over, each with how many were held back in it, once; at the end of the log, all of them."""
        now = self._now()
        for name, (begun, count) in tuple(self._seen.items()):
            if is_end or now - begun >= self._period:
                del self._seen[name]
                if count > self._burst:
                    yield name[0], count - self._burst


def _json(event: EventDict, **_: Any) -> bytes:
    return _encode(event)


class _Lines:
    """What structlog writes to: each rendered event is one line of the sink."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def msg(self, line: bytes | str) -> None:
        self._sink.write([(line if isinstance(line, bytes) else line.encode("utf-8", "backslashreplace")) + b"\n"])

    debug = info = warning = error = critical = exception = msg


class _Forward(logging.Handler):
    """Passes records of libraries (asyncio, aiohttp) on to our own log."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        super().__init__()
        self.log = log

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, _OTHERS_FAULT):
            self.log.warning("another side broke the protocol or the connection", library=record.name, exception=type(error).__name__)
            return
        say = self.log.error if record.levelno >= logging.ERROR else self.log.warning
        say("a library reports a problem", library=record.name, exc_info=error)


class AccessLog(Protocol):
    """Takes access lines, if anybody wants them."""

    access_enabled: bool

    def access(self, lines: Sequence[msgspec.Struct]) -> None:
        """Write access lines."""


class Logs:
    """The two log streams of one process. `access` takes the access lines, `log` everything else, of each event so many in a while.

    With `is_limited` False every event is logged: in a process that has nothing to do with requests.
    """

    def __init__(
        self, config: Log, *, on_drop: Callable[[int], None] = lambda _: None, is_limited: bool = True, out: int = 1, err: int = 2
    ) -> None:
        self._out, self._err = Sink(out, on_drop=on_drop), Sink(err, on_drop=on_drop)
        self._on_drop = on_drop
        self.access_enabled = config.access
        level = _LEVELS[config.level]
        self._console, console = (_console(descriptor) if config.format == "console" else None for descriptor in (out, err))
        self._limit = RepeatLimit()
        self._unlimited = _wrap(self._err, console, level, [])
        limited = _wrap(self._err, console, level, [self._limit])
        self.log = limited if is_limited else self._unlimited
        self._hash = customer_hash(config.customer_hash_key)
        self._forward = _Forward(limited)
        logging.basicConfig(handlers=[self._forward], level=logging.WARNING, force=True)

    def bind(self, **fields: Any) -> None:
        """Let every line of the log, but no access line, have these fields."""
        self.log, self._unlimited = self.log.bind(**fields), self._unlimited.bind(**fields)
        self._forward.log = self._forward.log.bind(**fields)

    def access(self, lines: Sequence[msgspec.Struct]) -> None:
        """Write access lines. As JSON they are encoded at once: they are made of our own fields only, and there is one for each request."""
        if not self.access_enabled:
            return
        if self._console is None:
            self._out.write([_encode(line) + b"\n" for line in lines])
        else:
            shown = (self._console(None, "info", msgspec.to_builtins(line)) for line in lines)
            self._out.write([line.encode("utf-8", "backslashreplace") + b"\n" for line in shown])

    def customer(self, customer_id: str) -> str | None:
        """Return the keyed hash under which this customer stands in the log, or None where no key is configured."""
        return self._hash(customer_id) if self._hash else None

    def tell_held_back(self, *, is_end: bool = False) -> None:
        """Say how many messages have been held back lately and not been told of since; to be called each second or so."""
        for event, count in self._limit.overdue(is_end=is_end):
            self._unlimited.warning("a message came too often", message=event, held_back=count)

    def close(self, timeout: float = 2.0) -> None:
        """Write what is held, waiting at most `timeout` seconds for each stream; what is left then is still written as it is taken."""
        logging.getLogger().removeHandler(self._forward)
        self.tell_held_back(is_end=True)
        self._out.close(timeout)
        self._err.close(timeout)

    def count_lost(self) -> None:
        """Take that the process ends: what has not been written by now is lost."""
        if lost := self._out.unwritten + self._err.unwritten:
            self._on_drop(lost)


def customer_hash(key: Secret | None) -> Callable[[str], str] | None:
    """Return the hash by which customers are named in the log: BLAKE2b under `key`, 16 hexadecimal digits."""
    if key is None:
        return None
    secret = blake2b(key.reveal().encode(), digest_size=32).digest()
    return lambda customer_id: blake2b(customer_id.encode(), key=secret, digest_size=8).hexdigest()


def _console(descriptor: int) -> structlog.dev.ConsoleRenderer:
    """Return what writes for people: in colours on a terminal, unless that is told not to be so (no-color.org)."""
    return structlog.dev.ConsoleRenderer(timestamp_key="time", colors=os.isatty(descriptor) and not os.environ.get("NO_COLOR"))


def _wrap(sink: Sink, console: structlog.dev.ConsoleRenderer | None, level: int, first: list[Processor]) -> FilteringBoundLogger:
    logger: FilteringBoundLogger = structlog.wrap_logger(
        _Lines(sink),
        processors=[
            *first,
            structlog.processors.add_log_level,
            add_time,
            show_exception,
            console or structlog.processors.JSONRenderer(_json),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        context_class=dict,
        cache_logger_on_first_use=True,
    ).bind()
    return logger
