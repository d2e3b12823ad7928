"""The bench itself runs: a second a path, no error, and a table. What it measures is judged by nobody here."""

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


@pytest.mark.parametrize("stubs", ["simulator", *(["nginx"] if has_nginx() else [])])
def test_every_path_is_measured_without_an_error(stubs: str) -> None:
    options = ["--seconds=0.5", "--rounds=1", "--connections=4", "--load=builtin", f"--stubs={stubs}", "--memory", "--requests=100"]
    done = subprocess.run([sys.executable, Path(__file__).parent, *options], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert f"stubs: {stubs}; load: builtin" in lines[0]
    for path, call_outs in (("session called out", "1.00"), ("session cached", "0.00")):
        (figures,) = (line.removeprefix(path).split() for line in lines if line.startswith(path))
        assert figures[-2:] == [call_outs, "0"]
        assert float(figures[0]) > 0
    assert "first target" in done.stdout
    assert lines[-1].startswith("PSS after the warm-up and each quarter of ")
    assert lines[-1].endswith("errors: 0")


def test_reads_what_wrk_prints() -> None:
    assert parse_report(REPORT) == Outcome(requests=1107, per_second=1098.67, p50=27.8, p99=1050.0, errors=7)
