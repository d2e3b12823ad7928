import pytest

from gateway.admin.counts import Counts
from gateway.admin.history import Step
from gateway.admin.traffic import by_minute, last_minute, outcome_of_result, outcome_of_status, traffic
from gateway.alipayplus.results import DOCUMENTED, Result
from gateway.errors import FAILURES
from gateway.sdkproxy.contract import http_status


def step(counts: Counts | None = None, *, begin: float = 0.0, seconds: float = 10.0) -> Step:
    return Step(begin, seconds, counts or {})


@pytest.mark.parametrize("code", DOCUMENTED)
def test_results_of_alipayplus_are_judged_by_how_they_are_answered(code: str) -> None:
    status = DOCUMENTED[code]
    expected = {200: "ok", 422: "refused"}.get(http_status(Result(code, status)), "failed")
    assert outcome_of_result(status, code, "alipayplus") == expected


@pytest.mark.parametrize("code", FAILURES)
def test_failures_of_our_own_are_refusals_below_500(code: str) -> None:
    failure = FAILURES[code]
    assert outcome_of_result(failure.result_status, code, "gateway") == ("refused" if failure.http_status < 500 else "failed")


def test_unknown_codes_are_judged_by_their_status() -> None:
    assert [outcome_of_result(status, "other", "alipayplus") for status in "SFU"] == ["ok", "refused", "failed"]
    assert [outcome_of_status(status) for status in ("101", "304", "404", "499", "500", "0")] == [
        *("ok", "ok", "refused", "refused", "failed", "failed")
    ]


def test_both_ways_are_summed_up_and_results_stand_in_the_order_of_their_number() -> None:
    counts = {
        ("result", "S", "SUCCESS", "alipayplus"): 6.0,
        ("result", "U", "ALIPAYPLUS_TIMEOUT", "gateway"): 8.0,
        ("result", "F", "PROCESS_FAIL", "alipayplus"): 1.0,
        ("answer", "200"): 5.0,
        ("answer", "404"): 2.0,
        ("took", "sdk", "0.1"): 15.0,
        ("took", "sdk", "+Inf"): 15.0,
        ("login", "unavailable"): 1.0,
        ("restart",): 1.0,
        ("full",): 2.0,
    }
    found = traffic([step(), step(counts)])
    assert (found.sdk.window.ok, found.sdk.window.refused, found.sdk.window.failed) == (6, 1, 8)
    assert (found.api.window.ok, found.api.window.refused, found.api.window.failed) == (5, 2, 0)
    assert [one.all for one in found.sdk.steps] == [0, 15]
    assert found.sdk.window.p99 == pytest.approx(0.099)
    assert found.api.window.p99 is None
    assert found.worst == "ALIPAYPLUS_TIMEOUT"
    assert [(one.result_code, one.count) for one in found.results] == [("ALIPAYPLUS_TIMEOUT", 8), ("SUCCESS", 6), ("PROCESS_FAIL", 1)]
    assert (found.logins["unavailable"], found.restarts, found.log_lines_dropped, found.full) == (1, 1, 0, 2)


def test_the_last_minute_is_the_newest_steps_that_make_one() -> None:
    steps = [step(begin=number) for number in range(10)]
    assert [one.begin for one in last_minute(steps)] == [4, 5, 6, 7, 8, 9]
    assert [one.begin for one in last_minute([*steps[:9], step(begin=9, seconds=1)])] == [3, 4, 5, 6, 7, 8, 9]
    assert last_minute(steps[:2]) == steps[:2]


@pytest.mark.parametrize("count", [1, 5, 6, 7, 12, 59, 60])
def test_minutes_are_counted_back_from_now(count: int) -> None:
    steps = [step(begin=number) for number in range(count)]
    minutes = [*by_minute(steps)]
    assert [one for minute in minutes for one in minute] == steps
    assert all(len(minute) == 6 for minute in minutes[1:])
    assert 0 < len(minutes[0]) <= 6
