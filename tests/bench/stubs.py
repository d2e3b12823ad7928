"""The peers that the gateway talks to under load, as cheap as can be: a signed Alipay+ over TLS, and an auth service.

nginx with an answer signed beforehand where it is installed, else the simulator's fast mode. Both know the same customers.
"""

import asyncio
import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep
from typing import IO, Final

import uvloop

from gateway.alipayplus.keys import KeyRing, SigningKey
from gateway.alipayplus.signature import URI
from gateway.simulator import Keys, Simulator
from gateway.simulator.answers import sample
from gateway.simulator.simulator import CLIENT_ID, KEY_VERSION
from tests.bench.machine import on_core
from tests.ports import free_port

CUSTOMER_ID: Final = "20200415111215830128DANAW3ID123000000002"
PROJECT: Final = Path(__file__).resolve().parents[2]
_START_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class Stubs:
    """Running peers: all that the gateway's configuration says of them."""

    alipayplus: str
    session: str
    ca: Path
    private_key: Path
    public_key: Path
    client_id: str = CLIENT_ID
    key_version: str = KEY_VERSION


def has_nginx() -> bool:
    """Whether nginx is installed, and the openssl command that makes its certificate."""
    return bool(shutil.which("nginx") and shutil.which("openssl"))


@contextmanager
def simulator(folder: Path, core: int) -> Iterator[Stubs]:
    """Run the simulator's fast mode in a process of its own."""
    command = [sys.executable, "-m", __spec__.name, str(folder)]
    with _running(command, core) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise StubsFailed("the simulator does not run")
        ports = json.loads(line)
        yield Stubs(
            f"https://127.0.0.1:{ports['alipayplus']}",
            f"http://127.0.0.1:{ports['auth']}/session",
            folder / "tls" / "ca.pem",
            folder / "keys" / "mpp-1.pem",
            folder / "keys" / "alipayplus-1.pem",
        )


class StubsFailed(Exception):
    """The peers do not run."""


@contextmanager
def nginx(folder: Path, core: int) -> Iterator[Stubs]:
    """Run one nginx worker as both peers. Its answer is signed once, so that the stub costs little beside the gateway.

    So its response time grows old: a load of more than 30 s makes the gateway warn of a clock that is off, which costs it a little.
    """
    keys = Keys.generate()
    keys.write(folder)
    _write_certificate(folder)
    tls_port, plain_port = free_port(), free_port()
    file = folder / "nginx.conf"
    file.write_text(_nginx_configuration(folder, SigningKey.of(keys.alipayplus, KEY_VERSION), tls_port, plain_port))
    with _running(["nginx", "-p", str(folder), "-c", str(file)], core) as process:
        _wait_for(plain_port, process)
        yield Stubs(
            f"https://localhost:{tls_port}",
            f"http://127.0.0.1:{plain_port}/session",
            folder / "tls.crt",
            folder / "mpp-1.pem",
            folder / "alipayplus-1.pem",
        )


def _nginx_configuration(folder: Path, signing: SigningKey, tls_port: int, plain_port: int) -> str:
    body = sample("alipayplus-response")
    time = datetime.now(UTC).isoformat(timespec="seconds")
    signature = KeyRing(CLIENT_ID, signing, {}).sign(URI, time, body)
    (folder / "answer.json").write_bytes(body)
    return f"""
daemon off;
worker_processes 1;
pid nginx.pid;
error_log nginx.log crit;
{_user()}
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 3600s;
  client_body_buffer_size 256k;
  client_max_body_size 4m;
  open_file_cache max=10;
  client_body_temp_path t1;
  proxy_temp_path t2;
  fastcgi_temp_path t3;
  uwsgi_temp_path t4;
  scgi_temp_path t5;
  server {{
    listen 127.0.0.1:{plain_port} backlog=4096;
    listen 127.0.0.1:{tls_port} ssl backlog=4096;
    ssl_certificate {folder}/tls.crt;
    ssl_certificate_key {folder}/tls.key;
    root {folder};
    location = {URI} {{
      error_page 405 =200 /answer.json;
      return 405;
    }}
    location = /answer.json {{
      internal;
      default_type "application/json;charset=UTF-8";
      add_header client-id {CLIENT_ID} always;
      add_header response-time "{time}" always;
      add_header signature "{signature}" always;
    }}
    location = /session {{
      default_type application/json;
      add_header X-Customer-Id {CUSTOMER_ID};
      return 200 '{{"customerId":"{CUSTOMER_ID}"}}';
    }}
  }}
}}
"""


def _user() -> str:
    """Keep root's worker able to read a folder that is root's alone."""
    return "user root;" if Path("/proc/self").stat().st_uid == 0 else ""


def _write_certificate(folder: Path) -> None:
    """Write tls.crt and tls.key, self-signed for localhost."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"]
    command += ["-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt"), "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-addext", "keyUsage=digitalSignature,keyCertSign"]
    subprocess.run(command, check=True, capture_output=True)


@contextmanager
def _running(command: list[str], core: int) -> Iterator["subprocess.Popen[bytes]"]:
    with on_core(core):
        process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE)
    with process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    """Return when something listens: nginx has no other way to say that it is ready."""
    ends = monotonic() + _START_SECONDS
    while monotonic() < ends and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            sleep(0.02)
        else:
            return
    raise StubsFailed("nginx does not run")


async def _simulate(folder: Path, out: IO[str]) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with Simulator(folder, fast=True) as peers:
        out.write(json.dumps({"alipayplus": peers.ports.alipayplus, "auth": peers.ports.auth}) + "\n")
        out.flush()
        await stop.wait()


if __name__ == "__main__":
    uvloop.run(_simulate(Path(sys.argv[1]), sys.stdout))
