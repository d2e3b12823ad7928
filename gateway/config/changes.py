"""What differs between two configurations, by key, as it is told to operators: secrets masked."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Struct

from gateway.config.faults import KeyPath, dotted
from gateway.config.model import Config
from gateway.config.shape import keys_of
from gateway.config.written import plain


@dataclass(frozen=True, slots=True)
class Change:
    """One key whose value differs; `before` and `after` are written as in the file, and None where the key is absent."""

    path: KeyPath
    before: str | None
    after: str | None

    def __str__(self) -> str:
        """Give the line that people read: `alipayplus.timeout: 12s -> 15s`."""
        return f"{dotted(self.path)}: {self.before or 'absent'} -> {self.after or 'absent'}"


def changes(old: Config, new: Config) -> tuple[Change, ...]:
    """Return what differs, in the order of the model."""
    return tuple(_changes(old, new, ()))


def _changes(old: Any, new: Any, path: KeyPath) -> Iterator[Change]:
    if old == new:
        return
    one, other = _members(old), _members(new)
    if one is None or other is None:
        yield Change(path, _written(old), _written(new))
        return
    for name in dict.fromkeys([*one, *other]):
        yield from _changes(one.get(name), other.get(name), (*path, name))


def _members(value: Any) -> Mapping[Any, Any] | None:
    """Return what a section, a mapping or a list of sections holds; None for what is one value."""
    if isinstance(value, Struct):
        return {key.name: getattr(value, key.name) for key in keys_of(type(value))}
    if isinstance(value, Mapping):
        return value
    if isinstance(value, tuple) and value and all(isinstance(member, Struct) for member in value):
        return dict(enumerate(value))
    return None


def _written(value: Any) -> str | None:
    if value is None:
        return None
    return value if isinstance(value := plain(value), str) else msgspec.json.encode(value).decode()
