"""Whether and how traces are sent. OpenTelemetry is an extra: nothing of it is imported unless the configuration asks for it."""

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, Protocol

from structlog.typing import FilteringBoundLogger

from gateway.config import Config, Fault, Tracing
from gateway.telemetry.spans import Trace

EXTRA: Final = "opentelemetry.exporter.otlp.proto.http"
"""A package of the extra `tracing` that needs the others."""


QUEUE_VARIABLES: Final = ("OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "OTEL_BSP_SCHEDULE_DELAY")
"""Each must be above 0, and a batch (512 by default) no larger than the queue."""


class Exporter(Protocol):
    """Takes spans and sends them (`gateway.telemetry.otlp`)."""

    def export(self, trace: Trace) -> None:
        """Take the spans of one request. Never waits and never fails."""

    async def close(self) -> None:
        """Send what is held, within a short time."""


def check_tracing(config: Config) -> Iterator[Fault]:
    """Demand that the extra is installed where traces are wanted."""
    if config.telemetry.tracing is not None and not is_installed():
        message = "needs the extra tracing, which is not installed: pip install --require-hashes -r requirements-tracing.lock, or remove it"
        yield Fault(("telemetry", "tracing"), message)


def is_installed() -> bool:
    """Tell whether the extra is there, without importing it."""
    try:
        return find_spec(EXTRA) is not None
    except ModuleNotFoundError:  # one of its parents is not there
        return False


def exporter(settings: Tracing | None, log: FilteringBoundLogger) -> Exporter | None:
    """Return what sends traces as configured, if it is. Says so where the environment keeps OpenTelemetry from it: requests go before."""
    if settings is None:
        return None
    otlp: Any = import_module("gateway.telemetry.otlp")
    try:
        found: Exporter = otlp.OtlpExporter(settings.otlp_endpoint, log)
    except ValueError:
        log.warning("no traces are sent: OpenTelemetry does not take the limits of its queue", variables=QUEUE_VARIABLES)
        return None
    return found
