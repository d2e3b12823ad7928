"""The contract's table of the gateway's own failures (architecture, The app's contract), written out once more."""

import pytest

from gateway.errors import FAILURES

TABLE = {
    "REQUEST_MALFORMED": ("F", 400),
    "SESSION_REQUIRED": ("F", 401),
    "SESSION_FORBIDDEN": ("F", 403),
    "NOT_FOUND": ("F", 404),
    "METHOD_NOT_ALLOWED": ("F", 405),
    "REQUEST_TIMEOUT": ("F", 408),
    "REQUEST_TOO_LARGE": ("F", 413),
    "UNSUPPORTED_MEDIA_TYPE": ("F", 415),
    "HEADERS_TOO_LARGE": ("F", 431),
    "SESSION_UNAVAILABLE": ("F", 503),
    "OVERLOADED": ("F", 503),
    "ALIPAYPLUS_UNREACHABLE": ("F", 502),
    "ALIPAYPLUS_TIMEOUT": ("U", 504),
    "ALIPAYPLUS_CONNECTION_LOST": ("U", 502),
    "ALIPAYPLUS_RESPONSE_INVALID": ("U", 502),
    "ALIPAYPLUS_SIGNATURE_INVALID": ("U", 502),
    "INTERNAL_ERROR": ("U", 500),
    "UPSTREAM_UNREACHABLE": ("F", 502),
    "UPSTREAM_UNAVAILABLE": ("F", 503),
    "UPSTREAM_TIMEOUT": ("U", 504),
    "UPSTREAM_CONNECTION_LOST": ("U", 502),
    "UPSTREAM_RESPONSE_INVALID": ("U", 502),
}


@pytest.mark.parametrize("code", TABLE)
def test_a_failure_has_the_result_and_the_status_of_the_contract(code: str) -> None:
    failure = FAILURES[code]
    assert (failure.code, failure.result_status, failure.http_status) == (code, *TABLE[code])


def test_there_are_no_other_failures() -> None:
    assert FAILURES.keys() == TABLE.keys()
