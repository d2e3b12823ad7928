"""Traces that begin here are sampled as others do, and nothing of OpenTelemetry is loaded unless it is wanted."""

import random
import subprocess
import sys

import pytest
import structlog
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

from gateway.config import Tracing
from gateway.telemetry.spans import Sampler
from gateway.telemetry.tracing import QUEUE_VARIABLES, exporter, is_installed


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_a_trace_is_taken_where_OpenTelemetry_takes_it(share: float) -> None:
    generator, sampler, theirs = random.Random(7), Sampler(share), TraceIdRatioBased(share)
    ids = [generator.getrandbits(128) for _ in range(5000)] + [1, (1 << 128) - 1, 1 << 127, (1 << 64) - 1]
    taken = [sampler(f"{number:032x}") for number in ids]
    assert taken == [theirs.should_sample(None, number, "").decision is Decision.RECORD_AND_SAMPLE for number in ids]
    assert sum(taken) / len(ids) == pytest.approx(share, abs=0.02)


def test_the_extra_is_found() -> None:
    assert is_installed()


@pytest.mark.parametrize("variable", QUEUE_VARIABLES)
def test_an_environment_that_OpenTelemetry_does_not_take_costs_the_traces_only(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "-1")
    log = structlog.testing.CapturingLogger()
    assert exporter(Tracing(otlp_endpoint="http://127.0.0.1:4318"), log) is None
    [said] = log.calls
    assert said.args == ("no traces are sent: OpenTelemetry does not take the limits of its queue",)
    assert variable in said.kwargs["variables"]


def test_all_of_the_gateway_is_loaded_without_OpenTelemetry() -> None:
    program = (
        "import sys, gateway.cli, gateway.server.service, gateway.server.worker, gateway.runtime\n"
        "print([name for name in sys.modules if name.partition('.')[0] in ('opentelemetry', 'google', 'requests', 'urllib3')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
