"""The configuration of a gateway in front of the simulator: conf/demo.yaml with other addresses, and with what a test changes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

import yaml

SOURCE: Final = Path(__file__).parents[2] / "conf" / "demo.yaml"
"""In a checkout; an installed package holds its copy, `gateway/demo.yaml`."""

_ADDRESS: Final = re.compile(r"127\.0\.0\.1:([0-9]+)")


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of a gateway and its simulated peers. Zero lets the system choose."""

    gateway: int = 8080
    admin: int = 9090
    alipayplus: int = 8443
    auth: int = 8081
    mpp: int = 8082

    @classmethod
    def any(cls) -> "Ports":
        """Let the system choose all of them."""
        return cls(0, 0, 0, 0, 0)

    @classmethod
    def from_base(cls, base: int) -> "Ports":
        """Give five ports in a row: gateway, admin, Alipay+, auth service, MPP API."""
        return cls(*range(base, base + 5))


DEFAULT_PORTS: Final = Ports()


def demo_yaml() -> str:
    """Give the text of conf/demo.yaml."""
    packaged = resources.files("gateway").joinpath("demo.yaml")
    return packaged.read_text() if packaged.is_file() else SOURCE.read_text()


def render(ports: Ports, changes: Mapping[str, Any] | None = None) -> str:
    """Give the configuration with these ports.

    `changes` is merged into it, mapping by mapping; a value replaces what was there, and None takes the key away.
    """
    actual = {str(getattr(DEFAULT_PORTS, name)): getattr(ports, name) for name in DEFAULT_PORTS.__slots__}
    text = _ADDRESS.sub(lambda match: f"127.0.0.1:{actual.get(match[1], match[1])}", demo_yaml())
    if not changes:
        return text
    return yaml.safe_dump(merged(yaml.safe_load(text), changes), sort_keys=False)


def merged(document: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Give a document with the changes merged into it."""
    result = dict(document)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result
