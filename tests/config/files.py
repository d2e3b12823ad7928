"""Configuration files made on the spot: a minimal valid one, with single keys changed."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.config import ConfigError, Loaded, load
from gateway.config.loader import Check

MINIMAL: dict[str, Any] = {
    "session": {"forward": {"url": "http://127.0.0.1:8081/session", "customer_id": "{header: X-Customer-Id}"}},
    "alipayplus": {
        "client_id": "T_000000000000000001",
        "host": "https://alipayplus.example",
        "signing": {"key_version": '"1"', "private_keys": '{"1": keys/mpp-1.pem}'},
        "verification": {"public_keys": '{"1": keys/alipayplus-1.pem}'},
    },
}


class Files:
    """Writes and loads configuration files in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "gateway.yaml"

    def text(self, **changes: str | None) -> str:
        """Give the minimal file; a change is `section__key="YAML text"`, or None to remove the key."""
        tree = copy.deepcopy(MINIMAL)
        for path, raw in changes.items():
            *sections, key = path.split("__")
            section = tree
            for name in sections:
                inner = section.get(name)
                section[name] = inner if isinstance(inner, dict) else {}
                section = section[name]
            section.pop(key, None)
            if raw is not None:
                section[key] = raw
        return _block(tree)

    def load(self, text: str | bytes, checks: Sequence[Check] = (), environ: Mapping[str, str] | None = None) -> Loaded:
        self.file.write_bytes(text.encode() if isinstance(text, str) else text)
        return load(self.file, checks, environ=environ or {})

    def faults(self, text: str | bytes, checks: Sequence[Check] = (), environ: Mapping[str, str] | None = None) -> list[str]:
        """Load a bad file and give its faults as LINE: key: message."""
        with pytest.raises(ConfigError) as caught:
            self.load(text, checks, environ)
        return [str(fault).removeprefix(f"{self.file}:").strip() for fault in caught.value.faults]

    def only_fault(self, **changes: str | None) -> str:
        """Load a changed minimal file that has one fault and give it without its line."""
        (fault,) = self.faults(self.text(**changes))
        return fault.partition(": ")[2]


def _block(tree: Mapping[str, Any], indent: str = "") -> str:
    lines = []
    for key, value in tree.items():
        lines.append(f"{indent}{key}:\n{_block(value, indent + '  ')}" if isinstance(value, dict) else f"{indent}{key}: {value}\n")
    return "".join(lines)
