from gateway.telemetry.failures import Failed, LastFailures


def failed(code: str, request_id: str) -> Failed:
    return Failed(1.0, code, "F", "gateway", 404, "none", request_id)


def test_the_last_of_each_code_are_kept() -> None:
    failures = LastFailures(kept=2)
    failures.note(failed("INTERNAL_ERROR", "bug"))
    for number in range(1000):
        failures.note(failed("NOT_FOUND", str(number)))
    assert [one.request_id for one in failures.all()] == ["bug", "998", "999"]


def test_at_first_there_are_none() -> None:
    assert LastFailures().all() == ()
