import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from msgspec import Struct

from gateway.edge.exchange import Exchange, Ids, Recorder, SdkRecord
from gateway.telemetry.metrics import Metrics


@dataclass
class Lines:
    """Access lines kept in memory."""

    access_enabled: bool = True
    lines: list[Struct] = field(default_factory=list)

    def access(self, lines: Sequence[Struct]) -> None:
        self.lines.extend(lines)


def api(status: int = 200, reason: str | None = None) -> Exchange:
    return Exchange("GET", "192.0.2.1", route="/", status=status, reason=reason)


def recorded(*exchanges: Exchange, sample: float, draw: float = 0.5) -> int:
    """Return how many of these are logged where the sample's chance falls so. All are counted."""
    metrics, lines = Metrics(), Lines()
    recorder = Recorder(metrics, lines, sample=sample, draw=lambda: draw)
    for exchange in exchanges:
        recorder.record(exchange)
    counted = metrics.registry.get_sample_value("gateway_request_duration_seconds_count", {"route": "/"})
    assert counted == len(exchanges)
    return len(lines.lines)


@pytest.mark.parametrize(("sample", "draw", "logged"), [(1.0, 0.999, 1), (0.0, 0.0, 0), (0.1, 0.09, 1), (0.1, 0.1, 0)])
def test_of_api_requests_that_succeeded_the_share_is_logged(sample: float, draw: float, logged: int) -> None:
    assert recorded(api(), sample=sample, draw=draw) == logged
    assert recorded(api(304), sample=sample, draw=draw) == logged
    assert recorded(api(101, reason="client closed"), api(101, reason="upstream closed"), sample=sample, draw=draw) == 2 * logged


def test_sdk_calls_are_always_logged() -> None:
    exchange = api()
    exchange.sdk = SdkRecord(result_status="S")
    assert recorded(exchange, sample=0.0) == 1


@pytest.mark.parametrize(
    "failed", [api(0), api(400), api(404), api(499), api(502), api(200, reason="client_abort"), api(101, reason="client lost")]
)
def test_what_failed_is_always_logged(failed: Exchange) -> None:
    assert recorded(failed, sample=0.0) == 1


async def test_requests_that_end_together_are_counted_and_logged_together() -> None:
    metrics, lines = Metrics(), Lines()
    recorder = Recorder(metrics, lines, batch=3)
    for status in (200, 404):
        recorder.record(api(status))
    assert lines.lines == []
    recorder.record(api(502))
    assert [line.status for line in lines.lines] == [200, 404, 502]  # type: ignore[attr-defined]
    assert [failed.status for failed in recorder.failures.all()] == [502]


async def test_of_those_that_are_counted_together_each_counts_for_what_it_is() -> None:
    metrics, lines = Metrics(), Lines()
    recorder = Recorder(metrics, lines, batch=64)
    refused = [Exchange("POST", "192.0.2.1", route="sdk", status=503, sdk=SdkRecord(result_status="F", code_label="OVERLOADED"))] * 3
    recorder.record(*refused, Exchange("PURGE", "192.0.2.1", route="sdk", status=405, sdk=SdkRecord(result_status="F", code_label="other")))
    recorder.record(api(), api(503))
    recorder.flush()
    sample = metrics.registry.get_sample_value
    counted = {("sdk", "POST", "503"): 3, ("sdk", "other", "405"): 1, ("/", "GET", "200"): 1, ("/", "GET", "503"): 1}
    for (route, method, status), count in counted.items():
        assert sample("gateway_requests_total", {"route": route, "method": method, "status": status}) == count
    for code, count in {"OVERLOADED": 3, "other": 1}.items():
        labels = {"scene": "none", "result_status": "F", "result_code": code, "source": "gateway"}
        assert sample("gateway_alipayplus_results_total", labels) == count
    assert sample("gateway_request_duration_seconds_count", {"route": "sdk"}) == 4
    times = [line.time for line in lines.lines]  # type: ignore[attr-defined]
    assert len(set(times[:4])) == len(set(times[4:])) == 1, "what ended together ended at the same time"


async def test_one_request_waits_for_others_only_for_a_moment() -> None:
    written = asyncio.Event()

    class Told(Lines):
        def access(self, lines: Sequence[Struct]) -> None:
            super().access(lines)
            written.set()

    lines = Told()
    recorder = Recorder(Metrics(), lines, batch=64)
    recorder.record(api())
    async with asyncio.timeout(10):
        await written.wait()
    recorder.record(api())
    recorder.flush()
    recorder.flush()
    assert len(lines.lines) == 2


async def test_who_asks_for_metrics_gets_all_that_have_ended() -> None:
    metrics = Metrics()
    recorder = Recorder(metrics, Lines(), batch=64)
    for count in range(1, 4):
        recorder.record(api())
        assert metrics.registry.get_sample_value("gateway_requests_total", {"route": "/", "method": "GET", "status": "200"}) == count


def test_the_duration_of_a_call_does_not_count_connecting() -> None:
    metrics, exchange = Metrics(), api()
    exchange.sdk = SdkRecord(scene_label="none", sent="answered")
    exchange.phases |= {"sign": (13.0, 14.0), "alipayplus": (11.0, 22.0)}  # it took 3 s to connect
    Recorder(metrics, Lines()).record(exchange)
    assert metrics.registry.get_sample_value("gateway_alipayplus_duration_seconds_sum", {"scene": "none"}) == 8


def kept(*exchanges: Exchange) -> list[tuple[str, str, str]]:
    """Code, result status and source of what is kept of these requests as failures."""
    recorder = Recorder(Metrics(), Lines())
    for exchange in exchanges:
        recorder.record(exchange)
    return [(failed.code, failed.result_status, failed.source) for failed in recorder.failures.all()]


def test_results_other_than_S_are_kept_as_failures() -> None:
    good, bad, ours = api(), api(422), api(504)
    good.sdk = SdkRecord(result_status="S", result_code="SUCCESS", code_label="SUCCESS", source="alipayplus")
    bad.sdk = SdkRecord(result_status="F", result_code="their own words", code_label="other", source="alipayplus")
    ours.sdk = SdkRecord(result_status="U", code_label="ALIPAYPLUS_TIMEOUT")
    assert kept(good, bad, ours) == [("other", "F", "alipayplus"), ("ALIPAYPLUS_TIMEOUT", "U", "gateway")]


def test_of_the_api_what_the_gateway_refused_and_the_upstreams_own_5xx_are_kept_as_failures() -> None:
    refused = api(404)
    refused.failure = "NOT_FOUND"
    assert kept(api(200), api(101), api(404), api(499), refused) == [("NOT_FOUND", "F", "gateway")]
    assert kept(api(500)) == [("", "", "upstream")]


def test_ids_are_of_the_right_length_and_never_the_same() -> None:
    ids = Ids()
    drawn = [ids.draw() for _ in range(1000)]
    assert {len(digits) for digits in drawn} == {112}
    assert len({digits[start : start + 16] for digits in drawn for start in range(0, 112, 16)}) == 7000


def test_a_request_has_ids_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    digits = ["f" * 112, "0123456789abcdef" * 7]
    monkeypatch.setattr(Ids, "draw", lambda _: digits.pop())
    recorder = Recorder(Metrics(), Lines())
    exchanges = [recorder.begin("GET", "192.0.2.1") for _ in range(2)]
    assert (exchanges[0].request_id, exchanges[0].trace_id) == ("0123456789abcdef" * 2,) * 2
    assert (exchanges[0].span_id, exchanges[0].session_span_id, exchanges[0].upstream_span_id) == ("0123456789abcdef",) * 3
    assert exchanges[1].request_id == "f" * 32
