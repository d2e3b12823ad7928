"""Those who only hold connections: what each costs, and what others notice of them. Others send a paced load on the SDK path."""

import resource
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Final

from tests.bench.load import Load, Outcome
from tests.bench.machine import on_core
from tests.bench.program import PREFIX, Gateway

ATTACKERS: Final = 1000
LIMITS: Final = {"connections": 16_000}
"""The gateway's limits under a crowd; all others have their defaults."""

_ASK: Final = b"GET /none HTTP/1.1\r\nHost: gateway.bench\r\n\r\n"  # answered 404 by the gateway alone; the connection is kept
_TARGET: Final = f"{PREFIX}/v1/sdkProxy"
_ATTACKS: Final = {
    "slow heads": ["-H", "-t", "POST"],
    "slow bodies": ["-B", "-f", "application/json", "-j", "session=demo-token-000001"],
}
_ATTACK_SECONDS: Final = 20
_LOOK_SECONDS: Final = 5.0  # slow heads are closed at header_timeout (10 s), slow bodies at body_timeout (30 s)
_SPARE: Final = 1000  # descriptors beside the crowd's
_PATIENCE: Final = 30.0


class CrowdFailed(Exception):
    """There was no crowd; the text says why."""


@dataclass(frozen=True, slots=True)
class Idle:
    """What `connections` that idle have cost: KiB each of resident memory, and the others' latency without and with them."""

    connections: int
    kib: float
    without: Outcome
    beside: Outcome


@dataclass(frozen=True, slots=True)
class Attacked:
    """The others' latency without and with `held` attackers of one kind."""

    kind: str
    held: int
    without: Outcome
    beside: Outcome


def idle(gateway: Gateway, others: Load, connections: int, seconds: float) -> Idle:
    """Open so many connections, each with one request answered on it, and look. Raises CrowdFailed."""
    _make_room(connections)
    others(gateway.port, seconds / 2)  # warms up
    without, before = others(gateway.port, seconds), gateway.resident_mib()
    with _crowd(gateway.port, connections):
        _wait_until_held(gateway, connections)
        kib = (gateway.resident_mib() - before) * 1024 / connections
        beside = others(gateway.port, seconds)
    return Idle(connections, kib, without, beside)


def attacked(gateway: Gateway, others: Load, seconds: float, core: int) -> Iterator[Attacked]:
    """Yield what each kind of slowhttptest's attackers does to the others. Raises CrowdFailed."""
    if not shutil.which("slowhttptest"):
        raise CrowdFailed("slowhttptest is not installed (Debian package slowhttptest)")
    _make_room(ATTACKERS)
    seconds = min(seconds, _LOOK_SECONDS)
    others(gateway.port, seconds / 2)  # warms up
    for kind, options in _ATTACKS.items():
        without = others(gateway.port, seconds)
        with _attack(options, gateway.port, core) as process:
            held = _wait_until_held(gateway, ATTACKERS)
            beside = others(gateway.port, seconds)
            if process.poll() is not None:
                raise CrowdFailed("slowhttptest ended before the measurement did")
        yield Attacked(kind, held, without, beside)


def report(idle: Idle | None, attacks: Sequence[Attacked]) -> str:
    """Return the lines of what was measured."""
    lines = []
    if idle is not None:
        lines.append(f"{idle.connections} idle connections: {idle.kib:.1f} KiB each; {_change(idle.without, idle.beside)}")
    lines += [f"{attack.held} attackers with {attack.kind}: {_change(attack.without, attack.beside)}" for attack in attacks]
    return "\n".join(lines)


def _change(without: Outcome, beside: Outcome) -> str:
    latency = f"p50 {without.p50:.2f} -> {beside.p50:.2f} ms, p99 {without.p99:.2f} -> {beside.p99:.2f} ms"
    return f"others at {beside.per_second:.0f} requests/s: {latency}, errors: {without.errors + beside.errors}"


def _make_room(connections: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < connections + _SPARE:
        raise CrowdFailed(f"only {hard} descriptors are allowed here (ulimit -Hn), too few for {connections} connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def _crowd(port: int, connections: int) -> Iterator[None]:
    with ExitStack() as crowd:
        for _ in range(connections):
            sock = crowd.enter_context(socket.create_connection(("127.0.0.1", port), _PATIENCE))
            sock.sendall(_ASK)
            if not sock.recv(4096).startswith(b"HTTP/1.1 404 "):
                raise CrowdFailed("an idle connection was not served")
        yield


@contextmanager
def _attack(options: list[str], port: int, core: int) -> "Iterator[subprocess.Popen[bytes]]":
    command = ["slowhttptest", *options, "-c", str(ATTACKERS), "-r", str(ATTACKERS), "-i", "2", "-l", str(_ATTACK_SECONDS)]
    with on_core(core):
        process = subprocess.Popen([*command, "-u", f"http://127.0.0.1:{port}{_TARGET}"], stdout=subprocess.DEVNULL)
    with process:
        try:
            yield process
        finally:
            process.terminate()


def _wait_until_held(gateway: Gateway, connections: int) -> int:
    ends = monotonic() + _PATIENCE
    while (held := gateway.connections()) < connections:
        if monotonic() > ends:
            raise CrowdFailed(f"only {held} of {connections} connections are held")
        sleep(0.1)
    return held
