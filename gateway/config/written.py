"""The effective configuration as it would be written: every key with its value, secrets masked."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from msgspec import Struct

from gateway.config.listener import Listener
from gateway.config.model import Config
from gateway.config.shape import keys_of
from gateway.config.values import Address, Duration, Masked, Secret, Share, Size, Workers


def to_yaml(config: Config) -> str:
    """Write the configuration as YAML that loads as the same configuration again, but for the secrets, which stand as `***`."""
    text: str = yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True, width=10_000)
    return text


def plain(value: Any) -> Any:
    """Write a value of the model in the file's form, out of mappings, lists, texts, numbers and booleans; absent keys are left out."""
    if isinstance(value, Struct):
        members = ((key.name, getattr(value, key.name)) for key in keys_of(type(value)))
        return {name: plain(member) for name, member in members if member is not None}
    if isinstance(value, Mapping):
        return {name: plain(member) for name, member in value.items()}
    if isinstance(value, tuple):
        return [plain(member) for member in value]
    if isinstance(value, Address | Duration | Masked | Secret | Size):
        return str(value)
    if isinstance(value, Share | Workers):
        return _number(value)
    return str(value).replace("${", "$${") if isinstance(value, str | Path | Listener) else value


def _number(value: Share | Workers) -> float | int | str:
    return float(value) if isinstance(value, Share) else int(value) or str(value)
