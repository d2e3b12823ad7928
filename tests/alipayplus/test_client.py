"""The small pure parts of the client; the calls themselves are tested through the gateway (`tests/sdkproxy`)."""

import pytest

from gateway.alipayplus.client import clock_offset, request_time


@pytest.mark.parametrize(
    ("response_time", "offset"),
    [
        pytest.param("1970-01-01T00:16:45+00:00", 4, id="C14-with-an-offset"),
        pytest.param("1970-01-01T08:16:45.5+08:00", 4.5, id="C14-with-another-offset-and-a-fraction"),
        pytest.param("1970-01-01T00:16:40Z", -1, id="C14-behind"),
        pytest.param("1005500", 4.5, id="C14-epoch-milliseconds"),
        pytest.param("1970-01-01T00:16:45", None, id="C14-without-an-offset"),
        pytest.param("soon", None, id="C14-no-time"),
        pytest.param("²", None, id="C14-digits-that-are-no-number"),
        pytest.param("9" * 5000, None, id="C14-too-many-digits"),
        pytest.param("9" * 400, None, id="C14-too-large"),
        pytest.param("", None, id="C14-empty"),
        pytest.param(None, None, id="C14-absent"),
    ],
)
def test_the_offset_of_the_clocks_is_measured_at_the_middle_of_the_call(response_time: str | None, offset: float | None) -> None:
    assert clock_offset(response_time, 1000, 2) == offset


def test_a_request_time_is_written_with_its_offset() -> None:
    assert request_time(1_558_995_132) == "2019-05-27T22:12:12+00:00"
