"""What the manifests give to a gateway is a configuration that it accepts, and a change of it reaches the running gateway.

The containers of the demo are run one after the other, as a pod starts them.
"""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from gateway.alipayplus.keys import SigningKey, generate_private_key, private_pem, public_pem
from gateway.simulator import Simulator
from gateway.simulator.configuration import merged
from gateway.simulator.keys import Keys
from tests.deploy.here import SERVING, SIMULATING, Here
from tests.deploy.kubernetes import OVERLAYS, containers, files, lay_out, pod
from tests.deploy.test_container import USER, ask
from tests.e2e.conftest import StartProcess, command

HERE: Final[Mapping[str, Any]] = {"server": {"accept_grace": "0s", "trusted_proxies": []}}


def secrets(keys: Keys) -> dict[str, bytes]:
    """Return the files of the Secret gateway-keys."""
    return {"mpp-1.pem": private_pem(keys.mpp), "alipayplus-1.pem": public_pem(keys.alipayplus), "customer-hash": b"some"}


def with_peers(config: bytes, sim: Simulator, **signing: Any) -> bytes:
    """Return an overlay's configuration with the simulator for its peers, and ports of this machine."""
    changes = {
        "server": {"listen": f"127.0.0.1:{sim.ports.gateway}"},
        "admin": {"listen": f"127.0.0.1:{sim.ports.admin}"},
        "session": {"forward": {"url": f"http://127.0.0.1:{sim.ports.auth}/session"}},
        "alipayplus": {"host": f"https://127.0.0.1:{sim.ports.alipayplus}", "tls": {"ca": str(sim.ca)}, "signing": signing},
    }
    return yaml.safe_dump(merged(merged(yaml.safe_load(config), HERE), changes)).encode()


@pytest.fixture
async def start(tmp_path: Path, keys: Keys) -> AsyncIterator[StartProcess]:
    async with AsyncExitStack() as stack:
        yield StartProcess(tmp_path, keys, stack)


async def said_by(*arguments: str) -> tuple[int | None, str]:
    """Run a command of the gateway; return its exit code and what it wrote to standard error."""
    process = await command(*arguments)
    _, said = await process.communicate()
    return process.returncode, said.decode()


@pytest.mark.parametrize("overlay", OVERLAYS)
async def test_the_configuration_passes_the_check_without_a_warning(tmp_path: Path, overlay: str, keys: Keys) -> None:
    content = files(overlay, secrets(keys))
    if overlay == "demo":  # it makes its keys by itself
        content["gateway.yaml"] = content["gateway.yaml"].replace(b"/var/lib/gateway", bytes(tmp_path / "state"))
    lay_out(tmp_path / "etc", content)
    if os.geteuid() == 0:  # the kubelet lets secrets belong to root, and to the pod's group
        for file in (tmp_path / "etc" / "..data").iterdir():
            os.chown(file, USER, os.getegid())
    config = str(tmp_path / "etc" / "gateway.yaml")
    if overlay == "demo":
        assert await said_by("simulate", "-c", config, "--make-keys") == (0, "")
    code, warnings = await said_by("check", "-c", config)
    assert code == 0, warnings
    assert warnings == "" or os.geteuid() != 0


@pytest.mark.parametrize("overlay", ["production", "sidecar"])
async def test_a_new_key_in_the_secret_is_taken_up_with_its_version(tmp_path: Path, overlay: str, keys: Keys, start: StartProcess) -> None:
    following = generate_private_key()
    sim = await start.simulator(known={"2": SigningKey.of(following, "2").public})
    content = files(overlay, secrets(keys))
    config = content["gateway.yaml"]
    volume = tmp_path / "etc"
    lay_out(volume, {**content, "gateway.yaml": with_peers(config, sim)})
    gateway = await start.serve(volume / "gateway.yaml", sim)
    assert await ask(sim.ports.gateway) == (200, "SUCCESS")
    both = {"1": "mpp-1.pem", "2": "mpp-2.pem"}
    content["mpp-2.pem"] = private_pem(following)
    lay_out(volume, {**content, "gateway.yaml": with_peers(config, sim, private_keys=both, key_version="2")})
    await gateway.until_said(b'"reloaded"')
    assert await ask(sim.ports.gateway) == (200, "SUCCESS")
    assert [version(received.get("signature")) for received in sim.alipayplus.received] == ["1", "2"]
    assert await gateway.stop() == 0


async def test_the_containers_of_the_demo_bring_a_request_through(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    for name, text in files("demo", {}).items():
        (tmp_path / "made" / name).write_bytes(text)
    here = Here(tmp_path, tmp_path / "made")
    keys, simulator, gateway = containers(pod("demo"))
    assert (await here.run("gateway", *keys["args"]))[0] == 0
    async with here.running(SIMULATING, "gateway", *simulator["args"]):
        assert await here.run(*simulator["startupProbe"]["exec"]["command"]) == (0, "")
        async with here.running(SERVING, "gateway", *gateway["args"]):
            assert await ask(here.ports[8080]) == (200, "SUCCESS")


def version(signature: str | None) -> str:
    """Return the key version of a Signature header."""
    assert signature is not None
    [found] = [part.split("=", 1)[1] for part in signature.split(",") if part.strip().startswith("keyVersion=")]
    return found
