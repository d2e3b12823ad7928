"""When an overload begins and when it is over."""

import pytest

from gateway.edge.shedding import COUNTED, CROWD, DOUBTS, LATE, LONG, MANY, PERIOD, RELAPSE, TERM, Work
from tests.edge.shedder import COSTS, Rig


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
            rig.done(8)
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


def test_nothing_is_looked_at_while_nothing_comes(rig: Rig) -> None:
    rig.turns(1, 0)
    rig.loop.look(0)
    assert rig.loop.timer is None
    assert rig.refusal() is None
    assert rig.loop.timer is not None
