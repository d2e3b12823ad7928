import gc
import threading
import warnings

import pytest
import structlog

from gateway.telemetry.stray import strays_logged


class Fails:
    """Cannot be destroyed."""

    def __del__(self) -> None:
        raise ValueError("canary")


def fail() -> None:
    raise ValueError("canary")


def test_what_nobody_can_catch_is_logged() -> None:
    with structlog.testing.capture_logs() as said, strays_logged(structlog.get_logger()):
        Fails()
        gc.collect()
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
    assert [(line["event"], type(line["exc_info"])) for line in said] == [
        ("an exception was lost", ValueError),
        ("a thread failed", ValueError),
    ]


def test_warnings_go_the_way_of_libraries(caplog: pytest.LogCaptureFixture) -> None:
    with strays_logged(structlog.get_logger()), warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("canary", stacklevel=1)
    assert [record.name for record in caplog.records] == ["py.warnings"]
