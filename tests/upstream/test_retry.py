import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstream.retry import CAPACITY, RESERVE, RetryBudget, may_repeat


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"])
def test_an_idempotent_request_without_a_body_is_repeated_as_long_as_nothing_came(method: str) -> None:
    assert may_repeat(method, has_body=False, sent=True, response_begun=False)
    assert may_repeat(method, has_body=True, sent=False, response_begun=False)
    assert not may_repeat(method, has_body=True, sent=True, response_begun=False)
    assert not may_repeat(method, has_body=False, sent=True, response_begun=True)


@pytest.mark.parametrize("method", ["POST", "PATCH", "CONNECT", "PROPFIND", "get", ""])
def test_C4_any_other_is_repeated_only_when_not_a_byte_was_sent(method: str) -> None:
    assert may_repeat(method, has_body=False, sent=False, response_begun=False)
    assert may_repeat(method, has_body=True, sent=False, response_begun=False)
    assert not may_repeat(method, has_body=False, sent=True, response_begun=False)
    assert not may_repeat(method, has_body=True, sent=True, response_begun=False)


def test_the_first_requests_may_be_repeated_and_a_share_of_the_others() -> None:
    budget = RetryBudget(0.25, clock=Clock())
    assert sum(budget.withdraw() for _ in range(100)) == RESERVE
    for _ in range(7):
        budget.deposit()
    assert [budget.withdraw(), budget.withdraw()] == [True, False]
    budget.deposit()
    assert [budget.withdraw(), budget.withdraw()] == [True, False]


def test_few_requests_may_be_repeated_all_the_same() -> None:
    clock = Clock()
    budget = RetryBudget(0.2, clock=clock)
    assert sum(budget.withdraw() for _ in range(100)) == RESERVE
    clock.now += 3.5
    assert sum(budget.withdraw() for _ in range(100)) == 3
    clock.now += 3600
    assert sum(budget.withdraw() for _ in range(100)) == RESERVE


def test_what_was_not_used_is_kept_up_to_a_bound() -> None:
    budget = RetryBudget(0.5, clock=Clock())
    for _ in range(10_000):
        budget.deposit()
    assert sum(budget.withdraw() for _ in range(1000)) == CAPACITY


def test_a_share_of_nothing_allows_none() -> None:
    clock = Clock()
    budget = RetryBudget(0.0, clock=clock)
    budget.deposit()
    clock.now += 3600
    assert not budget.withdraw()


@given(st.floats(0, 1), st.lists(st.tuples(st.floats(0, 5), st.integers(0, 30), st.integers(0, 30)), max_size=40))
def test_the_budget_is_never_exceeded(share: float, steps: list[tuple[float, int, int]]) -> None:
    clock = Clock()
    budget, requests, repeats = RetryBudget(share, clock=clock), 0, 0
    for seconds, arriving, failing in steps:
        clock.now += seconds
        for _ in range(arriving):
            budget.deposit()
        requests += arriving
        repeats += sum(budget.withdraw() for _ in range(failing))
        assert repeats <= RESERVE + (clock.now - 1000) + share * requests + 1e-6
