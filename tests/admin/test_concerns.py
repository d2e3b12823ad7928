from typing import Any

import pytest

from gateway.admin.in_force import CertificateShown
from gateway.admin.status import Calls, ReloadShown
from tests.admin.states import DAY, NOW, endpoint, flow, in_force, logins, pool, status, sums, traffic, worker


def test_when_all_is_well_there_is_nothing_to_look_at() -> None:
    assert (status().concerns, status().state) == ((), "ok")


def certificate(days: float) -> dict[str, Any]:
    return {"in_force": in_force(certificates=(CertificateShown("server.tls.certificate", "a.crt", NOW + days * DAY),))}


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"traffic": traffic(sdk=flow(sums(5, 0, 5)))}, "traffic", "50 % of the SDK calls of the last minute failed"),
    ({"traffic": traffic(api=flow(sums(0, 0, 1)))}, "traffic", "100 % of the API requests of the last minute failed"),
    (
        {"traffic": traffic(logins=logins(unavailable=100, missing=900))},
        "pools",
        "50 % of the logins of the last minute",
    ),
    ({"pools": (pool(endpoint(state="unhealthy", out=2), is_down=True),)}, "pools", "wallet: no endpoint is left"),
    ({"pools": (pool(endpoint(state="failing")),)}, "pools", "half or more of the requests to 10.0.0.5:8082 fail"),
    (certificate(-1), "certificates", "has expired"),
]
WARN: list[tuple[dict[str, Any], str, str]] = [
    (
        {"traffic": traffic(sdk=flow(sums(95, 0, 5)), worst="X")},
        "traffic",
        "5.0 % of the SDK calls of the last minute failed, mostly X",
    ),
    ({"traffic": traffic(logins=logins(unavailable=1))}, "pools", "1.0 % of the logins of the last minute could not be checked"),
    (
        {"pools": (pool(endpoint(state="failing"), endpoint(name="10.0.0.6:8082")),)},
        "pools",
        "half or more of the requests to 10.0.0.5:8082 fail",
    ),
    ({"traffic": traffic(log_lines_dropped=1)}, "traffic", "Log lines were lost"),
    ({"traffic": traffic(restarts=1)}, "workers", "died or hung"),
    ({"pools": (pool(endpoint(state="ejected", out=1)),)}, "pools", "is ejected in 1 of 2 workers"),
    ({"pools": (pool(endpoint(state="unhealthy", out=2)),)}, "pools", "10.0.0.5:8082 is unhealthy"),
    ({"pools": (pool(waiting=3),)}, "pools", "wait for a place"),
    ({"workers": (worker(0), worker(1, serves=False))}, "workers", "1 of 2 workers serve"),
    ({"workers": (worker(0), worker(1, generation=2))}, "workers", "1 of 2 workers serve"),
    ({"reload": ReloadShown(NOW, False, NOW - 60, ("a fault",))}, "reload", "The last reload failed"),
    ({"in_force": in_force(holds_back_key=True)}, "keys", "used after gateway reload only"),
    (certificate(20.5), "certificates", "ends in 20 days"),
    ({"traffic": traffic(full=1)}, "limits", "as many connections as may be"),
    ({"calls": Calls(480, 512, 0, 0.0)}, "limits", "Nearly as many calls"),
    ({"calls": Calls(1, 512, 1, 0.0)}, "limits", "wait for a place"),
    ({"calls": Calls(1, 512, 0, -31.0)}, "limits", "differ by -31 s"),
]


@pytest.mark.parametrize(("changes", "section", "text"), BAD)
def test_what_requests_suffer_from_is_bad(changes: dict[str, Any], section: str, text: str) -> None:
    found = status(**changes)
    [concern] = found.concerns
    assert (concern.level, concern.section, found.state) == ("bad", section, "failing")
    assert text in concern.text


@pytest.mark.parametrize(("changes", "section", "text"), WARN)
def test_what_should_be_looked_at_is_a_warning(changes: dict[str, Any], section: str, text: str) -> None:
    found = status(**changes)
    [concern] = found.concerns
    assert (concern.level, concern.section, found.state) == ("warn", section, "attention")
    assert text in concern.text


def test_refusals_are_none_of_our_matter() -> None:
    assert status(traffic=traffic(sdk=flow(sums(1, 99)))).state == "ok"


def test_the_worst_comes_first_and_not_ready_outweighs_all() -> None:
    found = status(ready=False, reasons=("draining",), reload=ReloadShown(NOW, False, NOW - 60))
    assert [concern.level for concern in found.concerns] == ["bad", "warn"]
    assert found.state == "not ready"
