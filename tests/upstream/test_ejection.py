import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import model
from gateway.config.values import Duration, Share
from gateway.upstream.ejection import Ejection, may_eject

RULES = model.Ejection(failures=3, interval=Duration(10), duration=Duration(30))


@pytest.mark.parametrize(
    ("failures", "earned"),
    [
        pytest.param([0, 1, 2], True, id="in-a-row"),
        pytest.param([0, 5, 10], True, id="just-within-the-interval"),
        pytest.param([0, 5, 10.1], False, id="too-slow"),
        pytest.param([0, 9, 12, 13], True, id="the-last-ones-count"),
        pytest.param([0, 1], False, id="too-few"),
    ],
)
def test_so_many_failures_within_the_interval_earn_ejection(failures: list[float], earned: bool) -> None:  # noqa: FBT001 - a parameter
    record = Ejection(RULES)
    *before, last = [record.fail(at) for at in failures]
    assert not any(before)
    assert last is earned


def test_a_success_begins_the_row_anew() -> None:
    record = Ejection(RULES)
    assert not record.fail(0)
    assert not record.fail(1)
    record.succeed()
    assert not record.fail(2)
    assert not record.fail(3)
    assert record.fail(4)


def test_who_was_not_ejected_earns_it_again_with_the_next_failure() -> None:
    record = Ejection(RULES)
    assert [record.fail(at) for at in range(5)] == [False, False, True, True, True]
    assert record.remaining(5) == 0


def test_an_ejected_endpoint_is_out_for_the_duration_and_fails_for_nothing() -> None:
    record = Ejection(RULES)
    record.eject(100)
    assert (record.until, record.remaining(100), record.remaining(129), record.remaining(131)) == (130, 30, 1, 0)
    assert not any(record.fail(at) for at in range(100, 130))


def test_D10_the_first_failure_on_probation_is_enough() -> None:
    record = Ejection(RULES)
    record.eject(100)
    assert record.fail(130)
    record.eject(130)
    record.succeed()
    assert record.until == 160
    assert not record.fail(160)


@pytest.mark.parametrize(
    ("members", "max_share", "most"),
    [
        (1, 0.5, 0),
        (2, 0.5, 1),
        (3, 0.5, 1),
        (4, 0.5, 2),
        (1, 1.0, 1),
        (3, 1.0, 3),
        (5, 0.0, 0),
        (100, 0.29, 29),
        (10, 0.7, 7),
        (3, 0.34, 1),
    ],
)
def test_D10_never_more_than_max_share_are_out(members: int, max_share: float, most: int) -> None:
    assert [may_eject(out, members, max_share) for out in range(members)] == [out < most for out in range(members)]


@given(st.integers(1, 1000), st.integers(0, 1_000_000))
def test_D10_the_share_is_never_exceeded_and_always_used(members: int, millionths: int) -> None:
    share = Share(millionths / 1_000_000)
    out = 0
    while may_eject(out, members, share):
        out += 1
    assert out * 1_000_000 <= millionths * members < (out + 1) * 1_000_000


@given(st.lists(st.tuples(st.floats(0, 20), st.booleans()), max_size=60))
def test_ejection_is_earned_only_by_failures_in_a_row(events: list[tuple[float, bool]]) -> None:
    record, now, row = Ejection(RULES), 0.0, 0
    for after, failed in events:
        now += after
        row = row + 1 if failed else 0
        if not failed:
            record.succeed()
        elif record.fail(now):
            assert row >= RULES.failures
