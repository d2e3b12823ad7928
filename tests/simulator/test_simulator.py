import socket
import tempfile
from pathlib import Path

import pytest

from gateway.config import load
from gateway.runtime import CHECKS
from gateway.simulator import Keys, Ports, Simulator
from gateway.simulator.peers import CannotListen
from gateway.simulator.simulator import CannotWrite, temporary_folder


async def test_the_configuration_is_one_that_the_gateway_takes(simulator: Simulator) -> None:
    changes = {"server": {"listen": "127.0.0.1:0"}, "admin": {"listen": "127.0.0.1:0"}}
    loaded = load(simulator.write_configuration(changes), CHECKS)
    assert loaded.warnings == ()
    assert loaded.config.alipayplus.host == (f"https://127.0.0.1:{simulator.alipayplus.port}",)


async def test_several_configurations_can_be_written(simulator: Simulator) -> None:
    first, second = simulator.write_configuration(), simulator.write_configuration(name="other.yaml")
    assert first.read_text() == second.read_text()
    assert (first.name, second.name) == ("gateway.yaml", "other.yaml")


async def test_the_ports_are_those_in_use(simulator: Simulator) -> None:
    for port in (simulator.ports.alipayplus, simulator.ports.auth, simulator.ports.mpp):
        socket.create_connection(("127.0.0.1", port)).close()


async def test_a_port_that_is_taken_is_named_and_nothing_stays_open(tmp_path: Path, keys: Keys) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen, match=rf"cannot listen on 127\.0\.0\.1:{port}: address already in use"):
            async with Simulator(tmp_path, keys=keys, ports=Ports(0, 0, 0, port, 0)):
                pass


async def test_nothing_listens_after_the_end(tmp_path: Path, keys: Keys) -> None:
    async with Simulator(tmp_path, keys=keys) as simulator:
        ports = simulator.ports
    for port in (ports.alipayplus, ports.auth, ports.mpp):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))


def test_a_temporary_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(CannotWrite, match=r"^a temporary folder cannot be made: no such file or directory$"), temporary_folder("x"):
        pass
