"""`gateway run`: a supervisor and its workers, until told to stop.

SIGTERM and SIGINT drain: not ready, no new connections, what is in flight is finished, then the process ends with 0. A second
signal ends it at once. SIGHUP reloads.

The first worker is started before the configuration has been read, and before most of this process is imported: both load at the
same time, and the worker waits for what it is to serve.
"""

import signal
import sys
from pathlib import Path

from gateway.server.children import SUPERVISORS_SIGNALS, Children
from gateway.server.descriptors import raise_descriptor_limit
from gateway.server.loading import load

FAILED = 1


def run(path: Path) -> int:
    """Load the configuration and serve. Returns the exit code: 0 after a drain, 1 when it could not run, 3 for a faulty configuration."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SUPERVISORS_SIGNALS)  # they wait until somebody listens
    raise_descriptor_limit()
    children = Children()
    try:
        spare = children.start()
    except OSError as error:
        print(f"gateway: no process can be started: {error.strerror}", file=sys.stderr)
        return FAILED
    try:
        code: int = load("gateway.server.service").run(path, children, spare)
        return code
    finally:
        children.kill()
