"""deploy/prometheus: valid, true to the contract, each alert explained in the runbook and seen both firing and quiet."""

import asyncio
import inspect
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from gateway.alipayplus import client, keys, verification
from gateway.alipayplus.results import DOCUMENTED, Result
from gateway.edge import shedding
from gateway.errors import FAILURES
from gateway.sdkproxy.contract import http_status
from gateway.session import flight
from gateway.telemetry.clock import LARGE as CLOCK_OFFSET_WARNING
from gateway.telemetry.measures import Family
from gateway.telemetry.metrics import Metrics, ServiceMetrics
from gateway.upstream import cluster
from tests.deploy.expressions import METRICS, PROMETHEUS_OWN, faults, read, recorded
from tests.deploy.watched import DEPLOY, Watched, needs_prometheus

FOLDER: Final = DEPLOY / "prometheus"
RULE_FILES: Final = sorted((FOLDER / "rules").glob("*.yml"))
PROMTOOL_TESTS: Final = sorted((Path(__file__).parent / "promtool").glob("*.yml"))

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="needs the package prometheus (promtool)")


def all_rules() -> list[dict[str, Any]]:
    return [rule for file in RULE_FILES for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]


def all_alert_tests() -> Iterator[dict[str, Any]]:
    for file in PROMTOOL_TESTS:
        for test in yaml.safe_load(file.read_text())["tests"]:
            yield from test.get("alert_rule_test", ())


RULES: Final = all_rules()
ALERT_TESTS: Final = list(all_alert_tests())
ALERTS: Final = [rule for rule in RULES if "alert" in rule]
KNOWN: Final = {**METRICS, **PROMETHEUS_OWN, **recorded(RULES)}


def alert_id(rule: dict[str, Any]) -> str:
    return "-".join((rule["alert"], *rule["labels"].values()))


def section(name: str) -> str:
    """Return the text of the runbook below a heading."""
    text = (FOLDER / "runbook.md").read_text()
    found = re.search(rf"^### {name}\n(.*?)(?=^##|\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, f"the runbook has no section {name}"
    return found[1]


async def promtool(*arguments: str, stdin: bytes = b"") -> tuple[int | None, str]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec("promtool", *arguments, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.STDOUT)
    out, _ = await process.communicate(stdin)
    return process.returncode, out.decode()


@needs_promtool
async def test_promtool_finds_nothing_wrong_with_configuration_and_rules() -> None:
    code, said = await promtool("check", "config", "--lint=all", "--lint-fatal", str(FOLDER / "prometheus.yml"))
    assert code == 0, said
    assert f"{len(RULE_FILES)} rule files found" in said
    code, said = await promtool("check", "rules", "--lint=all", "--lint-fatal", *map(str, RULE_FILES))
    assert code == 0, said


@needs_promtool
@pytest.mark.parametrize("file", PROMTOOL_TESTS, ids=lambda file: file.stem)
async def test_alerts_fire_when_they_must_and_are_quiet_otherwise(file: Path) -> None:
    code, said = await promtool("test", "rules", str(file))
    assert code == 0, said


@pytest.mark.parametrize("rule", ALERTS, ids=alert_id)
def test_each_alert_is_seen_firing_and_quiet(rule: dict[str, Any]) -> None:
    own = [test for test in ALERT_TESTS if test["alertname"] == rule["alert"]]
    fires = [any(alert["exp_labels"].items() >= rule["labels"].items() for alert in test.get("exp_alerts", ())) for test in own]
    assert any(fires)
    assert not all(fires)


@pytest.mark.parametrize("rule", ALERTS, ids=alert_id)
def test_each_alert_says_how_bad_it_is_what_it_is_and_where_to_read_on(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    path, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert (DEPLOY.parent / path).samefile(FOLDER / "runbook.md")
    assert anchor == rule["alert"].lower()
    text = section(rule["alert"])
    assert [text.count(f"**{part}.**") for part in ("Meaning", "First look", "What to do")] == [1, 1, 1]


def test_the_reasons_that_the_runbook_names_are_those_of_the_log() -> None:
    rows = re.findall(r"^\| ((?:the|a|no) .+?) \|", section("GatewayAlipayplusKeyUnknown"), re.MULTILINE)
    places = re.findall(r"“([^”]+)”", section("GatewayAvailabilityBurn") + section("GatewayApiRefused"))
    said = "".join(inspect.getsource(module) for module in (client, cluster, flight, keys, shedding, verification))
    assert [reason for reason in (*"; ".join(rows).split("; "), *places) if f'"{reason}"' not in said] == []
    assert (len(rows), len(places)) == (4, 8)


def test_the_runbook_has_no_section_without_an_alert_and_no_link_into_nowhere() -> None:
    text = (FOLDER / "runbook.md").read_text()
    headings = re.findall(r"^### (.+)$", text, re.MULTILINE)
    assert Counter(headings) == Counter({rule["alert"] for rule in ALERTS})
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= {heading.lower() for heading in headings}
    assert set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", text)) <= DOCUMENTED.keys() | FAILURES.keys()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("record") or alert_id(rule))
def test_each_rule_uses_metrics_labels_and_values_of_the_contract(rule: dict[str, Any]) -> None:
    assert list(faults(rule["expr"], KNOWN)) == []


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("rate(gateway_request_total[5m])", "no metric gateway_request_total"),
        ("sum by (code) (gateway_workers)", "no label code on any of ['gateway_workers']"),
        ('gateway_workers{route="sdk"}', "no label route on gateway_workers"),
        ('gateway_rejected_total{reason="connection"}', "no reason=connection on gateway_rejected_total"),
        ('gateway_alipayplus_duration_seconds_bucket{le="10"}', "no le=10 on gateway_alipayplus_duration_seconds_bucket"),
    ],
)
def test_what_is_not_in_the_contract_is_noticed(expression: str, fault: str) -> None:
    assert list(faults(expression, KNOWN)) == [fault]


def test_the_metrics_of_the_gateway_have_the_labels_of_the_contract() -> None:
    declared = {**Metrics().registry._collector_to_names, **ServiceMetrics().registry._collector_to_names}
    for collector, names in declared.items():
        for name in METRICS.keys() & set(names):
            labels = collector.labels if isinstance(collector, Family) else getattr(collector, "_labelnames", ())
            assert METRICS[name].keys() - {"le"} == set(labels), name


@pytest.mark.parametrize("status", [*{read(rule["expr"]).matchers for rule in RULES if "job:gateway_sdk_bad" in rule.get("record", "")}])
def test_every_window_counts_the_same_requests(status: tuple[Any, ...]) -> None:
    assert {(matcher.label, matcher.value) for matcher in status} == {("route", "sdk"), ("status", "0|429|5..")}


CLIENTS_FAULT: Final = {
    "REQUEST_MALFORMED",
    "SESSION_REQUIRED",
    "SESSION_FORBIDDEN",
    "NOT_FOUND",
    "METHOD_NOT_ALLOWED",
    "REQUEST_TIMEOUT",
    "REQUEST_TOO_LARGE",
    "UNSUPPORTED_MEDIA_TYPE",
    "HEADERS_TOO_LARGE",
}
BUSINESS: Final = {"SUCCESS", "PROCESS_FAIL", "PARAM_ILLEGAL"}
BAD: Final = re.compile("0|429|5..")


@pytest.mark.parametrize("code", FAILURES)
def test_failures_of_the_gateway_burn_the_budget_unless_they_are_the_clients_fault(code: str) -> None:
    assert bool(BAD.fullmatch(str(FAILURES[code].http_status))) is (code not in CLIENTS_FAULT)


@pytest.mark.parametrize("code", DOCUMENTED)
def test_what_alipayplus_says_burns_the_budget_unless_it_is_business(code: str) -> None:
    status = http_status(Result(code, DOCUMENTED[code]))
    assert bool(BAD.fullmatch(str(status))) is (code not in BUSINESS)


def test_unknown_codes_burn_the_budget_when_the_outcome_is_unknown() -> None:
    outcomes = [(status, bool(BAD.fullmatch(str(http_status(Result("SOMETHING_NEW", status)))))) for status in ("S", "F", "U")]
    assert outcomes == [("S", False), ("F", False), ("U", True)]


def test_the_alert_on_clocks_begins_where_the_gateway_warns() -> None:
    [rule] = [rule for rule in ALERTS if rule["alert"] == "GatewayClockOffset"]
    assert f"> {CLOCK_OFFSET_WARNING:.0f} " in rule["expr"]


async def count(watched: Watched, expression: str) -> float:
    [sample] = await watched.prometheus.query(expression)
    return float(sample["value"][1])


@needs_prometheus
async def test_C9_on_a_real_prometheus_rules_work_and_availability_is_what_the_client_saw(watched: Watched) -> None:
    groups = await watched.prometheus.rules()
    problems = [(rule["name"], rule["lastError"]) for group in groups for rule in group["rules"] if rule["health"] != "ok"]
    assert problems == []
    firing = await watched.prometheus.until('ALERTS{alertname="GatewaySignatureInvalid",alertstate="firing"}')
    assert [alert["metric"]["job"] for alert in firing] == ["alipayplus-gateway"]

    by_status = 'sum(gateway_requests_total{route="sdk",status=~"0|429|5.."})'
    good = "|".join(sorted(CLIENTS_FAULT | BUSINESS))
    by_result = f'sum(gateway_alipayplus_results_total{{result_code!~"{good}"}})'
    seen = sum(number for status, number in watched.seen.items() if status == 429 or status >= 500)
    assert seen > 0
    assert await count(watched, by_status) == await count(watched, by_result) == seen
    assert await count(watched, 'sum(gateway_requests_total{route="sdk"})') == watched.seen.total()
    [ratio] = await watched.prometheus.until("job:gateway_sdk_bad:ratio_rate5m > 0")
    assert 0 < float(ratio["value"][1]) < 1


@needs_prometheus
async def test_a_scrape_has_every_metric_of_the_contract_and_no_other_and_promtool_finds_nothing_wrong_with_it(watched: Watched) -> None:
    async with watched.http.get(f"http://127.0.0.1:{watched.gateway.admin}/metrics") as answer:
        scrape = await answer.read()
    families = text_string_to_metric_families(scrape.decode())
    assert {sample.name for family in families for sample in family.samples} == METRICS.keys()
    assert await promtool("check", "metrics", stdin=scrape) == (0, "")
