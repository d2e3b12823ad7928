from itertools import islice
from typing import Literal

import pytest

from gateway.simulator.delivery import MISSING_BYTES, Answer, Delivery, Mark, Pause, Step, steps

BODY = b"0123456789"


def given(delivery: Delivery, status: int = 200, body: bytes = BODY) -> list[Step]:
    return list(steps(Answer(status, (("a", "b"),), body, delivery)))


def test_an_answer_is_sent_whole_with_its_length_and_the_connection_kept() -> None:
    assert given(Delivery()) == [b"HTTP/1.1 200 OK\r\na: b\r\ncontent-length: 10\r\n\r\n0123456789"]


@pytest.mark.parametrize(
    ("status", "line"), [(0, b"HTTP/1.1 000 Unknown\r\n"), (101, b"HTTP/1.1 101 Switching"), (302, b"HTTP/1.1 302 Found")]
)
def test_any_status_can_be_said(status: int, line: bytes) -> None:
    first = given(Delivery(), status)[0]
    assert isinstance(first, bytes)
    assert first.startswith(line)


def test_an_answer_is_held_then_late() -> None:
    assert given(Delivery(hold=True, delay=0.5))[:2] == [Mark.HOLD, Pause(0.5)]


def test_a_body_in_pieces_has_a_pause_between_them() -> None:
    sent = given(Delivery(pieces=3, pause=0.25))
    assert sent[1:] == [Pause(0.25), b"4567", Pause(0.25), b"89"]


def test_an_empty_body_can_be_cut_in_pieces_too() -> None:
    assert given(Delivery(pieces=3), body=b"") == [b"HTTP/1.1 200 OK\r\na: b\r\ncontent-length: 0\r\n\r\n"]


def test_a_drop_after_reading_sends_nothing() -> None:
    assert given(Delivery(drop="after_reading", delay=1)) == [Pause(1), Mark.RESET]


def test_a_drop_in_the_headers_sends_half_of_them() -> None:
    head, *_, mark = given(Delivery(drop="in_headers"))
    assert isinstance(head, bytes)
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert b"\r\n\r\n" not in head
    assert mark is Mark.RESET


def test_a_drop_in_the_body_sends_half_of_it() -> None:
    assert given(Delivery(drop="in_body"))[0] == b"HTTP/1.1 200 OK\r\na: b\r\ncontent-length: 10\r\n\r\n01234"
    assert given(Delivery(drop="in_body"))[-1] is Mark.RESET


@pytest.mark.parametrize(
    ("framing", "body", "end"),
    [
        pytest.param("chunked", BODY, b"transfer-encoding: chunked\r\n\r\na\r\n0123", id="chunked"),
        pytest.param("close", BODY, b"connection: close\r\n\r\n01234", id="close"),
        pytest.param("length", b"", b"content-length: 0\r\n\r", id="no body"),
    ],
)
def test_a_drop_in_the_body_leaves_no_whole_answer(framing: Literal["chunked", "close", "length"], body: bytes, end: bytes) -> None:
    first = given(Delivery(drop="in_body", framing=framing), body=body)[0]
    assert isinstance(first, bytes)
    assert first.endswith(end)


def test_chunks_end_with_an_empty_one() -> None:
    sent = given(Delivery(framing="chunked", pieces=2))
    assert sent == [
        b"HTTP/1.1 200 OK\r\na: b\r\ntransfer-encoding: chunked\r\n\r\n5\r\n01234\r\n",
        Pause(0),
        b"5\r\n56789\r\n0\r\n\r\n",
    ]


def test_a_truncated_answer_promises_more_than_it_sends_and_closes() -> None:
    first, *_, last = given(Delivery(framing="truncated"))
    assert isinstance(first, bytes)
    assert b"content-length: %d\r\n" % (len(BODY) + MISSING_BYTES) in first
    assert first.endswith(BODY)
    assert last is Mark.CLOSE


def test_a_truncated_answer_is_not_made_whole_by_what_is_sent_behind_it() -> None:
    (sent, _) = given(Delivery(framing="truncated", extra="x" * MISSING_BYTES))
    assert isinstance(sent, bytes)
    assert b"content-length: %d\r\n" % (len(BODY) + 2 * MISSING_BYTES) in sent


def test_a_bad_chunk_has_no_size() -> None:
    sent = given(Delivery(framing="bad_chunk"))
    assert isinstance(sent[0], bytes)
    assert sent[0].endswith(b"a\r\n0123456789\r\nnot a size\r\n")
    assert sent[-1] is Mark.CLOSE


def test_an_endless_body_never_ends() -> None:
    endless = steps(Answer(200, (), BODY, Delivery(framing="endless")))
    assert all(isinstance(step, bytes) and step for step in islice(endless, 100))


def test_a_body_until_close_has_no_length() -> None:
    first, *_, last = given(Delivery(framing="close"))
    assert isinstance(first, bytes)
    assert b"content-length" not in first
    assert b"connection: close" in first
    assert last is Mark.CLOSE


@pytest.mark.parametrize(("framing", "end"), [("length", b"0123456789"), ("chunked", b"a\r\n0123456789\r\n0\r\n\r\n")])
def test_extra_bytes_come_with_the_end_of_the_body(framing: Literal["length", "chunked"], end: bytes) -> None:
    (sent,) = given(Delivery(framing=framing, extra="HTTP/1.1"))
    assert isinstance(sent, bytes)
    assert sent.endswith(end + b"HTTP/1.1")


@pytest.mark.parametrize(("close", "said"), [("announced", True), ("silent", False)])
def test_the_connection_can_be_closed_announced_or_not(close: str, *, said: bool) -> None:
    first, *_, last = given(Delivery(close="announced" if close == "announced" else "silent"))
    assert isinstance(first, bytes)
    assert (b"connection: close" in first) is said
    assert last is Mark.CLOSE
