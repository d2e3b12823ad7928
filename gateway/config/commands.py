"""The commands about the configuration: check it, print it, print its JSON Schema. Exit codes: 0 fine, 3 not valid."""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from gateway.config.checks import Step, deadline_ladder, longest_request
from gateway.config.faults import ConfigError, Fault
from gateway.config.loader import Check, Loaded, load
from gateway.config.model import Config
from gateway.config.schema import schema as json_schema
from gateway.config.written import to_yaml

INVALID: Final = 3


def check(path: Path, checks: Sequence[Check] = (), connect: Callable[[Config], int] = lambda _: 0) -> int:
    """Print every fault, one a line, and return 3; or the warnings and the deadline ladder, and return what `connect` does.

    `connect` tries the peers, where that is asked for, and returns 0 if all could be reached.
    """
    loaded = _load(path, checks)
    if loaded is None:
        return INVALID
    sys.stdout.write(_ladder(loaded.config) + "configuration is valid\n")
    return connect(loaded.config)


def show(path: Path, checks: Sequence[Check] = ()) -> int:
    """Print the effective configuration as YAML, secrets masked, and return 0; or every fault, and return 3."""
    loaded = _load(path, checks)
    if loaded is None:
        return INVALID
    sys.stdout.write(to_yaml(loaded.config))
    return 0


def schema() -> int:
    """Print the JSON Schema of the configuration file and return 0."""
    sys.stdout.write(schema_text())
    return 0


def schema_text() -> str:
    """Give the JSON Schema as conf/gateway.schema.json holds it."""
    return json.dumps(json_schema(), indent=2) + "\n"


def _load(path: Path, checks: Sequence[Check]) -> Loaded | None:
    try:
        loaded = load(path, checks)
    except ConfigError as error:
        _complain(error.faults)
        return None
    _complain(loaded.warnings)
    return loaded


def _complain(faults: Iterable[Fault]) -> None:
    sys.stderr.writelines(f"{fault}\n" for fault in faults)


def _ladder(config: Config) -> str:
    steps = (
        *deadline_ladder(config),
        Step("all of them", longest_request(config)),
        Step("server.drain_timeout", config.server.drain_timeout),
    )
    lines = (f"  {step.key:<30}{step.duration!s:>8}\n" for step in steps)
    return "deadlines of one SDK request, one after the other:\n" + "".join(lines)
