"""deploy/grafana: a dashboard whose every expression is of the contract and shows something, and the files that provision it."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from typing import Any, Final

import pytest
import yaml

from tests.deploy.expressions import TARGET, faults, read, recorded
from tests.deploy.test_prometheus import BAD, KNOWN, RULES
from tests.deploy.watched import DEPLOY, Watched, needs_prometheus

FOLDER: Final = DEPLOY / "grafana"
DASHBOARD: Final[dict[str, Any]] = json.loads((FOLDER / "dashboards" / "alipayplus-gateway.json").read_text())
PANELS: Final[list[dict[str, Any]]] = DASHBOARD["panels"]
SHOWN: Final = [panel for panel in PANELS if panel["type"] != "row"]
DATA_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
VARIABLES: Final = {"$job": ".+", "$instance": ".+", "$__rate_interval": "1m", "$__range": "5m"}


def targets() -> Iterator[tuple[str, dict[str, Any]]]:
    for panel in SHOWN:
        yield from ((f"{panel['title']} {target['refId']}", target) for target in panel["targets"])


TARGETS: Final = list(targets())
TITLES: Final = [panel["title"] for panel in SHOWN]


def filled(expression: str) -> str:
    """Return an expression as Grafana sends it."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    assert "$" not in expression
    return expression


def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
    place = panel["gridPos"]
    return {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}


def test_the_rows_follow_a_requests_way() -> None:
    assert [panel["title"] for panel in PANELS if panel["type"] == "row"] == [
        "At a glance",
        "SDK path",
        "Sessions",
        "The MPP's API",
        "Upstreams",
        "Processes",
    ]


def test_panels_lie_side_by_side_and_each_says_what_it_shows() -> None:
    assert max(Counter(panel["id"] for panel in PANELS).values()) == 1
    assert all(x < 24 for panel in PANELS for x, _ in cells(panel))
    overlapping = [(one["title"], other["title"]) for one, other in combinations(PANELS, 2) if cells(one) & cells(other)]
    assert overlapping == []
    assert [panel["title"] for panel in SHOWN if not panel["description"].endswith(".")] == []
    assert not [panel["title"] for panel in SHOWN if panel["type"] != "heatmap" and "unit" not in panel["fieldConfig"]["defaults"]]


def test_the_data_source_is_a_variable_that_everything_uses() -> None:
    source, job, instance = DASHBOARD["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == ("datasource", "datasource", "prometheus")
    assert [panel["title"] for panel in SHOWN if panel["datasource"] != DATA_SOURCE] == []
    assert [name for name, target in TARGETS if target["datasource"] != DATA_SOURCE] == []
    assert (job["datasource"], instance["datasource"]) == (DATA_SOURCE, DATA_SOURCE)
    assert [job["query"]["query"], instance["query"]["query"]] == [
        "label_values(gateway_build_info, job)",
        'label_values(gateway_build_info{job=~"$job"}, instance)',
    ]


@pytest.mark.parametrize(("expression", "legend"), [pytest.param(t["expr"], t["legendFormat"], id=name) for name, t in TARGETS])
def test_each_expression_uses_metrics_labels_and_values_of_the_contract(expression: str, legend: str) -> None:
    assert list(faults(filled(expression), KNOWN)) == []
    used = read(filled(expression))
    own = {label for name in used.metrics for label in KNOWN[name]}
    is_aggregated = re.match(r"[^{]*\b(sum|min|max|count|histogram_quantile)\b", expression)
    assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= (used.by if is_aggregated else own | TARGET.keys())


@pytest.mark.parametrize("expression", [pytest.param(target["expr"], id=name) for name, target in TARGETS])
def test_each_expression_heeds_the_chosen_job_and_instance(expression: str) -> None:
    used = read(expression)
    for metric in used.metrics:
        times = len(re.findall(rf"\b{metric}\b", expression))
        chosen = Counter((matcher.label, matcher.value) for matcher in used.matchers if matcher.metric == metric)
        assert chosen["job", "$job"] == times
        assert chosen["instance", "$instance"] == times or metric.startswith(("job:", "ALERTS"))


def test_with_all_jobs_chosen_those_of_others_do_not_count() -> None:
    used = {metric for _, target in TARGETS for metric in read(target["expr"]).metrics}
    assert {metric for metric in used if not metric.startswith(("gateway_", "job:gateway_"))} == {"ALERTS"}  # which are told by their names


def test_the_dashboard_counts_as_bad_what_the_rules_count_as_bad() -> None:
    statuses = {match.value for _, target in TARGETS for match in read(target["expr"]).matchers if match.label == "status"}
    assert statuses == {BAD.pattern}


def test_the_panels_that_the_runbook_names_are_there() -> None:
    text = (DEPLOY / "prometheus" / "runbook.md").read_text()
    named = {
        name for found in re.findall(r"[Pp]anels? (\*[^*]+\*(?:[^.*;:]*\*[^*]+\*)?)", text) for name in re.findall(r"\*([^*]+)\*", found)
    }
    assert named
    assert named <= set(TITLES)


def test_grafana_is_provisioned_with_the_data_source_and_the_dashboard() -> None:
    [source] = yaml.safe_load((FOLDER / "provisioning" / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert (source["type"], source["url"], source["isDefault"]) == ("prometheus", "http://prometheus:9090", True)
    assert DASHBOARD["templating"]["list"][0]["current"]["value"] == source["uid"]
    [provider] = yaml.safe_load((FOLDER / "provisioning" / "dashboards" / "gateway.yml").read_text())["providers"]
    assert (provider["type"], provider["options"]["path"]) == ("file", "/etc/grafana/dashboards")
    scrape = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scrape


@needs_prometheus
async def test_every_panel_shows_data_of_a_running_gateway(watched: Watched) -> None:
    for made_by_rules in (*recorded(RULES), 'ALERTS{alertstate="firing"}'):
        await watched.prometheus.until(made_by_rules)
    empty = []
    for name, target in TARGETS:
        samples = await watched.prometheus.query(filled(target["expr"]))
        if all(math.isnan(float(sample["value"][1])) for sample in samples):
            empty.append(name)
    assert empty == []
