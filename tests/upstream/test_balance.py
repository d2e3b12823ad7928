from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstream.balance import BALANCES, LeastRequests, Ordered, RoundRobin, candidates


@dataclass(eq=False)
class Place:
    name: str = ""
    weight: int = 1
    backup: bool = False
    in_flight: int = 0


weights = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def places(weighted: Sequence[int]) -> list[Place]:
    return [Place(str(number), weight) for number, weight in enumerate(weighted)]


@pytest.mark.parametrize(
    ("weighted", "order"),
    [([1], "000"), ([1, 1], "010101"), ([1, 1, 1], "012012"), ([5, 1, 1], "0010200" * 2), ([2, 1], "010010"), ([1, 3], "101110111")],
)
def test_round_robin_takes_turns_smoothly(weighted: list[int], order: str) -> None:
    offered, balance = places(weighted), RoundRobin()
    assert "".join(balance.choose(offered).name for _ in order) == order


def test_one_that_was_away_does_not_catch_up() -> None:
    offered, balance = places([1, 1]), RoundRobin()
    for _ in range(2):
        balance.choose(offered)
    for _ in range(5):
        balance.choose(offered[1:])
    assert "".join(balance.choose(offered).name for _ in range(4)) == "0101"


@given(weights, st.integers(1, 4))
def test_round_robin_gives_each_exactly_its_weight(weighted: list[int], rounds: int) -> None:
    offered, balance = places(weighted), RoundRobin()
    given_out = Counter(balance.choose(offered).name for _ in range(rounds * sum(weighted)))
    assert given_out == {place.name: rounds * place.weight for place in offered}


@given(weights, st.data())
def test_round_robin_is_never_further_off_than_one_round(weighted: list[int], data: st.DataObject) -> None:
    """Whatever parts were offered before, those that are always offered get their shares of what follows."""
    offered, balance = places(weighted), RoundRobin()
    for part in data.draw(st.lists(st.sets(st.sampled_from(offered), min_size=1), max_size=20)):
        balance.choose([place for place in offered if place in part])
    rounds = 50
    given_out = Counter(balance.choose(offered).name for _ in range(rounds * sum(weighted)))
    for place in offered:
        assert abs(given_out[place.name] - rounds * place.weight) <= len(offered)


@pytest.mark.parametrize(
    ("in_flight", "weighted", "chosen"),
    [
        pytest.param([0, 0], [1, 1], "0", id="nobody-busy"),
        pytest.param([3, 2, 4], [1, 1, 1], "1", id="the-least-busy"),
        pytest.param([3, 2], [2, 1], "0", id="for-its-weight"),
        pytest.param([4, 2], [2, 1], "0", id="a-tie-by-turns"),
        pytest.param([1, 0], [100, 1], "1", id="none-in-flight-is-the-least"),
    ],
)
def test_least_requests(in_flight: list[int], weighted: list[int], chosen: str) -> None:
    offered = places(weighted)
    for place, busy in zip(offered, in_flight, strict=True):
        place.in_flight = busy
    assert LeastRequests().choose(offered).name == chosen


def test_least_requests_takes_turns_among_those_that_tie() -> None:
    offered = [Place("a"), Place("b"), Place("busy", in_flight=1), Place("c")]
    balance = LeastRequests()
    assert "".join(balance.choose(offered).name for _ in range(6)) == "abcabc"


@given(weights, st.integers(1, 200))
def test_least_requests_fills_all_by_their_weights(weighted: list[int], requests: int) -> None:
    offered, balance = places(weighted), LeastRequests()
    for _ in range(requests):
        balance.choose(offered).in_flight += 1
    loads = [place.in_flight / place.weight for place in offered]
    assert all((place.in_flight - 1) / place.weight <= min(loads) for place in offered if place.in_flight)


def test_ordered_takes_the_first() -> None:
    offered = places([1, 9, 9])
    offered[0].in_flight = 100
    assert Ordered().choose(offered) is offered[0]
    assert Ordered().choose(offered[1:]) is offered[1]


def test_backups_are_for_when_no_other_is_left() -> None:
    first, second, backup, other_backup = Place(), Place(), Place(backup=True), Place(backup=True)
    offered = [backup, first, second, other_backup]
    assert candidates(offered) == [first, second]
    assert candidates(offered, (first,)) == [second]
    assert candidates(offered, (first, second)) == [backup, other_backup]
    assert candidates([backup, first], (first, backup)) == []
    assert candidates([backup]) == [backup]
    assert candidates([]) == []


@given(st.sampled_from(sorted(BALANCES)), st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=5))
def test_every_policy_chooses_one_of_those_offered(name: str, kinds: list[tuple[int, int]]) -> None:
    offered = [Place(weight=weight, in_flight=in_flight) for weight, in_flight in kinds]
    balance = BALANCES[name]()  # type: ignore[index]  # one of its own keys
    for _ in range(10):
        assert balance.choose(offered) in offered
