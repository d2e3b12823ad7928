"""Result codes: the table of protocol section 2."""

import pytest

from gateway.alipayplus.results import DOCUMENTED, UNSIGNED_FAILURES, Result
from gateway.errors import ResultStatus

TABLE: dict[str, ResultStatus] = {
    "SUCCESS": "S",
    "ACCESS_DENIED": "F",
    "INVALID_API": "F",
    "INVALID_CLIENT": "F",
    "INVALID_SIGNATURE": "F",
    "KEY_NOT_FOUND": "F",
    "MEDIA_TYPE_NOT_ACCEPTABLE": "F",
    "METHOD_NOT_SUPPORTED": "F",
    "PARAM_ILLEGAL": "F",
    "PROCESS_FAIL": "F",
    "REQUEST_TRAFFIC_EXCEED_LIMIT": "U",
    "UNKNOWN_EXCEPTION": "U",
}


def test_the_documented_codes_are_those_of_the_specification() -> None:
    assert dict(DOCUMENTED) == TABLE


@pytest.mark.parametrize(("code", "status"), TABLE.items())
def test_C8_a_documented_code_is_known_under_its_own_status_only(code: str, status: ResultStatus) -> None:
    assert Result(code, status).known
    others: tuple[ResultStatus, ...] = ("S", "F", "U")
    for other in others:
        assert Result(code, other).known is (other == status)


@pytest.mark.parametrize("code", ["", "success", "SUCCESS ", "ORDER_NOT_EXIST"])
def test_C8_any_other_code_is_unknown(code: str) -> None:
    assert not Result(code, "S").known


def test_the_failures_that_can_come_unsigned_are_documented_ones_before_the_client_is_known() -> None:
    assert {
        "INVALID_CLIENT",
        "KEY_NOT_FOUND",
        "INVALID_SIGNATURE",
        "INVALID_API",
        "METHOD_NOT_SUPPORTED",
        "MEDIA_TYPE_NOT_ACCEPTABLE",
        "ACCESS_DENIED",
    } == UNSIGNED_FAILURES
