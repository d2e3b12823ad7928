"""deploy/Dockerfile: linted, its steps taken one by one, and what comes of them run as a container would: read-only and as nobody known."""

import asyncio
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import aiohttp
import pytest

from gateway.alipayplus.multibuffer import NAMES
from gateway.commands.service import ANSWER_WITHIN
from gateway.simulator import Simulator
from gateway.simulator.configuration import Ports
from gateway.simulator.keys import Keys
from tests.deploy.dockerfile import Build, Instruction, context, instructions, stages
from tests.e2e.conftest import Process
from tests.ports import free_port

ROOT: Final = Path(__file__).parents[2]
FILE: Final = ROOT / "deploy" / "Dockerfile"
STEPS: Final = instructions(FILE.read_text())
STAGES: Final = stages(STEPS)
CONFIG: Final = "/etc/gateway/gateway.yaml"
USER: Final = 65532
SAMPLE: Final = ROOT / "tests" / "contract" / "samples" / "app-request.json"


def the(name: str) -> Instruction:
    """Return the only instruction of this name in the last stage."""
    [found] = [step for step in STAGES[-1] if step.name == name]
    return found


def exec_form(text: str) -> list[str]:
    """Return the words of a command in exec form; a command for a shell is no JSON."""
    words = json.loads(text)
    assert all(isinstance(word, str) for word in words)
    return list(words)


def test_hadolint_finds_nothing() -> None:
    hadolint = subprocess.run([Path(sys.executable).with_name("hadolint"), FILE], capture_output=True, text=True, check=False)
    assert (hadolint.returncode, hadolint.stdout) == (0, "")


def test_the_context_is_what_is_copied_and_nothing_else() -> None:
    copied = {word for step in STEPS if step.name == "COPY" and step.option("from") is None for word in step.words()[:-1]}
    sent = set(context(ROOT))
    assert {Path("pyproject.toml"), Path("gateway/cli.py")} <= sent
    for name in copied:
        assert any(file.is_relative_to(name) for file in sent), f"{name} is copied and not in the context"
    for file in sent:
        assert any(file.is_relative_to(name) for name in copied), f"{file} is in the context and not copied"
        assert file.suffix not in {".pem", ".pyc"}


def test_it_runs_as_a_number_without_a_shell_and_is_stopped_by_sigterm() -> None:
    assert the("USER").text == f"{USER}:{USER}"
    assert the("STOPSIGNAL").text == "SIGTERM"
    assert [*exec_form(the("ENTRYPOINT").text), *exec_form(the("CMD").text)] == ["gateway", "run", "-c", CONFIG]
    assert the("EXPOSE").words() == ["8080", "9090"]
    assert all(step.name != "RUN" for step in STAGES[-1])


def test_the_healthcheck_is_the_gateways_own_and_is_waited_for() -> None:
    options, command = the("HEALTHCHECK").text.split("CMD")
    assert exec_form(command) == ["gateway", "healthcheck", "-c", CONFIG]
    timeout = re.search(r"--timeout=(\d+)s", options)
    assert timeout
    assert int(timeout[1]) > ANSWER_WITHIN


def test_every_stage_has_the_same_base_and_its_version_is_said() -> None:
    [base] = [step.text.split("=", 1)[1] for step in STEPS if step.text.startswith("PYTHON_IMAGE=")]
    assert re.fullmatch(r"docker\.io/library/python:3\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?", base)
    assert [stage[0].words()[0] for stage in STAGES] == ["${PYTHON_IMAGE}"] * 2


def test_all_that_is_installed_is_known_by_hash() -> None:
    installs = [command for step in STEPS if step.name == "RUN" for command in step.text.split("&&") if " install " in f" {command} "]
    from_outside = [command for command in installs if "pip" in command and "--no-index" not in command]
    assert len(from_outside) == 2
    assert all("--require-hashes" in command and "--only-binary :all:" in command for command in from_outside)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users can reach, unlike pytest's."""
    with TemporaryDirectory(prefix="gateway-image-") as name:
        Path(name).chmod(0o755)
        yield Path(name)
        for path in (Path(name), *Path(name).rglob("*")):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)


def as_nobody_known() -> tuple[str, ...]:
    """Return what starts a command as the image's user, where that can be done: root is needed, and Debian's util-linux.

    An interpreter in root's home can be run by others only with the right to read everything; to write is what they must not.
    """
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        return ()
    user = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs")
    plain = (*user, "--inh-caps=-all", "--bounding-set=-all")
    reading = (*user, "--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search", "--bounding-set=-all,+dac_read_search")
    again = "import os, sys; os.execv(sys.executable, [sys.executable, '-c', ''])"
    for command in (plain, reading):
        if subprocess.run([*command, sys.executable, "-c", again], capture_output=True, check=False).returncode == 0:
            return command
    return ()


def lock(root: Path) -> dict[Path, int]:
    """Take away all rights to write, and return what is there with its time of change."""
    paths = [path for path in root.rglob("*") if not path.is_symlink()]
    for path in paths:
        path.chmod(path.stat().st_mode & ~0o222)
    return {path: path.stat().st_mtime_ns for path in paths}


def give_away(folder: Path) -> None:
    """Let a folder belong to the image's user."""
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, USER, USER)


async def start(build: Build, words: list[str], config: Path) -> asyncio.subprocess.Process:
    """Start a command of the image with nothing but the image's environment."""
    command = [str(build.place("/opt/gateway/bin/gateway")) if word == "gateway" else word for word in words]
    mapped = [str(config) if word == CONFIG else word for word in command]
    environment = build.environment | {"PATH": str(build.place("/opt/gateway/bin"))}
    return await asyncio.create_subprocess_exec(
        *(shutil.which(word) or word for word in as_nobody_known()),
        *mapped,
        cwd="/",
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def is_healthy(build: Build, config: Path) -> bool:
    check = await start(build, exec_form(the("HEALTHCHECK").text.split("CMD")[1]), config)
    _, said = await check.communicate()
    assert check.returncode in {0, 1}, said.decode()
    return check.returncode == 0


def nothing_is_left_of_the_build(build: Build) -> None:
    packages = {path.name.split("-")[0] for path in build.root.rglob("*.dist-info")}
    assert {"alipayplus_gateway", "opentelemetry_sdk"} <= packages
    assert not packages & {"pip", "setuptools", "hatchling", "uv", "pytest"}
    sources = {path for path in build.root.rglob("*.py") if "gateway" in path.parts}
    assert len(sources) > 100
    assert all(any(source.parent.glob(f"__pycache__/{source.stem}.*.pyc")) for source in sources)
    assert {path.name for path in build.root.iterdir()} == {"opt", "var"}
    assert (build.place("/var/lib/gateway").stat().st_mode & 0o777) == 0o700


@pytest.mark.timeout(300)  # it installs from the package registry
async def test_the_image_built_step_by_step_serves_read_only_and_drains(folder: Path, keys: Keys) -> None:
    build = Build(folder, ROOT)
    await asyncio.to_thread(build.make, STAGES)
    nothing_is_left_of_the_build(build)
    libraries = {path.name for path in build.place("/opt/gateway/lib").glob("*.so*")}
    assert len(libraries & set(NAMES)) == (platform.machine() == "x86_64")
    before = lock(build.root)
    ports = Ports(free_port(), free_port(), 0, 0, 0)
    async with Simulator(folder / "gateway", ports=ports, keys=keys) as sim:
        config = sim.write_configuration()
        give_away(sim.directory)
        assert not await is_healthy(build, config)
        words = [*exec_form(the("ENTRYPOINT").text), *exec_form(the("CMD").text)]
        gateway = Process(await start(build, words, config), config, ports.gateway, ports.admin)
        gateway.follow()
        try:
            await gateway.until_said(b'"serving"')
            assert await is_healthy(build, config)
            assert await ask(ports.gateway) == (200, "SUCCESS")
        finally:
            assert await gateway.stop() == 0
    assert {path: path.stat().st_mtime_ns for path in build.root.rglob("*") if not path.is_symlink()} == before


async def ask(port: int) -> tuple[int, str]:
    """Send the specification's sample as an app does."""
    headers = {"Content-Type": "application/json", "Authorization": "Bearer demo-token-anna"}
    url = f"http://127.0.0.1:{port}/alipayplus/v1/sdkProxy"
    async with aiohttp.ClientSession() as http, http.post(url, data=SAMPLE.read_bytes(), headers=headers) as answer:
        body: dict[str, Any] = await answer.json()
        return answer.status, body["resultCode"]
