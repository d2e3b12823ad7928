"""Reloads of a running gateway: under load, by signal and by changed files, rightly and wrongly."""

import asyncio
import json
import os
import signal
import socket
import stat
import uuid
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from gateway.alipayplus.keys import VerificationKey, generate_private_key, private_pem, public_pem
from gateway.simulator import Behaviour, Simulator
from gateway.simulator.keys import write_private
from tests.e2e.conftest import Process
from tests.e2e.load import Load, echo
from tests.e2e.watching import backwards, counters, metrics, probe, said, total, until_counted, until_said_times, workers
from tests.ports import free_port

FAILED = "the configuration could not be reloaded; the former one stays in use"
HELD_BACK = "the file of the active signing key has changed; it is used after SIGHUP (gateway reload) only"


async def reload(gateway: Process) -> None:
    """Ask for a reload and wait until it is done."""
    times = len(said(gateway, "reloaded"))
    gateway.process.send_signal(signal.SIGHUP)
    await until_said_times(gateway, "reloaded", times + 1)


def change(path: Path, **sections: Any) -> None:
    """Change keys of a configuration file, and replace it at once."""
    prepared(path, **sections).rename(path)


def prepared(path: Path, **sections: Any) -> Path:
    """Write a configuration file that differs from another in these keys, beside it, and return where it is."""
    document = yaml.safe_load(path.read_text())
    for section, keys in sections.items():
        document.setdefault(section, {}).update(keys)
    beside = path.with_suffix(f".{uuid.uuid4()}")
    beside.write_text(yaml.safe_dump(document, sort_keys=False))
    return beside


async def scrape(gateway: Process) -> None:
    """Ask for the metrics again and again, also while workers say for the last time what they have counted."""
    while True:
        await metrics(gateway)


async def test_20_reloads_in_a_row_under_load_lose_nothing_and_no_counter_goes_back(start: Any) -> None:
    sim = await start.simulator()
    echo(sim)
    gateway = await start(sim)
    before: dict[Any, float] = {}
    async with Load(gateway.port, clients=4, pause=0.04) as load:
        scraping = asyncio.create_task(scrape(gateway))
        for _ in range(20):
            await reload(gateway)
            after = counters(await metrics(gateway))
            assert backwards(before, after) == {}
            before = after
        await load.more(20)
        scraping.cancel()
    assert load.failures == []
    assert sim.alipayplus.count == load.answered
    await until_counted(gateway, "gateway_requests_total", load.answered)  # what is told may be 0.2 s old
    assert await gateway.stop() == 0
    assert len(gateway.lines()) == load.answered
    assert len(said(gateway, "reloaded")) == 20


async def test_a_reload_is_told_when_the_former_workers_accept_no_more(start: Any) -> None:
    sim = await start.simulator()
    gateway = await start(sim)
    [worker] = workers(gateway.process.pid)
    os.kill(worker, signal.SIGSTOP)
    try:
        gateway.process.send_signal(signal.SIGHUP)
        await until_said_times(gateway, "a worker serves", 2)
        await asyncio.sleep(0.5)
        assert said(gateway, "reloaded") == []
    finally:
        os.kill(worker, signal.SIGCONT)
    await until_said_times(gateway, "reloaded", 1)
    assert await gateway.stop() == 0


async def test_E4_a_reload_that_is_asked_for_during_another_comes_after_it(start: Any) -> None:
    gateway = await start(await start.simulator(), {"telemetry": {"log": {"level": "debug"}}})
    steps = ["a worker is started", "a worker serves", "reloaded"]
    for times in (1, 2):
        await until_said_times(gateway, steps[0], times)
        gateway.process.send_signal(signal.SIGHUP)
    await until_said_times(gateway, steps[-1], 2)
    events = [json.loads(line)["event"] for line in gateway.err.decode().splitlines() if line.startswith("{")]
    assert [event for event in events if event in steps] == [*steps[:2], *steps, *steps]
    assert await gateway.stop() == 0


async def test_E4_reloads_come_one_after_the_other_and_none_while_draining(start: Any) -> None:
    sim = await start.simulator()
    gateway = await start(sim)
    [worker] = workers(gateway.process.pid)
    for _ in range(3):
        gateway.process.send_signal(signal.SIGHUP)
    await until_said_times(gateway, "reloaded", 1)
    await until_said_times(gateway, "a former generation has ended", 1)
    assert worker not in workers(gateway.process.pid)
    sim.alipayplus.script(Behaviour(hold=True))
    async with aiohttp.ClientSession() as http:
        body = {"proxyRequestHeader": "", "proxyRequestData": ""}
        url, login = f"http://127.0.0.1:{gateway.port}/alipayplus/v1/sdkProxy", {"Authorization": "Bearer demo-token-anna"}
        waiting = asyncio.create_task(http.post(url, json=body, headers=login))
        await sim.alipayplus.until_received(1)
        gateway.process.send_signal(signal.SIGTERM)
        await gateway.until_said(b'"draining"')
        reloads = len(said(gateway, "reloaded"))
        gateway.process.send_signal(signal.SIGHUP)
        sim.alipayplus.release()
        assert (await waiting).status == 200
    assert await gateway.ended() == 0
    assert len(said(gateway, "reloaded")) == reloads <= 3


@pytest.mark.parametrize(
    ("section", "changed", "fault"),
    [
        pytest.param("server", {"drain_timout": "1s"}, "drain_timeout?", id="E3-unknown-key"),
        pytest.param(
            "alipayplus", {"signing": {"key_version": "1", "private_keys": {"1": "none.pem"}}}, "private_keys", id="E3-missing-key"
        ),
        pytest.param("server", {"listen": "PORT_IN_USE"}, "in use already", id="E3-port-in-use"),
    ],
)
async def test_E3_a_configuration_that_cannot_serve_leaves_the_old_one_serving(start: Any, section: str, changed: Any, fault: str) -> None:
    sim = await start.simulator()
    echo(sim)
    gateway = await start(sim)
    [worker] = workers(gateway.process.pid)
    good = gateway.config.read_text()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        change(gateway.config, **{section: {key: address if value == "PORT_IN_USE" else value for key, value in changed.items()}})
        gateway.process.send_signal(signal.SIGHUP)
        await until_said_times(gateway, FAILED, 1)
    assert fault in str(said(gateway, FAILED)[0])
    assert total(await metrics(gateway), "gateway_config_last_reload_successful") == 0
    assert await probe(gateway, "/readyz") == (200, [])
    assert workers(gateway.process.pid) == [worker]
    async with Load(gateway.port, clients=2) as load:
        await load.more(4)
    assert load.failures == []
    gateway.config.write_text(good)
    await reload(gateway)
    assert total(await metrics(gateway), "gateway_config_last_reload_successful") == 1
    assert await gateway.stop() == 0


async def test_E3_the_mode_of_a_unix_socket_changes_with_the_configuration_only(start: Any) -> None:
    sim = await start.simulator()
    gateway = await start(sim, {"server": {"listen": "unix:gateway.sock", "unix_mode": "0660"}})
    file, admin = start.directory / "gateway.sock", free_port()
    with socket.create_server(("127.0.0.1", admin)):
        change(gateway.config, server={"unix_mode": "0600"}, admin={"listen": f"127.0.0.1:{admin}"})
        gateway.process.send_signal(signal.SIGHUP)
        await until_said_times(gateway, FAILED, 1)
        assert stat.S_IMODE(file.stat().st_mode) == 0o660
    await reload(gateway)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert await gateway.stop() == 0


async def test_a_changed_file_is_reloaded_once_by_itself_and_what_changed_is_told_without_secrets(start: Any) -> None:
    sim = await start.simulator()
    gateway = await start(sim, {"telemetry": {"log": {"customer_hash_key": "canary-1"}}})
    first = prepared(gateway.config, alipayplus={"queue_timeout": "2s"})
    second = prepared(first, telemetry={"log": {"customer_hash_key": "canary-2", "level": "warning"}})
    third = prepared(second, telemetry={"log": {"customer_hash_key": "canary-2", "level": "info"}})
    for file in (first, second, third):  # ready before, since a busy machine may take its time to write them
        file.rename(gateway.config)
    await until_said_times(gateway, "reloaded", 1)
    [reloaded] = said(gateway, "reloaded")
    assert reloaded["changes"] == ["alipayplus.queue_timeout: 1s -> 2s", "telemetry.log.customer_hash_key: *** -> ***"]
    assert await gateway.stop() == 0
    assert len(said(gateway, "reloaded")) == 1
    assert b"canary" not in gateway.err + gateway.out


async def test_E5_a_half_written_file_changes_nothing_and_the_whole_one_is_taken(start: Any) -> None:
    sim = await start.simulator()
    gateway = await start(sim)
    whole = gateway.config.read_text().replace("accept_grace: 0s", "accept_grace: 1ms")
    gateway.config.write_text(whole[: whole.index("session:")])
    await until_said_times(gateway, FAILED, 1)
    gateway.config.write_text(whole)
    await until_said_times(gateway, "reloaded", 1)
    assert said(gateway, "reloaded")[0]["changes"] == ["server.accept_grace: 0s -> 1ms"]
    assert await gateway.stop() == 0


async def test_E5_a_swapped_symlink_as_of_Kubernetes_is_one_change(start: Any) -> None:
    sim = await start.simulator()
    written = sim.write_configuration({"server": {"accept_grace": "0s"}})
    for version, grace in (("..v1", "0s"), ("..v2", "1ms")):
        folder = start.directory / version
        folder.mkdir()
        text = written.read_text().replace("accept_grace: 0s", f"accept_grace: {grace}")
        (folder / "gateway.yaml").write_text(text.replace("keys/", "../keys/").replace("tls/", "../tls/"))
    mount = start.directory / "mount"
    mount.mkdir()
    (mount / "..data").symlink_to("../..v1")
    (mount / "gateway.yaml").symlink_to("..data/gateway.yaml")
    gateway = await start.serve(mount / "gateway.yaml", sim)
    (mount / "..new").symlink_to("../..v2")
    (mount / "..new").rename(mount / "..data")
    await until_said_times(gateway, "reloaded", 1)
    assert said(gateway, "reloaded")[0]["changes"] == ["server.accept_grace: 0s -> 1ms"]
    assert await gateway.stop() == 0


async def test_listeners_that_change_are_opened_before_and_closed_afterwards(start: Any) -> None:
    sim = await start.simulator()
    echo(sim)
    gateway = await start(sim)
    other, admin = free_port(), free_port()
    async with Load(gateway.port) as load:
        change(gateway.config, server={"listen": [f"127.0.0.1:{gateway.port}", f"127.0.0.1:{other}"], "workers": 2})
        await reload(gateway)
        await load.more(20)
    assert load.failures == []
    async with Load(other) as load:
        change(gateway.config, server={"listen": f"127.0.0.1:{other}", "workers": 1}, admin={"listen": f"127.0.0.1:{admin}"})
        await reload(gateway)
        await load.more(20)
    assert load.failures == []
    for closed in (gateway.port, gateway.admin):
        with pytest.raises(OSError, match="Connect call failed"):
            await asyncio.open_connection("127.0.0.1", closed)
    gateway.admin = admin
    assert total(await metrics(gateway), "gateway_workers") == 1
    assert await gateway.stop() == 0


async def test_a_pid_file_that_was_removed_is_there_again_after_a_reload(start: Any) -> None:
    sim = await start.simulator()
    gateway = await start(sim, {"server": {"pid_file": "gateway.pid"}})
    file = start.directory / "gateway.pid"
    file.unlink()
    await reload(gateway)
    assert file.read_text() == f"{gateway.process.pid}\n"
    assert await gateway.stop() == 0
    assert not file.exists()


async def test_the_operators_address_may_change_to_one_that_covers_it(start: Any) -> None:
    sim = await start.simulator()
    gateway = await start(sim)
    change(gateway.config, admin={"listen": f"localhost:{gateway.admin}"})
    await reload(gateway)
    for _ in range(4):
        assert await probe(gateway, "/readyz") == (200, [])
    assert await gateway.stop() == 0


async def test_E6_keys_of_both_sides_are_rotated_under_load(start: Any) -> None:
    ours, theirs = generate_private_key(), start.keys.stranger
    sim: Simulator = await start.simulator(known={"2": VerificationKey.of(ours.public_key())})
    echo(sim)
    write_private(start.directory / "keys" / "mpp-2.pem", private_pem(ours))
    (start.directory / "keys" / "alipayplus-2.pem").write_bytes(public_pem(theirs))
    gateway = await start(sim)
    async with Load(gateway.port) as load:
        both = {"1": "keys/alipayplus-1.pem", "2": "keys/alipayplus-2.pem"}
        change(gateway.config, alipayplus={"verification": {"public_keys": both}})
        await reload(gateway)
        await until_said_times(gateway, "a former generation has ended", 1)  # only now does every worker know the new key
        echo(sim, key="stranger", key_version="2")
        await load.more(20)
        both = {"1": "keys/mpp-1.pem", "2": "keys/mpp-2.pem"}
        change(gateway.config, alipayplus={"signing": {"key_version": "2", "private_keys": both}})
        await reload(gateway)
        await load.more(20)
    assert load.failures == []
    assert sim.alipayplus.count == load.answered
    assert all(received.verified for received in sim.alipayplus.received)
    assert await gateway.stop() == 0
    assert {line["key_version"] for line in gateway.lines()} == {"1", "2"}


async def test_the_file_of_the_active_signing_key_is_taken_up_by_SIGHUP_only(start: Any) -> None:
    sim = await start.simulator()
    echo(sim)
    gateway = await start(sim)
    key = start.directory / "keys" / "mpp-1.pem"
    write_private(key, private_pem(start.keys.stranger))
    await until_said_times(gateway, HELD_BACK, 1)
    assert said(gateway, "reloaded") == []
    change(gateway.config, alipayplus={"queue_timeout": "2s"})
    await until_said_times(gateway, "reloaded", 1)
    await until_said_times(gateway, HELD_BACK, 2)
    os.kill(workers(gateway.process.pid)[-1], signal.SIGKILL)
    await until_said_times(gateway, "a worker has ended", 1)
    async with Load(gateway.port, clients=2) as load:
        await load.more(4)
    assert load.failures == [], "the key that was in use signs on, also in workers that were started since"
    await reload(gateway)
    async with aiohttp.ClientSession() as http:
        body = {"proxyRequestHeader": "", "proxyRequestData": ""}
        url, login = f"http://127.0.0.1:{gateway.port}/alipayplus/v1/sdkProxy", {"Authorization": "Bearer demo-token-anna"}
        async with http.post(url, json=body, headers=login) as answer:
            assert (answer.status, (await answer.json())["resultCode"]) == (502, "INVALID_SIGNATURE")
    assert await gateway.stop() == 0
