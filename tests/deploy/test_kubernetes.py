"""deploy/kubernetes: rendered, valid, restricted, and in agreement with the configuration that it holds and with deploy/prometheus."""

import os
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml

from gateway.commands.service import OVERTIME
from gateway.config import Config, load
from gateway.config.values import Duration
from tests.deploy.expressions import METRICS
from tests.deploy.kubernetes import FOLDER, OVERLAYS, Resource, all_of, containers, gateway, kustomize, pod, rendered, the
from tests.deploy.prometheus_rule import RULES, resource
from tests.deploy.watched import JOB

VERSIONS: Final = ("1.30", "1.33", "1.37")
OPERATORS: Final = {"ServiceMonitor", "PrometheusRule"}  # of the Prometheus operator; Kubernetes has no schema of them
HARDENED: Final = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
USER: Final = 65532
KIB: Final = 1024
ADMIN: Final = 9090
TRAFFIC: Final = 8080

each_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


def configuration(overlay: str, folder: Path) -> Config:
    """Read the gateway.yaml that an overlay brings; files that only its texts name are made up."""
    (folder / "customer-hash").write_text("some")
    path = folder / "gateway.yaml"
    path.write_text(the(overlay, "ConfigMap")["data"]["gateway.yaml"])
    return load(path).config


def selects(selector: Resource, labels: Resource) -> bool:
    """Whether a selector of equalities chooses what has these labels."""
    wanted = selector.get("matchLabels", selector)
    return bool(wanted) and wanted.items() <= labels.items()


def seconds(duration: Duration) -> float:
    return float(duration)


@each_overlay
@pytest.mark.parametrize("version", VERSIONS)
def test_every_resource_is_valid(overlay: str, version: str) -> None:
    for found in rendered(overlay):
        if found["kind"] not in OPERATORS:
            kubernetes_validate.validate(found, version, strict=True)


@each_overlay
def test_all_is_in_one_namespace_and_that_is_restricted_where_it_is_ours(overlay: str) -> None:
    names = {found["metadata"]["namespace"] for found in rendered(overlay) if found["kind"] != "Namespace"}
    assert len(names) == 1
    for namespace in all_of(overlay, "Namespace"):
        assert {namespace["metadata"]["name"]} == names
        assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@each_overlay
def test_pods_keep_to_the_restricted_standard(overlay: str) -> None:
    spec = pod(overlay)["spec"]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    assert spec["automountServiceAccountToken"] is False
    whole = spec["securityContext"]
    assert (whole["runAsNonRoot"], whole["seccompProfile"]) == (True, {"type": "RuntimeDefault"})
    assert whole["fsGroup"] == USER
    for volume in spec["volumes"]:
        assert volume.keys() - {"name"} <= {"projected", "emptyDir"}
    for container in containers(pod(overlay)):
        assert HARDENED.items() <= container["securityContext"].items(), container["name"]
        assert not {"privileged", "procMount"} & container["securityContext"].keys()
        assert all("hostPort" not in port for port in container.get("ports", ()))
    ours = {**whole, **gateway(pod(overlay))["securityContext"]}
    assert (ours["runAsUser"], ours["runAsGroup"], ours["runAsNonRoot"]) == (USER, USER, True)


@each_overlay
def test_the_gateway_is_probed_at_its_operators_listener(overlay: str, tmp_path: Path) -> None:
    config, container = configuration(overlay, tmp_path), gateway(pod(overlay))
    probed = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
    assert probed == {
        "startup": {"path": "/startupz", "port": ADMIN},
        "readiness": {"path": "/readyz", "port": ADMIN},
        "liveness": {"path": "/livez", "port": ADMIN},
    }
    assert str(config.admin.listen) == f"0.0.0.0:{ADMIN}"
    assert [str(listener) for listener in config.server.listen] == [f"0.0.0.0:{TRAFFIC}"]
    assert [(port["name"], port["containerPort"]) for port in container["ports"]] == [("traffic", TRAFFIC), ("admin", ADMIN)]
    assert container["args"] == ["run", "-c", "/etc/gateway/gateway.yaml"]
    assert "command" not in container


@each_overlay
def test_pods_have_the_time_that_a_drain_takes(overlay: str, tmp_path: Path) -> None:
    server = configuration(overlay, tmp_path).server
    spec = pod(overlay)["spec"]
    hooks = [container.get("lifecycle", {}).get("preStop", {}) for container in containers(pod(overlay))]
    before = max(hook.get("sleep", {}).get("seconds", 0) for hook in hooks)
    needed = before + seconds(server.accept_grace) + seconds(server.drain_timeout) + OVERTIME
    assert spec["terminationGracePeriodSeconds"] >= needed
    not_ready = gateway(pod(overlay))["readinessProbe"]
    noticed = not_ready["periodSeconds"] * not_ready["failureThreshold"]
    assert before + seconds(server.accept_grace) >= noticed


def memory(config: Config) -> float:
    """Return the bytes that a gateway takes when all that its configuration lets in is there at once (deploy/README.md, Size)."""
    assert isinstance(config.server.workers, int)
    upstreams = config.api.upstreams.values() if config.api is not None else ()
    streams = sum(upstream.connections * len(upstream.servers) for upstream in upstreams)
    calls = config.alipayplus.max_in_flight * 3.6 * config.sdk_proxy.max_body
    worker = 9 * KIB * config.server.limits.connections + calls + 128 * KIB * streams
    return 45e6 + config.server.workers * (2 * 56e6 + worker)


def quantity(text: str) -> int:
    """Read an amount of memory as Kubernetes writes it."""
    return int(text[:-2]) * {"Mi": KIB**2, "Gi": KIB**3}[text[-2:]]


@each_overlay
def test_the_memory_limit_holds_what_the_configuration_lets_in(overlay: str, tmp_path: Path) -> None:
    resources = gateway(pod(overlay))["resources"]
    assert memory(configuration(overlay, tmp_path)) <= quantity(resources["limits"]["memory"])
    assert "cpu" not in resources["limits"]


@each_overlay
def test_secrets_are_files_that_change(overlay: str) -> None:
    for container in containers(pod(overlay)):
        assert "envFrom" not in container
        assert all("valueFrom" not in variable for variable in container.get("env", ()))
        mounts = container.get("volumeMounts", ())
        assert all("subPath" not in mount and "subPathExpr" not in mount for mount in mounts)
        assert all(mount.get("readOnly") for mount in mounts if mount["name"] == "gateway")
    [mount] = [mount for mount in gateway(pod(overlay))["volumeMounts"] if mount["name"] == "gateway"]
    assert mount["mountPath"] == "/etc/gateway"


@each_overlay
def test_the_configuration_keeps_its_name_so_that_a_change_reaches_running_pods(overlay: str) -> None:
    assert the(overlay, "ConfigMap")["metadata"]["name"] == "gateway-config"


@each_overlay
def test_every_selector_chooses_the_pods(overlay: str) -> None:
    template = pod(overlay)
    labels, spec = template["metadata"]["labels"], template["spec"]
    assert selects(the(overlay, "Deployment")["spec"]["selector"], labels)
    for kind in ("Service", "PodDisruptionBudget"):
        for found in all_of(overlay, kind):
            assert selects(found["spec"]["selector"], labels), found["metadata"]["name"]
    for policy in all_of(overlay, "NetworkPolicy"):
        assert selects(policy["spec"]["podSelector"], labels)
    for spread in spec.get("topologySpreadConstraints", ()):
        assert selects(spread["labelSelector"], labels)


@each_overlay
def test_clients_are_led_to_traffic_and_never_to_the_operators_listener(overlay: str) -> None:
    for service in all_of(overlay, "Service"):
        is_admin = service["metadata"]["name"] == "gateway-admin"
        assert [port["targetPort"] for port in service["spec"]["ports"]] == [ADMIN if is_admin else TRAFFIC]
        assert service["spec"].get("type", "ClusterIP") == "ClusterIP"


def test_the_service_is_spread_and_never_out_as_a_whole() -> None:
    spec = pod("production")["spec"]
    spread = [constraint["topologyKey"] for constraint in spec["topologySpreadConstraints"]]
    assert spread == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    assert the("production", "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    assert the("production", "Deployment")["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_the_sidecar_is_a_native_one_that_starts_before_the_app() -> None:
    template = pod("sidecar")
    [first, *apps] = containers(template)
    assert (first["name"], first["restartPolicy"]) == ("gateway", "Always")
    assert first in template["spec"]["initContainers"]
    assert [app["name"] for app in apps] == ["wallet-api"]
    assert "startupProbe" in first


def test_the_sidecar_is_the_same_gateway_as_the_service() -> None:
    sidecar, service = gateway(pod("sidecar")), gateway(pod("production"))
    same = ("image", "args", "ports", "startupProbe", "readinessProbe", "livenessProbe", "volumeMounts")
    assert {key: sidecar[key] for key in same} == {key: service[key] for key in same}
    assert pod("sidecar")["spec"]["volumes"] == pod("production")["spec"]["volumes"]


def test_the_app_beside_a_sidecar_is_reached_through_it_only(tmp_path: Path) -> None:
    api = configuration("sidecar", tmp_path).api
    assert api is not None
    [server] = [server.url for upstream in api.upstreams.values() for server in upstream.servers]
    [app] = pod("sidecar")["spec"]["containers"]
    assert [variable["value"] for variable in app["env"]] == [urlsplit(server).netloc]
    assert urlsplit(server).hostname == "127.0.0.1"


def peers(config: Config) -> Iterator[int]:
    """Give the ports that the gateway must be able to reach."""
    assert config.session.forward is not None
    assert config.api is not None
    servers = [server.url for upstream in config.api.upstreams.values() for server in upstream.servers]
    for url in (config.session.forward.url, *config.alipayplus.host, *servers):
        yield urlsplit(url).port or {"http": 80, "https": 443}[urlsplit(url).scheme]


@pytest.mark.parametrize("overlay", ["production", "sidecar"])
def test_the_network_policy_lets_through_what_is_needed_and_nothing_else(overlay: str, tmp_path: Path) -> None:
    policy = the(overlay, "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert all(rule.get("from") for rule in policy["ingress"])
    assert all(rule.get("to") for rule in policy["egress"])
    came_in = {port["port"]: rule["from"] for rule in policy["ingress"] for port in rule["ports"]}
    assert came_in.keys() == {TRAFFIC, ADMIN}
    [prometheus] = came_in[ADMIN]
    assert prometheus["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "prometheus"}
    gone_out = {port["port"] for rule in policy["egress"] for port in rule["ports"]}
    assert gone_out == {53, *peers(configuration(overlay, tmp_path))}
    for rule in policy["egress"]:
        if any("ipBlock" in to for to in rule["to"]):
            assert [port["port"] for port in rule["ports"]] == [443]
            assert all("except" in to["ipBlock"] for to in rule["to"])


def test_the_autoscaler_and_nobody_else_says_how_many_there_are() -> None:
    deployment, scaler = the("production", "Deployment"), the("production", "HorizontalPodAutoscaler")["spec"]
    assert "replicas" not in deployment["spec"]
    assert scaler["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert scaler["minReplicas"] > the("production", "PodDisruptionBudget")["spec"]["maxUnavailable"]
    [cpu, in_flight] = scaler["metrics"]
    assert cpu["containerResource"]["container"] == gateway(pod("production"))["name"]
    assert "cpu" in gateway(pod("production"))["resources"]["requests"]
    assert in_flight["pods"]["metric"]["name"] == "gateway_in_flight_requests"


def test_without_the_adapter_the_cpu_alone_decides_by_the_patch_that_is_told(tmp_path: Path) -> None:
    """Else Kubernetes would take no pod away, since a metric is missing."""
    told = (FOLDER / "components" / "autoscaling" / "kustomization.yaml").read_text()
    patches = "\n".join(line[1:] for line in told.splitlines() if line.startswith("#   "))
    production = os.path.relpath(FOLDER / "overlays" / "production", tmp_path.resolve())
    (tmp_path / "kustomization.yaml").write_text(f"resources: [{production}]\n{textwrap.dedent(patches)}\n")
    [scaler] = [found for found in kustomize(tmp_path.resolve()) if found["kind"] == "HorizontalPodAutoscaler"]
    assert [metric["type"] for metric in scaler["spec"]["metrics"]] == ["ContainerResource"]


def test_the_adapter_tells_the_metric_that_the_autoscaler_asks_for() -> None:
    values = yaml.safe_load((FOLDER / "components" / "autoscaling" / "prometheus-adapter.yaml").read_text())
    [rule] = values["rules"]["custom"]
    [_, in_flight] = the("production", "HorizontalPodAutoscaler")["spec"]["metrics"]
    name = in_flight["pods"]["metric"]["name"]
    assert name in METRICS
    assert rule["seriesQuery"].startswith(f"{name}{{")
    assert rule["resources"]["overrides"] == {label: {"resource": label} for label in ("namespace", "pod")}
    assert rule["metricsQuery"].startswith("sum by (<<.GroupBy>>)")  # over the label route


@pytest.mark.parametrize("overlay", ["production", "sidecar"])
def test_the_scrape_finds_the_operators_listener_and_has_the_job_of_the_rules(overlay: str) -> None:
    monitor, service = the(overlay, "ServiceMonitor")["spec"], the(overlay, "Service", "gateway-admin")
    labels: dict[str, Any] = service["metadata"]["labels"]
    assert selects(monitor["selector"], labels)
    assert labels[monitor["jobLabel"]] == JOB
    [endpoint] = monitor["endpoints"]
    [port] = service["spec"]["ports"]
    assert (endpoint["port"], endpoint["path"]) == (port["name"], "/metrics")
    assert service["spec"]["publishNotReadyAddresses"] is True


def test_the_rules_are_those_of_prometheus() -> None:
    file = FOLDER / "components" / "monitoring" / "prometheus-rule.yaml"
    assert file.read_text() == resource(), "make fix writes it anew"
    groups = [group for rules in sorted(RULES.glob("*.yml")) for group in yaml.safe_load(rules.read_text())["groups"]]
    assert the("production", "PrometheusRule")["spec"]["groups"] == groups
