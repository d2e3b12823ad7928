"""The gateway under test: started as a user starts it, its access log read to the end, its metrics asked for."""

import json
import signal
import subprocess
import sys
import threading
import urllib.request
from collections import deque
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from time import perf_counter
from typing import IO, Any, Final, Self

import yaml
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.bench.machine import cpu_seconds, descriptors, on_core, proportional_mib, resident_mib
from tests.bench.stubs import Stubs

COMMAND: Final = Path(sys.executable).with_name("gateway")
PREFIX: Final = "/alipayplus"
API: Final = "/session"
"""What the stub of the auth service answers stands for the wallet's API, too."""
_PIECE: Final = 1 << 16  # bytes
_START_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 40.0


class GatewayFailed(Exception):
    """The gateway did not start or did not end as it should; the text holds what it said."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the gateway has used and done so far: CPU seconds, SDK requests recorded, and logins checked by a call-out."""

    cpu: float
    requests: float
    call_outs: float


class Gateway:
    """One `gateway run` on one core, a context manager. `started_in` is how many seconds it took to serve.

    `port` is that of its public listener, `stub_port` that of the auth service and the API behind it.
    """

    def __init__(self, folder: Path, stubs: Stubs, core: int, *, session_ttl: int, **server: Any) -> None:
        self.stub_port = int(stubs.session.removesuffix(API).rpartition(":")[2])
        file = folder / "gateway.yaml"
        configuration = _configuration(stubs, session_ttl)
        configuration["server"] |= server
        file.write_text(yaml.safe_dump(configuration))
        with on_core(core):
            self._process = subprocess.Popen([COMMAND, "run", "-c", file], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._begun, self.started_in = perf_counter(), 0.0
        self._serving = threading.Event()
        self._listeners: dict[str, Any] = {}
        self._said: deque[str] = deque(maxlen=20)
        self.access_lines = 0
        self._readers = [
            threading.Thread(target=self._drain, args=[self._process.stdout], daemon=True),
            threading.Thread(target=self._listen, args=[self._process.stderr], daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Self:
        if not self._serving.wait(_START_SECONDS) or not self._listeners:
            self._process.kill()
            self._process.wait()
            raise GatewayFailed("the gateway does not serve:\n" + "".join(self._said))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        for reader in self._readers:
            reader.join()
        if kind is None and code:
            raise GatewayFailed(f"the gateway ended with {code}:\n" + "".join(self._said))

    @property
    def pid(self) -> int:
        """The process, for profilers."""
        return self._process.pid

    @property
    def port(self) -> int:
        """The port of the public listener."""
        return int(self._listeners["listen"][0].rpartition(":")[2])

    def usage(self) -> Usage:
        """Return the counts so far."""
        samples = self._samples()
        return Usage(
            cpu_seconds(self.pid),
            sum(s.value for s in samples if s.name == "gateway_requests_total" and s.labels["route"] == "sdk"),
            sum(s.value for s in samples if s.name == "gateway_session_checks_total" and s.labels["source"] == "call"),
        )

    def scrape(self) -> str:
        """Return the metrics as Prometheus gets them."""
        return self._ask("/metrics")

    def connections(self) -> int:
        """Return how many connections of clients there are."""
        return int(sum(sample.value for sample in self._samples() if sample.name == "gateway_connections"))

    def tasks(self) -> int:
        """Return how many asyncio tasks the workers have."""
        self.scrape()  # they count their tasks when they are asked for metrics
        return sum(worker["told"]["tasks"] for worker in json.loads(self._ask("/status.json"))["workers"])

    def descriptors(self) -> int:
        """Return how many descriptors are open."""
        return descriptors(self.pid)

    def resident_mib(self) -> float:
        """Return the resident memory now."""
        return resident_mib(self.pid)

    def supervisor_mib(self) -> float:
        """Return that of the supervisor alone."""
        return proportional_mib(self.pid)

    def _samples(self) -> list[Sample]:
        return [sample for family in text_string_to_metric_families(self.scrape()) for sample in family.samples]

    def _ask(self, path: str) -> str:
        with urllib.request.urlopen(f"http://{self._listeners['admin']}{path}", timeout=10) as answer:
            text: str = answer.read().decode()
        return text

    def _drain(self, stream: BufferedReader) -> None:
        while piece := stream.read1(_PIECE):  # line by line it takes a tenth of the core
            self.access_lines += piece.count(b"\n")

    def _listen(self, stream: IO[bytes]) -> None:
        for line in stream:
            self._said.append(line.decode(errors="replace"))
            if not self._serving.is_set() and line.startswith(b"{"):
                event = json.loads(line)
                if event.get("event") == "serving":
                    self.started_in = perf_counter() - self._begun
                    self._listeners = event
                    self._serving.set()
        self._serving.set()


def _configuration(stubs: Stubs, session_ttl: int) -> dict[str, Any]:
    """Return a configuration with everything on that costs time: access log, customer hash, metrics."""
    return {
        "server": {"listen": "127.0.0.1:0", "accept_grace": "0s"},
        "admin": {"listen": "127.0.0.1:0"},
        "session": {
            "forward": {"url": stubs.session, "customer_id": {"header": "X-Customer-Id"}},
            "cache": {"ttl": f"{session_ttl}s"},
        },
        "alipayplus": {
            "client_id": stubs.client_id,
            "host": stubs.alipayplus,
            "tls": {"ca": str(stubs.ca)},
            "signing": {"key_version": stubs.key_version, "private_keys": {stubs.key_version: str(stubs.private_key)}},
            "verification": {"public_keys": {stubs.key_version: str(stubs.public_key)}},
        },
        "sdk_proxy": {"path_prefix": PREFIX},
        "api": {
            "upstreams": {"stub": {"servers": [stubs.session.removesuffix(API)]}},
            "routes": [{"prefix": API, "upstream": "stub"}],
        },
        "telemetry": {"log": {"customer_hash_key": "bench"}},
    }
