"""The units of `deploy/systemd`: sound and confined by systemd's own tools, and followed as systemd would, with the real gateway."""

import asyncio
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
import yaml

from gateway.commands.service import OVERTIME
from gateway.config import Config, load
from gateway.server.processor import CPUINFO
from gateway.simulator import Behaviour, Simulator
from gateway.simulator.configuration import merged
from tests.ports import free_port

UNITS: Final = Path(__file__).parents[2] / "deploy" / "systemd"
SERVICE, SOCKET = UNITS / "alipayplus-gateway.service", UNITS / "alipayplus-gateway.socket"
CREDENTIALS: Final = "/run/credentials/alipayplus-gateway.service"
INSTALLED: Final = "/opt/alipayplus-gateway/bin/gateway"
GATEWAY: Final = Path(sys.executable).with_name("gateway")
EXPOSURE: Final = 2.0
PATH: Final = "/alipayplus/v1/sdkProxy"


def needs(tool: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(tool) is None, reason="needs the package systemd")


def settings(unit: Path, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", unit.read_text(), re.MULTILINE)


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", "--no-pager", *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """The configuration that goes with the units, its credentials in a folder of the test's."""
    (tmp_path / "customer-hash").write_text("hash\n")
    file = tmp_path / "gateway.yaml"
    file.write_text((UNITS / "gateway.yaml").read_text().replace(CREDENTIALS, str(tmp_path)))
    loaded = load(file)
    assert loaded.warnings == ()
    return loaded.config


@needs("systemd-analyze")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    for unit in (SERVICE, SOCKET):
        (tmp_path / unit.name).write_text(unit.read_text().replace(INSTALLED, str(GATEWAY)))
    done = analyze("verify", *(str(tmp_path / unit.name) for unit in (SERVICE, SOCKET)))
    ours = [line for line in done.stderr.splitlines() if not line.startswith(("/lib/", "/usr/lib/"))]  # others have faults of their own
    assert (done.returncode, done.stdout, ours) == (0, "", [])


@needs("systemd-analyze")
def test_the_service_is_confined() -> None:
    done = analyze("security", "--offline=true", f"--threshold={EXPOSURE * 10:.0f}", str(SERVICE))
    found = re.search(r"Overall exposure level for alipayplus-gateway\.service: ([0-9.]+)", done.stdout)
    assert found is not None, done.stderr
    assert (done.returncode, float(found[1]) <= EXPOSURE) == (0, True)
    said = re.search(r"says ([0-9.]+) \(OK\) with systemd (\d+)\.", (UNITS / "README.md").read_text())
    assert said is not None
    if f"systemd {said[2]} " in analyze("--version").stdout:
        assert found[1] == said[1]


def test_the_processor_can_be_seen() -> None:
    """Of /proc, `ProcSubset=pid` leaves processes only: no /proc/cpuinfo."""
    assert Path("/proc/cpuinfo") == CPUINFO
    assert settings(SERVICE, "ProcSubset") in ([], ["all"])


def test_what_the_configuration_names_is_what_the_units_give(config: Config) -> None:
    named = set(re.findall(rf"{CREDENTIALS}/([\w.-]+)", (UNITS / "gateway.yaml").read_text()))
    assert named == {entry.partition(":")[0] for entry in settings(SERVICE, "LoadCredential")}
    assert [str(listener) for listener in config.server.listen] == [f"fd:{name}" for name in settings(SOCKET, "FileDescriptorName")]


def test_a_stop_takes_less_time_than_it_is_given(config: Config) -> None:
    [seconds] = settings(SERVICE, "TimeoutStopSec")
    assert float(seconds) >= config.server.accept_grace + config.server.drain_timeout + OVERTIME


def test_a_faulty_configuration_is_not_tried_again() -> None:
    assert settings(SERVICE, "RestartPreventExitStatus") == ["2 3"]


def test_whatever_else_fails_is_tried_again_for_ever() -> None:
    [interval, burst, pause] = [float(settings(SERVICE, name)[0]) for name in ("StartLimitIntervalSec", "StartLimitBurst", "RestartSec")]
    assert burst > interval / pause + 1


def test_no_access_line_is_dropped_by_the_journal() -> None:
    assert settings(SERVICE, "LogRateLimitIntervalSec") == ["0"]


def test_a_reload_has_room_for_its_workers_on_a_machine_with_many_cpus() -> None:
    assert settings(SERVICE, "TasksMax") == []


class Service:
    """What systemd does for a service of these units, as far as it can be done without it: sockets, credentials, messages, commands."""

    def __init__(self, folder: Path, sim: Simulator) -> None:
        self.folder = folder
        self.port, self.admin = free_port(), free_port()
        self.config = folder / "etc" / "gateway.yaml"
        self.config.parent.mkdir()
        self.document = self._document(sim)
        self.write(self.document)
        self._give_credentials(sim)
        self._messages = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._messages.bind(str(folder / "notify"))
        self._messages.setblocking(False)
        self._process: asyncio.subprocess.Process

    def write(self, document: dict[str, Any]) -> None:
        self.config.write_text(yaml.safe_dump(document))

    def _document(self, sim: Simulator) -> dict[str, Any]:
        text = (UNITS / "gateway.yaml").read_text().replace(CREDENTIALS, str(self.folder / "credentials"))
        changes = {
            "server": {"workers": 2, "accept_grace": "0s"},
            "admin": {"listen": f"127.0.0.1:{self.admin}"},
            "session": {"forward": {"url": f"http://127.0.0.1:{sim.ports.auth}/session"}},
            "alipayplus": {"host": f"https://127.0.0.1:{sim.ports.alipayplus}", "tls": {"ca": str(sim.ca)}},
        }
        return merged(yaml.safe_load(text), changes)

    def _give_credentials(self, sim: Simulator) -> None:
        """Put them where the service finds them, with the mode that an access control list of theirs shows as."""
        folder = self.folder / "credentials"
        folder.mkdir()
        (sim.directory / "keys" / "customer-hash").write_text("hash\n")
        for entry in settings(SERVICE, "LoadCredential"):
            name, _, source = entry.partition(":")
            shutil.copy(sim.directory / "keys" / Path(source).name, folder / name)
            (folder / name).chmod(0o440)

    def command(self, setting: str, index: int = 0) -> list[str]:
        """A command of the unit with what is installed in place of what is to be installed; its namespace is this one."""
        line = (
            settings(SERVICE, setting)[index].replace(INSTALLED, str(GATEWAY)).replace("/etc/alipayplus-gateway", str(self.config.parent))
        )
        pid = self._process.pid if setting != "ExecStart" else 0
        return line.removeprefix("+/usr/bin/nsenter --target $MAINPID --mount ").replace("$MAINPID", str(pid)).split()

    @property
    def environ(self) -> dict[str, str]:
        return {
            "NOTIFY_SOCKET": str(self.folder / "notify"),
            "WATCHDOG_USEC": "1000000",
            "CREDENTIALS_DIRECTORY": str(self.folder / "credentials"),
        }

    async def start(self) -> None:
        """Wait for a client, and start the service for it."""
        given = [argument for name, value in self.environ.items() for argument in ("-E", f"{name}={value}")]
        [name] = settings(SOCKET, "FileDescriptorName")
        self._process = await asyncio.create_subprocess_exec(
            *("systemd-socket-activate", "-l", f"127.0.0.1:{self.port}", f"--fdname={name}", *given, *self.command("ExecStart")),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        assert self._process.stderr is not None
        await asyncio.wait_for(self._process.stderr.readuntil(b"Listening on"), 10)

    async def run(self, setting: str, index: int) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            *self.command(setting, index), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=self.environ
        )
        said, _ = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode, said.decode()

    async def until_told(self, text: str) -> str:
        async with asyncio.timeout(30):
            while text not in (message := (await asyncio.get_running_loop().sock_recv(self._messages, 4096)).decode()):
                pass
        return message

    async def post(self) -> int:
        body, login = {"proxyRequestHeader": "", "proxyRequestData": ""}, {"Authorization": "Bearer demo-token-anna"}
        async with aiohttp.ClientSession() as http, http.post(f"http://127.0.0.1:{self.port}{PATH}", json=body, headers=login) as answer:
            return answer.status

    async def stop(self) -> tuple[int | None, str]:
        [number] = settings(SERVICE, "KillSignal")
        self._process.send_signal(signal.Signals[number])
        _, said = await asyncio.wait_for(self._process.communicate(), 60)
        return self._process.returncode, said.decode()

    async def end(self) -> None:
        self._messages.close()
        if self._process.returncode is None:
            self._process.kill()
            await self._process.communicate()


@pytest.fixture
async def service(tmp_path: Path, keys: Any) -> AsyncIterator[tuple[Service, Simulator]]:
    async with Simulator(tmp_path / "peers", keys=keys) as sim:
        service = Service(tmp_path, sim)
        await service.start()
        try:
            yield service, sim
        finally:
            await service.end()


@needs("systemd-socket-activate")
async def test_the_gateway_follows_the_units(service: tuple[Service, Simulator]) -> None:
    unit, sim = service
    assert await unit.post() == 200, "the first client wakes it and waits for it"
    assert "serving with 2 workers, generation 1" in await unit.until_told("READY=1")
    await unit.until_told("WATCHDOG=1")

    assert (await unit.run("ExecReload", 0))[0] == 0
    assert (await unit.run("ExecReload", 1))[0] == 0
    await unit.until_told("RELOADING=1")
    assert "generation 2" in await unit.until_told("READY=1")
    assert await unit.post() == 200

    unit.write(merged(unit.document, {"alipayplus": {"timeout": "9s"}}))
    code, said = await unit.run("ExecReload", 0)
    assert (code, "alipayplus.timeout" in said) == (3, True)
    unit.write(unit.document)
    assert await unit.post() == 200

    sim.alipayplus.script(Behaviour(hold=True))
    waiting = asyncio.create_task(unit.post())
    await sim.alipayplus.until_received(4)
    stopping = asyncio.create_task(unit.stop())
    await unit.until_told("STOPPING=1")
    await unit.until_told("WATCHDOG=1")
    sim.alipayplus.release()
    assert await waiting == 200
    code, said = await stopping
    assert code == 0
    assert "may read this private key" not in said
