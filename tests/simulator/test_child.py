"""The gateway as a child process, when it does not do what it should."""

from pathlib import Path

import pytest

from gateway.simulator import Simulator
from gateway.simulator.child import gateway


async def test_the_errors_of_a_gateway_that_does_not_start_are_shown(tmp_path: Path) -> None:
    configuration = tmp_path / "gateway.yaml"
    configuration.write_text("server: {lisen: x}\n")
    said: list[str] = []
    async with gateway(configuration, said.append) as child:
        assert not await child.until_ready("http://127.0.0.1:9/readyz")
    assert any("lisen" in line for line in said)


async def test_its_end_is_noticed_and_its_quiet_lines_are_not_shown(simulator: Simulator) -> None:
    said: list[str] = []
    changes = {"server": {"listen": "127.0.0.1:0"}, "admin": {"listen": "127.0.0.1:0"}}
    async with gateway(simulator.write_configuration(changes), said.append) as child:
        await child.stop()
        await child.ended.wait()
    assert said == []


async def test_an_error_in_the_block_stops_it_too(simulator: Simulator) -> None:
    changes = {"server": {"listen": "127.0.0.1:0"}, "admin": {"listen": "127.0.0.1:0"}}
    with pytest.raises(ZeroDivisionError):
        async with gateway(simulator.write_configuration(changes), print) as child:
            raise ZeroDivisionError
    assert child.ended.is_set()
