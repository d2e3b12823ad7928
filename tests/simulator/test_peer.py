import pytest

from gateway.simulator.delivery import Answer, Delivery
from gateway.simulator.peer import KEEP_BYTES, Outcome, Peer, Script
from gateway.simulator.wire import Request

FIRST, SECOND, USUAL = Delivery(delay=1), Delivery(delay=2), Delivery()
GET = Request("GET", "/", (("A", "1"), ("B", "2"), ("b", "3")))


def peer(keep: int = 10) -> Peer[Delivery]:
    return Peer(lambda request, take: Outcome(Answer(200, delivery=take()), request.get("wrong")), USUAL, keep=keep)


def test_a_script_is_taken_in_order_and_ends_with_its_default() -> None:
    script = Script(USUAL)
    script.add(FIRST, SECOND, times=2)
    assert script.peek() is FIRST
    assert [script.take() for _ in range(6)] == [FIRST, SECOND, FIRST, SECOND, USUAL, USUAL]


def test_a_new_default_replaces_what_was_queued_until_reset() -> None:
    script = Script(USUAL)
    script.add(FIRST, times=1)
    script.add(SECOND, times=None)
    assert [script.take(), script.take()] == [SECOND, SECOND]
    script.reset()
    assert script.peek() is USUAL


def test_a_default_is_one_behaviour() -> None:
    with pytest.raises(ValueError, match="too many values"):
        Script(USUAL).add(FIRST, SECOND, times=None)


def test_the_record_is_bounded_and_counts_all() -> None:
    some = peer(keep=3)
    for _ in range(5):
        some.answer(GET)
    assert [entry.number for entry in some.received] == [3, 4, 5]
    assert some.count == 5
    some.forget()
    assert (some.count, some.received) == (0, ())


def test_the_bodies_of_a_record_are_bounded_together() -> None:
    some = peer()
    half = b"x" * (KEEP_BYTES // 2)
    for body in (half, half, b"y"):
        some.answer(Request("POST", "/", (), body))
    assert [len(entry.body) for entry in some.received] == [len(half), 1]
    some.forget()
    some.answer(Request("POST", "/", (), half + half))
    assert [entry.number for entry in some.received] == [1]


def test_a_record_says_what_was_wrong() -> None:
    some = peer()
    some.answer(GET)
    some.answer(Request("GET", "/", (("Wrong", "because"),)))
    assert [(entry.verified, entry.reason) for entry in some.received] == [(True, None), (False, "because")]


def test_a_recorded_header_is_found_when_it_stands_there_once() -> None:
    some = peer()
    some.answer(GET)
    (entry,) = some.received
    assert (entry.get("a"), entry.get("b"), entry.get("c")) == ("1", None, None)


def test_a_request_is_refused_only_where_the_script_says_so() -> None:
    some = peer()
    assert not some.refuses(GET)
    some.script(Delivery(drop="before_reading"))
    assert some.refuses(GET)
    assert not some.refuses(GET)
    assert some.count == 1


async def test_waiting_ends_when_enough_was_received() -> None:
    some = peer()
    some.answer(GET)
    await some.until_received(1)
