"""Which work may begin while work is refused, and who is heard."""

import pytest

from gateway.edge.growth import SEEN
from gateway.edge.shedding import (
    ALLOWANCE,
    BRIEF,
    CALLS,
    CROWD,
    FEW,
    FEW_REQUESTS,
    HELD,
    LATE,
    LATER,
    LATEST,
    LONG,
    PERIOD,
    REFUSING,
    REQUESTS,
    SHORT,
    Shedder,
    Work,
)
from tests.edge.shedder import COSTS, REFUSAL, Rig

UNIT = 0.00005
"""Seconds that an API request takes, where the test says so."""


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_while_requests_wait_none_is_added(rig: Rig) -> None:
    rig.overload("api")
    for waited, taken in ((LONG, False), (0.0, True)):
        rig.waiting = (FEW_REQUESTS, waited)
        rig.done()
        rig.look(0, "api")
        assert (rig.refusal("api") is None) is taken


@pytest.mark.parametrize("work", ["sdk", "api"])
def test_those_that_are_refused_are_heard_one_by_one_where_refusals_would_take_too_much(rig: Rig, work: Work) -> None:
    rig.overload(work)
    each = REFUSAL * COSTS["sdk"] * rig.shedder._unit / REFUSING[work]
    held = [rig.shedder.hold(work) for _ in range(10 * CROWD + int(HELD / each))]
    brief = int(BRIEF / each)
    assert held[:brief] == [0.0] * brief
    assert held[brief + 1 : brief + 3] == pytest.approx([(brief + 2) * each, (brief + 3) * each])
    assert max(held) == held[-1] == pytest.approx(HELD)
    rig.loop.now += HELD
    assert rig.shedder.hold(work) == 0.0, "all of them have been heard"


@pytest.mark.parametrize("work", ["sdk", "api"])
def test_those_that_were_refused_on_the_usual_way_wait_for_longer(rig: Rig, work: Work) -> None:
    rig.overload(work)
    each = LATER * rig.shedder._unit / REFUSING[work]
    held = [rig.shedder.hold(work, LATER) for _ in range(int(2 * BRIEF / each))]
    assert held[-1] == pytest.approx(len(held) * each)


@pytest.mark.parametrize("work", ["sdk", "api"])
def test_nobody_is_held_up_at_twice_the_load(rig: Rig, work: Work) -> None:
    """A refusal costs a quarter of a unit, a call five and a request one: who is offered twice what it can do refuses the rest."""
    rig.overload(work)
    refusal = REFUSAL * COSTS["sdk"] / COSTS[work]
    done = (1 - 2 * refusal) / (1 - refusal)  # of what can be done while nothing is refused
    for _ in range(1000):
        assert rig.shedder.hold(work) == 0.0
        rig.loop.now += COSTS[work] * rig.shedder._unit / (2 - done)


def test_the_first_request_after_a_look_is_taken_in_any_case(rig: Rig) -> None:
    rig.overload()
    for _ in range(10):
        rig.loop.look(LONG)
        assert [rig.refusal() is None for _ in range(2)] == [True, False]


def test_while_it_refuses_work_begins_whenever_the_loop_is_in_time(rig: Rig) -> None:
    rig.overload()
    for times, taken in ((2, False), (0.4, True), (3, False), (0, True)):
        rig.look(rig.limit() * times)
        assert (rig.refusal() is None) is taken
    assert rig.shedder.is_shedding


@pytest.mark.parametrize("work", ["sdk", "api"])
def test_where_less_was_begun_than_there_was_time_for_the_loop_may_be_later(work: Work) -> None:
    rig = Rig(has_allowance=True)
    rig.overload(work)
    one = COSTS[work] * UNIT  # the first, which is taken in any case
    for late, taken in ((LATEST[work] - 1.2 * one, True), (LATEST[work] - 0.8 * one, False)):
        rig.loop.look(late)
        rig.shedder._unit = UNIT
        rig.refusal(work)
        assert (rig.refusal(work) is None) is taken


@pytest.fixture
def late_rig() -> Rig:
    """A rig in an overload of API requests, too late for more but for what there was time for: a moment in which nothing came."""
    rig = Rig(has_allowance=True)
    rig.overload("api")
    rig.loop.look(0.3)
    rig.loop.look(LATEST["api"] / 2)
    rig.shedder._unit = UNIT
    assert rig.refusal("api") is None, "the first is taken in any case"
    return rig


def taken_in(rig: Rig, seconds: float, each_turn: int) -> int:
    """Let turns of a millisecond pass in which so many requests come; return how many are taken."""
    taken = 0
    for _ in range(round(seconds / 0.001)):
        rig.loop.now += 0.001
        rig.loop.turn()
        taken += [rig.refusal("api") for _ in range(each_turn)].count(None)
    return taken


def test_as_much_begins_as_there_is_time_for_refusals_included(late_rig: Rig) -> None:
    seconds = 0.2
    asked = round(1.5 * seconds / UNIT)
    taken = taken_in(late_rig, seconds, round(asked * 0.001 / seconds))
    spent = (taken + (asked - taken) * LATER) * UNIT
    assert spent == pytest.approx(seconds + ALLOWANCE, rel=0.01)


def test_what_is_no_work_takes_time_too(late_rig: Rig) -> None:
    seconds, units = 0.2, 100
    late_rig.shedder.spend(units)
    asked = round(1.5 * seconds / UNIT)
    taken = taken_in(late_rig, seconds, round(asked * 0.001 / seconds))
    spent = (taken + (asked - taken) * LATER) * UNIT
    assert spent == pytest.approx(seconds + ALLOWANCE - units * UNIT, rel=0.01)


def test_what_is_no_work_makes_work_no_dearer(rig: Rig) -> None:
    rig.overload("api")
    for _ in range(100):
        rig.loop.look(0)
    unit = rig.shedder._unit
    for _ in range(200):
        rig.refusal("api")
        rig.shedder.spend(100)
        rig.loop.look(100 * unit)
    assert rig.shedder._unit == pytest.approx(unit, rel=0.2)


def test_what_is_spent_while_no_requests_come_is_not_theirs(rig: Rig) -> None:
    for _ in range(2):
        rig.turns(50, 0)
        unit = rig.shedder._unit
        rig.loop.look(0)
        assert rig.loop.timer is None
        rig.idle -= 100  # a long night's work
    rig.turns(1, 0)
    assert rig.shedder._unit == pytest.approx(unit, rel=0.1)


def test_what_was_begun_beyond_that_is_soon_forgotten(late_rig: Rig) -> None:
    for _ in range(20000):
        late_rig.shedder.refuse()
    taken_in(late_rig, ALLOWANCE, 0)
    assert taken_in(late_rig, 2 * ALLOWANCE, 10) > 0


def test_a_kind_of_work_that_has_not_had_its_share_begins_in_the_time_of_the_other(late_rig: Rig) -> None:
    taken_in(late_rig, 5 * ALLOWANCE, 30)
    assert late_rig.refusal("api") == LATE
    late_rig.shedder._late = 2.5 * LATEST["sdk"]
    begun = [late_rig.refusal("sdk") for _ in range(100)].count(None)
    assert 0.3 * ALLOWANCE < begun * COSTS["sdk"] * UNIT < 1.1 * ALLOWANCE


def test_requests_of_the_api_begin_only_while_the_loop_is_hardly_late(rig: Rig) -> None:
    rig.overload("api")
    for times, taken in ((1.1, False), (0.7, True)):
        rig.look(rig.shedder._unit * REQUESTS * times, "api")
        assert (rig.refusal("api") is None) is taken


def test_a_turn_that_has_lasted_long_enough_takes_no_more(rig: Rig) -> None:
    rig.overload()
    rig.look(0)
    assert rig.refusal() is None
    rig.loop.now += rig.limit() * 1.1
    assert rig.refusal() is not None


@pytest.mark.parametrize("seconds", [0.0004, 0.0016, 0.005])
def test_what_is_begun_keeps_the_loop_busy_and_in_time(rig: Rig, seconds: float) -> None:
    """Many more than a loop can do come in each of its turns, in which it refuses, and does what was begun in the one before."""
    rig.overload()
    began, begun, latest = rig.loop.now, 0.0, 0.0
    for look in range(800):
        assert rig.loop.timer is not None
        due = rig.loop.timer[0]
        while rig.loop.now < due:
            rig.loop.turn()
            taken = [rig.refusal() for _ in range(10)].count(None)
            rig.done(taken)
            worked = (taken + (10 - taken) * REFUSAL) * seconds
            begun += worked
            rig.loop.now += worked or 0.0001
        late = rig.loop.now - due
        rig.loop.look(late)
        if look == 400:  # it has found out what a call takes
            began, begun, latest = rig.loop.now, 0.0, 0.0
        latest = max(latest, late)
    assert rig.shedder.is_shedding
    assert 0.8 < begun / (rig.loop.now - began) <= 1.01
    assert latest <= SHORT + (CALLS + 2 + 10 * REFUSAL) * seconds


@pytest.mark.parametrize("few", [FEW, 2 * FEW])
def test_a_few_calls_may_be_in_hand_however_late_the_loop_is(few: int) -> None:
    rig = Rig(few=few)
    rig.overload()
    for _ in range(3):
        rig.done()
        rig.loop.look(rig.limit() * 10)
        assert [rig.refusal() for _ in range(few + 10)].count(None) == few


@pytest.mark.parametrize("few", [FEW, 2 * FEW])
def test_how_many_calls_may_be_in_hand_is_nothing_to_the_api(few: int) -> None:
    rig = Rig(few=few)
    rig.overload("api")
    rig.done(work="api")
    rig.loop.look(rig.limit() * 10)
    expected = FEW_REQUESTS
    assert [rig.refusal("api") for _ in range(expected + 10)].count(None) == expected


def test_that_refusals_make_the_loop_late_is_no_reason_to_refuse_more(rig: Rig) -> None:
    rig.overload()
    for refused in (0, 500):
        rig.loop.look(rig.limit() * 10)
        rig.refusal()
        for _ in range(refused):
            assert rig.refusal() == LATE
        rig.loop.look(rig.limit() * 2)
        rig.refusal()
        assert (rig.refusal() is None) is (refused > 0)


def test_what_may_begin_is_not_refused_when_it_does(rig: Rig) -> None:
    rig.overload()
    rig.loop.look(0)
    passed = [rig.shedder.passes("sdk") for _ in range(100)].count(True)
    assert 0 < passed < 100
    rig.loop.now += rig.limit() * 1.1
    assert [rig.refusal() is None for _ in range(passed + 1)] == [True] * passed + [False]


def test_what_may_begin_is_forgotten_if_it_does_not(rig: Rig) -> None:
    rig.overload()
    rig.loop.look(0)
    assert rig.shedder.passes("sdk")
    rig.loop.look(LONG)  # which may come before it has begun
    assert [rig.refusal() is None for _ in range(3)] == [True, True, False]
    rig.loop.look(0)
    assert rig.shedder.passes("sdk")
    rig.loop.look(LONG)
    rig.loop.look(LONG)
    assert [rig.refusal() is None for _ in range(2)] == [True, False]


def test_an_api_request_that_may_begin_is_asked_for_again_after_a_look(rig: Rig) -> None:
    rig.overload("api")
    rig.loop.look(0)
    assert rig.shedder.passes("api")
    rig.loop.now += LONG
    assert [rig.refusal("api") for _ in range(2)] == [None, LATE]
    rig.loop.look(0)
    assert rig.shedder.passes("api")
    rig.loop.look(LONG)
    assert [rig.refusal("api") for _ in range(2)] == [None, LATE]  # the first after a look is taken in any case


def test_an_api_request_whose_connection_is_opened_first_keeps_its_place_for_longer(rig: Rig) -> None:
    rig.overload("api")
    rig.loop.look(0)
    assert rig.shedder.passes("api", is_new=True)
    rig.loop.look(LONG)
    assert [rig.refusal("api") for _ in range(3)] == [None, None, LATE]
    rig.loop.look(0)
    assert rig.shedder.passes("api", is_new=True)
    rig.loop.look(LONG)
    rig.loop.look(LONG)
    assert [rig.refusal("api") for _ in range(2)] == [None, LATE]


def test_a_place_is_for_the_kind_that_was_told_of_it(rig: Rig) -> None:
    rig.overload("api")
    rig.loop.look(0)
    passed = [rig.shedder.passes("sdk") for _ in range(4)].count(True)
    assert passed
    rig.loop.now += LONG
    assert rig.refusal("api") == LATE
    assert [rig.refusal() for _ in range(passed)] == [None] * passed


def test_where_one_found_no_place_none_does_in_that_turn_until_one_in_hand_has_ended(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.overload()
    rig.look(LONG)
    assert not rig.shedder.passes("sdk")
    with monkeypatch.context() as patch:
        patch.setattr(Shedder, "_has_place", lambda *_: True)
        assert [rig.shedder.passes("sdk") for _ in range(3)] == [False] * 3
        rig.done(1)
        assert rig.shedder.passes("sdk")
    assert not rig.shedder.passes("api")
    rig.loop.turn()
    monkeypatch.setattr(Shedder, "_has_place", lambda *_: True)
    assert rig.shedder.passes("api")


@pytest.mark.parametrize(("busy", "idle"), [("sdk", "api"), ("api", "sdk")])
def test_a_kind_of_work_that_has_not_had_its_share_is_taken_for_longer(rig: Rig, busy: Work, idle: Work) -> None:
    rig.overload(busy)
    rig.refuse_many()
    rig.loop.look(rig.limit() * 3)
    assert [rig.refusal(busy) is None for _ in range(2)] == [True, False]
    assert rig.refusal(idle) is None
    rig.look(rig.limit() * 5)
    assert rig.refusal(idle) is not None, "beyond that nothing is taken"


def test_shares_are_of_what_was_done_lately(rig: Rig) -> None:
    rig.overload("sdk")
    for _ in range(500):
        rig.loop.look(0)
        for _ in range(100):
            rig.refusal("api")
    rig.loop.look(rig.limit() * 3)
    assert [rig.refusal("api") is None for _ in range(2)] == [True, False]
    assert rig.refusal("sdk") is None


def test_it_tells_which_work_has_begun_lately(rig: Rig) -> None:
    rig.turns(1, 0, work="sdk")
    assert not rig.shedder.has_lately("api")
    rig.turns(1, 0, requests=1, work="api")
    rig.turns(int(0.9 / PERIOD), 0, work="sdk")
    assert rig.shedder.has_lately("api")
    rig.turns(int(0.2 / PERIOD), 0, work="sdk")
    assert not rig.shedder.has_lately("api")
    assert rig.shedder.has_lately("sdk")


def test_nothing_is_taken_while_there_is_no_room(rig: Rig) -> None:
    rig.turns(1, 0)
    rig.room = 0
    assert [rig.refusal("sdk"), rig.refusal("api")] == ["memory is nearly used up"] * 2
    assert rig.said() == ["memory is nearly used up: refusing new requests"]
    rig.room = 1
    assert rig.refusal() is None
    assert not rig.shedder.is_shedding


def test_what_was_promised_room_has_it_until_it_ends(rig: Rig) -> None:
    assert rig.refusal(size=100) is None
    assert rig.refusal(size=100) is not None, "5 times 200 bytes are no room below 1000"
    assert rig.refusal(size=90) is None
    rig.shedder.end("sdk", 100)
    assert rig.refusal(size=100) is None


def test_what_requests_are_going_to_take_is_reckoned_with_until_they_end() -> None:
    rig = Rig(takes=300)
    assert [rig.refusal() for _ in range(5)] == [None] * 4 + ["memory is nearly used up"], "4 times 300 bytes are no room below 1000"
    rig.shedder.end("sdk")
    assert [rig.refusal() is None for _ in range(2)] == [True, False]
    rig.shedder.pause("sdk")
    assert rig.refusal() is not None, "whoever waits for its client takes memory, too"


def test_what_requests_were_going_to_take_is_seen_after_a_while() -> None:
    rig = Rig(takes=300)
    assert [rig.refusal() for _ in range(4)] == [None] * 4
    begun = rig.loop.now
    while rig.loop.now < begun + 2 * SEEN + PERIOD:
        assert rig.refusal("api") is None or rig.loop.now < begun + 2 * SEEN
        rig.loop.look(0)
    assert rig.refusal() is None


def test_what_requests_are_going_to_take_is_reckoned_with_behind_a_pause() -> None:
    rig = Rig(takes=300)
    for _ in range(2):
        assert [rig.refusal() is None for _ in range(5)] == [True] * 4 + [False], "what began before the pause is seen"
        rig.loop.look(0)
        assert rig.refusal() is not None, "what began behind it is not"
        while rig.loop.timer is not None:
            rig.loop.look(0)
        rig.loop.now += 2 * SEEN
