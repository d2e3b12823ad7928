import json
import logging
import os
import pty
import ssl
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, tzinfo
from typing import Any, Self

import pytest
import structlog
from aiohttp.http_exceptions import BadHttpMessage
from msgspec import Struct

from gateway.config.model import Log
from gateway.config.values import Secret
from gateway.telemetry.log import Logs, RepeatLimit, customer_hash


class Line(Struct):
    """An access line."""

    request_id: str
    status: int


class Streams:
    """The two log streams as pipes."""

    def __init__(self) -> None:
        self.out, self.err = os.pipe(), os.pipe()

    def read(self, logs: Logs) -> tuple[bytes, bytes]:
        logs.close()
        result = []
        for read, write in (self.out, self.err):
            os.close(write)
            with os.fdopen(read, "rb") as stream:
                result.append(stream.read())
        return result[0], result[1]


@pytest.fixture
def streams() -> Iterator[Streams]:
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    yield Streams()
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)


def start(streams: Streams, **config: Any) -> Logs:
    return Logs(Log(**config), out=streams.out[1], err=streams.err[1])


def test_a_time_has_its_microseconds_in_a_whole_second_too(streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    class Whole(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls(2026, 1, 2, 3, 4, 5, tzinfo=tz)

    monkeypatch.setattr("gateway.telemetry.log.datetime", Whole)
    logs = start(streams)
    logs.log.info("on the hour")
    _, err = streams.read(logs)
    assert json.loads(err)["time"] == "2026-01-02T03:04:05.000000+00:00"


def test_access_lines_go_to_standard_output_as_json(streams: Streams) -> None:
    logs = start(streams)
    logs.access([Line("a", 200)])
    out, err = streams.read(logs)
    assert json.loads(out) == {"request_id": "a", "status": 200}
    assert err == b""


def test_everything_else_goes_to_standard_error_with_its_level(streams: Streams) -> None:
    logs = start(streams, level="warning")
    logs.log.info("not said")
    logs.log.warning("said", number=1)
    out, err = streams.read(logs)
    line = json.loads(err)
    assert (line["event"], line["level"], line["number"]) == ("said", "warning", 1)
    assert out == b""


def test_the_console_format_is_for_people(streams: Streams) -> None:
    logs = start(streams, format="console")
    logs.log.warning("said", number=1)
    logs.access([Line("a", 200)])
    out, err = streams.read(logs)
    assert b"said" in err
    assert b"200" in out
    assert not err.startswith(b"{")
    assert not out.startswith(b"{")
    assert b"\x1b" not in out + err


@pytest.mark.parametrize("no_color", ["", "1"])
def test_colours_are_for_terminals(streams: Streams, monkeypatch: pytest.MonkeyPatch, no_color: str) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    terminal, other_end = pty.openpty()
    logs = Logs(Log(format="console"), out=streams.out[1], err=other_end)
    logs.log.warning("said")
    logs.access([Line("a", 200)])
    out, _ = streams.read(logs)
    said = os.read(terminal, 4096)
    os.close(terminal)
    os.close(other_end)
    assert b"said" in said
    assert (b"\x1b" in said) is not bool(no_color)
    assert b"\x1b" not in out


def test_access_lines_can_be_turned_off(streams: Streams) -> None:
    logs = start(streams, access=False)
    logs.access([Line("a", 200)])
    assert streams.read(logs)[0] == b""


def test_an_exception_is_named_and_placed_but_its_text_is_left_out(streams: Streams) -> None:
    logs = start(streams)
    try:
        int("canary")
    except ValueError:
        logs.log.exception("failed")
    _, err = streams.read(logs)
    line = json.loads(err)
    assert line["exception"] == "ValueError"
    assert any("test_log.py" in place for place in line["places"])
    assert b"canary" not in err


def test_what_libraries_say_is_named_without_their_words(streams: Streams) -> None:
    logs = start(streams)
    logging.getLogger("aiohttp.server").error("canary %s", "canary", exc_info=ValueError("canary"))
    _, err = streams.read(logs)
    assert (json.loads(err)["library"], json.loads(err)["exception"]) == ("aiohttp.server", "ValueError")
    assert b"canary" not in err


@pytest.mark.parametrize("error", [BadHttpMessage("canary"), ConnectionResetError("canary"), ssl.SSLError("canary")])
def test_what_another_side_did_wrong_is_a_short_line(streams: Streams, error: Exception) -> None:
    logs = start(streams)
    logging.getLogger("aiohttp.server").error("canary", exc_info=error)
    line = json.loads(streams.read(logs)[1])
    assert line.keys() == {"time", "level", "event", "library", "exception"}
    assert (line["level"], line["exception"]) == ("warning", type(error).__name__)


def test_a_repeated_message_is_held_back_and_counted() -> None:
    clock = [0.0]
    limit = RepeatLimit(burst=2, period=10, now=lambda: clock[0])
    said = 0
    for _ in range(5):
        try:
            limit(None, "info", {"event": "again"})
            said += 1
        except structlog.DropEvent:
            pass
    clock[0] = 11.0
    assert said == 2
    assert limit(None, "info", {"event": "again"})["held_back"] == 3


def test_what_was_held_back_is_told_though_it_does_not_come_again() -> None:
    clock = [0.0]
    limit = RepeatLimit(burst=2, period=10, now=lambda: clock[0])
    for event, times in (("often", 5), ("twice", 2)):
        for _ in range(times):
            with suppress(structlog.DropEvent):
                limit(None, "info", {"event": event})
    assert list(limit.overdue()) == []
    clock[0] = 11.0
    assert list(limit.overdue()) == [("often", 3)]
    assert list(limit.overdue(is_end=True)) == []


def test_libraries_that_repeat_themselves_do_not_silence_others(streams: Streams) -> None:
    logs = start(streams)
    logs.bind(worker=1)
    for _ in range(50):
        logging.getLogger("aiohttp.server").error("canary")
    logging.getLogger("asyncio").error("canary")
    lines = [json.loads(line) for line in streams.read(logs)[1].splitlines()]
    assert [line.get("library") for line in lines] == ["aiohttp.server"] * 10 + ["asyncio", None]
    assert {line["worker"] for line in lines} == {1}
    assert (lines[-1]["message"], lines[-1]["held_back"]) == ("a library reports a problem", 40)


def test_the_customer_is_a_keyed_hash() -> None:
    one, other = customer_hash(Secret("k1")), customer_hash(Secret("k2"))
    assert one is not None
    assert other is not None
    assert one("id") == one("id") != other("id")
    assert "id" not in one("id-id-id")
    assert len(one("id")) == 16
    assert customer_hash(None) is None


def test_what_is_held_when_nobody_waits_is_written_all_the_same(streams: Streams) -> None:
    logs = start(streams)
    os.set_blocking(streams.err[1], False)
    full = 0
    with suppress(BlockingIOError):
        while True:
            full += os.write(streams.err[1], bytes(4096))
    os.set_blocking(streams.err[1], True)
    logs.log.info("held")
    logs.close(timeout=0)
    with os.fdopen(os.dup(streams.err[0]), "rb") as stream:
        stream.read(full)
        assert json.loads(stream.readline())["event"] == "held"
    assert streams.read(logs) == (b"", b"")
