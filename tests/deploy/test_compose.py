"""deploy/compose.yaml: what the specification allows, hardened, in agreement with the files that it mounts, and its commands really run."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from compose_spec import PyCompose, parse_duration

from gateway.cli import parser
from gateway.commands.service import OVERTIME
from gateway.config import load
from tests.deploy.dockerfile import instructions
from tests.deploy.here import SERVING, SIMULATING, STATE, Here

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
FILE: Final = DEPLOY / "compose.yaml"
DOCUMENT: Final[dict[str, Any]] = yaml.safe_load(FILE.read_text())
SERVICES: Final[dict[str, Any]] = DOCUMENT["services"]
OURS: Final = {name: service for name, service in SERVICES.items() if "build" in service}
CONFIG: Final = load(DEPLOY / "compose" / "gateway.yaml").config
IMAGE: Final = {step.name: step.text for step in instructions((DEPLOY / "Dockerfile").read_text())}


def test_it_is_what_the_specification_allows() -> None:
    merged = json.dumps(DOCUMENT)  # YAML's merge keys are not of the specification, but of every reader but this one
    assert sorted(PyCompose.from_json(merged).service_names()) == sorted(SERVICES)


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_read_only_and_without_privileges(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "user", "pid", "ipc"} & service.keys()


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_is_built_here_or_has_a_version(name: str) -> None:
    service = SERVICES[name]
    if "build" in service:
        context = FILE.parent / service["build"]["context"]
        assert (context / service["build"]["dockerfile"]).samefile(DEPLOY / "Dockerfile")
        assert (context / ".dockerignore").is_file()
    else:
        assert re.fullmatch(r"docker\.io/[\w./-]+:v?\d+\.\d+\.\d+", service["image"])


def mounts() -> Iterator[tuple[str, str, str, str]]:
    for name, service in SERVICES.items():
        for mount in service.get("volumes", ()):
            source, target, *mode = mount.split(":")
            yield name, source, target, "".join(mode)


def test_every_mount_is_there_and_what_comes_from_here_is_read_only() -> None:
    for name, source, target, mode in mounts():
        if source.startswith("."):
            assert (FILE.parent / source).is_dir(), source
            assert mode == "ro", f"{name}: {source}"
        else:
            assert source in DOCUMENT["volumes"], source
        assert target.startswith("/")
    written = [(name, source) for name, source, _, mode in mounts() if mode != "ro"]
    assert written == [("keys", "keys"), ("prometheus", "prometheus")]


def test_what_is_mounted_stands_where_it_is_looked_for() -> None:
    found = {(name, source): target for name, source, target, _ in mounts()}
    assert found["prometheus", "./prometheus"] == "/etc/prometheus"
    [provider] = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/gateway.yml").read_text())["providers"]
    assert provider["options"]["path"] == found["grafana", "./grafana/dashboards"]
    assert found["grafana", "./grafana/provisioning"] == "/etc/grafana/provisioning"
    home = Path(SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (DEPLOY / "grafana" / "dashboards" / home.name).is_file()
    for name in OURS:
        assert found[name, "./compose"] == "/etc/gateway"
        assert found.get((name, "keys"), STATE) == STATE
    assert IMAGE["CMD"] == '["run", "-c", "/etc/gateway/gateway.yaml"]'


def test_ports_are_those_of_the_configuration_and_open_on_this_machine_only() -> None:
    published = {name: [port.split(":") for port in service.get("ports", ())] for name, service in SERVICES.items()}
    assert all(address == "127.0.0.1" for ports in published.values() for address, _, _ in ports)
    taken = [port for ports in published.values() for _, port, _ in ports]
    assert len(set(taken)) == len(taken)
    listened = [listener.address.port for listener in CONFIG.server.listen if listener.address]
    assert [int(port) for *_, port in published["gateway"]] == [*listened, CONFIG.admin.listen.port]
    assert CONFIG.alipayplus.host == (f"https://simulator:{published['simulator'][0][2]}",)
    assert [*published["prometheus"][0][2:], *published["grafana"][0][2:]] == ["9090", "3000"]


def test_names_are_those_of_services() -> None:
    [job] = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    [target] = job["dns_sd_configs"]
    assert (target["names"], target["port"]) == (["gateway"], CONFIG.admin.listen.port)
    [source] = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert {"gateway", "prometheus", "simulator", "grafana"} <= SERVICES.keys()
    assert SERVICES["simulator"]["hostname"] == "simulator"


def test_who_waits_for_health_waits_for_somebody_who_tells_it() -> None:
    for service in SERVICES.values():
        for name, wanted in service.get("depends_on", {}).items():
            check = SERVICES[name].get("healthcheck", {} if name in OURS else None)
            if wanted["condition"] == "service_healthy":
                assert check is not None
                assert not check.get("disable")
            else:
                assert (name, wanted["condition"]) == ("keys", "service_completed_successfully")
    assert "HEALTHCHECK" in IMAGE


def test_a_stop_is_waited_for_longer_than_a_drain_takes() -> None:
    grace = parse_duration(SERVICES["gateway"]["stop_grace_period"])
    assert grace > CONFIG.server.accept_grace + CONFIG.server.drain_timeout + OVERTIME


def test_every_command_is_one_of_the_gateways() -> None:
    for service in OURS.values():
        if "entrypoint" not in service:
            words = service.get("command", ["run", "-c", "/etc/gateway/gateway.yaml"])
            assert parser().parse_args(words).config == Path("/etc/gateway/gateway.yaml")


def words(name: str) -> list[str]:
    """Return what a service runs."""
    service = SERVICES[name]
    entrypoint: list[str] = service.get("entrypoint", yaml.safe_load(IMAGE["ENTRYPOINT"]))
    return [*entrypoint, *service.get("command", yaml.safe_load(IMAGE["CMD"]))]


async def test_its_commands_bring_a_request_through_and_keep_their_keys(tmp_path: Path) -> None:
    here = Here(tmp_path, DEPLOY / "compose")
    assert (await here.run(*words("keys")))[0] == 0
    made = {path: path.read_bytes() for path in here.state.iterdir()}
    assert await here.run(*words("keys")) == (0, "all keys are there\n")
    assert {path: path.read_bytes() for path in here.state.iterdir()} == made
    code, said = await here.run("gateway", "check", "-c", "/etc/gateway/gateway.yaml")
    assert (code, "warning" in said) == (0, False)
    async with here.running(SIMULATING, *words("simulator")):
        _, *check = SERVICES["simulator"]["healthcheck"]["test"]
        assert await here.run(*check) == (0, "")
        async with here.running(SERVING, *words("gateway")):
            assert await here.run(*yaml.safe_load(IMAGE["HEALTHCHECK"].split("CMD")[1])) == (0, "")
            call = ("gateway", "call", "http://gateway:8080", "--header", "Authorization: Bearer demo-token-anna")
            code, said = await here.run(*call)
            assert (code, '"SUCCESS"' in said) == (0, True)
            code, said = await here.run(*words("app"), "--once")
            assert [line.split()[1:] for line in said.splitlines()] == [
                *[["/alipayplus/v1/sdkProxy", "200"], ["/api/balance", "200"]] * 3,
                ["/api/balance", "401"],
            ]
