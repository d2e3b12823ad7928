"""Traces that begin here are sampled as others do, and nothing of OpenTelemetry is loaded unless it is wanted."""

import random
import subprocess
import sys

import pytest
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

from gateway.telemetry.spans import Sampler
from gateway.telemetry.tracing import is_installed


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_a_trace_is_taken_where_OpenTelemetry_takes_it(share: float) -> None:
    generator, sampler, theirs = random.Random(7), Sampler(share), TraceIdRatioBased(share)
    ids = [generator.getrandbits(128) for _ in range(5000)] + [1, (1 << 128) - 1, 1 << 127, (1 << 64) - 1]
    taken = [sampler(f"{number:032x}") for number in ids]
    assert taken == [theirs.should_sample(None, number, "").decision is Decision.RECORD_AND_SAMPLE for number in ids]
    assert sum(taken) / len(ids) == pytest.approx(share, abs=0.02)


def test_the_extra_is_found() -> None:
    assert is_installed()


def test_all_of_the_gateway_is_loaded_without_OpenTelemetry() -> None:
    program = (
        "import sys, gateway.cli, gateway.server.service, gateway.server.worker, gateway.runtime\n"
        "print([name for name in sys.modules if name.partition('.')[0] in ('opentelemetry', 'google', 'requests', 'urllib3')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
