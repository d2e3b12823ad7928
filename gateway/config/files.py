"""The files that a configuration names to be read: keys, certificates, CAs. Where they stand in it, and how to point it at other ones.

Nothing is opened here. What the files must hold is checked by those who use them.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from gateway.config.faults import KeyPath
from gateway.config.model import Config
from gateway.config.shape import keys_of

Change = Callable[[KeyPath, Path], Path]

_WRITTEN: Final[tuple[KeyPath, ...]] = (("server", "pid_file"),)
"""Files that the gateway writes."""


def named_files(config: Config) -> dict[KeyPath, Path]:
    """Return the path of each file that is read, by the key that names it."""
    found: dict[KeyPath, Path] = {}

    def note(path: KeyPath, file: Path) -> Path:
        found[path] = file
        return file

    with_files(config, note)
    return found


def with_files(config: Config, change: Change) -> Config:
    """Return the configuration with the path of each file that is read replaced by what `change` gives for it."""
    changed: Config = _changed(config, (), change)
    return changed


def _changed(value: Any, path: KeyPath, change: Change) -> Any:
    if isinstance(value, Path):
        return value if path in _WRITTEN else change(path, value)
    if isinstance(value, Struct):
        names = (key.name for key in keys_of(type(value)))
        return type(value)(**{name: _changed(getattr(value, name), (*path, name), change) for name in names})
    if isinstance(value, Mapping):
        return {name: _changed(member, (*path, name), change) for name, member in value.items()}
    if type(value) is tuple:
        return tuple(_changed(member, (*path, index), change) for index, member in enumerate(value))
    return value
