"""`gateway simulate` as users run it: a process, its output, its signals and exit codes."""

import asyncio
import json
import os
import signal
import ssl
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import yaml

from gateway.simulator import Keys
from gateway.simulator.certificates import Authority
from gateway.simulator.configuration import Ports, render

LAST_LINE = "Ctrl-C ends it."


@asynccontextmanager
async def simulate(*arguments: str, temporary: Path | None = None) -> AsyncIterator[tuple[Process, list[str]]]:
    """Run the command until the block is left; gives the process and the lines that it showed when it was ready."""
    environment = os.environ | ({"TMPDIR": str(temporary)} if temporary else {})
    command = (sys.executable, "-m", "gateway", "simulate", *arguments)
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE, env=environment)
    assert process.stdout is not None
    try:
        lines: list[str] = []
        while not lines or (lines[-1] != LAST_LINE and not process.stdout.at_eof()):
            lines.append((await process.stdout.readline()).decode().rstrip("\n"))
        yield process, lines
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def run(*arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "gateway", "simulate", *arguments, stdout=PIPE, stderr=PIPE)
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_ends_it_with_0_and_the_temporary_folder_is_gone(tmp_path: Path, port_base: int, number: signal.Signals) -> None:
    async with simulate("--port-base", str(port_base), temporary=tmp_path) as (process, lines):
        assert lines[-1] == LAST_LINE
        (folder,) = names(tmp_path)
        assert f"  gateway run -c {tmp_path / folder}/gateway.yaml" in lines
        assert f"  gateway call http://127.0.0.1:{port_base} --header 'Authorization: Bearer demo-token-anna'" in lines
        process.send_signal(number)
        _, errors = await process.communicate()
        assert (process.returncode, errors) == (0, b"")
    assert names(tmp_path) == []


async def test_a_folder_of_ones_own_is_filled_and_kept(tmp_path: Path, port_base: int) -> None:
    folder = tmp_path / "new"
    async with simulate("--port-base", str(port_base), "--dir", str(folder)):
        context = ssl.create_default_context(cafile=str(folder / "tls" / "ca.pem"))
        document = yaml.safe_load((folder / "gateway.yaml").read_text())
        assert document["alipayplus"]["host"] == f"https://127.0.0.1:{port_base + 2}"
        url = f"{document['alipayplus']['host']}/_simulator/script"
        async with aiohttp.ClientSession() as client, client.post(url, data=json.dumps({"code": "X"}), ssl=context) as response:
            assert await response.json() == {"scripted": 1}
    assert names(folder) == ["gateway.yaml", "keys", "tls"]


@pytest.mark.parametrize("fast", [True, False])
async def test_scripts_are_shown_where_they_can_be_used(tmp_path: Path, port_base: int, fast: bool) -> None:  # noqa: FBT001  a parameter of the test
    async with simulate("--port-base", str(port_base), *(["--fast"] if fast else []), temporary=tmp_path) as (_, lines):
        assert any("/_simulator/script" in line for line in lines) is not fast


async def test_a_folder_that_holds_keys_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    code, _, errors = await run("--dir", str(tmp_path))
    assert code == 1
    assert errors.startswith("gateway: ")
    assert "nothing is overwritten" in errors
    assert names(tmp_path) == ["keys"]


async def test_the_peers_of_a_configuration_are_played(tmp_path: Path, port_base: int, keys: Keys) -> None:
    configuration = write(tmp_path, port_base, keys)
    async with simulate("-c", str(configuration)) as (process, lines):
        assert f"https://127.0.0.1:{port_base + 2}" in lines[0]
        url = f"http://127.0.0.1:{port_base + 3}/session"
        headers = {"Authorization": "Bearer demo-token-alice"}
        async with aiohttp.ClientSession() as client, client.get(url, headers=headers) as response:
            assert response.headers["X-Customer-Id"] == "customer-alice"
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


async def test_a_missing_private_key_of_alipayplus_is_a_clear_error(tmp_path: Path, port_base: int, keys: Keys) -> None:
    configuration = write(tmp_path, port_base, keys)
    (tmp_path / "keys" / "alipayplus-1.private.pem").unlink()
    code, _, errors = await run("-c", str(configuration))
    assert code == 1
    assert "keys/alipayplus-1.private.pem" in errors
    assert "Traceback" not in errors


async def test_the_mpp_api_of_a_configuration_is_played_when_asked_for(tmp_path: Path, port_base: int, keys: Keys) -> None:
    configuration = write(tmp_path, port_base, keys)
    async with simulate("-c", str(configuration), "--api") as (_, lines):
        assert f"MPP API         http://127.0.0.1:{port_base + 4}" in lines
        url = f"http://127.0.0.1:{port_base + 4}/healthz"
        async with aiohttp.ClientSession() as client, client.get(url) as response:
            assert await response.json() == {"status": "ok"}


async def test_missing_keys_are_made_once_and_serve_both_sides(tmp_path: Path, port_base: int) -> None:
    configuration = tmp_path / "gateway.yaml"
    configuration.write_text(render(Ports.from_base(port_base)))
    code, shown, _ = await run("-c", str(configuration), "--make-keys")
    made = [f"made {tmp_path / file}" for file in ("keys/mpp-1.pem", "keys/alipayplus-1.pem", "tls/ca.pem")]
    assert (code, shown.splitlines()) == (0, made)
    assert (await run("-c", str(configuration), "--make-keys"))[:2] == (0, "all keys are there\n")
    async with simulate("-c", str(configuration)) as (_, lines):
        assert f"https://127.0.0.1:{port_base + 2}" in lines[0]


async def test_a_faulty_configuration_exits_3(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text("server: {lisen: x}\n")
    code, _, errors = await run("-c", str(tmp_path / "gateway.yaml"))
    assert code == 3
    assert "lisen" in errors


async def test_a_taken_port_is_named_and_nothing_is_written(tmp_path: Path, port_base: int) -> None:
    async with simulate("--port-base", str(port_base), temporary=tmp_path):
        code, _, errors = await run("--port-base", str(port_base), "--dir", str(tmp_path / "other"))
    assert code == 1
    assert f"127.0.0.1:{port_base + 2}: address already in use" in errors
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(("name", "reason"), [("file", "not a directory"), ("a" * 300, "file name too long")])
async def test_a_folder_that_cannot_be_is_one_clear_line(tmp_path: Path, port_base: int, name: str, reason: str) -> None:
    (tmp_path / "file").touch()
    code, _, errors = await run("--port-base", str(port_base), "--dir", str(tmp_path / name))
    assert (code, errors) == (1, f"gateway: {tmp_path / name}/keys: {reason}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--port-base", "0"),
        ("--port-base", "65532"),
        ("-c", "x", "--dir", "y"),
        ("-c", "x", "--port-base", "1"),
        ("-c", "x", "--make-keys", "--dir", "y"),
        ("--api",),
        ("--make-keys",),
    ],
)
async def test_wrong_usage_is_refused(arguments: tuple[str, ...]) -> None:
    assert (await run(*arguments))[0] == 2


async def test_the_help_says_every_field_and_value_of_a_script() -> None:
    code, shown, _ = await run("--help")
    assert code == 0
    for part in ("POST   /_simulator/script", "before_reading | after_reading", "lower_case_escapes", "expires_in", "[[name, value], ...]"):
        assert part in shown


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def write(directory: Path, port_base: int, keys: Keys) -> Path:
    for folder in ("keys", "tls"):
        (directory / folder).mkdir()
    keys.write(directory / "keys")
    Authority.generate().write(directory / "tls" / "ca.pem")
    path = directory / "gateway.yaml"
    path.write_text(render(Ports.from_base(port_base)))
    return path
