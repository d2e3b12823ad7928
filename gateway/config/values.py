"""The types of configured values: durations, sizes, shares, numbers of processes, secrets and addresses, with their form in the file.

Each reads its written form with `parse` (a ValueError says what would be right) and gives it back with `str`. What a key means and
which values it may have stands in `gateway.config.model`.
"""

import ipaddress
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Final, Self

_MILLISECONDS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}
_BYTES: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_LOOSE: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) *([A-Za-z]*)")
_LOOSE_DURATIONS: Final = {"sec": "s", "secs": "s", "second": "s", "seconds": "s", "min": "m", "mins": "m", "minutes": "m", "minute": "m"}
_LOOSE_SIZES: Final = {
    "": "B",
    "b": "B",
    "k": "KiB",
    "kb": "KiB",
    "kib": "KiB",
    "m": "MiB",
    "mb": "MiB",
    "mib": "MiB",
    "g": "GiB",
    "gb": "GiB",
}
_PORT_MAX: Final = 65535
_HOST_LENGTH_MAX: Final = 253

LABEL: Final = "[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
HOST: Final = rf"(?:\[[0-9A-Fa-f:.]+\]|{LABEL}(?:\.{LABEL})*)"
PORT: Final = "(?:0|[1-9][0-9]{0,4})"


class Duration(float):
    """A span of time in seconds; written `500ms`, `12s`, `5m` or `1h`."""

    __slots__ = ()
    PATTERN: ClassVar[str] = "[0-9]{1,9}(?:ms|s|m|h)"
    POSITIVE: ClassVar[str] = "(?=0*[1-9])[0-9]{1,9}(?:ms|s|m|h)"
    RIGHT: ClassVar[str] = "a duration such as 500ms, 12s, 5m or 1h"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the written form; raises ValueError."""
        if not re.fullmatch(cls.PATTERN, text):
            raise ValueError(f"not a duration: write {_near(text, _MILLISECONDS, _LOOSE_DURATIONS) or cls.RIGHT}")
        number, unit = _split(text)
        return cls(number * _MILLISECONDS[unit] / 1000)

    def __str__(self) -> str:
        milliseconds = round(float(self) * 1000, 6)  # sums and quotients of floats are not exact
        if not milliseconds.is_integer():
            return f"{milliseconds:g}ms"
        return _largest(int(milliseconds), _MILLISECONDS, "s")


class Size(int):
    """A number of bytes; written `512B`, `64KiB`, `1MiB` or `1GiB`."""

    __slots__ = ()
    PATTERN: ClassVar[str] = "[0-9]{1,12}(?:B|KiB|MiB|GiB)"
    POSITIVE: ClassVar[str] = "(?=0*[1-9])[0-9]{1,12}(?:B|KiB|MiB|GiB)"
    RIGHT: ClassVar[str] = "a size such as 512B, 64KiB or 1MiB"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the written form; raises ValueError."""
        if not re.fullmatch(cls.PATTERN, text):
            raise ValueError(f"not a size: write {_near(text, _BYTES, _LOOSE_SIZES) or cls.RIGHT}")
        number, unit = _split(text)
        return cls(number * _BYTES[unit])

    def __str__(self) -> str:
        return _largest(int(self), _BYTES, "B")


class Share(float):
    """A part of a whole, from 0 to 1; written as a decimal number such as `0.2`. Tools that write YAML make `5e-05` of small ones."""

    __slots__ = ()
    DECIMAL: ClassVar[str] = r"0(?:\.[0-9]{1,6})?|1(?:\.0{1,6})?"
    SMALL: ClassVar[str] = r"[1-9](?:\.[0-9])?e-0[56]"  # no number for YAML 1.1, so it may stand in quotes
    PATTERN: ClassVar[str] = f"{DECIMAL}|{SMALL}"
    RIGHT: ClassVar[str] = "a number from 0 to 1 with at most six decimals, such as 0.2"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the written form; raises ValueError."""
        if not re.fullmatch(cls.PATTERN, text):
            raise ValueError(f"write {cls.RIGHT}")
        return cls(text)


class Workers(int):
    """A number of processes, from 1; 0, written `auto`, is one for each CPU that may be used."""

    __slots__ = ()
    MOST: ClassVar[int] = 256
    RIGHT: ClassVar[str] = "auto, or a number of processes from 1 to 256"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the written form; raises ValueError."""
        if text == "auto":
            return cls(0)
        if not re.fullmatch("[1-9][0-9]{0,2}", text) or int(text) > cls.MOST:
            raise ValueError(f"write {cls.RIGHT}")
        return cls(text)

    def __str__(self) -> str:
        return f"{int(self)}" if self else "auto"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a listener listens: a host name or IP address and a port; port 0 lets the system choose one."""

    PATTERN: ClassVar[str] = rf"{HOST}:{PORT}"
    RIGHT: ClassVar[str] = "host:port or [v6]:port, such as 127.0.0.1:8080 or [::1]:8080"

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `host:port` or `[v6]:port`; raises ValueError."""
        host, _, port = text.rpartition(":")
        if re.fullmatch(":[0-9]+|[0-9]+", text):
            raise ValueError(f"write the host too, such as 127.0.0.1:{text.removeprefix(':')}")
        if not re.fullmatch(cls.PATTERN, text) or not is_host(host) or not is_port(port):
            raise ValueError(f"not an address: write {cls.RIGHT}")
        return cls(host.strip("[]"), int(port))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Secret:
    """A text that cannot be printed by accident: `str` and `repr` give `***`; only `reveal` gives the text."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Give the text itself, for the one place that needs it."""
        return self._text

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash((Secret, self._text))


class Masked(str):
    """A text that may be a secret: `str` and `repr` give `***`; to encode it gives the text."""

    __slots__ = ()

    def __str__(self) -> str:
        return "***"

    def __repr__(self) -> str:
        return str(self)

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


class MaskedQuery(Masked):
    """A URL, or a path, whose query may hold a secret: that is given as `***`, the rest as it is."""

    __slots__ = ()

    def __str__(self) -> str:
        place, mark, query = self.partition("?")
        return f"{place}{mark}***" if query else place


def is_host(host: str) -> bool:
    """Tell whether this is a host name, an IPv4 address, or an IPv6 address in brackets."""
    if not re.fullmatch(HOST, host) or len(host) > _HOST_LENGTH_MAX:
        return False
    if host.startswith("["):
        return _is_ip(host[1:-1], 6)
    looks_numeric = host.rpartition(".")[2].isdigit()
    return not looks_numeric or _is_ip(host, 4)


def is_port(port: str) -> bool:
    """Tell whether this is a port number from 0 to 65535 without leading zeros."""
    return re.fullmatch(PORT, port) is not None and int(port) <= _PORT_MAX


def _is_ip(text: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(text).version == version
    except ValueError:
        return False


def _split(text: str) -> tuple[int, str]:
    digits = text.rstrip("BGKMhims")
    return int(digits), text[len(digits) :]


def _largest(number: int, units: dict[str, int], zero: str) -> str:
    if number == 0:
        return f"0{zero}"
    unit = max((unit for unit, factor in units.items() if number % factor == 0), key=lambda unit: units[unit])
    return f"{number // units[unit]}{unit}"


def _near(text: str, units: dict[str, int], loose: dict[str, str]) -> str | None:
    """Say how a nearly right text is written: `10` as 10s or 500ms, `1.5s` as 1500ms, `1 MB` as 1MiB."""
    match = _LOOSE.fullmatch(text.strip())
    if not match:
        return None
    number, unit = Fraction(match[1]), match[2]
    if not unit and units is _MILLISECONDS:
        return _unitless(number)
    unit = unit if unit in units else loose.get(unit.lower(), unit.lower())
    exact = number * units.get(unit, 0)
    return _largest(int(exact), units, unit) if unit in units and exact.denominator == 1 else None


def _unitless(number: Fraction) -> str | None:
    if number == 0:
        return "0s"
    return f"{number}s or 500ms" if number.denominator == 1 else None
