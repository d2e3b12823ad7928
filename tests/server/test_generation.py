"""Generations of workers that are simple programs: they do what a test asks for."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog

from gateway.config import Listener
from gateway.server.children import Children
from gateway.server.edition import Edition, read_edition
from gateway.server.generation import Generation, NotReady
from gateway.server.member import SILENT_TICKS
from gateway.server.processor import openssl_settings
from gateway.server.seat import FAILING, LAST_DELAY, delay
from gateway.server.sockets import Listeners, open_listeners
from gateway.server.tally import Tally
from gateway.simulator import Ports
from gateway.simulator.configuration import render
from gateway.simulator.keys import Keys
from gateway.telemetry import snapshot
from gateway.telemetry.metrics import ServiceMetrics
from gateway.upstream.addresses import Found, NameBook

WORKER = """
import signal, socket, sys, time
from prometheus_client import CollectorRegistry, Counter, Gauge
from gateway.server.control import *
from gateway.telemetry import snapshot
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
registry = CollectorRegistry()
counter, gauge = Counter("c", "c", registry=registry), Gauge("g", "g", registry=registry)
channel = socket.socket(fileno=int(sys.argv[1]))
descriptors, assignment = receive_descriptors(channel), receive(channel)
counter.inc(10); gauge.set(1)
def say(message): channel.sendall(encode(message))
def tell(number=0): say(Totals(number, snapshot.encode(snapshot.take(registry))))
tell(); say(Ready())
while (order := receive(channel)) is not None:
    if isinstance(order, Ask):
        tell(order.number)
    elif isinstance(order, Drain):
        say(Closed(3))
        counter.inc()
        tell()
        break
"""
READY = WORKER
STUBBORN = WORKER.replace("        break\n", "")
DUMB = WORKER.replace("tell(order.number)", "pass")
EXITS = "raise SystemExit(7)"
HANGS = "import time; time.sleep(600)"


class Stage:
    """What a generation needs, and what it has told."""

    def __init__(self, edition: Edition, listeners: Listeners, tasks: asyncio.TaskGroup) -> None:
        self.edition = edition
        self.listeners = listeners
        self.tasks = tasks
        self.metrics = ServiceMetrics()
        self.events: list[dict[str, Any]] = []
        self.generations: list[Generation] = []
        self.tally = Tally(self.metrics.registry, lambda: [member for each in self.generations for member in each.members])
        self.names = NameBook()
        self._log = structlog.wrap_logger(None, processors=[self._note])

    def _note(self, _logger: object, _method: str, event: Any) -> Any:
        self.events.append(event)
        raise structlog.DropEvent

    def generation(self, program: str, **options: Any) -> Generation:
        children = Children((sys.executable, "-c", program))
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, children.reap)
        generation = Generation(
            1,
            self.edition,
            children,
            self.metrics,
            lambda: self._log,
            on_change=lambda: None,
            on_end=self.tally.retire,
            names=self.names,
            **options,
        )
        self.generations.append(generation)
        return generation

    def said(self, event: str) -> list[dict[str, Any]]:
        return [entry for entry in self.events if entry["event"] == event]


@pytest.fixture
async def stage(tmp_path: Path, keys: Keys) -> AsyncIterator[Stage]:
    path = tmp_path / "gateway.yaml"
    path.write_text(render(Ports(), {"server": {"drain_timeout": "0s"}, "alipayplus": {"tls": None}}))
    (tmp_path / "keys").mkdir()
    keys.write(tmp_path / "keys")
    listeners = open_listeners([Listener.parse("127.0.0.1:0")], slots=2, unix_mode=0o660, inherited={})
    async with asyncio.TaskGroup() as tasks:
        stage = Stage(read_edition(path, ()), listeners, tasks)
        yield stage
        for generation in stage.generations:
            for member in generation.members:
                member.kill()
            await generation.drain()
    asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)
    listeners.close()


async def until(is_so: Callable[[], bool], generation: Generation) -> None:
    """Wait until something is so, looking at each change of the generation."""
    changed = asyncio.Event()
    generation._on_change = changed.set
    async with asyncio.timeout(30):
        while not is_so():
            changed.clear()
            await changed.wait()


async def test_all_serve_when_it_has_started_and_all_have_ended_when_it_has_drained(stage: Stage) -> None:
    generation = stage.generation(READY)
    await generation.start(stage.listeners, stage.tasks)
    assert (generation.serving, generation.is_failing) == (2, False)
    draining = asyncio.create_task(generation.drain())
    assert await generation.closed() == 6
    await draining
    assert (generation.serving, generation.members) == (0, set())
    assert stage.said("a worker has ended") == []


@pytest.mark.parametrize(("suits", "killed"), [(True, 0), (False, 1)])
async def test_a_process_that_was_started_already_serves_if_it_suits_the_signing_key(stage: Stage, suits: bool, killed: int) -> None:  # noqa: FBT001
    generation = stage.generation(READY)
    other = {**openssl_settings(stage.edition.signing_key.bits), "OPENSSL_other": "1"}
    spare = generation._children.start(None if suits else other)
    await generation.start(stage.listeners, stage.tasks, spare=spare)
    assert generation.serving == 2
    assert [member.pid for member in generation.members].count(spare.pid) == 1 - killed
    if killed:
        await asyncio.to_thread(spare._process.wait, 30)


@pytest.mark.parametrize("is_reaped", [False, True])
async def test_F2_a_process_that_has_ended_before_it_was_needed_is_replaced(stage: Stage, is_reaped: bool) -> None:  # noqa: FBT001
    generation = stage.generation(READY)
    spare = generation._children.start()
    asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)
    spare.kill()
    await asyncio.to_thread(os.waitid, os.P_PID, spare.pid, os.WEXITED | os.WNOWAIT)
    asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, generation._children.reap)
    if is_reaped:
        generation._children.reap()
    await asyncio.wait_for(generation.start(stage.listeners, stage.tasks, spare=spare), 30)
    assert generation.serving == 2
    assert spare.pid not in {member.pid for member in generation.members}


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        pytest.param(EXITS, "a worker does not start: exit code 7", id="E3-exits"),
        pytest.param(HANGS, "its workers did not get ready in time", id="E3-never-ready"),
    ],
)
async def test_E3_a_generation_that_does_not_get_ready_says_why(stage: Stage, program: str, reason: str) -> None:
    generation = stage.generation(program, ready_within=0.5 if program == HANGS else 30)
    with pytest.raises(NotReady, match=reason):
        await generation.start(stage.listeners, stage.tasks)
    await generation.drain()
    assert generation.members == set()
    restarts = snapshot.value(snapshot.take(stage.metrics.registry), "gateway_worker_restarts_total")
    assert restarts == 0, "what a worker that never served had in flight is nothing"


async def test_E3_a_machine_without_room_for_a_process_is_named(stage: Stage) -> None:
    generation = stage.generation(READY)
    generation._children = Children(("/none",))
    with pytest.raises(NotReady, match="a worker does not start: No such file or directory"):
        await generation.start(stage.listeners, stage.tasks)


async def test_E3_an_error_of_our_own_is_a_worker_that_does_not_start(stage: Stage) -> None:
    generation = stage.generation(READY)
    [[sock], _] = stage.listeners.slots
    stage.listeners.slots = ((sock,) * 256,)  # one byte says how many there are
    with pytest.raises(NotReady, match="a worker does not start: the gateway itself failed: ValueError; see the log"):
        await generation.start(stage.listeners, stage.tasks)
    assert len(stage.said("a worker could not be started")) >= FAILING
    await generation.drain()
    assert generation.members == set()


@pytest.mark.parametrize(("number", "name"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGRTMIN + 6, "signal 40")])
async def test_F2_a_killed_worker_is_replaced_at_once_and_counted(stage: Stage, number: int, name: str) -> None:
    generation = stage.generation(READY)
    await generation.start(stage.listeners, stage.tasks)
    victim = next(iter(generation.members))
    os.kill(victim.pid, number)
    await until(lambda: victim not in generation.members and generation.serving == 2, generation)
    [ended] = stage.said("a worker has ended")
    assert (ended["worker"], ended["reason"], ended["replaced_in_seconds"]) == (victim.slot, f"killed by {name}", 0)
    assert snapshot.value(snapshot.take(stage.metrics.registry), "gateway_worker_restarts_total") == 1


async def test_F2_a_worker_that_is_killed_while_it_finishes_is_told_of_and_counted(stage: Stage) -> None:
    generation = stage.generation(STUBBORN)
    await generation.start(stage.listeners, stage.tasks)
    draining = asyncio.create_task(generation.drain())
    await generation.closed()
    victim, other = generation.members
    os.kill(victim.pid, signal.SIGKILL)
    await victim.ended.wait()
    other.kill()
    await draining
    [ended] = stage.said("a worker has ended before it had finished")
    assert (ended["worker"], ended["reason"]) == (victim.slot, "killed by SIGKILL")
    assert snapshot.value(snapshot.take(stage.metrics.registry), "gateway_worker_restarts_total") == 1


async def test_F7_what_a_worker_has_found_for_names_is_told_to_those_after_it(stage: Stage) -> None:
    counting = 'say(Totals(0, b"", b"", (Found("told", len(assignment.names), ()),))); say(Ready())'
    program = f"from gateway.upstream.addresses import Found{WORKER.replace('tell(); say(Ready())', counting)}"
    generation = stage.generation(program)
    await generation.start(stage.listeners, stage.tasks)
    assert list(stage.names.found) == [Found("told", 0, ())]
    victim = next(iter(generation.members))
    os.kill(victim.pid, signal.SIGKILL)
    await until(lambda: victim not in generation.members and generation.serving == 2, generation)
    assert list(stage.names.found) == [Found("told", 0, ()), Found("told", 1, ())]


async def test_F2_a_worker_that_says_nothing_any_more_is_killed_after_so_many_ticks(stage: Stage) -> None:
    generation = stage.generation(READY)
    await generation.start(stage.listeners, stage.tasks)
    hung = next(iter(generation.members))
    os.kill(hung.pid, signal.SIGSTOP)
    for _ in range(SILENT_TICKS):
        generation.watch()
    assert not hung.is_hung
    await asyncio.gather(*(member.ask() for member in generation.members if member is not hung))  # the others have said something
    generation.watch()
    assert hung.is_hung
    await until(lambda: hung not in generation.members and generation.serving == 2, generation)
    assert [entry["reason"] for entry in stage.said("a worker has ended")] == ["it hung"]


async def test_F2_a_worker_that_hangs_while_it_finishes_is_told_of_and_counted(stage: Stage) -> None:
    generation = stage.generation(STUBBORN)
    await generation.start(stage.listeners, stage.tasks)
    draining = asyncio.create_task(generation.drain())
    await generation.closed()
    for _ in range(SILENT_TICKS + 1):
        generation.watch()
    await draining
    assert [entry["reason"] for entry in stage.said("a worker has ended before it had finished")] == ["it hung"] * 2
    assert snapshot.value(snapshot.take(stage.metrics.registry), "gateway_worker_restarts_total") == 2


async def test_F2_a_worker_that_does_not_end_is_killed_when_its_time_is_over(stage: Stage) -> None:
    generation = stage.generation(STUBBORN, overtime=0.1)
    await generation.start(stage.listeners, stage.tasks)
    await generation.drain()
    assert generation.members == set()
    assert len(stage.said("workers did not end in time and are killed")) == 1
    assert stage.said("a worker has ended before it had finished") == []


def test_F2_the_delay_of_a_replacement_grows_to_a_limit() -> None:
    assert [delay(failures) for failures in range(6)] == [0, 0, 0.1, 0.2, 0.4, 0.8]
    assert delay(100) == delay(10_000) == LAST_DELAY


async def test_metrics_are_asked_for_and_added_up_and_outlive_their_workers(stage: Stage) -> None:
    generation = stage.generation(READY)
    await generation.start(stage.listeners, stage.tasks)
    first, second = await asyncio.gather(stage.tally.collect(), stage.tally.collect())
    assert total(first, "c_total") == total(second, "c_total") == 20
    assert total(first, "g") == 2
    await generation.drain()
    assert total(await stage.tally.collect(), "c_total") == 22, "what was counted at the end counts"
    assert total(await stage.tally.collect(), "g") == 0


async def test_of_a_worker_that_does_not_answer_what_it_told_last_counts(stage: Stage) -> None:
    generation = stage.generation(DUMB)
    await generation.start(stage.listeners, stage.tasks)
    assert total(await stage.tally.collect(), "c_total") == 20


def total(exposition: snapshot.Exposition, name: str) -> float:
    return sum(sample.value for metric in exposition.collect() for sample in metric.samples if sample.name == name)
