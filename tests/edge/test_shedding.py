from collections.abc import Callable

import pytest
from structlog.testing import CapturingLogger

from gateway.edge.shedding import (
    BRIEF,
    CALLS,
    COUNTED,
    CROWD,
    DOUBTS,
    FEW,
    FEW_REQUESTS,
    HELD,
    LATE,
    LEEWAY,
    LITTLE,
    LONG,
    MANY,
    OVER,
    PERIOD,
    REFUSING,
    RELAPSE,
    REQUESTS,
    SHORT,
    TERM,
    Shedder,
    Work,
)
from gateway.errors import GatewayError

COSTS: dict[Work, int] = {"sdk": 5, "api": 1}
REFUSAL = 0.05
"""What a refusal takes, in calls."""


class Loop:
    """A loop that is as late as the test says, on a clock that stands still otherwise."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.turn = 1000.0
        self.timer: tuple[float, Callable[[], object]] | None = None

    def time(self) -> float:
        return self.turn

    def call_later(self, delay: float, callback: Callable[[], object], /) -> None:
        assert self.timer is None
        self.timer = self.now + delay, callback

    def look(self, late: float) -> None:
        assert self.timer is not None
        (due, callback), self.timer = self.timer, None
        self.now = self.turn = due + late
        callback()


class Rig:
    def __init__(self, *, few: int = FEW) -> None:
        self.loop = Loop()
        self.room = 1000
        self.clients = 5 * CROWD + 1  # a crowd whatever they ask for
        self.queued = 0.0
        self.waiting = (0, 0.0)
        self.log = CapturingLogger()
        self.shedder = Shedder(
            self.log,
            self.loop,
            has_room=lambda size: size < self.room,
            clients=self.active,
            queued=lambda: self.queued,
            waiting=lambda: self.waiting,
            few=few,
            now=lambda: self.loop.now,
        )

    def active(self, seconds: float) -> int:
        assert seconds == TERM
        return self.clients

    def refusal(self, work: Work = "sdk", size: int = 0) -> str | None:
        try:
            self.shedder.begin(work, size)
        except GatewayError as error:
            return error.reason if error.failure.code == "OVERLOADED" else "wrong code"
        return None

    def turns(self, count: int, late: float, requests: int = 8, work: Work = "sdk") -> None:
        for _ in range(count):
            assert [self.refusal(work) for _ in range(requests)] == [None] * requests
            self.loop.look(late)

    def crowd(self, work: Work = "sdk") -> None:
        """Have so many requests in hand as an overload has."""
        assert [self.refusal(work) for _ in range(CROWD)] == [None] * CROWD
        self.loop.look(0)

    def overload(self, work: Work = "sdk") -> None:
        self.crowd(work)
        while not self.shedder.is_shedding:
            self.turns(1, LONG * 2, work=work)

    def term(self, asked: int, late: float = 0.0) -> None:
        """Let a term pass in which so many requests come with each look."""
        ends = self.loop.now + TERM + 2 * PERIOD
        while self.loop.now < ends and self.shedder.is_shedding:
            for _ in range(asked):
                self.refusal()
            self.loop.look(late)

    def limit(self) -> float:
        """Return how late the loop may be for a call now, while work is refused."""
        return max(SHORT, CALLS * 5 * self.shedder._unit) + self.shedder._leeway

    def look(self, late: float, work: Work = "sdk") -> None:
        """Let the loop be late, and the first request come since then: it is taken in any case."""
        self.loop.look(late)
        self.refusal(work)

    def done(self, requests: int | None = None, work: Work = "sdk") -> None:
        """Let so many requests end, or all."""
        for _ in range(round(self.shedder._in_hand / COSTS[work]) if requests is None else requests):
            self.shedder.end(work)

    def refuse_many(self) -> None:
        """Have more refused than done."""
        for _ in range(20 * CROWD):
            self.shedder.refuse()
        self.loop.look(0)

    def said(self) -> list[str]:
        return [call.args[0] for call in self.log.calls]


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_loop_that_is_a_little_late_is_let_alone(rig: Rig) -> None:
    rig.crowd()
    rig.turns(1000, LONG * 0.9)
    assert rig.said() == []


@pytest.mark.parametrize(("queued", "is_shedding"), [(LONG * 0.9, False), (LONG * 2, True)])
def test_work_that_is_put_off_is_late_as_much_as_the_loop(rig: Rig, queued: float, *, is_shedding: bool) -> None:
    rig.crowd()
    rig.queued = queued
    for _ in range(100):
        rig.refusal()
        rig.loop.look(0)
    assert rig.shedder.is_shedding is is_shedding


@pytest.mark.parametrize(("waiting", "is_shedding"), [(MANY * 5 - 1, False), (MANY * 5, True)])
def test_requests_that_have_not_begun_are_late_as_much_as_the_loop(rig: Rig, waiting: int, *, is_shedding: bool) -> None:
    rig.waiting = (waiting, LONG * 2)
    for _ in range(100):
        rig.refusal("api")
        rig.done()
        rig.loop.look(0)
    assert rig.shedder.is_shedding is is_shedding


def test_while_requests_wait_none_is_added(rig: Rig) -> None:
    rig.overload("api")
    for waited, taken in ((LONG, False), (0.0, True)):
        rig.waiting = (FEW * 5, waited)
        rig.done()
        rig.look(0, "api")
        assert (rig.refusal("api") is None) is taken


def test_calls_that_wait_for_their_clients_are_not_what_makes_the_loop_late(rig: Rig) -> None:
    rig.crowd()
    for _ in range(CROWD):
        rig.shedder.pause("sdk")
    for _ in range(100):
        assert [rig.refusal() for _ in range(8)] == [None] * 8
        rig.done(8)
        rig.loop.look(LONG * 2)
    assert not rig.shedder.is_shedding
    for _ in range(CROWD):
        rig.shedder.resume("sdk")
    for _ in range(50):
        if not rig.shedder.is_shedding:
            rig.turns(1, LONG * 2)
    assert rig.shedder.is_shedding


@pytest.mark.parametrize(("clients", "kinds"), [(128, ["sdk"]), (640, ["api"]), (213, ["sdk", "api"])])
def test_few_clients_are_let_alone_however_slow_it_gets(rig: Rig, clients: int, kinds: list[Work]) -> None:
    """Those that ask for the API cost less, so more of them are few."""
    rig.clients = clients
    for _ in range(100):
        assert {rig.refusal(kind) for _ in range(CROWD) for kind in kinds} == {None}
        rig.loop.look(1.0)
        for kind in kinds:
            rig.done(CROWD, kind)
    assert rig.said() == []
    rig.clients += 1
    while not rig.shedder.is_shedding:
        assert {rig.refusal(kind) for _ in range(CROWD) for kind in kinds} == {None}
        rig.loop.look(1.0)


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
def test_nobody_is_held_up_at_twice_the_load(rig: Rig, work: Work) -> None:
    """A refusal costs a quarter of a unit, a call five and a request one: who is offered twice what it can do refuses the rest."""
    rig.overload(work)
    refusal = REFUSAL * COSTS["sdk"] / COSTS[work]
    done = (1 - 2 * refusal) / (1 - refusal)  # of what can be done while nothing is refused
    for _ in range(1000):
        assert rig.shedder.hold(work) == 0.0
        rig.loop.now += COSTS[work] * rig.shedder._unit / (2 - done)


def test_an_overload_is_noticed_before_much_has_gathered(rig: Rig) -> None:
    """Twice as many calls come as can be done: what is in hand grows by half a millisecond's work in each millisecond."""
    began = rig.loop.now
    while not rig.shedder.is_shedding:
        due = rig.loop.timer[0] if rig.loop.timer else rig.loop.now
        in_hand = round(rig.shedder._in_hand / COSTS["sdk"])
        late = min(0.03, in_hand * 0.0014 / 5)
        passed = due + late - rig.loop.now
        assert {rig.refusal() for _ in range(round(passed * 1400) or 1)} == {None}
        rig.done(min(round(passed * 700), in_hand))
        rig.loop.look(late)
    assert rig.loop.now - began < 0.3
    assert rig.shedder._in_hand < 200 * COSTS["sdk"]


def test_a_single_delay_is_no_overload(rig: Rig) -> None:
    rig.crowd()
    rig.turns(10, 0.001)
    for late in (LONG, COUNTED, 1.0, 60.0):
        rig.turns(1, late)
        rig.turns(100, 0.001)
    assert not rig.shedder.is_shedding


def test_a_loop_that_is_late_without_many_requests_in_hand_is_not_overloaded(rig: Rig) -> None:
    for _ in range(100):
        assert [rig.refusal() for _ in range(MANY - 1)] == [None] * (MANY - 1)
        rig.loop.look(LONG * 5)
        rig.done()
    assert rig.said() == []


def test_the_first_request_after_a_look_is_taken_in_any_case(rig: Rig) -> None:
    rig.overload()
    for _ in range(10):
        rig.loop.look(LONG)
        assert [rig.refusal() is None for _ in range(2)] == [True, False]


def test_a_loop_that_is_late_for_a_while_refuses_and_says_so_once(rig: Rig) -> None:
    rig.crowd()
    rig.turns(1, LONG * 2)
    assert not rig.shedder.is_shedding
    rig.overload()
    rig.look(LONG)
    for _ in range(20):
        assert rig.refusal() == LATE
        rig.look(LONG)
    assert rig.said() == ["overloaded: refusing new requests"]


def test_while_it_refuses_work_begins_whenever_the_loop_is_in_time(rig: Rig) -> None:
    rig.overload()
    for times, taken in ((2, False), (0.4, True), (3, False), (0, True)):
        rig.look(rig.limit() * times)
        assert (rig.refusal() is None) is taken
    assert rig.shedder.is_shedding


@pytest.mark.parametrize("share", [2 * OVER, LITTLE / 2, LITTLE, 0.9])
def test_the_less_is_refused_the_later_the_loop_may_be_for_a_call(rig: Rig, share: float) -> None:
    rig.overload()
    begun = refused = 0
    for _ in range(3000):
        rig.loop.look(0)
        taken = [rig.refusal() for _ in range(4)].count(None)
        rig.done(taken)
        begun += taken
        while refused < begun * share / (1 - share):
            rig.shedder.refuse()
            refused += 1
    leeway = LEEWAY * max(0.0, 1 - share / LITTLE)
    assert rig.shedder._leeway == pytest.approx(leeway, abs=LEEWAY / 10)
    call = 5 * rig.shedder._unit  # the first, which is taken in any case
    allowed = max(SHORT, CALLS * call) + leeway
    for late, taken in ((allowed - 1.4 * call, True), (allowed - 0.6 * call, False)):
        rig.look(late)
        assert (rig.refusal() is None) is taken


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
            rig.loop.turn = rig.loop.now
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
    rig.loop.look(LONG)
    assert [rig.refusal() is None for _ in range(2)] == [True, False]


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
    rig.loop.turn += 0.001
    monkeypatch.setattr(Shedder, "_has_place", lambda *_: True)
    assert rig.shedder.passes("api")


def test_it_ends_after_a_term_in_which_little_was_refused_and_says_how_much_was(rig: Rig) -> None:
    rig.overload()
    began = rig.loop.now
    rig.look(LONG)
    assert [rig.refusal() is None for _ in range(2)] == [False] * 2
    rig.term(asked=1)
    assert TERM <= rig.loop.now - began < TERM + 0.1
    assert rig.said()[-1] == "taking all requests again"
    assert rig.log.calls[-1].kwargs == {"refused": 3}
    assert [rig.refusal() for _ in range(100)] == [None] * 100


def test_it_goes_on_while_much_is_refused(rig: Rig) -> None:
    rig.overload()
    for _ in range(5):
        rig.term(asked=200)
        assert rig.shedder.is_shedding
    rig.term(asked=1)
    rig.term(asked=1)
    assert rig.said() == ["overloaded: refusing new requests", "taking all requests again"]


def test_it_ends_when_only_few_clients_are_left_that_ask_again_and_again(rig: Rig) -> None:
    rig.overload()
    rig.term(asked=200)
    assert rig.shedder.is_shedding
    rig.clients = CROWD
    rig.term(asked=200)
    assert not rig.shedder.is_shedding
    assert rig.said()[-1] == "taking all requests again"


def _terms_until_it_is_tried(rig: Rig) -> int:
    """Let terms pass in which few clients are refused much; return how many do until all is taken again."""
    rig.clients = CROWD
    terms = 0
    while rig.shedder.is_shedding:
        rig.term(asked=40, late=LONG)
        terms += 1
    rig.clients = 5 * CROWD + 1
    return terms


def test_where_few_clients_were_a_crowd_after_all_it_is_tried_less_and_less_often_whether_it_is_over(rig: Rig) -> None:
    """As behind a proxy that uses the connection on which it got an answer last: those it has not used lately are there all the same."""
    waited = []
    for _ in range(7):
        rig.overload()
        waited.append(_terms_until_it_is_tried(rig))
        rig.done()
    assert waited == [1, 2, 4, 8, 16, DOUBTS, DOUBTS]


def test_a_crowd_that_is_seen_meanwhile_is_counted_from_then(rig: Rig) -> None:
    rig.overload()
    assert _terms_until_it_is_tried(rig) == 1
    rig.overload()
    for clients in (CROWD, 5 * CROWD + 1, CROWD):
        rig.clients = clients
        rig.term(asked=40, late=LONG)
    assert rig.shedder.is_shedding
    assert _terms_until_it_is_tried(rig) == 1


@pytest.mark.parametrize("ends", ["little is refused", "late"])
def test_an_overload_that_does_not_come_back_at_once_is_another_one(rig: Rig, ends: str) -> None:
    rig.overload()
    if ends == "late":
        assert _terms_until_it_is_tried(rig) == 1
        rig.done()
        rig.turns(round(RELAPSE / PERIOD), 0.0)
    else:
        rig.term(asked=1)
    rig.done()
    rig.overload()
    assert _terms_until_it_is_tried(rig) == 1


def test_that_it_comes_back_is_noticed_sooner(rig: Rig) -> None:
    rig.overload()
    assert _terms_until_it_is_tried(rig) == 1
    looks = 0
    while not rig.shedder.is_shedding:
        rig.turns(1, LONG * 2)
        looks += 1
    other = Rig()
    other.crowd()
    anew = 0
    while not other.shedder.is_shedding:
        other.turns(1, LONG * 2)
        anew += 1
    assert looks < anew / 2


def test_it_ends_when_nobody_comes_any_more(rig: Rig) -> None:
    rig.overload()
    rig.done()
    rig.term(asked=1000)
    rig.term(asked=0)
    rig.term(asked=0)
    assert not rig.shedder.is_shedding
    assert rig.loop.timer is None


def test_the_next_overload_is_found_anew(rig: Rig) -> None:
    rig.overload()
    rig.term(asked=1)
    rig.turns(1, LONG)
    assert not rig.shedder.is_shedding
    rig.overload()
    assert rig.said() == ["overloaded: refusing new requests", "taking all requests again", "overloaded: refusing new requests"]


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


def test_nothing_is_looked_at_while_nothing_comes(rig: Rig) -> None:
    rig.turns(1, 0)
    rig.loop.look(0)
    assert rig.loop.timer is None
    assert rig.refusal() is None
    assert rig.loop.timer is not None
