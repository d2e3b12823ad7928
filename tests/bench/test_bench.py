"""The bench itself runs: a second a path, no error, and a table. What it measures is judged by nobody here."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.load import Outcome, parse_report
from tests.bench.stubs import has_nginx

REPORT = """
Running 1s test @ http://127.0.0.1:40000/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency    28.94ms    5.92ms  71.93ms   79.05%
    Req/Sec     1.11k    77.05     1.22k    70.00%
  Latency Distribution
     50%   27.80ms
     75%   30.09ms
     90%   34.81ms
     99%    1.05s
  1107 requests in 1.01s, 1.66MB read
  Socket errors: connect 0, read 2, write 0, timeout 1
  Non-2xx or 3xx responses: 4
Requests/sec:   1098.67
Transfer/sec:      1.65MB
"""


def bench(*options: str) -> list[str]:
    command = [sys.executable, str(Path(__file__).parent), "--seconds=0.5", "--connections=4", *options]
    done: subprocess.CompletedProcess[str] = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^other machines took [0-9]+% of this one's cores meanwhile$", done.stderr, re.MULTILINE)
    return done.stdout.splitlines()


@pytest.mark.parametrize("stubs", ["simulator", *(["nginx"] if has_nginx() else [])])
def test_every_path_is_measured_without_an_error(stubs: str) -> None:
    lines = bench("--rounds=1", "--load=builtin", f"--stubs={stubs}", "--memory", "--requests=100")
    assert lines[0].endswith(f"stubs: {stubs}")
    assert lines[1].startswith("load: builtin")
    called, cached = (figures(lines, path) for path in ("session called out", "session cached"))
    assert called[-2:] == ["1.00", "0"]
    assert float(cached[-2]) < 0.9  # on a slow machine not every login comes in the warm-up
    assert cached[-1] == "0"
    assert float(called[0]) > 0
    assert float(cached[0]) > 0
    assert any(line.startswith("first target") for line in lines)
    assert lines[-1].startswith("PSS after the warm-up and each quarter of ")
    assert lines[-1].endswith("errors: 0")


def figures(lines: list[str], path: str) -> list[str]:
    (found,) = (line.removeprefix(path).split() for line in lines if line.startswith(path))
    return found


def test_idle_connections_are_measured() -> None:
    said = bench("idle", "--idle=50")[-1]
    assert re.match(r"50 idle connections: -?[0-9.]+ KiB each; others at [0-9]+ requests/s: p50 .* errors: 0$", said)


@pytest.mark.skipif(shutil.which("slowhttptest") is None, reason="needs slowhttptest (Debian package slowhttptest)")
def test_attackers_are_measured() -> None:
    heads, bodies = bench("attackers")[-2:]
    assert re.match(r"1[0-9]{3} attackers with slow heads: others at .* errors: 0$", heads)
    assert re.match(r"1[0-9]{3} attackers with slow bodies: others at .* errors: 0$", bodies)


def test_a_soak_is_measured() -> None:
    peak, minute = bench("soak", "--minutes=0.02")[-2:]
    assert re.match(r"peak [0-9]+ requests/s; soaked with [0-9]+ requests/s, errors: 0$", peak)
    assert re.match(r"minute  1: supervisor [0-9.]+ MiB, workers [0-9.]+ MiB, [0-9]+ descriptors, [0-9]+ tasks$", minute)


def test_an_overload_is_measured() -> None:
    lines = bench("overload", "--rounds=1")[-15:]
    served = r"[0-9]+ requests/s, p50 [0-9.]+ ms, p99 [0-9.]+ ms, [0-9.]+ ms in a second \(median\)"

    def over(unit: str = "") -> str:
        return rf"[0-9.]+{unit} \([0-9.]+{unit} to [0-9.]+{unit}\)"

    paths = {"API": lines[:5], "API, with bodies": lines[5:10], "SDK": lines[10:]}
    for name, (usual, alone, beyond, goodput, insistent) in paths.items():
        assert re.match(rf"{name}, round 1: peak [0-9]+ requests/s; at 70%: {served}, errors: [0-9]+$", usual)
        assert re.match(rf"    the stub alone: {served}, errors: 0$", alone)
        assert re.match(rf"    at 200%: {served}, refused: [0-9]+, p99 [0-9.]+ ms; other errors: 0$", beyond)
        assert re.match(rf"    goodput: {over('%')} of the peak; .* at 70% {over()} times p50, at 200% {over()} times that$", goodput)
        assert re.match(rf"    as many clients asking again at once: {served}, refused: [0-9]+, .* other errors: 0$", insistent)


def test_reads_what_wrk_prints() -> None:
    assert parse_report(REPORT) == Outcome(requests=1107, per_second=1098.67, p50=27.8, p99=1050.0, errors=7)


def test_what_traces_cost_is_measured() -> None:
    options = ["tracing", "--rounds=1", "--requests=400"]
    done = subprocess.run([sys.executable, Path(__file__).parent, *options], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.split()[1] for line in done.stdout.splitlines()[1:]] == ["off", "0%", "1%", "100%"]


def test_what_metrics_and_logs_cost_is_measured() -> None:
    record, scrape = bench("telemetry", "--rounds=1", "--requests=400")[-2:]
    assert re.match(r"metrics [0-9.]+ us, access log [0-9.]+ us, together [0-9.]+ us .* lines dropped: 0$", record)
    assert re.match(r"scrape of 4 workers: median [0-9.]+ ms, longest [0-9.]+ ms .* [0-9]{5,} bytes$", scrape)
