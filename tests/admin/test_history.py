from collections.abc import Callable

from gateway.admin.counts import Counts
from gateway.admin.history import History

KEY = ("answer", "200")


def telling(value: float) -> Callable[[], Counts]:
    return lambda: {KEY: value}


def refuse() -> Counts:
    raise AssertionError


def test_a_step_ends_when_it_is_over_and_the_counters_are_asked_then_only() -> None:
    history = History(100.0, 1000.0)
    history.look(105.0, 1005.0, refuse)
    history.look(110.0, 1010.0, telling(4))
    history.look(110.5, 1010.5, refuse)
    first, second = history.steps(113.0, 1013.0, {KEY: 5})
    assert (first.begin, first.seconds, first.counts) == (1000.0, 10.0, {KEY: 4})
    assert (second.begin, second.seconds, second.counts) == (1010.0, 3.0, {KEY: 1})


def test_so_many_steps_are_kept() -> None:
    history = History(0.0, 0.0, step=1.0, steps=3)
    for moment in range(1, 100):
        history.look(moment, moment, telling(moment))
    steps = history.steps(99.5, 99.5, {KEY: 100})
    assert [step.begin for step in steps] == [97, 98, 99]


def test_a_service_that_was_stopped_for_a_while_has_a_longer_step() -> None:
    history = History(0.0, 0.0)
    history.look(500.0, 500.0, telling(5))
    assert [step.seconds for step in history.steps(501.0, 501.0, {KEY: 5})] == [500.0, 1.0]
