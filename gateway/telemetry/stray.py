"""What Python itself would write to standard error, as lines of the log and through its filter: with its own words it quotes a client.

These are exceptions that nobody can catch (in destructors, in threads) and warnings.
"""

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from structlog.typing import FilteringBoundLogger

if TYPE_CHECKING:
    from sys import UnraisableHookArgs  # known to type checkers only


@contextmanager
def strays_logged(log: FilteringBoundLogger) -> Iterator[None]:
    """Let them all go to `log` until the context ends."""

    def unraisable(found: "UnraisableHookArgs") -> None:
        log.error("an exception was lost", exc_info=found.exc_value)

    def of_thread(found: threading.ExceptHookArgs) -> None:
        log.error("a thread failed", exc_info=found.exc_value)

    former = sys.unraisablehook, threading.excepthook
    sys.unraisablehook, threading.excepthook = unraisable, of_thread
    logging.captureWarnings(capture=True)
    try:
        yield
    finally:
        logging.captureWarnings(capture=False)
        sys.unraisablehook, threading.excepthook = former
