"""The supervisor's process from its start: the configuration is read, everything is opened, then it serves; and what is said if not."""

import asyncio
import sys
from pathlib import Path

from gateway.config import ConfigError
from gateway.edge.server import ParserMissing, require_c_parser
from gateway.runtime import CHECKS
from gateway.server.children import Child, Children
from gateway.server.edition import Edition, read_edition
from gateway.server.inherited import inherited_sockets
from gateway.server.loading import loaded
from gateway.server.pid_file import CannotHold
from gateway.server.place import Place
from gateway.server.sockets import CannotListen
from gateway.server.supervisor import Supervisor
from gateway.telemetry.log import Logs
from gateway.telemetry.metrics import ServiceMetrics
from gateway.telemetry.stray import strays_logged

FAILED, INVALID = 1, 3


def run(path: Path, children: Children, spare: Child) -> int:
    """Serve this configuration. `spare` is a worker that has been started already. Returns the exit code, as `gateway run` does."""
    try:
        require_c_parser()
        edition = read_edition(path, CHECKS)
    except ConfigError as error:
        sys.stderr.writelines(f"{fault}\n" for fault in error.faults)
        return INVALID
    except ParserMissing as error:
        sys.stderr.write(f"gateway: {error}\n")
        return FAILED
    metrics = ServiceMetrics()
    logs = Logs(edition.config.telemetry.log, on_drop=metrics.log_lines_dropped.inc, is_limited=False)
    try:
        for warning in edition.warnings:
            logs.log.warning("configuration", fault=str(warning))
        return _serve(edition, children, spare, metrics, logs)
    except CannotListen as error:
        logs.log.error("cannot listen", reason=str(error))  # noqa: TRY400  the text says all
        return FAILED
    except CannotHold as error:
        logs.log.error("cannot start", reason=str(error))  # noqa: TRY400  the text says all
        return FAILED
    except Exception:
        logs.log.exception("the supervisor failed")
        return FAILED
    finally:
        logs.close()


def _serve(edition: Edition, children: Children, spare: Child, metrics: ServiceMetrics, logs: Logs) -> int:
    """Open everything and serve. Raises CannotListen and CannotHold."""
    inherited = inherited_sockets()
    place = Place.open(edition.config, inherited)
    loaded()
    supervisor = Supervisor(edition, CHECKS, children, metrics=metrics, logs=logs)
    with strays_logged(logs.log), asyncio.Runner() as runner:
        return runner.run(supervisor.run(place, inherited, spare=spare))
