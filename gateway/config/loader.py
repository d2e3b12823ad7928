"""From a file to a checked configuration, or to the list of everything that is wrong with it."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.config.checks import RULES
from gateway.config.convert import Converter
from gateway.config.draft import readable
from gateway.config.faults import ConfigError, Fault, KeyPath
from gateway.config.model import Config
from gateway.config.permissions import check_permissions
from gateway.config.source import compose, read_text

Check = Callable[[Config], Iterable[Fault]]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid configuration, and what is doubtful about it."""

    config: Config
    warnings: tuple[Fault, ...] = ()


def load(path: Path, checks: Sequence[Check] = (), *, environ: Mapping[str, str] = os.environ) -> Loaded:
    """Read and check a configuration file; raises ConfigError with every fault, in the order of the file, each with its line.

    `checks` are further checks that need more than the file (keys, certificates). They run in any case: a check must be ready for a
    `key_version` that names no key, say, and one that comes to a value that could not be read is left there. Where a rule has found a fault
    at a key, what checks find there is not added.
    """
    root = compose(path, read_text(path))
    _demand_text(path)
    converter = Converter(path.absolute().parent, environ)
    config = converter.convert(root)
    faults = [*converter.faults, *(fault for rule in (*RULES, check_permissions) for fault in readable(rule(config)))]
    faults += _unknown(faults, (fault for check in checks for fault in readable(check(config))))
    located = _located(faults, path, converter.line)
    if not all(fault.warning for fault in located):
        raise ConfigError(located)
    return Loaded(config, located)


def read_partly(path: Path, *, environ: Mapping[str, str] = os.environ) -> Config:
    """Read as much of a file as can be read, for those who look for single keys in what may be faulty otherwise.

    Whatever looks at a value that could not be read raises Unreadable. Raises ConfigError where the file is no YAML at all.
    """
    return Converter(path.absolute().parent, environ).convert(compose(path, read_text(path)))


def _demand_text(path: Path) -> None:
    """Refuse a path that no log line, status page or metric could name."""
    try:
        bytes(path.absolute()).decode()
    except UnicodeDecodeError:
        raise ConfigError([Fault((), "the path of this file is not UTF-8: rename it, or the folder", file=path)]) from None


def _unknown(known: Iterable[Fault], found: Iterable[Fault]) -> list[Fault]:
    places = {(fault.path, fault.warning) for fault in known}
    return [fault for fault in found if (fault.path, fault.warning) not in places]


def _located(faults: Iterable[Fault], file: Path, line: Callable[[KeyPath], int | None]) -> tuple[Fault, ...]:
    placed = [replace(fault, file=file, line=fault.line or line(fault.path)) for fault in faults]
    return tuple(sorted(placed, key=lambda fault: fault.line or 0))
