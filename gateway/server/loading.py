"""Imports the bulk of a process quickly: how soon a worker serves, and how soon one that died is replaced, is mostly that."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final

THRESHOLDS: Final = (10_000, 10, 10)
"""Objects more than at the last collection, and how many of a generation are followed by one of the next (see `gc.set_threshold`)."""


def load(name: str) -> Any:
    """Import a module with all that it needs. Garbage is not collected until `loaded` is called.

    To collect meanwhile takes a third of the time, and finds next to nothing.
    """
    gc.disable()
    with _without_system_certificates():
        import_module("aiohttp")
    return import_module(name)


def loaded() -> None:
    """Collect garbage from now on, but seldom, and never look again at what is there already.

    Requests and connections leave no cycles, so next to nothing is found, and with hundreds of connections each look takes milliseconds.
    """
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    gc.enable()


@contextmanager
def _without_system_certificates() -> Iterator[None]:
    """Let there be no CA certificates: aiohttp, when it is imported, reads them all for a client that is not used, a tenth of the time."""
    before = {name: os.environ.get(name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")}
    os.environ.update(dict.fromkeys(before, os.devnull))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
