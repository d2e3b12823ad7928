"""deploy/helm: the chart gives what the manifests of deploy/kubernetes give, and refuses values that are wrong."""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml
from helm_python import Chart, HelmValuesError, chart

import gateway as package
from gateway.config import Config, load
from gateway.simulator.configuration import merged
from tests.deploy import chart_schema
from tests.deploy.kubernetes import Resource, gateway, pod, the
from tests.deploy.test_kubernetes import ADMIN, OPERATORS, TRAFFIC, VERSIONS, selects
from tests.deploy.watched import DEPLOY, JOB

FOLDER: Final = DEPLOY / "helm" / "alipayplus-gateway"
CONFIG: Final[dict[str, Any]] = yaml.safe_load(the("production", "ConfigMap")["data"]["gateway.yaml"])
POLICY: Final[dict[str, Any]] = the("production", "NetworkPolicy")["spec"]
PRODUCTION: Final[Mapping[str, Any]] = {
    "config": CONFIG,
    "autoscaling": {"enabled": True},
    "monitoring": {"enabled": True, "labels": {"release": "watcher"}},
    "networkPolicy": {"enabled": True, "egress": [rule for rule in POLICY["egress"] if rule["ports"][0]["port"] not in {53, 443}]},
}


def rendered(values: Mapping[str, Any]) -> list[Resource]:
    """Return the resources that the chart makes of these values."""
    with Chart.load(FOLDER) as loaded:
        texts = loaded.render(dict(values), name="gateway", namespace="wallet")
    documents = (document for name, text in texts.items() if name.endswith(".yaml") for document in yaml.safe_load_all(text))
    return [document for document in documents if document]


def only(resources: list[Resource], kind: str, name: str | None = None) -> Resource:
    [found] = [resource for resource in resources if resource["kind"] == kind and name in {None, resource["metadata"]["name"]}]
    return found


def as_text(rule: Resource) -> str:
    return json.dumps(rule, sort_keys=True)


@pytest.fixture(scope="module")
def production() -> list[Resource]:
    return rendered(PRODUCTION)


def template(resources: list[Resource]) -> Resource:
    found: Resource = only(resources, "Deployment")["spec"]["template"]
    return found


def test_lint_finds_nothing() -> None:
    report = chart.lint(FOLDER, dict(PRODUCTION), strict=True)
    assert report["errors"] == []
    assert [message["error"] for message in report["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_resource_is_valid(production: list[Resource], version: str) -> None:
    for found in (*production, *rendered({"config": CONFIG})):
        if found["kind"] not in OPERATORS:
            kubernetes_validate.validate(found, version, strict=True)


def test_the_versions_are_the_gateways() -> None:
    about = yaml.safe_load((FOLDER / "Chart.yaml").read_text())
    assert about["appVersion"] == package.__version__
    assert about["kubeVersion"] == f">={VERSIONS[0]}.0-0"
    assert gateway(template(rendered({"config": CONFIG})))["image"] == f"alipayplus-gateway:{package.__version__}"


def test_the_pods_are_those_of_the_manifests(production: list[Resource]) -> None:
    ours, theirs = template(production)["spec"], pod("production")["spec"]
    same = ("automountServiceAccountToken", "enableServiceLinks", "securityContext", "terminationGracePeriodSeconds", "serviceAccountName")
    assert {key: ours[key] for key in same} == {key: theirs[key] for key in same}
    assert ours["volumes"] == theirs["volumes"]
    one, other = gateway(template(production)), gateway(pod("production"))
    assert one.keys() - other.keys() == {"imagePullPolicy"}
    assert {key: one[key] for key in other if key != "image"} == {key: other[key] for key in other if key != "image"}
    spread = [{**constraint, "labelSelector": ...} for constraint in ours["topologySpreadConstraints"]]
    assert spread == [{**constraint, "labelSelector": ...} for constraint in theirs["topologySpreadConstraints"]]


def test_all_else_is_that_of_the_manifests(production: list[Resource]) -> None:
    ours, theirs = only(production, "Deployment")["spec"], the("production", "Deployment")["spec"]
    assert {**ours, "template": ..., "selector": ...} == {**theirs, "template": ..., "selector": ...}
    for kind in ("PodDisruptionBudget", "HorizontalPodAutoscaler"):
        assert {**only(production, kind)["spec"], "selector": ...} == {**the("production", kind)["spec"], "selector": ...}
    policy = only(production, "NetworkPolicy")["spec"]
    assert (policy["policyTypes"], policy["ingress"]) == (POLICY["policyTypes"], POLICY["ingress"])
    assert {as_text(rule) for rule in policy["egress"]} == {as_text(rule) for rule in POLICY["egress"]}
    assert only(production, "ServiceAccount")["automountServiceAccountToken"] is False


def test_what_is_watched_and_how_is_that_of_the_manifests(production: list[Resource]) -> None:
    ours, theirs = only(production, "PrometheusRule"), the("production", "PrometheusRule")
    assert {group["name"]: group for group in ours["spec"]["groups"]} == {group["name"]: group for group in theirs["spec"]["groups"]}
    monitor, admin = only(production, "ServiceMonitor")["spec"], only(production, "Service", "gateway-admin")
    assert monitor["endpoints"] == the("production", "ServiceMonitor")["spec"]["endpoints"]
    assert selects(monitor["selector"], admin["metadata"]["labels"])
    assert admin["metadata"]["labels"][monitor["jobLabel"]] == JOB
    assert admin["spec"]["publishNotReadyAddresses"] is True
    assert [port["targetPort"] for port in admin["spec"]["ports"]] == [ADMIN]
    for kind in OPERATORS:
        assert only(production, kind)["metadata"]["labels"]["release"] == "watcher"


def test_every_selector_chooses_the_pods(production: list[Resource]) -> None:
    labels = template(production)["metadata"]["labels"]
    chosen = [found["spec"] for found in production if found["kind"] in {"Deployment", "Service", "PodDisruptionBudget"}]
    assert all(selects(spec["selector"], labels) for spec in chosen)
    assert selects(only(production, "NetworkPolicy")["spec"]["podSelector"], labels)
    scaled = only(production, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert scaled["name"] == only(production, "Deployment")["metadata"]["name"]
    assert [port["targetPort"] for port in only(production, "Service", "gateway")["spec"]["ports"]] == [TRAFFIC]


def read(config: str, folder: Path) -> Config:
    (folder / "customer-hash").write_text("some")
    (folder / "gateway.yaml").write_text(config)
    return load(folder / "gateway.yaml").config


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"server": {"unix_mode": "0660"}, "session": {"cache": {"max_entries": 10_000_000, "ttl": "30s"}}},
        {"alipayplus": {"client_id": "0001", "signing": {"key_version": "1e3", "private_keys": {"1e3": "mpp-1.pem"}}}},
    ],
)
def test_the_configuration_comes_through_as_it_is(tmp_path: Path, changes: Mapping[str, Any]) -> None:
    given = merged(CONFIG, changes)
    came = only(rendered({"config": given}), "ConfigMap")["data"]["gateway.yaml"]
    assert repr(read(came, tmp_path)) == repr(read(yaml.safe_dump(given), tmp_path))


def test_nothing_is_there_that_was_not_asked_for() -> None:
    plain = rendered({"config": CONFIG})
    assert {found["kind"] for found in plain} == {"ConfigMap", "Deployment", "PodDisruptionBudget", "Service", "ServiceAccount"}
    assert only(plain, "Deployment")["spec"]["replicas"] == 3


@pytest.mark.parametrize(
    ("accept_grace", "drain_timeout", "seconds"),
    [("0s", "30s", 50), ("500ms", "1500ms", 23), ("1m", "2m", 200), ("10s", "1h", 3630), ("08s", "0300s", 328)],
)
def test_pods_have_the_time_that_a_drain_takes(accept_grace: str, drain_timeout: str, seconds: int) -> None:
    config = merged(CONFIG, {"server": {"accept_grace": accept_grace, "drain_timeout": drain_timeout}})
    assert template(rendered({"config": config}))["spec"]["terminationGracePeriodSeconds"] == seconds


def test_a_restart_on_a_change_is_only_for_those_who_ask_for_it() -> None:
    def annotations(**values: Any) -> dict[str, str]:
        found: dict[str, str] = template(rendered({"config": CONFIG, **values}))["metadata"]["annotations"]
        return found

    other = {"config": merged(CONFIG, {"server": {"workers": 4}})}
    assert annotations() == annotations(**other)
    assert annotations(restartOnConfigChange=True) != annotations(restartOnConfigChange=True, **other)


def test_an_image_by_digest_and_what_pods_are_given_besides() -> None:
    digest = f"sha256:{'0' * 64}"
    image = {"repository": "registry.example/gateway", "digest": digest}
    values = {"image": image, "podLabels": {"team": "wallet"}, "podAnnotations": {"a": "b"}, "nodeSelector": {"disk": "none"}}
    more = {"tolerations": [{"operator": "Exists"}], "imagePullSecrets": [{"name": "pull"}], "priorityClassName": "high"}
    found = rendered({"config": CONFIG, **values, **more, "service": {"port": 8000, "annotations": {"x": "y"}}})
    made = template(found)
    assert gateway(made)["image"] == f"registry.example/gateway@{digest}"
    assert made["metadata"]["labels"]["team"] == "wallet"
    assert made["metadata"]["annotations"]["a"] == "b"
    assert {key: made["spec"][key] for key in ("nodeSelector", *more)} == {"nodeSelector": {"disk": "none"}, **more}
    for resource in found:
        kubernetes_validate.validate(resource, VERSIONS[0], strict=True)


def test_meshes_are_told_that_the_gateway_speaks_tls() -> None:
    tls = merged(CONFIG, {"server": {"tls": {"certificate": "tls.crt", "private_key": "tls.key"}}})
    protocols = [only(rendered({"config": config}), "Service")["spec"]["ports"][0]["appProtocol"] for config in (CONFIG, tls)]
    assert protocols == ["http", "https"]


def wrong() -> Iterator[tuple[str, dict[str, Any]]]:
    """Give values that are wrong, with what the refusal names."""
    yield "session", {}
    yield "replicas", {"config": CONFIG, "replicas": "three"}
    yield "replicaCount", {"config": CONFIG, "replicaCount": 3}
    yield "digest", {"config": CONFIG, "image": {"digest": "latest"}}
    yield "clients", {"config": CONFIG, "networkPolicy": {"clients": []}}
    yield "prometheus", {"config": CONFIG, "networkPolicy": {"prometheus": None}}  # by which Helm takes the default away
    yield "limit", {"config": CONFIG, "resources": {"limit": {"memory": "2Gi"}}}
    yield "podAntiAfinity", {"config": CONFIG, "affinity": {"podAntiAfinity": {}}}
    yield "secret", {"config": CONFIG, "secret": "not a name"}
    changes: dict[str, dict[str, Any]] = {
        "sesion": {"sesion": {}},
        "timeout": {"alipayplus": {"timeout": 12}},
        "listen": {"server": {"listen": "0.0.0.0:80"}},
        "admin": {"admin": {"listen": "127.0.0.1:9090"}},
        "drain_timeout": {"server": {"drain_timeout": "${env:DRAIN}"}},
        "key_version": {"alipayplus": {"signing": {"key_version": 1}}},
    }
    for name, change in changes.items():
        yield name, {"config": merged(CONFIG, change)}


@pytest.mark.parametrize(("name", "values"), list(wrong()))
def test_wrong_values_are_refused(name: str, values: dict[str, Any]) -> None:
    with pytest.raises(HelmValuesError, match=name):
        rendered(values)


def test_the_schema_is_made_of_the_gateways_own() -> None:
    assert json.loads((FOLDER / "values.schema.json").read_text()) == chart_schema.values(), "make fix writes it anew"


def test_the_packed_chart_holds_the_rules(tmp_path: Path) -> None:
    with Chart.load(FOLDER) as loaded:
        packed = loaded.save(tmp_path)
    shutil.unpack_archive(packed, tmp_path)
    for file in (DEPLOY / "prometheus" / "rules").glob("*.yml"):
        assert (tmp_path / FOLDER.name / "files" / "rules" / file.name).read_text() == file.read_text()
